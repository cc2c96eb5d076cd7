//! The fifos between a shim and us.
//!
//! Who reads output opens its end first: a shim waits for a reader, for ever in some cases. A reader that never saw a
//! writer is not told of an end. Once the last writer has closed its end, it is; then the fifo is opened anew, for a shim
//! may open it more than once. Whether somebody writes can be asked: a read that finds nothing says "later" if there is a
//! writer, and "the end" if there is none.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

use runtime_api::{Error, ErrorKind, Result};

use super::socket::Placed;
use crate::task::TaskIo;

/// How much is read at once: what a fifo holds.
const CHUNK: usize = 64 * 1024;

/// The paths that a shim is given. A stream without a path is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fifos {
    /// Standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<PathBuf>,
    /// Standard output, or everything that comes from a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<PathBuf>,
    /// Standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<PathBuf>,
}

impl Fifos {
    /// What a shim is told of them.
    #[must_use]
    pub fn task_io(&self, terminal: bool) -> TaskIo {
        let text = |path: &Option<PathBuf>| {
            path.as_deref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
        };
        TaskIo { terminal, stdin: text(&self.stdin), stdout: text(&self.stdout), stderr: text(&self.stderr) }
    }
}

/// Makes a fifo for the owner alone. What is there already, from a life that was cut off, is replaced.
pub(crate) fn make(path: PathBuf) -> Result<Placed> {
    let make = || nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR);
    let made = match make() {
        Err(nix::errno::Errno::EEXIST) => std::fs::remove_file(&path).and_then(|()| Ok(make()?)),
        made => made.map_err(io::Error::from),
    };
    made.map_err(|error| cannot("cannot be made", &path).caused_by(error))?;
    Ok(Placed::at(path))
}

/// Opens our end of standard input. It counts as a reader too, so nothing that is written is lost before the shim reads.
pub(crate) fn open_input(path: &Path) -> Result<Sender> {
    let opened = OpenOptions::new().read_write(true).open_sender(path);
    opened.map_err(|error| cannot("cannot be opened", path).caused_by(error))
}

/// Our end of one stream of output.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    /// Nothing, once the fifo cannot be opened any more.
    end: Option<Receiver>,
}

/// What a look at a fifo found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Text(Vec<u8>),
    /// There is a writer, who has nothing to say now.
    Silence,
    /// There is no writer.
    End,
}

impl Output {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let end = open_output(&path)?;
        Ok(Self { path, end: Some(end) })
    }

    /// The next text, or that the last writer has left: the next one may come. Cancel safe.
    pub(super) async fn next(&mut self) -> Found {
        loop {
            let Some(end) = &self.end else { return std::future::pending().await };
            if end.readable().await.is_err() {
                self.end = None;
                return Found::End;
            }
            let mut chunk = vec![0; CHUNK];
            match end.try_read(&mut chunk) {
                Ok(0) => {
                    self.open_anew();
                    return Found::End;
                }
                Ok(count) => {
                    chunk.truncate(count);
                    return Found::Text(chunk);
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, fifo = %self.path.display(), "a fifo cannot be read");
                    self.end = None;
                    return Found::End;
                }
            }
        }
    }

    /// Looks what is there now, without waiting.
    pub(super) fn look(&mut self) -> Found {
        let Some(end) = &self.end else { return Found::End };
        let mut chunk = vec![0; CHUNK];
        match rustix::io::read(end, &mut chunk) {
            Ok(0) => Found::End,
            Ok(count) => {
                chunk.truncate(count);
                Found::Text(chunk)
            }
            Err(Errno::AGAIN | Errno::INTR) => Found::Silence,
            Err(_) => Found::End,
        }
    }

    /// The old end is closed last, so that a writer who comes meanwhile finds a reader.
    fn open_anew(&mut self) {
        // Without the file nobody can come any more.
        self.end = open_output(&self.path).ok();
    }
}

fn open_output(path: &Path) -> Result<Receiver> {
    let opened = OpenOptions::new().open_receiver(path);
    opened.map_err(|error| cannot("cannot be opened", path).caused_by(error))
}

fn cannot(what: &str, path: &Path) -> Error {
    Error::new(ErrorKind::Unavailable(format!("it {what}"))).on(format_args!("fifo {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt as _;

    async fn soon<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), what).await.unwrap()
    }

    #[tokio::test]
    async fn writers_come_and_go_and_no_byte_is_lost() {
        let at = tempfile::tempdir().unwrap();
        let fifo = make(at.path().join("stdout")).unwrap();
        let mut output = Output::open(fifo.path().to_owned()).unwrap();
        assert_eq!(output.look(), Found::End);
        for round in 0..3 {
            let mut writer = OpenOptions::new().open_sender(fifo.path()).unwrap();
            assert_eq!(output.look(), Found::Silence);
            writer.write_all(format!("text {round}").as_bytes()).await.unwrap();
            assert_eq!(soon(output.next()).await, Found::Text(format!("text {round}").into_bytes()));
            writer.write_all(b"rest").await.unwrap();
            drop(writer);
            assert_eq!(soon(output.next()).await, Found::Text(b"rest".to_vec()));
            assert_eq!(soon(output.next()).await, Found::End);
            let quiet = tokio::time::timeout(Duration::from_millis(20), output.next()).await;
            assert!(quiet.is_err());
            assert_eq!(output.look(), Found::End);
        }
        let path = fifo.path().to_owned();
        drop(fifo);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_fifo_that_was_left_is_replaced_and_anything_else_is_an_error() {
        let at = tempfile::tempdir().unwrap();
        std::mem::forget(make(at.path().join("fifo")).unwrap());
        let made = make(at.path().join("fifo")).unwrap();
        let input = open_input(made.path()).unwrap();
        soon(input.writable()).await.unwrap();
        assert_eq!(input.try_write(b"x").unwrap(), 1);
        std::fs::create_dir(at.path().join("dir")).unwrap();
        for name in ["dir", "missing/fifo"] {
            let error = make(at.path().join(name)).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
