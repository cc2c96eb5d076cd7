//! Files of others, read without being held up by them.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// Reads a regular file of at most `limit` bytes. A pipe or a device would hold up the caller, or never end.
pub(crate) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(at_once).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
    }
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        let what = format!("it is larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_too_large_is_refused_at_once() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "12345").unwrap();
        for (path, limit) in [(pipe.as_path(), 9), (Path::new("/dev/zero"), 9), (place.path(), 9), (&file, 4)]
        {
            assert_eq!(
                read(path, limit).unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{}",
                path.display()
            );
        }
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert_eq!(read(&place.path().join("none"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
