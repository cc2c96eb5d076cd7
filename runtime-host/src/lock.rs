//! One container is changed by one caller at a time, in this process and in others.
//!
//! Within the process an async mutex queues callers; between processes a `flock` on the file `lock` does. The kernel
//! drops the flock of a dead process, so nothing has to be cleaned up after a crash. The lock is held for single steps,
//! never while waiting for a grace or an exit.
//!
//! The file has a second use: a delete writes the final status into it before it unlinks it, so that whoever waits, in
//! any process, and holds the file open can still read how the container ended.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, sleep, timeout_at};

use runtime_api::{Error, ErrorKind, ExitStatus, Result};
use serde::{Deserialize, Serialize};

use crate::process::Identity;

/// The lock of a container's directory.
#[must_use]
pub fn lock_file(dir: impl AsRef<Path>) -> std::path::PathBuf {
    dir.as_ref().join("lock")
}

/// How long a caller waits for others before it is told who is in the way. A step that
/// takes longer, such as a start that hangs, is told as busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a child that has a dead holder's lock may take to become another program, on a host that is very busy.
const BECOMING: Duration = Duration::from_secs(10);

/// The lock of one container, held.
#[derive(Debug)]
pub struct Held {
    file: File,
    _in_process: OwnedMutexGuard<()>,
}

impl Held {
    /// Takes the lock of a container that exists; `None` when there is no such container (any more).
    ///
    /// # Errors
    /// `Busy`, which names the holder; why the file cannot be opened.
    pub async fn acquire(dir: impl AsRef<Path>, queue: &Arc<Mutex<()>>) -> Result<Option<Self>> {
        Self::acquire_within(dir, queue, PATIENCE).await
    }

    /// [`Held::acquire`] with another patience.
    ///
    /// # Errors
    /// As [`Held::acquire`].
    pub async fn acquire_within(
        dir: impl AsRef<Path>,
        queue: &Arc<Mutex<()>>,
        patience: Duration,
    ) -> Result<Option<Self>> {
        let deadline = Instant::now() + patience;
        let path = lock_file(dir);
        let Ok(in_process) = timeout_at(deadline, Arc::clone(queue).lock_owned()).await else {
            return Err(busy("another caller in this process".into()));
        };
        let mut pause = Duration::from_micros(200);
        loop {
            let Some(file) = open(&path)? else { return Ok(None) };
            if try_lock(&file)? {
                // Between the open and the lock the container may have been deleted, and even made again.
                if same_file(&file, &path) {
                    return Ok(Some(Self { file, _in_process: in_process }));
                }
                continue;
            }
            if Instant::now() >= deadline {
                let holder = holder_of(&file).map(|pid| format!("process {pid}"));
                return Err(busy(holder.unwrap_or_else(|| "another process".to_owned())));
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Makes the lock file of a container that is being made, and holds it.
    ///
    /// # Errors
    /// Why the file cannot be made.
    pub async fn make(dir: impl AsRef<Path>, queue: &Arc<Mutex<()>>) -> Result<Self> {
        let in_process = Arc::clone(queue).lock_owned().await;
        let path = lock_file(dir);
        let made = File::options().read(true).write(true).create_new(true).open(&path);
        let file = made.map_err(|error| crate::document::cannot_write(&path, error))?;
        if try_lock(&file)? {
            Ok(Self { file, _in_process: in_process })
        } else {
            Err(Error::new(ErrorKind::Internal(format!("{} is new and locked", path.display()))))
        }
    }

    /// Leaves the final status to those who wait.
    ///
    /// # Errors
    /// `Internal` when it cannot be written.
    pub fn leave_status(&mut self, status: &ExitStatus, started: bool) -> Result<()> {
        let last = Last { status: status.clone(), started };
        let text = serde_json::to_vec(&last).map_err(|error| {
            Error::new(ErrorKind::Internal("status cannot be written".into())).caused_by(error)
        })?;
        self.file.write_all(&text).map_err(|error| {
            Error::new(ErrorKind::Internal("lock file cannot be written".into())).caused_by(error)
        })
    }
}

/// What a delete leaves in the lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    #[serde(flatten)]
    /// How it ended.
    pub status: ExitStatus,
    /// Whether the program was ever started.
    #[serde(default)]
    pub started: bool,
}

/// A look at a container's lock file that outlives the container.
#[derive(Debug)]
pub struct Witness(File);

impl Witness {
    /// `None` when there is no such container.
    ///
    /// # Errors
    /// Why the file cannot be opened.
    pub fn open(dir: impl AsRef<Path>) -> Result<Option<Self>> {
        Ok(open(&lock_file(dir))?.map(Self))
    }

    /// The final status that a delete left, if there was one.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.last().map(|last| last.status)
    }

    /// The same, with whether it was ever started.
    pub fn last(&mut self) -> Option<Last> {
        // Far more than a status needs.
        let mut text = [0; 4096];
        let read = self.0.read_at(&mut text, 0).ok()?;
        serde_json::from_slice(text.get(..read)?).ok()
    }

    /// Whether the container is still the one that was there when this was opened.
    pub fn is_current(&self, dir: impl AsRef<Path>) -> bool {
        same_file(&self.0, &lock_file(dir))
    }

    /// Whether nobody holds the lock: the maker of a container that is still Creating is then dead.
    pub fn is_free(&self) -> bool {
        let free = flock(self.0.as_fd(), FlockOperation::NonBlockingLockShared).is_ok();
        if free {
            let _ = flock(self.0.as_fd(), FlockOperation::Unlock);
        }
        free
    }
}

/// Whether nobody holds the lock of a container, if there is one ([`Witness::is_free`]), after a moment for a child that a dead
/// holder had forked: it has the lock until it has become another program.
///
/// # Errors
/// Why the file cannot be opened.
pub async fn becomes_free(dir: impl AsRef<Path>) -> Result<bool> {
    let Some(witness) = Witness::open(dir)? else { return Ok(true) };
    let deadline = Instant::now() + BECOMING;
    while !witness.is_free() {
        let dead = holder_of(&witness.0).is_some_and(|pid| Identity::of(pid).is_none());
        if !dead || Instant::now() >= deadline {
            return Ok(witness.is_free());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(true)
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::options().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(crate::document::cannot_write(path, error)),
    }
}

fn try_lock(file: &File) -> Result<bool> {
    match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
        Err(error) => {
            Err(Error::new(ErrorKind::Internal("the lock file cannot be locked".into())).caused_by(error))
        }
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => ours.ino() == theirs.ino() && ours.dev() == theirs.dev(),
        _ => false,
    }
}

/// Who took the lock, from `/proc/locks`, whose lines end in `PID MAJOR:MINOR:INODE START END`. His children may hold it when he
/// is gone.
fn holder_of(file: &File) -> Option<i32> {
    let inode = file.metadata().map(|meta| meta.ino()).unwrap_or_default();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (class, pid, place) = (fields.next()?, fields.nth(2)?, fields.next()?);
        let ours = class == "FLOCK" && place.rsplit(':').next()?.parse::<u64>().ok()? == inode;
        // One of another pid namespace is told as 0.
        pid.parse().ok().filter(|pid| ours && *pid > 0)
    })
}

