//! One id, one container, whatever its handler: a small file per id below `<base>/.ids` says where the id lives.
//!
//! The file holds `<handler>/<snapshot>`. Whoever creates a container holds the file's lock meanwhile, so:
//!
//! - of several creates of one id at the same time, in any processes, exactly one goes on;
//! - a file whose lock is free and whose runtime does not know the id is left over (its maker was killed, or the
//!   container was deleted past the facade) and is taken over by the next create.
//!
//! The lock is the kernel's, and ends with the process. The file is never renamed; that the locked file is still the one
//! at the path is checked after the lock was got. A container that was made past the facade has no file: it is found by
//! asking every snapshot, and it does not keep its id from being used under another handler.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_api::{ContainerId, Error, ErrorKind, Result};

use crate::snapshot::{Snapshot, failed};

const FOLDER: &str = ".ids";
/// How often and how long to wait for a lock that a delete holds for a moment.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// An id that this process holds the lock of. Dropped undecided, it gives the id back.
#[derive(Debug)]
pub(crate) struct Reservation {
    file: File,
    path: PathBuf,
    decided: bool,
}

/// What a try to take an id found.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Nobody had it.
    Free(Reservation),
    /// It was given to this snapshot, and nobody holds its lock.
    Given(Snapshot, Reservation),
    /// Somebody holds its lock.
    UnderWay,
}

/// Where the id lives, as far as its file says.
pub(crate) fn whereabouts(base: &Path, id: &ContainerId) -> Option<Snapshot> {
    let text = std::fs::read_to_string(path(base, id)).ok()?;
    Snapshot::from_text(text.trim_end())
}

/// Takes the lock of an id, and makes its file if there is none.
pub(crate) async fn take(base: &Path, id: &ContainerId) -> Result<Taken> {
    let folder = base.join(FOLDER);
    let make = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    make.map_err(|error| failed(&folder, error))?;
    for _ in 0..TRIES {
        if let Some(mut reservation) = lock(&path(base, id), true)? {
            return Ok(match reservation.read() {
                Some(snapshot) => {
                    // Undecided, a file that was there before must stay.
                    reservation.decided = true;
                    Taken::Given(snapshot, reservation)
                }
                None => Taken::Free(reservation),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Taken::UnderWay)
}

/// Takes the lock of an id that has a file which names `snapshot`, unless somebody goes on holding it.
pub(crate) async fn take_again(
    base: &Path,
    id: &ContainerId,
    snapshot: &Snapshot,
) -> Result<Option<Reservation>> {
    for _ in 0..TRIES {
        match lock(&path(base, id), false) {
            Ok(Some(mut reservation)) => {
                reservation.decided = true;
                let same = reservation.read().as_ref() == Some(snapshot);
                return Ok(same.then_some(reservation));
            }
            Ok(None) => tokio::time::sleep(PAUSE).await,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

impl Reservation {
    /// Writes where the id is going to live.
    pub(crate) fn give(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.decided = false;
        let written = self
            .file
            .rewind()
            .and_then(|()| self.file.set_len(0))
            .and_then(|()| writeln!(self.file, "{snapshot}"));
        written.map_err(|error| failed(&self.path, error))
    }

    /// The container is there: the file stays.
    pub(crate) fn keep(mut self) {
        self.decided = true;
    }

    /// There is no container: the file goes.
    pub(crate) fn give_back(mut self) {
        self.decided = false;
    }

    fn read(&mut self) -> Option<Snapshot> {
        let mut text = String::new();
        self.file.read_to_string(&mut text).ok()?;
        Snapshot::from_text(text.trim_end())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.decided {
            // A file that cannot be removed is taken over by the next create of this id.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn path(base: &Path, id: &ContainerId) -> PathBuf {
    base.join(FOLDER).join(id.as_str())
}

/// `None` when somebody else holds the lock, or the file was replaced meanwhile.
fn lock(path: &Path, make: bool) -> Result<Option<Reservation>> {
    let opened =
        OpenOptions::new().read(true).write(true).create(make).truncate(false).mode(0o600).open(path);
    let file = opened.map_err(|error| failed(path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(failed(path, error)),
    }
    let ours = file.metadata().map_err(|error| failed(path, error))?;
    match std::fs::symlink_metadata(path) {
        Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {
            Ok(Some(Reservation { file, path: path.to_owned(), decided: false }))
        }
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

/// The refusal of an id that somebody has.
pub(crate) fn taken(id: &ContainerId, whose: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists).on(format_args!("container \"{id}\"")).hint(whose.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, toy_config};

    #[tokio::test(start_paused = true)]
    async fn an_id_is_taken_once() {
        let base = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::of(&toy_config("web"));
        let Taken::Free(mut first) = take(base.path(), &id("a")).await.unwrap() else { panic!("it is free") };
        first.give(&snapshot).unwrap();
        assert!(matches!(take(base.path(), &id("a")).await.unwrap(), Taken::UnderWay));
        assert_eq!(whereabouts(base.path(), &id("a")), Some(snapshot.clone()));
        first.keep();
        let Taken::Given(found, again) = take(base.path(), &id("a")).await.unwrap() else {
            panic!("it was given away")
        };
        assert_eq!(found, snapshot);
        drop(again);
        assert!(whereabouts(base.path(), &id("a")).is_some(), "looking does not give it back");
    }

    #[tokio::test(start_paused = true)]
    async fn an_undecided_reservation_gives_the_id_back() {
        let base = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::of(&toy_config("web"));
        let Taken::Free(mut first) = take(base.path(), &id("a")).await.unwrap() else { panic!("it is free") };
        first.give(&snapshot).unwrap();
        drop(first);
        assert_eq!(std::fs::read_dir(base.path().join(FOLDER)).unwrap().count(), 0);
        assert!(matches!(take(base.path(), &id("a")).await.unwrap(), Taken::Free(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_snapshot_that_has_it_can_give_it_back() {
        let base = tempfile::tempdir().unwrap();
        let (web, other) = (Snapshot::of(&toy_config("web")), Snapshot::of(&toy_config("other")));
        assert!(take_again(base.path(), &id("a"), &web).await.unwrap().is_none());
        let Taken::Free(mut first) = take(base.path(), &id("a")).await.unwrap() else { panic!("it is free") };
        first.give(&web).unwrap();
        assert!(take_again(base.path(), &id("a"), &web).await.unwrap().is_none(), "it is locked");
        first.keep();
        assert!(take_again(base.path(), &id("a"), &other).await.unwrap().is_none());
        take_again(base.path(), &id("a"), &web).await.unwrap().unwrap().give_back();
        assert_eq!(whereabouts(base.path(), &id("a")), None);
    }
}
