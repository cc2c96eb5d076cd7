//! The state machine. Every call happens at the moment that the last [`Model::advance`] reached; nothing happens by
//! itself in between. Wrong states are refused by the table of [`Operation`], as in every backend.

mod answers;
mod exec;
mod passage;
mod resources;
mod saving;
mod sessions;
mod signals;
mod terminal;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use runtime_api::{
    ContainerEvent, ContainerId, ContainerState, ContainerStatus, Error, ErrorKind, EventKind, ExecId,
    Operation, Result,
};

use crate::Defect;

use super::container::Container;
use super::process::{Pid, Process, Surroundings};
use super::terminal::Terminal;

pub use super::container::{Blueprint, Ending, Key, Limits, Stopping};
pub use super::process::{Input, Moment, Program, Saved, Stream, Who};
use exec::Exec;
pub use exec::{ExecKey, ExecTerms};
use sessions::Session;

/// What a container's processes wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Whose it is: a container's, or that of an exec session.
    pub container: Key,
    /// When it was written.
    pub at: Moment,
    /// To which stream.
    pub stream: Stream,
    /// What.
    pub bytes: Vec<u8>,
}

/// All containers of one state directory.
#[derive(Debug)]
pub struct Model {
    defect: Option<Defect>,
    began: SystemTime,
    now: Moment,
    containers: Vec<Container>,
    execs: BTreeMap<ExecKey, Exec>,
    sessions: BTreeMap<Key, Session>,
    output: Vec<Chunk>,
    events: Vec<ContainerEvent>,
    watched: bool,
    last_key: u64,
    last_pid: Pid,
    /// What is left of deleted containers where a defect wants it; empty otherwise.
    haunted: Haunted,
}

/// Traces that a sound model never keeps.
#[derive(Debug, Default)]
struct Haunted {
    known: Vec<ContainerId>,
    endings: BTreeMap<ContainerId, Ending>,
    short_lives: u32,
    processes: Vec<(ContainerId, Vec<Process>)>,
    sessions: Vec<(Key, ExecId)>,
}

impl Model {
    /// A world without containers, which begins at this time of day.
    #[must_use]
    pub fn new(began: SystemTime, defect: Option<Defect>) -> Self {
        Self {
            defect,
            began,
            now: Moment::ZERO,
            containers: Vec::new(),
            execs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            output: Vec::new(),
            events: Vec::new(),
            watched: true,
            last_key: 0,
            last_pid: 0,
            haunted: Haunted::default(),
        }
    }

    /// The moment that was reached.
    #[must_use]
    pub const fn now(&self) -> Moment {
        self.now
    }

    /// The time of day of a moment.
    #[must_use]
    pub fn time_of(&self, moment: Moment) -> SystemTime {
        self.began.checked_add(moment).unwrap_or(self.began)
    }

    /// Changes which defect it has.
    pub const fn set_defect(&mut self, defect: Option<Defect>) {
        self.defect = defect;
    }

    /// Tells whether somebody looks on; what happens is the same.
    pub const fn set_watched(&mut self, watched: bool) {
        self.watched = watched;
    }

    /// Whether there are no containers.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }

    /// Takes what was written since the last call, in order.
    pub fn take_output(&mut self) -> Vec<Chunk> {
        std::mem::take(&mut self.output)
    }

    /// Takes what happened since the last call, in order.
    pub fn take_events(&mut self) -> Vec<ContainerEvent> {
        std::mem::take(&mut self.events)
    }

    /// Takes an id for a container that is about to be made.
    ///
    /// # Errors
    /// `AlreadyExists`.
    pub fn reserve(&mut self, id: &ContainerId) -> Result<Key> {
        let taken = self.containers.iter().find(|container| container.id == *id).map(|one| one.status);
        if self.defect.is_some() {
            self.haunted.known.push(id.clone());
        }
        let open = match taken {
            None => !(self.has(Defect::DeleteKeepsTheId) && self.haunted.endings.contains_key(id)),
            Some(ContainerStatus::Creating) => self.has(Defect::ConcurrentCreatesAllWin),
            Some(_) => self.has(Defect::CreateTwiceOverwrites),
        };
        if !open {
            return Err(Error::new(ErrorKind::AlreadyExists)
                .during(Operation::Create)
                .on(format_args!("container \"{id}\"")));
        }
        self.last_key += 1;
        self.containers.push(Container::creating(self.last_key, id.clone(), self.now));
        Ok(self.last_key)
    }

    /// Gives the id back; nothing is left of the create, which was refused or `dropped`.
    pub fn abandon(&mut self, key: Key, dropped: bool) {
        if !(dropped && self.has(Defect::DroppedCreateStays)) {
            self.containers.retain(|container| container.key != key);
        }
    }

    /// Finishes a create.
    ///
    /// # Errors
    /// `Busy` when a forced delete came in between.
    pub fn fill(&mut self, key: Key, blueprint: Blueprint) -> Result<ContainerState> {
        let (pid, monitor) = (self.fresh_pid(), self.fresh_pid());
        let Some(at) = self.containers.iter().position(|container| container.key == key) else {
            return Err(Error::new(ErrorKind::Busy { holder: "a forced delete".to_owned() })
                .during(Operation::Create));
        };
        let container = &mut self.containers[at];
        container.processes = vec![Process::new(pid, true, Arc::new(blueprint.program.clone()))];
        container.monitor = monitor;
        container.input.closed = !blueprint.input_open;
        container.terminal = blueprint.terminal.then(Terminal::default);
        container.blueprint = Some(blueprint);
        container.status = ContainerStatus::Created;
        let id = container.id.clone();
        // Two lives under one id exist only where a defect let the second in.
        self.containers.retain(|container| container.id != id || container.key == key);
        let mut state = self.state(&id)?;
        if self.has(Defect::CreateSaysRunning) {
            state.status = ContainerStatus::Running;
        }
        Ok(state)
    }

