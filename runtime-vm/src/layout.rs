//! Which file is where.
//!
//! ```text
//! <state dir>/
//!   capabilities.json       what was probed, and what the answers depend on
//!   exits/<id>              the exit code, from the monitor; one watch on this directory sees every end
//!   root/                   the root of the runtime below the shim, where it takes one
//!   containers/.<id>.<n>/   a container being made or removed
//!   containers/<id>/        one container; also the bundle that the shim gets
//!     lock                  the lock between processes; after a delete it holds the final status
//!     record.json           what we know
//!     config.json           the private copy
//!     exit, oom, untold     from the monitor
//!     attach                the monitor's socket
//!     io/                   the fifos between the shim and the monitor
//!     images/<n>            links to the images of checkpoints: a shim is told no other path to them
//!     execs/<owner>.<n>/    one running exec: process.json, and the fifos between the shim and its caller
//!     sessions/.<id>.<n>/   an exec session being made or removed
//!     sessions/<id>/        one exec session: lock, record.json, process.json, and the monitor's files as above
//!     log, address, ...     the shim's own
//!   shims/<id>/             one shim: its monitor's order, report, logs and sockets
//!     lock                  held while containers join and leave
//!     members/<id>          the containers that the shim serves
//! ```

use std::path::{Path, PathBuf};

use runtime_api::{ContainerId, ExecId};

/// The files of one state directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    state_dir: PathBuf,
}

impl Layout {
    pub(crate) fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into() }
    }

    /// The namespace of our containers in their shims. Shims keep what they know of a container below it, so that two
    /// state directories with containers of one name do not meet.
    pub(crate) fn namespace(&self) -> String {
        use sha2::{Digest as _, Sha256};
        use std::os::unix::ffi::OsStrExt as _;
        let digest = Sha256::digest(self.state_dir.as_os_str().as_bytes());
        let name: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("manyrun-{name}")
    }

    pub(crate) fn capabilities(&self) -> PathBuf {
        self.state_dir.join("capabilities.json")
    }

    pub(crate) fn exits(&self) -> PathBuf {
        self.state_dir.join("exits")
    }

    pub(crate) fn exit_notice(&self, id: &ContainerId) -> PathBuf {
        self.exits().join(id.as_str())
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

    pub(crate) fn shims(&self) -> PathBuf {
        self.state_dir.join("shims")
    }

    pub(crate) fn shim(&self, id: &str) -> ShimDir {
        ShimDir(self.shims().join(id))
    }
}

/// The directory of one container, or of one exec session.
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

    pub(crate) fn io(&self) -> PathBuf {
        self.0.join("io")
    }

    /// Where criu works, and leaves its logs.
    pub(crate) fn criu(&self) -> PathBuf {
        self.0.join("criu")
    }

    /// The links through which shims find the images that they are to make.
    pub(crate) fn images(&self) -> PathBuf {
        self.0.join("images")
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
}

/// The directory of one shim and its monitor.
#[derive(Clone, Debug)]
pub(crate) struct ShimDir(PathBuf);

impl ShimDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    pub(crate) fn members(&self) -> PathBuf {
        self.0.join("members")
    }

    pub(crate) fn member(&self, id: &ContainerId) -> PathBuf {
        self.members().join(id.as_str())
    }
}
