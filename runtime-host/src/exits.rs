//! One watch on the directory of exit files sees the end of every container, whichever process started it.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use runtime_api::{ContainerId, Error, ErrorKind, Result};

/// What this process knows of one container besides its record: who is next in line, and that something changed.
#[derive(Debug)]
pub struct Entry {
    /// Callers in this process queue here before they try for the lock between processes.
    pub queue: Arc<tokio::sync::Mutex<()>>,
    changed: watch::Sender<()>,
}

impl Entry {
    /// Told whenever an exit file came or went, or a caller in this process changed the record.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Tells those who wait in this process that something changed.
    pub fn touch(&self) {
        self.changed.send_replace(());
    }
}

/// The entries of the containers that somebody in this process is dealing with right now.
#[derive(Debug, Default)]
pub struct Entries(Mutex<HashMap<ContainerId, Weak<Entry>>>);

impl Entries {
    /// The entry of a container; the same one for as long as anybody holds it.
    pub fn of(&self, id: &ContainerId) -> Arc<Entry> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(id).and_then(Weak::upgrade) {
            return entry;
        }
        // Entries that nobody holds any more would pile up, one for each container that ever was.
        if entries.len() >= 64 && entries.len().is_power_of_two() {
            entries.retain(|_, entry| entry.strong_count() > 0);
        }
        let entry = Arc::new(Entry { queue: Arc::default(), changed: watch::Sender::new(()) });
        entries.insert(id.clone(), Arc::downgrade(&entry));
        entry
    }

    fn touch(&self, name: &str) {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ContainerId::new(name).ok().and_then(|id| entries.get(&id).and_then(Weak::upgrade));
        drop(entries);
        if let Some(entry) = known {
            entry.touch();
        }
    }

    fn touch_all(&self) {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = entries.values().filter_map(Weak::upgrade).collect();
        drop(entries);
        all.iter().for_each(|entry| entry.touch());
    }
}

/// Watches the directory of exit files.
///
/// # Errors
/// `Exhausted` when the host gives no more watches.
pub fn watch_directory(exits: &Path) -> Result<AsyncFd<OwnedFd>> {
    let flags =
        inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::DELETE;
    let made = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .and_then(|queue| inotify::add_watch(&queue, exits, flags).map(|_| queue));
    made.map_err(io::Error::from).and_then(crate::descriptor::watch).map_err(|error| {
        Error::new(ErrorKind::Exhausted("the exit directory cannot be watched".into()))
            .on(format_args!("directory {}", exits.display()))
            .caused_by(error)
            .hint("raise fs.inotify.max_user_instances")
    })
}

/// Passes on what the watch sees, for as long as the value lives.
pub async fn pass_on(watch: AsyncFd<OwnedFd>, entries: Arc<Entries>) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    while let Ok(mut ready) = watch.readable().await {
        let mut queue = inotify::Reader::new(watch.get_ref(), &mut buffer);
        loop {
            match queue.next() {
                Ok(event) => match event.file_name().map(CStr::to_str) {
                    // conmon writes to a temporary name with a dot and six letters first. That is nobody's id that
                    // matters: the entry of such an id, if there is one, is merely asked to look again.
                    Some(Ok(name)) => entries.touch(name),
                    Some(Err(_)) => {}
                    // The kernel's queue overflowed: anything may have happened.
                    None => entries.touch_all(),
                },
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "the watch on the exit directory failed; ends are found by polling now");
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn an_exit_file_wakes_its_waiters() {
        let at = tempfile::tempdir().unwrap();
        let entries: Arc<Entries> = Arc::default();
        let entry = entries.of(&ContainerId::new("a").unwrap());
        let other = entries.of(&ContainerId::new("b").unwrap());
        let (mut changes, others) = (entry.changes(), other.changes());
        let task = tokio::spawn(pass_on(watch_directory(at.path()).unwrap(), Arc::clone(&entries)));
        std::fs::write(at.path().join("a.XXXX"), "0").unwrap();
        std::fs::rename(at.path().join("a.XXXX"), at.path().join("a")).unwrap();
        tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.unwrap().unwrap();
        assert!(!others.has_changed().unwrap());
        task.abort();
    }

    #[test]
    fn entries_that_nobody_holds_are_forgotten() {
        let entries = Entries::default();
        for n in 0..1000 {
            let _ = entries.of(&ContainerId::new(format!("c{n}")).unwrap());
        }
        assert!(entries.0.lock().unwrap().len() <= 64);
    }
}
