//! What a shim is asked, as plain data.

use std::path::{Path, PathBuf};

use containerd_shim_protos::api;
use protobuf::MessageField;

use super::any::Payload;

/// The init of a container, or one of its execs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The container.
    pub id: &'a str,
    /// The exec; `None` is the init.
    pub exec: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// The init of a container.
    #[must_use]
    pub const fn init(id: &'a str) -> Self {
        Self { id, exec: None }
    }

    /// An exec of a container.
    #[must_use]
    pub const fn exec(id: &'a str, exec: &'a str) -> Self {
        Self { id, exec: Some(exec) }
    }

    /// As the messages have it, where no exec is an empty name.
    pub(super) fn names(self) -> (String, String) {
        (self.id.to_owned(), self.exec.unwrap_or_default().to_owned())
    }
}

/// Where the streams of a program lead: paths of fifos, or addresses that a shim understands itself. An empty one is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskIo {
    /// Whether the program has a terminal, all of whose output is `stdout`.
    pub terminal: bool,
    /// What it reads.
    pub stdin: String,
    /// What it writes.
    pub stdout: String,
    /// Its complaints.
    pub stderr: String,
}

/// A mount that the shim makes for the root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootMount {
    /// The type of file system.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where, below the root file system; empty is the root itself.
    pub target: String,
    /// Options as for `mount -o`.
    pub options: Vec<String>,
}

/// A container to be made. `config.json` and the root file system are in the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTask {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Mounts for the root file system.
    pub rootfs: Vec<RootMount>,
    /// Its streams. Their readers must be open before the call: some shims open fifos one after the other and block.
    pub io: TaskIo,
    /// The image of a checkpoint that it continues from.
    pub checkpoint: Option<PathBuf>,
    /// What else the shim is to know; see [`any`](super::any).
    pub options: Option<Payload>,
}

impl CreateTask {
    /// A container with streams, and without mounts, checkpoint and options.
    pub fn new(id: impl Into<String>, bundle: impl Into<PathBuf>, io: TaskIo) -> Self {
        Self { id: id.into(), bundle: bundle.into(), rootfs: Vec::new(), io, checkpoint: None, options: None }
    }

    pub(super) fn into_message(self) -> api::CreateTaskRequest {
        let mut message = api::CreateTaskRequest::new();
        message.id = self.id;
        message.bundle = text_of(&self.bundle);
        message.rootfs = self.rootfs.into_iter().map(RootMount::into_message).collect();
        message.terminal = self.io.terminal;
        message.stdin = self.io.stdin;
        message.stdout = self.io.stdout;
        message.stderr = self.io.stderr;
        message.checkpoint = self.checkpoint.as_deref().map(text_of).unwrap_or_default();
        message.options = MessageField::from_option(self.options.map(Into::into));
        message
    }
}

impl RootMount {
    fn into_message(self) -> api::Mount {
        let mut message = api::Mount::new();
        message.type_ = self.kind;
        message.source = self.source;
        message.target = self.target;
        message.options = self.options;
        message
    }
}

/// A second program in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecTask {
    /// The container.
    pub id: String,
    /// The name of the exec.
    pub exec: String,
    /// Its streams; readers as for [`CreateTask::io`].
    pub io: TaskIo,
    /// The program; see [`any::process`](super::any::process).
    pub process: Payload,
}

impl ExecTask {
    pub(super) fn into_message(self) -> api::ExecProcessRequest {
        let mut message = api::ExecProcessRequest::new();
        message.id = self.id;
        message.exec_id = self.exec;
        message.terminal = self.io.terminal;
        message.stdin = self.io.stdin;
        message.stdout = self.io.stdout;
        message.stderr = self.io.stderr;
        message.spec = MessageField::some(self.process.into());
        message
    }
}

/// Messages hold text. A path that is none reaches the shim as one that does not exist.
pub(super) fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
