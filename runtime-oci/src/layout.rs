//! Which file is where.
//!
//! ```text
//! <state dir>/
//!   capabilities.json       what was probed, and what the answers depend on
//!   exits/<id>              the exit code, from conmon; one watch on this directory sees every end
//!   root/                   the runtime's own --root, unless the handler sets one
//!   containers/.<id>.<n>/   a container being made or removed
//!   containers/<id>/        one container; also the bundle that conmon and the runtime get
//!     lock                  the lock between processes; after a delete it holds the final status
//!     record.json           what we know
//!     config.json           the private copy
//!     exit, oom             from conmon, at the end
//!     attach, ctl, winsz    conmon's socket and fifos
//!     notify/               where the program is ready, if somebody wants to be told
//!     pidfile, conmon-pidfile, oci-log
//!     verb                  there while a verb of the runtime runs
//!     criu/                 what criu says while it saves the container
//!     restore.log           what criu said when it restored it
//!     execs/<owner>.<n>/    one running exec: process.json, pid, log, console; inner-pid in a sandbox
//!     sessions/.<id>.<n>/   an exec session being made or removed
//!     sessions/<id>/        one exec session: lock, record.json, process.json, and conmon's files as above
//! ```

use std::path::{Path, PathBuf};

use runtime_api::{ContainerId, ExecId, Result};

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    state_dir: PathBuf,
}

impl Layout {
    pub(crate) fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into() }
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    pub(crate) fn capabilities(&self) -> PathBuf {
        self.state_dir.join("capabilities.json")
    }

    pub(crate) fn exits(&self) -> PathBuf {
        self.state_dir.join("exits")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.state_dir.join("root")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.state_dir.join("containers")
    }

    pub(crate) fn container(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir(self.containers().join(id.as_str()))
    }

    pub(crate) fn exit_notice(&self, id: &ContainerId) -> PathBuf {
        self.exits().join(id.as_str())
    }
}

/// The directory of one container, or of one exec session: to conmon, and to the lock, the two are alike.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDir(PathBuf);

impl AsRef<Path> for ContainerDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl ContainerDir {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whose it is.
    pub(crate) fn id(&self) -> Result<ContainerId> {
        ContainerId::new(self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default())
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    pub(crate) fn exit(&self) -> PathBuf {
        self.0.join("exit")
    }

    pub(crate) fn oom(&self) -> PathBuf {
        self.0.join("oom")
    }

    pub(crate) fn attach(&self) -> PathBuf {
        self.0.join("attach")
    }

    pub(crate) fn pidfile(&self) -> PathBuf {
        self.0.join("pidfile")
    }

    pub(crate) fn monitor_pidfile(&self) -> PathBuf {
        self.0.join("conmon-pidfile")
    }

    pub(crate) fn oci_log(&self) -> PathBuf {
        self.0.join("oci-log")
    }

    pub(crate) fn verb(&self) -> PathBuf {
        self.0.join("verb")
    }

    /// The directory that conmon makes the program's end of the notify socket in.
    pub(crate) fn notify(&self) -> PathBuf {
        self.0.join("notify")
    }

    pub(crate) fn criu(&self) -> PathBuf {
        self.0.join("criu")
    }

    pub(crate) fn restore_log(&self) -> PathBuf {
        self.0.join("restore.log")
    }

    pub(crate) fn execs(&self) -> PathBuf {
        self.0.join("execs")
    }

    pub(crate) fn sessions(&self) -> PathBuf {
        self.0.join("sessions")
    }

    pub(crate) fn session(&self, session: &ExecId) -> Self {
        Self(self.sessions().join(session.as_str()))
    }

    pub(crate) fn process(&self) -> PathBuf {
        self.0.join("process.json")
    }
}
