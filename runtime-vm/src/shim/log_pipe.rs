//! The fifo to which a shim writes its own log.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::unix::pipe;

use runtime_api::{Error, ErrorKind, Result};

/// The fifo `log` of a bundle, open for reading.
///
/// A shim without it dies soon after it was started, and one whose fifo nobody reads blocks before it serves. So it is
/// opened before the start, by whoever outlives the shim. It is opened for writing as well: a reader sees no end of it when
/// the shim closes it and opens it again.
#[derive(Debug)]
pub struct LogPipe {
    file: File,
    path: PathBuf,
}

impl LogPipe {
    /// The fifo's name in a bundle.
    pub const NAME: &'static str = "log";

    /// Makes the fifo in a bundle, unless it is there, and opens it.
    ///
    /// # Errors
    /// `ConfigInvalid` when something else has the name, or the fifo cannot be made there.
    pub fn open(bundle: &Path) -> Result<Self> {
        let path = bundle.join(Self::NAME);
        let cannot = |error: io::Error| {
            let what = format!("the fifo {} cannot be had", path.display());
            Error::new(ErrorKind::ConfigInvalid(what)).during_step("start the shim").caused_by(error)
        };
        match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(cannot(error.into())),
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW)
            .open(&path)
            .map_err(cannot)?;
        if !file.metadata().map_err(cannot)?.file_type().is_fifo() {
            return Err(cannot(io::Error::other("it is no fifo")));
        }
        Ok(Self { file, path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// To read what the shim writes. It never ends; see [`LogPipe`].
    ///
    /// # Errors
    /// `Internal` when tokio does not take the descriptor.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn into_reader(self) -> Result<pipe::Receiver> {
        pipe::Receiver::from_file(self.file).map_err(|error| {
            let what = format!("the fifo {} cannot be watched", self.path.display());
            Error::new(ErrorKind::Internal(what)).during_step("start the shim").caused_by(error)
        })
    }
}

impl AsFd for LogPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::time::Duration;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn writers_may_come_and_go() {
        let bundle = tempfile::tempdir().unwrap();
        let pipe = LogPipe::open(bundle.path()).unwrap();
        let path = pipe.path().to_owned();
        let mut reader = pipe.into_reader().unwrap();
        for text in ["one", "two"] {
            let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
            drop(writer);
            let mut read = [0; 3];
            reader.read_exact(&mut read).await.unwrap();
            assert_eq!(read, text.as_bytes());
        }
        let end = tokio::time::timeout(Duration::from_millis(30), reader.read_u8()).await;
        assert!(end.is_err(), "a fifo without writers looks closed");
    }

    #[test]
    fn one_that_is_there_is_taken_and_what_is_no_fifo_is_refused() {
        let bundle = tempfile::tempdir().unwrap();
        LogPipe::open(bundle.path()).unwrap();
        LogPipe::open(bundle.path()).unwrap();
        let other = tempfile::tempdir().unwrap();
        let log = other.path().join("log");
        std::fs::write(&log, "kept").unwrap();
        let error = LogPipe::open(other.path()).unwrap_err();
        assert!(error.report().contains("no fifo"), "{}", error.report());
        assert_eq!(std::fs::read(&log).unwrap(), b"kept");
        std::fs::remove_file(&log).unwrap();
        std::os::unix::fs::symlink(bundle.path().join("log"), &log).unwrap();
        LogPipe::open(other.path()).unwrap_err();
        LogPipe::open(Path::new("/nonexistent")).unwrap_err();
    }
}
