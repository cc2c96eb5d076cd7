//! The shims of a state directory: how a connection is had, and which containers each of them serves.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep};

use runtime_api::{ContainerId, Error, ErrorKind, Peer, Result};
use runtime_host::document::cannot_write;

use crate::connector::{Connector, Dialled};
use crate::layout::{Layout, ShimDir};
use crate::record::ShimRef;
use crate::task::{Target, TaskClient};

/// How long a connection may take.
pub(crate) const DIAL: Duration = Duration::from_secs(10);
/// How long others may be at work on the members of a shim.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a directory is made that goes away.
const TRIES: usize = 10;

/// The connections of one value.
#[derive(Debug)]
pub(crate) struct Shims {
    connector: Arc<dyn Connector>,
    open: Mutex<HashMap<String, TaskClient>>,
    waits: Waits,
}

/// The waits for ends. A shim cannot be told that nobody waits any more, so that each call that is given up stays there: a
/// container has one, which is kept open, whoever looks for how long.
#[derive(Default)]
struct Waits(Mutex<Kept>);

/// What is kept of the waits.
#[derive(Default)]
struct Kept {
    of: HashMap<ContainerId, Place>,
    /// How many there were that counted when it was looked last.
    counted: usize,
}

/// Where the wait for one container's end is kept.
type Place = Arc<AsyncMutex<Option<Wait>>>;

/// Whether the shim told of the end.
type Wait = Pin<Box<dyn Future<Output = bool> + Send>>;

/// So many waits may be kept in vain.
const SPARE: usize = 16;

impl Waits {
    fn open(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the wait for a container is. Those for containers that are not `known` any more are let go of; that is looked at
    /// when there are twice as many as before, for a look at each of them at every call would be a look too many.
    fn place(&self, id: &ContainerId, known: impl Fn(&ContainerId) -> bool) -> Place {
        let mut kept = self.open();
        if !kept.of.contains_key(id) && kept.of.len() >= 2 * kept.counted + SPARE {
            kept.of.retain(|each, _| known(each));
            kept.counted = kept.of.len();
        }
        Arc::clone(kept.of.entry(id.clone()).or_default())
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.open().of.keys()).finish()
    }
}

impl Shims {
    pub(crate) fn new(connector: Arc<dyn Connector>) -> Self {
        Self { connector, open: Mutex::default(), waits: Waits::default() }
    }

    pub(crate) fn connector(&self) -> &Arc<dyn Connector> {
        &self.connector
    }

    /// A connection to a shim: the one that is open, or a new one.
    pub(crate) async fn client(
        &self,
        shim: &ShimRef,
        namespace: &str,
        id: &ContainerId,
    ) -> Result<TaskClient> {
        let kept = self.open().get(&shim.address).filter(|client| !client.is_doubtful()).cloned();
        if let Some(client) = kept {
            return Ok(client);
        }
        let target = Dialled { api: shim.api, namespace, id: id.as_str() };
        let dialled = self.connector.dial(&shim.address, &target, DIAL).await;
        let client = dialled.map_err(|error| {
            Error::new(ErrorKind::PeerLost(Peer::Shim))
                .caused_by(error)
                .hint("the shim does not serve its socket; its container can still be stopped and deleted")
        })?;
        self.open().insert(shim.address.clone(), client.clone());
        Ok(client)
    }

    /// Waits until the shim tells of a container's end; whether it did. Given up, the call is gone on with by the next. Those for
    /// containers that are not `known` any more, as when another process deleted them, are let go of.
    pub(crate) async fn end_of(
        &self,
        shim: &ShimRef,
        namespace: &str,
        id: &ContainerId,
        known: impl Fn(&ContainerId) -> bool,
    ) -> bool {
        let place = self.waits.place(id, known);
        let mut wait = place.lock().await;
        if wait.is_none() {
            let Ok(client) = self.client(shim, namespace, id).await else { return false };
            let id = id.clone();
            *wait = Some(Box::pin(async move { client.wait(Target::init(id.as_str())).await.is_ok() }));
        }
        let told = match wait.as_mut() {
            Some(wait) => wait.await,
            None => false,
        };
        *wait = None;
        told
    }

