//! What callers ask for. Every request is built by `new` and `with`-less setters, so that fields can be added.

mod exec;
mod update;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{Capability, ContainerId, DetachKeys, SandboxId, Signal, WindowSize};

pub use exec::{ExecRequest, ExecSessionRequest, ExecSyncRequest, ProcessRequest};
pub use update::UpdateRequest;

/// What happens to the program's standard input.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdinMode {
    /// It is at its end from the start.
    #[default]
    Closed,
    /// It can be attached; the end of the first client's input closes it. Whether a client that leaves in another way
    /// closes it, too, is the runtime's affair.
    Once,
    /// It can be attached; it stays open when clients leave.
    KeepOpen,
}

/// Where a program's output is kept.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogDriver {
    /// A file in the format of the CRI: time, stream, `P` or `F`, text.
    #[default]
    CriFile,
    /// The system's journal.
    Journald,
    /// Nowhere.
    None,
}

/// How a program's output is kept.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The driver.
    pub driver: LogDriver,
    /// The file, for [`LogDriver::CriFile`]. Its parent directory must exist, and it must not be a symbolic link.
    pub path: Option<PathBuf>,
    /// The size in bytes after which the file starts anew, at least 8192.
    pub max_size: Option<u64>,
}

impl LogConfig {
    /// A file in the CRI format.
    pub fn cri_file(path: impl Into<PathBuf>) -> Self {
        Self { driver: LogDriver::CriFile, path: Some(path.into()), max_size: None }
    }

    /// No log.
    #[must_use]
    pub const fn none() -> Self {
        Self { driver: LogDriver::None, path: None, max_size: None }
    }

    /// Limits the size of the file.
    #[must_use]
    pub const fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }
}

/// Asks for a new container.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The id, free until now.
    pub id: ContainerId,
    /// An OCI bundle: a directory with `config.json`. It is never written to.
    pub bundle: PathBuf,
    /// The program's standard input. With a terminal, input is always open.
    pub stdin: StdinMode,
    /// Where output is kept.
    pub log: LogConfig,
    /// The signal that a stop sends first; TERM unless given.
    pub stop_signal: Option<Signal>,
    /// Free labels, kept with the container.
    pub labels: BTreeMap<String, String>,
    /// The sandbox (pod) it belongs to.
    pub sandbox: Option<SandboxId>,
    /// The cgroup of the caller (a pod's, say) below which the container goes if its spec names none; the handler's own
    /// unless given. It stays when the container is deleted. Needs `cgroups.parent`.
    pub cgroup_parent: Option<String>,
    /// A datagram socket of the caller to which the program's `sd_notify` messages are passed on. The program finds its own
    /// end in `NOTIFY_SOCKET`. Needs `notify`.
    pub notify_socket: Option<PathBuf>,
    /// Open descriptors for the program, which are numbered from 3 there. The monitor holds them as long as the container
    /// lives. Needs `descriptors`.
    pub descriptors: Vec<Arc<OwnedFd>>,
}

impl CreateRequest {
    /// A container from `bundle`, without input, log, labels or sandbox.
    pub fn new(id: ContainerId, bundle: impl Into<PathBuf>) -> Self {
        Self {
            id,
            bundle: bundle.into(),
            stdin: StdinMode::Closed,
            log: LogConfig::none(),
            stop_signal: None,
            labels: BTreeMap::new(),
            sandbox: None,
            cgroup_parent: None,
            notify_socket: None,
            descriptors: Vec::new(),
        }
    }

    /// Sets what happens to standard input.
    #[must_use]
    pub const fn stdin(mut self, stdin: StdinMode) -> Self {
        self.stdin = stdin;
        self
    }

    /// Sets where output is kept.
    #[must_use]
    pub fn log(mut self, log: LogConfig) -> Self {
        self.log = log;
        self
    }

    /// Sets the signal that a stop sends first.
    #[must_use]
    pub const fn stop_signal(mut self, signal: Signal) -> Self {
        self.stop_signal = Some(signal);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Gives the program a descriptor, the next one from 3.
    #[must_use]
    pub fn descriptor(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.descriptors.push(Arc::new(descriptor.into()));
        self
    }

    /// Sets the sandbox.
    #[must_use]
    pub fn sandbox(mut self, sandbox: SandboxId) -> Self {
        self.sandbox = Some(sandbox);
        self
    }

    /// Sets the cgroup below which it goes if its spec names none.
    #[must_use]
    pub fn cgroup_parent(mut self, cgroup: impl Into<String>) -> Self {
        self.cgroup_parent = Some(cgroup.into());
        self
    }

    /// Sets where the program's `sd_notify` messages go.
    #[must_use]
    pub fn notify_socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.notify_socket = Some(socket.into());
        self
    }
}

/// Asks for a signal.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KillRequest {
    /// The signal.
    pub signal: Signal,
    /// Send it to every process of the container; needs `kill.all`.
    pub all: bool,
}

impl KillRequest {
    /// A signal to the container's init.
    #[must_use]
    pub const fn new(signal: Signal) -> Self {
        Self { signal, all: false }
    }

    /// Sends it to every process.
    #[must_use]
    pub const fn all(mut self) -> Self {
        self.all = true;
        self
    }
}

/// Asks for the end of the program.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// How long the program may take to end by itself. Zero kills at once; `None` never kills.
    pub grace: Option<Duration>,
}

impl StopRequest {
    /// A polite stop that turns to force after `grace`.
    #[must_use]
    pub const fn within(grace: Duration) -> Self {
        Self { grace: Some(grace) }
    }

    /// A polite stop that waits for ever.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { grace: None }
    }
}

