//! The monitor: the process that outlives the caller and carries what the programs behind a shim read and print.
//!
//! A shim writes a program's output into fifos, and somebody has to read them for as long as the program lives. For a host
//! runtime that is conmon; for a shim it is `manyrun-vm-io`, one for each shim. It speaks to clients as conmon does: the
//! same attach socket, the same log format, the same exit files.
//!
//! Whoever uses one starts it by [`MonitorClient::spawn`], which starts the shim as well, and asks it through that client. For
//! each program: [`add`](MonitorClient::add), then tell the shim of the program and its fifos, then
//! [`watch`](MonitorClient::watch), and [`remove`](MonitorClient::remove) in the end. A fake of a shim runs one as a task:
//! [`live`] with its own [`Launch`], or [`Monitor::bind`] in a directory, and [`Monitor::serve`] with its own [`Tasks`].
//!
//! The monitor of a shim has a directory:
//!
//! ```text
//! order.json      what to start: StartOrder
//! monitor.json    which process the monitor is
//! started.json    what was started: Started
//! monitor.log     what the monitor complains about
//! shim.log        what the shim logs, and shim.log.1, what it logged before
//! control         the socket for requests
//! events          the socket that the shim tells its events to
//! ```
//!
//! and each program one that its order names:
//!
//! ```text
//! attach          conmon's attach socket
//! oom             one byte for each kill for want of memory that the shim told of
//! exit-time       when it ended, in RFC 3339
//! exit            the exit code, decimal; written last, and only if the shim told the code
//! ```

mod client;
mod clients;
mod control;
mod door;
mod end;
mod event_socket;
pub(crate) mod fifo;
pub mod find;
pub(crate) mod input;
mod launch;
mod leftover;
mod life;
mod log;
mod order;
mod process;
mod program;
mod reap;
mod request;
mod serve;
mod shim_log;
mod shim_tasks;
pub(crate) mod socket;
mod untold;

use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use runtime_api::Result;

pub(crate) use client::spawned_in;
pub use client::{MonitorClient, Starting};
pub use event_socket::EventSocket;
pub use fifo::Fifos;
pub use launch::ShimLaunch;
pub use leftover::remove_leftovers;
pub use life::{Launch, Launched, live};
pub use log::LogOrder;
pub use order::{StartOrder, Started};
pub use process::run;
pub use program::{Notice, ProgramOrder, ProgramState};
pub use request::MonitorState;
pub use serve::{Monitor, Told};
pub use shim_tasks::ShimTasks;
pub(crate) use untold::Untold;

/// Which program: the init of a container, or an exec in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The container.
    pub container: String,
    /// The exec; nothing for the init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<String>,
}

impl Key {
    /// The init of a container.
    #[must_use]
    pub fn init(container: impl Into<String>) -> Self {
        Self { container: container.into(), exec: None }
    }

    /// An exec in a container.
    #[must_use]
    pub fn exec(container: impl Into<String>, exec: impl Into<String>) -> Self {
        Self { container: container.into(), exec: Some(exec.into()) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.exec {
            None => write!(f, "container \"{}\"", self.container),
            Some(exec) => write!(f, "exec \"{exec}\" in container \"{}\"", self.container),
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, 128 + n for a signal.
    pub code: i32,
    /// When.
    pub at: SystemTime,
}

/// What the monitor asks of a shim while programs run.
#[async_trait]
pub trait Tasks: fmt::Debug + Send + Sync + 'static {
    /// Waits for the end of a program. One that ended already is answered at once.
    ///
    /// # Errors
    /// `NotFound` when the shim does not know the program; `PeerLost` when the shim is gone for good. After any other
    /// error it is asked again.
    async fn wait(&self, key: &Key) -> Result<Ended>;

    /// What the shim says of a program without a wait: how it ended, or nothing while it has not.
    ///
    /// # Errors
    /// As [`Tasks::wait`].
    async fn ended(&self, key: &Key) -> Result<Option<Ended>>;

    /// Lets a program see the end of its input. Some shims answer only when no writer is left.
    ///
    /// # Errors
    /// What the shim says.
    async fn close_io(&self, key: &Key) -> Result<()>;

    /// Comes back when the shim is gone for good.
    async fn gone(&self);
}

/// A stream of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Stdout,
    Stderr,
}

impl Channel {
    /// Its name in a log.
    const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// Its name in a packet, conmon's.
    const fn packet(self) -> u8 {
        match self {
            Self::Stdout => 2,
            Self::Stderr => 3,
        }
    }
}
