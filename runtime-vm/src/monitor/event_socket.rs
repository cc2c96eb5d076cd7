//! The socket to which a shim tells what happens, in the directory of its monitor.

use std::fmt;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use runtime_api::{Error, ErrorKind, Result};

use super::socket::Short;
use super::{Key, Told};
use crate::task::events::{EventServer, ShimEvent, TaskEvent};

/// The longest path of a socket that others can be told as it is.
const PATH: usize = 107;

/// Takes a shim's events as long as it lives.
pub struct EventSocket {
    server: EventServer,
    /// What makes a long path one that the shim can reach.
    _place: Option<Short>,
    _passing: JoinSet<()>,
}

impl EventSocket {
    /// Listens in the directory of a monitor, and passes on what matters to [`Monitor::serve`](super::Monitor::serve).
    ///
    /// # Errors
    /// `Unavailable`, `Exhausted` or `ConfigInvalid` when there can be no socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn serve(dir: &Path) -> Result<(Self, mpsc::Receiver<Told>)> {
        let path = dir.join("events");
        let (short, place): (Option<Short>, PathBuf) = if path.as_os_str().len() <= PATH {
            (None, path.clone())
        } else {
            // The shim reaches it through a descriptor of this process.
            let short = Short::to(&path).map_err(|error| {
                Error::new(ErrorKind::Unavailable("it cannot be served".into()))
                    .on(format_args!("socket {}", path.display()))
                    .caused_by(error)
            })?;
            let place = short.path_for_others();
            (Some(short), place)
        };
        // One of a monitor that was killed.
        let _ = std::fs::remove_file(&path);
        let (server, mut events) = EventServer::listen(&place).await?;
        let (sender, told) = mpsc::channel(64);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            while let Some(event) = events.recv().await {
                if sender.send(told_by(event)).await.is_err() {
                    return;
                }
            }
        });
        Ok((Self { server, _place: short, _passing: passing }, told))
    }

    /// What the shim is told as `TTRPC_ADDRESS`.
    #[must_use]
    pub fn address(&self) -> &Path {
        self.server.address()
    }
}

impl fmt::Debug for EventSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSocket").field("address", &self.address()).finish_non_exhaustive()
    }
}

fn told_by(event: ShimEvent) -> Told {
    match event.what {
        TaskEvent::OutOfMemory { id } => Told::OutOfMemory { container: id },
        TaskEvent::Exited { id, exec, .. } => Told::Exited(Key { container: id, exec }),
        _ => Told::Other,
    }
}