/// Asks that a container be forgotten.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteRequest {
    /// From any state, an unknown id included.
    pub force: bool,
}

impl DeleteRequest {
    /// Of a container that is created or stopped.
    #[must_use]
    pub const fn new() -> Self {
        Self { force: false }
    }

    /// Of a container in any state.
    #[must_use]
    pub const fn force() -> Self {
        Self { force: true }
    }
}

/// Asks to be connected to a program's streams.
#[non_exhaustive]
#[derive(Debug, Default)]
pub struct AttachRequest {
    /// The keys that detach; none unless given.
    pub detach_keys: Option<DetachKeys>,
    /// The size that the terminal gets before anything else.
    pub initial_size: Option<WindowSize>,
    /// Told once when output can no longer be missed, so that the caller may start the program then.
    pub attached: Option<oneshot::Sender<()>>,
}

impl AttachRequest {
    /// No detach keys, no size.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the keys that detach.
    #[must_use]
    pub fn detach_keys(mut self, keys: DetachKeys) -> Self {
        self.detach_keys = Some(keys);
        self
    }

    /// Sets the size that the terminal gets first.
    #[must_use]
    pub const fn initial_size(mut self, size: WindowSize) -> Self {
        self.initial_size = Some(size);
        self
    }

    /// Asks to be told once output can no longer be missed.
    #[must_use]
    pub fn on_attached(mut self, told: oneshot::Sender<()>) -> Self {
        self.attached = Some(told);
        self
    }
}

/// Asks for a checkpoint.
#[non_exhaustive]
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent option of the checkpoint command")]
pub struct CheckpointRequest {
    /// Where the image goes: a directory that must not exist, in one that does.
    pub image: PathBuf,
    /// Leave the container running; needs `checkpoint.leave-running`.
    pub leave_running: bool,
    /// Hold established TCP connections; needs `checkpoint.tcp-established`.
    pub tcp_established: bool,
    /// Hold file locks; needs `checkpoint.file-locks`.
    pub file_locks: bool,
    /// Only copy memory, as preparation, and leave the container running; needs `checkpoint.pre-dump`.
    pub pre_dump: bool,
    /// The image of an earlier pre-dump: memory that did not change since is not copied again. The new image needs that
    /// one where it is. Needs `checkpoint.pre-dump`.
    pub parent: Option<PathBuf>,
}

impl CheckpointRequest {
    /// A plain checkpoint that ends the container.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            leave_running: false,
            tcp_established: false,
            file_locks: false,
            pre_dump: false,
            parent: None,
        }
    }

    /// Leaves the container running.
    #[must_use]
    pub const fn leave_running(mut self) -> Self {
        self.leave_running = true;
        self
    }

    /// Holds established TCP connections.
    #[must_use]
    pub const fn tcp_established(mut self) -> Self {
        self.tcp_established = true;
        self
    }

    /// Holds file locks.
    #[must_use]
    pub const fn file_locks(mut self) -> Self {
        self.file_locks = true;
        self
    }

    /// Only copies memory, as preparation.
    #[must_use]
    pub const fn pre_dump(mut self) -> Self {
        self.pre_dump = true;
        self
    }

    /// Builds on the image of an earlier pre-dump.
    #[must_use]
    pub fn parent(mut self, image: impl Into<PathBuf>) -> Self {
        self.parent = Some(image.into());
        self
    }

    /// The capabilities of the options that are set.
    pub fn needs(&self) -> impl Iterator<Item = Capability> + use<> {
        let options = [
            (self.leave_running, Capability::CheckpointLeaveRunning),
            (self.tcp_established, Capability::CheckpointTcpEstablished),
            (self.file_locks, Capability::CheckpointFileLocks),
            (self.pre_dump || self.parent.is_some(), Capability::CheckpointPreDump),
        ];
        options.into_iter().filter(|(set, _)| *set).map(|(_, capability)| capability)
    }
}

/// Asks for a container that continues from an image.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct RestoreRequest {
    /// The container to make: the bundle of the one that was saved, or an equal one.
    pub create: CreateRequest,
    /// The image.
    pub image: PathBuf,
    /// The image holds established TCP connections; needs `checkpoint.tcp-established`.
    pub tcp_established: bool,
    /// The image holds file locks; needs `checkpoint.file-locks`.
    pub file_locks: bool,
}

impl RestoreRequest {
    /// The container `create`, continued from `image`.
    pub fn new(create: CreateRequest, image: impl Into<PathBuf>) -> Self {
        Self { create, image: image.into(), tcp_established: false, file_locks: false }
    }

    /// The image holds established TCP connections.
    #[must_use]
    pub const fn tcp_established(mut self) -> Self {
        self.tcp_established = true;
        self
    }

    /// The image holds file locks.
    #[must_use]
    pub const fn file_locks(mut self) -> Self {
        self.file_locks = true;
        self
    }

    /// The capabilities of the options that are set.
    pub fn needs(&self) -> impl Iterator<Item = Capability> + use<> {
        let options = [
            (self.tcp_established, Capability::CheckpointTcpEstablished),
            (self.file_locks, Capability::CheckpointFileLocks),
        ];
        options.into_iter().filter(|(set, _)| *set).map(|(_, capability)| capability)
    }
}

/// Asks for a connection to a port inside a container.
#[non_exhaustive]
#[derive(Debug)]
pub struct PortForwardRequest {
    /// The TCP port, on the container's loopback.
    pub port: u16,
}

impl PortForwardRequest {
    /// This port.
    #[must_use]
    pub const fn new(port: u16) -> Self {
        Self { port }
    }
}
