//! Small files that no reader ever sees half of.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;
use serde::de::DeserializeOwned;

use runtime_api::{Error, ErrorKind, Result};

/// Reads a record; `None` when there is none. One of a later schema than `known` is not touched.
///
/// # Errors
/// `ConfigInvalid` when it is damaged, or of a later schema.
pub fn read<T: DeserializeOwned>(path: &Path, known: u32, schema: impl Fn(&T) -> u32) -> Result<Option<T>> {
    let bytes = match File::open(path).and_then(contents) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(path, "it cannot be read").caused_by(error)),
    };
    let record = serde_json::from_slice(&bytes)
        .map_err(|error| damaged(path, "it is not a record").caused_by(error))?;
    let schema = schema(&record);
    if schema > known {
        return Err(damaged(path, &format!("it has schema {schema}, this version knows {known}")));
    }
    Ok(Some(record))
}

/// What is in a regular file. Small ones take one call: less than was asked for is the end of such a file.
///
/// # Errors
/// Why it cannot be read.
pub fn contents(mut file: File) -> io::Result<Vec<u8>> {
    const SMALL: usize = 8 * 1024;
    let mut bytes = vec![0; SMALL];
    let read = file.read(&mut bytes)?;
    bytes.truncate(read);
    if read == SMALL {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// What is in a file that the kernel makes when it is read, and whose length it does not know.
///
/// # Errors
/// Why it cannot be read.
pub fn made_by_kernel(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(4 * 1024);
    let mut chunk = [0; 4 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(bytes),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Replaces a record as a whole.
///
/// # Errors
/// As [`cannot_write`].
pub fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    replace(path, &text_of(record)?).map_err(|error| cannot_write(path, error))
}

/// Writes a record where nobody looks for one yet, as in a directory that has not got its name.
///
/// # Errors
/// As [`cannot_write`].
pub fn write_first(path: &Path, record: &impl Serialize) -> Result<()> {
    std::fs::write(path, text_of(record)?).map_err(|error| cannot_write(path, error))
}

fn text_of(record: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(record)
        .map_err(|error| Error::new(ErrorKind::Internal("record cannot be written".into())).caused_by(error))
}

/// Writes a file so that readers see the old content or the new one. It survives the death of this process, not a
/// loss of power: an fsync would cost an eighth of a container's whole life, and after a reboot nothing runs anyway.
///
/// # Errors
/// Why it cannot be written.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    // The two change names in one step. A rename over the old file is as good for readers, but there ext4 begins to write
    // the new one to the disk at once and frees the block of the old one, and the caller waits for both.
    match renameat_with(CWD, &fresh, CWD, path, RenameFlags::EXCHANGE) {
        // What cannot be removed now is what the next write begins with.
        Ok(()) => drop(std::fs::remove_file(&fresh)),
        // There is no old one yet, or the file system cannot swap names.
        Err(_) => std::fs::rename(&fresh, path)?,
    }
    Ok(())
}

/// A state file cannot be written: full, read-only, gone, or not ours.
pub fn cannot_write(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull => ErrorKind::Exhausted("no space left on the device".into()),
        _ => ErrorKind::Internal("a state file cannot be written".into()),
    };
    Error::new(kind).on(format_args!("file {}", path.display())).caused_by(error)
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid(why.to_owned()))
        .on(format_args!("record {}", path.display()))
        .hint("delete the container with force")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_read_to_their_end() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("file");
        for length in [0, 1, 8 * 1024 - 1, 8 * 1024, 8 * 1024 + 1, 100_000] {
            let content: Vec<u8> = (0..=250).cycle().take(length).collect();
            std::fs::write(&path, &content).unwrap();
            assert_eq!(contents(File::open(&path).unwrap()).unwrap(), content);
            assert_eq!(made_by_kernel(&path).unwrap(), content);
        }
        let mut mounts = std::fs::read("/proc/self/mountinfo").unwrap();
        loop {
            let ours = made_by_kernel("/proc/self/mountinfo").unwrap();
            let now = std::fs::read("/proc/self/mountinfo").unwrap();
            // Others may mount something in between.
            if now == mounts {
                break assert_eq!(ours, mounts);
            }
            mounts = now;
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("file");
        for content in ["first, and longer", "second", "third"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 1);
        }
        // What a writer left that was cut off is no part of the next one's content.
        std::fs::write(at.path().join("file.new"), "a much longer text than the next one").unwrap();
        replace(&path, b"fourth").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "fourth");
        assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 1);
    }
}