    /// Nobody waits any more for the end of a container that is deleted.
    pub(crate) fn forget_wait(&self, id: &ContainerId) {
        self.waits.open().of.remove(id);
    }

    /// Closes the connection to a shim that is no longer needed.
    pub(crate) fn forget(&self, address: &str) {
        self.open().remove(address);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, TaskClient>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The members of a shim, which nobody else changes meanwhile.
#[derive(Debug)]
pub(crate) struct Members {
    _lock: File,
    dir: ShimDir,
}

impl Members {
    /// Makes the directory of a new shim and locks it.
    pub(crate) async fn make(layout: &Layout, id: &str) -> Result<Self> {
        let dir = layout.shim(id);
        // Whoever looks for directories that nobody needs may be faster than the lock.
        for _ in 0..TRIES {
            let made = std::fs::create_dir_all(dir.members());
            made.map_err(|error| cannot_write(dir.path(), error))?;
            if let Some(members) = Self::lock(dir.clone(), PATIENCE).await?
                && members.dir.members().is_dir()
            {
                return Ok(members);
            }
        }
        Err(Error::new(ErrorKind::Internal(format!("directory {id} of a shim goes away while it is made"))))
    }

    /// Locks the members of a shim; `None` when it is gone.
    pub(crate) async fn of(layout: &Layout, id: &str) -> Result<Option<Self>> {
        Self::within(layout, id, PATIENCE).await
    }

    /// [`Members::of`] with another patience.
    pub(crate) async fn within(layout: &Layout, id: &str, patience: Duration) -> Result<Option<Self>> {
        let dir = layout.shim(id);
        if dir.path().exists() { Self::lock(dir, patience).await } else { Ok(None) }
    }

    async fn lock(dir: ShimDir, patience: Duration) -> Result<Option<Self>> {
        let path = dir.lock();
        let deadline = Instant::now() + patience;
        loop {
            let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = match opened {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(cannot_write(&path, error)),
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The last member may have taken the directory away between the open and the lock.
                Ok(()) if is_at(&file, &path) => return Ok(Some(Self { _lock: file, dir })),
                Ok(()) => {}
                Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(5)).await,
                Err(_) => {
                    let holder = format!("a create or delete at {}", dir.path().display());
                    return Err(Error::new(ErrorKind::Busy { holder }).hint("try again when it is done"));
                }
            }
        }
    }

    pub(crate) fn dir(&self) -> &ShimDir {
        &self.dir
    }

    pub(crate) fn join(&self, id: &ContainerId) -> Result<()> {
        let path = self.dir.member(id);
        std::fs::write(&path, "").map_err(|error| cannot_write(&path, error))
    }

    /// Takes a container out; whether that was the last one.
    pub(crate) fn leave(&self, id: &ContainerId) -> bool {
        let _ = std::fs::remove_file(self.dir.member(id));
        self.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_dir(self.dir.members()).map_or(true, |mut entries| entries.next().is_none())
    }

    /// Removes the directory of a shim that is gone.
    pub(crate) fn remove(self) {
        let _ = std::fs::remove_dir_all(self.dir.path());
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.ino(), ours.dev()) == (theirs.ino(), theirs.dev()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn waits_in_vain_are_let_go_of_without_a_look_at_each_of_them_at_every_call() {
        let id = |number: usize| ContainerId::new(format!("one{number}")).unwrap();
        for (live, most) in [(true, 1000), (false, SPARE)] {
            let (waits, looks) = (Waits::default(), Cell::new(0));
            for number in 0..1000 {
                let known = |_: &ContainerId| {
                    looks.set(looks.get() + 1);
                    live
                };
                for _ in 0..3 {
                    waits.place(&id(number), known);
                }
            }
            assert!(looks.get() <= 2000, "{} looks", looks.get());
            assert!(waits.open().of.len() <= most, "{} are kept", waits.open().of.len());
        }
    }
}
