//! One container of the model.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use runtime_api::{ContainerId, ContainerState, ContainerStatus, ExitStatus, Signal};

use super::process::{Input, Moment, Pid, Process, Program};
use super::terminal::Terminal;

/// Names one life of a container; an id that is used again gets another key.
pub type Key = u64;

/// How a container ended, once it has. Whoever waits holds it, so that it outlives the container.
pub type Ending = Arc<OnceLock<ExitStatus>>;

/// What a create has found out before the container exists.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// The bundle, as it was given.
    pub bundle: PathBuf,
    /// The root file system, for later execs.
    pub rootfs: PathBuf,
    /// What it runs.
    pub program: Program,
    /// The annotations of `config.json`.
    pub annotations: BTreeMap<String, String>,
    /// The labels of the request.
    pub labels: BTreeMap<String, String>,
    /// Whether the program has a terminal.
    pub terminal: bool,
    /// Whether standard input can be attached.
    pub input_open: bool,
    /// Whether standard input stays open when clients leave.
    pub input_kept: bool,
    /// The signal that a stop sends first.
    pub stop_signal: Signal,
    /// What it may use.
    pub limits: Limits,
}

/// What a container may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes.
    pub pids: Option<u64>,
    /// The weight of its processor time.
    pub weight: Option<u64>,
}

/// A stop that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// When KILL is sent; never where the grace is unlimited.
    pub kill_at: Option<Moment>,
}

/// One container.
#[derive(Debug)]
pub(super) struct Container {
    /// Which life.
    pub key: Key,
    /// The id.
    pub id: ContainerId,
    /// Where it stands.
    pub status: ContainerStatus,
    /// What it was made from; nothing while it is Creating.
    pub blueprint: Option<Blueprint>,
    /// When it was made.
    pub created_at: Moment,
    /// When its program was started.
    pub started_at: Option<Moment>,
    /// The stop that is under way.
    pub stopping: Option<Stopping>,
    /// Its end.
    pub ending: Ending,
    /// Whether a delete is under way.
    pub deleting: bool,
    /// Its standard input.
    pub input: Input,
    /// Its processes, the init first.
    pub processes: Vec<Process>,
    /// The process that watches it.
    pub monitor: Pid,
    /// Its terminal.
    pub terminal: Option<Terminal>,
    /// When the last signal came by a kill.
    pub last_signal: Option<Moment>,
    /// How many steps its processes have made.
    pub steps: u64,
    /// How many of its processes were killed for want of memory.
    pub oom_kills: u64,
    /// Whether an exec ever ran in it.
    pub had_execs: bool,
    /// When a size of its terminal was last asked for.
    pub last_resize: Option<Moment>,
}

impl Container {
    /// A container whose create is under way.
    pub(super) fn creating(key: Key, id: ContainerId, at: Moment) -> Self {
        Self {
            key,
            id,
            status: ContainerStatus::Creating,
            blueprint: None,
            created_at: at,
            started_at: None,
            stopping: None,
            ending: Ending::default(),
            deleting: false,
            input: Input::default(),
            processes: Vec::new(),
            monitor: 0,
            terminal: None,
            last_signal: None,
            steps: 0,
            oom_kills: 0,
            had_execs: false,
            last_resize: None,
        }
    }

    /// What the contract tells of it; `clock` turns moments into times of day.
    pub(super) fn state(&self, clock: impl Fn(Moment) -> SystemTime) -> ContainerState {
        let bundle = self.blueprint.as_ref().map(|blueprint| blueprint.bundle.clone()).unwrap_or_default();
        let mut state = ContainerState::new(self.id.clone(), self.status, bundle, clock(self.created_at));
        state.stopping = self.stopping.is_some();
        state.started_at = self.started_at.map(clock);
        state.exit = self.ending.get().cloned();
        if let Some(blueprint) = &self.blueprint {
            state.annotations.clone_from(&blueprint.annotations);
            state.labels.clone_from(&blueprint.labels);
        }
        state
    }

    /// Whether time or input can move its processes.
    pub(super) fn thawed(&self) -> bool {
        self.status == ContainerStatus::Running
    }
}