    /// Puts another program into a created container, as no sound runtime does.
    pub fn replace_program(&mut self, id: &ContainerId, program: Program) {
        let created = |one: &&mut Container| one.id == *id && one.status == ContainerStatus::Created;
        if let Some(container) = self.containers.iter_mut().find(created) {
            let pid = container.processes[0].pid;
            container.processes = vec![Process::new(pid, true, Arc::new(program))];
        }
    }

    /// Runs the program of a created container.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn start(&mut self, id: &ContainerId) -> Result<()> {
        let at = self.find(Operation::Start, id)?;
        let is = self.containers[at].status;
        let repeated = matches!(is, ContainerStatus::Running) && self.has(Defect::StartTwiceIsOk)
            || matches!(is, ContainerStatus::Stopped) && self.has(Defect::StartAfterTheEndIsOk);
        if repeated {
            return Ok(());
        }
        self.admit(Operation::Start, at)?;
        if self.has(Defect::StartRunsTwice) {
            self.rehearse(at);
        }
        let container = &mut self.containers[at];
        container.status = ContainerStatus::Running;
        container.started_at = Some(self.now);
        self.happened(at, EventKind::Started);
        self.run_due();
        Ok(())
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn pause(&mut self, id: &ContainerId) -> Result<()> {
        let at = self.find(Operation::Pause, id)?;
        let is = self.containers[at].status;
        if is == ContainerStatus::Paused && self.has(Defect::PauseTwiceIsOk)
            || is == ContainerStatus::Created && self.has(Defect::PauseCreatedIsOk)
        {
            return Ok(());
        }
        self.admit(Operation::Pause, at)?;
        self.containers[at].status = ContainerStatus::Paused;
        Ok(())
    }

    /// Thaws a paused container; what is due and pending happens now.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn resume(&mut self, id: &ContainerId) -> Result<()> {
        let at = self.find(Operation::Resume, id)?;
        if self.containers[at].status == ContainerStatus::Running && self.has(Defect::ResumeRunningIsOk) {
            return Ok(());
        }
        self.admit(Operation::Resume, at)?;
        self.thaw(at);
        Ok(())
    }

    /// Begins a delete: what lives is killed. [`Model::forget`] ends it. Gives nothing for an unknown id with force.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn begin_delete(&mut self, id: &ContainerId, force: bool) -> Result<Option<Key>> {
        let was_known = self.haunted.known.contains(id);
        let at = match self.find(Operation::Delete, id) {
            Ok(at) => at,
            Err(_) if force && (was_known || !self.has(Defect::ForceOfUnknownFails)) => return Ok(None),
            Err(_) if self.haunted.endings.contains_key(id) && self.has(Defect::DeleteAgainIsOk) => {
                return Ok(None);
            }
            Err(unknown) => return Err(unknown),
        };
        let is = self.containers[at].status;
        let tolerated = is == ContainerStatus::Running && self.has(Defect::DeleteRunningSucceeds)
            || is == ContainerStatus::Paused && self.has(Defect::DeletePausedSucceeds);
        if !force && !tolerated {
            self.admit(Operation::Delete, at)?;
        }
        if is == ContainerStatus::Created && !force && self.has(Defect::DeleteRefusesCreated)
            || is == ContainerStatus::Paused && force && self.has(Defect::ForceRefusesPaused)
        {
            Operation::Delete.admit(id, ContainerStatus::Running, false)?;
        }
        if is == ContainerStatus::Running && force && self.has(Defect::DeleteLeavesProcesses) {
            let left = self.containers[at].processes.clone();
            if left.len() > 1 {
                self.haunted.processes.push((id.clone(), left));
            }
        }
        self.containers[at].deleting = true;
        self.end(at, 137);
        Ok(Some(self.containers[at].key))
    }

    /// Ends a delete. Tells whether the container was still there.
    pub fn forget(&mut self, key: Key) -> bool {
        let Some(at) = self.containers.iter().position(|container| container.key == key) else {
            return false;
        };
        let container = self.containers.remove(at);
        self.forget_sessions_of(key);
        if self.defect.is_some() {
            self.haunted.endings.insert(container.id, container.ending);
        }
        true
    }

    /// Kills every container, as a value does on its way out that has the defect for it.
    pub fn end_all(&mut self) {
        for at in 0..self.containers.len() {
            self.end(at, 137);
        }
    }

    /// Thaws every paused container, for a defect.
    pub fn thaw_all(&mut self) {
        for at in 0..self.containers.len() {
            if self.containers[at].status == ContainerStatus::Paused {
                self.thaw(at);
            }
        }
    }

    /// Keeps what subscribers are to be told.
    pub(super) fn happened(&mut self, at: usize, kind: EventKind) {
        self.events.push(ContainerEvent::new(self.containers[at].id.clone(), kind));
    }

    pub(super) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn find(&self, operation: Operation, id: &ContainerId) -> Result<usize> {
        let found = self.containers.iter().position(|container| container.id == *id);
        found.ok_or_else(|| Error::not_found(operation, id))
    }

    fn admit(&self, operation: Operation, at: usize) -> Result<()> {
        let container = &self.containers[at];
        operation.admit(&container.id, container.status, container.stopping.is_some())
    }

    fn fresh_pid(&mut self) -> Pid {
        self.last_pid += 1;
        self.last_pid
    }
}
