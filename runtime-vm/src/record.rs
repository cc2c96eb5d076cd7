//! What we write down about a container.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use runtime_api::{ContainerId, ExitStatus, Result, SandboxId, Signal};
use runtime_host::document::{read, write};
use runtime_host::image::CheckpointPhase;
use runtime_host::owner::Owner;
use runtime_host::process::Identity;

use crate::layout::ContainerDir;
use crate::task::TaskApi;

/// The version of the record's shape. A record of a later version is not touched.
const SCHEMA: u32 = 1;

/// How far a container has come, as far as our own acts decide it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// A create is under way; its maker holds the lock.
    Creating,
    /// The shim has it.
    Created,
    /// A start was asked for, at the time in `started_at`; whether it happened, the shim tells.
    Starting,
    /// The program was started.
    Started,
    /// A delete is under way.
    Deleting,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopStage {
    /// The stop signal was sent.
    Terminating,
    /// KILL was sent.
    Killing,
}

/// A stop, and whose it is. Once the owner is gone it no longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopPhase {
    pub(crate) stage: StopStage,
    pub(crate) owner: Owner,
}

/// Whether a container is paused, where only the shim can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Frozen {
    #[default]
    No,
    Yes,
    /// A pause or a resume was asked for, and what came of it was not written down.
    InDoubt,
}

/// Whose processes the shim's pids are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reach {
    /// They are processes of the container, which run on the host's kernel.
    Host,
    /// They are the machine's, and the container's processes are inside.
    #[default]
    Guest,
}

/// The shim that serves a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimRef {
    /// Which of the state directory's shims it is.
    pub(crate) id: String,
    /// Where it is dialled: what it printed when it was started.
    pub(crate) address: String,
    pub(crate) api: TaskApi,
    /// Its process, where it is known.
    #[serde(default)]
    pub(crate) process: Option<Identity>,
    pub(crate) monitor: Identity,
}

/// One container's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: u32,
    pub(crate) id: ContainerId,
    pub(crate) phase: Phase,
    /// Start times of processes count from the boot; after another one no process of the record lives.
    pub(crate) boot_id: String,
    pub(crate) bundle: PathBuf,
    #[serde(with = "humantime_serde")]
    pub(crate) created_at: SystemTime,
    #[serde(with = "humantime_serde", default)]
    pub(crate) started_at: Option<SystemTime>,
    #[serde(default)]
    pub(crate) shim: Option<ShimRef>,
    /// The sandbox whose shim it shares.
    #[serde(default)]
    pub(crate) sandbox: Option<SandboxId>,
    /// What the shim calls the init's pid. Where it is the machine's, it lives on when the init has ended.
    #[serde(default)]
    pub(crate) init: Option<Identity>,
    #[serde(default)]
    pub(crate) reach: Reach,
    /// The file that the init runs while it waits to be started: device and inode.
    #[serde(default)]
    pub(crate) init_program: Option<(u64, u64)>,
    /// Noted only where the host cannot see it.
    #[serde(default)]
    pub(crate) frozen: Frozen,
    #[serde(default)]
    pub(crate) stop: Option<StopPhase>,
    /// The checkpoint that is under way, or was when its caller died.
    #[serde(default)]
    pub(crate) checkpoint: Option<CheckpointPhase>,
    /// Whether everything was removed that its dead shim had left.
    #[serde(default)]
    pub(crate) cleaned_up: bool,
    /// Set where the end cannot be read from the exit file.
    #[serde(default)]
    pub(crate) exit: Option<ExitStatus>,
    #[serde(default)]
    pub(crate) stop_signal: Option<Signal>,
    /// The cgroup that the spec names, or that we named.
    #[serde(default)]
    pub(crate) cgroup: Option<String>,
    /// Whether we chose that cgroup, so that it goes with the container.
    #[serde(default)]
    pub(crate) chose_cgroup: bool,
    /// The cgroup in which the init was found.
    #[serde(default)]
    pub(crate) own_cgroup: Option<String>,
    /// Which one that is: another may get its name when it is gone.
    #[serde(default)]
    pub(crate) own_cgroup_identity: Option<(u64, u64)>,
    /// Where the root file system is.
    #[serde(default)]
    pub(crate) root: Option<PathBuf>,
    #[serde(default)]
    pub(crate) terminal: bool,
    /// The log file, if the monitor writes one.
    #[serde(default)]
    pub(crate) log: Option<PathBuf>,
    /// The log file, when this create made it.
    #[serde(default)]
    pub(crate) made_log: Option<PathBuf>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Record {
    pub(crate) fn new(id: ContainerId, bundle: PathBuf, boot_id: String) -> Self {
        Self {
            schema: SCHEMA,
            id,
            phase: Phase::Creating,
            boot_id,
            bundle,
            created_at: SystemTime::now(),
            started_at: None,
            shim: None,
            sandbox: None,
            init: None,
            reach: Reach::Guest,
            init_program: None,
            frozen: Frozen::No,
            stop: None,
            checkpoint: None,
            cleaned_up: false,
            exit: None,
            stop_signal: None,
            cgroup: None,
            chose_cgroup: false,
            own_cgroup: None,
            own_cgroup_identity: None,
            root: None,
            terminal: false,
            log: None,
            made_log: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// Whether only the shim can tell how it stands: who knew was cut off before it was written down.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let started = self.phase == Phase::Starting && self.reach == Reach::Guest;
        started || self.frozen == Frozen::InDoubt
    }

    /// Reads the record; `None` when there is none.
    pub(crate) fn read(dir: &ContainerDir) -> Result<Option<Self>> {
        read(&dir.record(), SCHEMA, |record: &Self| record.schema)
    }

    /// Replaces the record as a whole. Only the holder of the container's lock may.
    pub(crate) fn write(&self, dir: &ContainerDir) -> Result<()> {
        write(&dir.record(), self)
    }
}