fn busy(holder: String) -> Error {
    Error::new(ErrorKind::Busy { holder }).hint("try again when it is done")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, std::path::PathBuf, Arc<Mutex<()>>) {
        let at = tempfile::tempdir().unwrap();
        let dir = at.path().to_owned();
        (at, dir, Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn the_holder_is_named_when_patience_ends() {
        let (_at, dir, queue) = place();
        let held = Held::make(&dir, &queue).await.unwrap();
        // Another process has another queue.
        let other: Arc<Mutex<()>> = Arc::default();
        let error = Held::acquire(&dir, &other).await.unwrap_err();
        let us = format!("process {}", std::process::id());
        assert_eq!(error.kind(), &ErrorKind::Busy { holder: us });
        drop(held);
        assert!(Held::acquire(&dir, &other).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_witness_reads_what_a_delete_left() {
        let (_at, dir, queue) = place();
        let mut held = Held::make(&dir, &queue).await.unwrap();
        let mut witness = Witness::open(&dir).unwrap().unwrap();
        assert!(witness.status().is_none() && !witness.is_free());
        let status = ExitStatus::exited(3, std::time::SystemTime::UNIX_EPOCH);
        held.leave_status(&status, true).unwrap();
        std::fs::remove_file(lock_file(&dir)).unwrap();
        drop(held);
        assert_eq!(witness.last(), Some(Last { status, started: true }));
        assert!(!witness.is_current(&dir) && witness.is_free());
        assert!(Held::acquire(&dir, &queue).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_lock_that_a_child_of_a_dead_holder_has_is_waited_for() {
        let (_at, dir, queue) = place();
        let held = Held::make(&dir, &queue).await.unwrap();
        // We live.
        assert!(!becomes_free(&dir).await.unwrap());
        drop(held);
        // Who takes the lock leaves at once; a child of the shell has it for a while.
        let script = "exec 9<>lock; flock 9; sleep 0.3 >/dev/null 2>&1 & exec 9>&-; echo taken";
        let shell = std::process::Command::new("sh").args(["-c", script]).current_dir(&dir).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&shell.stdout), "taken\n");
        assert!(becomes_free(&dir).await.unwrap());
    }
}
