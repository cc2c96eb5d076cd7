//! The inotify queue of a watch on containers.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use runtime_api::{ContainerId, Error, ErrorKind, Result};

/// What a watch is on.
#[derive(Debug)]
enum Watched {
    /// The directory of containers.
    Containers,
    /// The directory of one container.
    Container(ContainerId),
}

/// What was seen.
#[derive(Debug)]
pub(super) enum Seen {
    /// Something about these.
    Some(Vec<ContainerId>),
    /// The kernel's queue was full: anything may have happened.
    Overflow,
}

/// The queue and what its watches are on.
#[derive(Debug)]
pub(super) struct Notices {
    queue: AsyncFd<OwnedFd>,
    watches: HashMap<i32, Watched>,
}

impl Notices {
    /// Watches the directory of containers.
    pub(super) fn of(containers: &Path) -> Result<Self> {
        // A container comes and goes by a rename.
        let flags = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        let made = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .and_then(|queue| inotify::add_watch(&queue, containers, flags).map(|watch| (queue, watch)));
        let watched = made
            .map_err(io::Error::from)
            .and_then(|(queue, watch)| crate::descriptor::watch(queue).map(|queue| (queue, watch)));
        let (queue, watch) = watched.map_err(|error| {
            Error::new(ErrorKind::Exhausted("the containers cannot be watched".into()))
                .on(format_args!("directory {}", containers.display()))
                .caused_by(error)
                .hint("raise fs.inotify.max_user_instances")
        })?;
        Ok(Self { queue, watches: HashMap::from([(watch, Watched::Containers)]) })
    }

    /// Watches a container.
    pub(super) fn add(&mut self, id: &ContainerId, dir: &Path) {
        // Files that matter are made (`oom`) or renamed into place (the record, the exit file).
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        match inotify::add_watch(self.queue.get_ref(), dir, flags) {
            Ok(watch) => drop(self.watches.insert(watch, Watched::Container(id.clone()))),
            // It is gone already, which another notice tells.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => {
                tracing::warn!(%id, %error, "a container cannot be watched; raise fs.inotify.max_user_watches");
            }
        }
    }

    /// Waits for the next notices. Cancel safe: nothing is taken from the queue before they are given out.
    pub(super) async fn next(&mut self) -> io::Result<Seen> {
        loop {
            let mut ready = self.queue.readable().await?;
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(self.queue.get_ref(), &mut buffer);
            let mut ids: Vec<ContainerId> = Vec::new();
            let mut overflow = false;
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(rustix::io::Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                };
                overflow |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                if event.events().contains(ReadFlags::IGNORED) {
                    self.watches.remove(&event.wd());
                    continue;
                }
                let name = event.file_name().and_then(|name| name.to_str().ok());
                let id = match (self.watches.get(&event.wd()), name) {
                    // A name with a dot in front is a container being made or removed, and parses as no id.
                    (Some(Watched::Containers), Some(name)) => ContainerId::new(name).ok(),
                    (Some(Watched::Container(id)), Some("record.json" | "exit" | "oom")) => Some(id.clone()),
                    _ => None,
                };
                if let Some(id) = id.filter(|id| !ids.contains(id)) {
                    ids.push(id);
                }
            }
            if overflow {
                return Ok(Seen::Overflow);
            }
            if !ids.is_empty() {
                return Ok(Seen::Some(ids));
            }
        }
    }
}
