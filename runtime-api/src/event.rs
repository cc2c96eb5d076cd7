//! What happens to containers, as a stream.

use tokio::sync::broadcast;

use crate::{ContainerId, Error, ErrorKind, ExitStatus, Result};

/// What happened.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The program was started.
    Started,
    /// The program ended.
    Exited(ExitStatus),
    /// The kernel killed a process of the container for want of memory.
    OutOfMemory,
    /// The monitor died; the exit code will be lost.
    MonitorLost,
}

/// One event.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    /// Whose.
    pub id: ContainerId,
    /// What.
    pub kind: EventKind,
}

impl ContainerEvent {
    /// `kind` happened to `id`.
    #[must_use]
    pub const fn new(id: ContainerId, kind: EventKind) -> Self {
        Self { id, kind }
    }
}

/// A subscription. It holds the last [`EventStream::CAPACITY`] events; a reader that falls behind is told how many
/// it lost. There is no replay: after a reopen, `list` is the truth.
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<ContainerEvent>);

impl EventStream {
    /// How many events a slow reader may be behind.
    pub const CAPACITY: usize = 1024;

    /// The reader's end of a channel of [`EventStream::CAPACITY`].
    #[must_use]
    pub const fn new(receiver: broadcast::Receiver<ContainerEvent>) -> Self {
        Self(receiver)
    }

    /// The next event, or `None` once the runtime value is gone. Cancel safe.
    ///
    /// # Errors
    /// [`ErrorKind::Lagged`] with the number of events lost; the next call goes on after the gap.
    pub async fn next(&mut self) -> Option<Result<ContainerEvent>> {
        match self.0.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Err(Error::new(ErrorKind::Lagged(lost)))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
