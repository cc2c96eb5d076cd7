//! What the model answers to questions. Nothing changes here.

use std::path::Path;
use std::sync::Arc;

use runtime_api::{
    ContainerId, ContainerState, ContainerStatus, Error, ErrorKind, ExitStatus, MonitorHealth, Operation,
    Rejection, Result,
};

use crate::Defect;
use crate::script::Family;

use super::{Blueprint, Ending, Key, Model, Moment, Process};

impl Model {
    /// Tells how one container stands.
    ///
    /// # Errors
    /// `NotFound`, and `WrongState` while it is Creating.
    pub fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        let at = match self.find(Operation::State, id) {
            Err(_) if self.has(Defect::StateInventsContainers) && !self.haunted.known.contains(id) => {
                return Ok(self.phantom(id));
            }
            found => found?,
        };
        let container = &self.containers[at];
        self.admit(Operation::State, at)?;
        if container.deleting && self.has(Defect::StateFailsDuringDelete) {
            return Err(
                Error::new(ErrorKind::Internal("a file vanished".to_owned())).during(Operation::State)
            );
        }
        let mut state = container.state(|moment| self.time_of(moment));
        self.spoil(&mut state);
        Ok(state)
    }

    /// Tells how all containers stand, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<ContainerState> {
        let mut states: Vec<_> = self
            .containers
            .iter()
            .map(|container| {
                let mut state = container.state(|moment| self.time_of(moment));
                self.spoil(&mut state);
                if self.has(Defect::ListDisagrees) {
                    state.started_at = None;
                }
                state
            })
            .collect();
        if self.has(Defect::ListNewestFirst) {
            states.reverse();
        }
        if self.has(Defect::ListShowsAPhantom) && self.last_key == 0 {
            states.extend(ContainerId::new("phantom").ok().map(|id| self.phantom(&id)));
        }
        states
    }

    /// Where the end of a container will be told; it may be there already.
    ///
    /// # Errors
    /// `NotFound`, and `WrongState` while it is Creating.
    pub fn ending(&self, id: &ContainerId) -> Result<(Key, Ending)> {
        let operation = Operation::Wait;
        let buried = self.haunted.endings.get(id).filter(|_| self.find(operation, id).is_err());
        if let Some(ending) = buried.filter(|_| self.has(Defect::WaitRemembersTheDeleted)) {
            return Ok((0, Arc::clone(ending)));
        }
        let at = self.find(operation, id)?;
        self.admit(operation, at)?;
        let container = &self.containers[at];
        if container.status == ContainerStatus::Created && self.has(Defect::WaitRefusesCreated) {
            Operation::Start.admit(id, ContainerStatus::Stopped, false)?;
        }
        Ok((container.key, Arc::clone(&container.ending)))
    }

    /// Checks that an operation is legal for a container, and gives its key.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn admitted(&self, operation: Operation, id: &ContainerId) -> Result<Key> {
        let at = self.find(operation, id)?;
        self.admit(operation, at)?;
        Ok(self.containers[at].key)
    }

    /// The container in which a program listens on this port, and where its end will be told.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Rejected` where nobody listens. Nothing at all where a defect takes a refusal for
    /// success.
    pub fn listener(&self, id: &ContainerId, port: u16) -> Result<Option<(Key, Ending)>> {
        let at = self.find(Operation::PortForward, id)?;
        let container = &self.containers[at];
        if container.status == ContainerStatus::Created && self.has(Defect::ForwardToTheCreated) {
            return Ok(None);
        }
        self.admit(Operation::PortForward, at)?;
        let heard = |family: Family| family == Family::V4 || !self.has(Defect::OneFamilyIsReached);
        let mut listens = container.processes.iter().flat_map(|process| &process.listens);
        if listens.any(|(family, at)| *at == port && heard(*family)) {
            return Ok(Some((container.key, Arc::clone(&container.ending))));
        }
        if self.has(Defect::ClosedPortIsOk) {
            return Ok(None);
        }
        let message = format!("nobody listens on port {port} inside");
        Err(Error::new(ErrorKind::Rejected { class: Rejection::Other, message })
            .during(Operation::PortForward)
            .on(format_args!("container \"{id}\"")))
    }

    /// The process that watches a container.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn monitor(&self, id: &ContainerId) -> Result<MonitorHealth> {
        let at = self.find(Operation::ProbeMonitor, id)?;
        let stopped = self.containers[at].status == ContainerStatus::Stopped;
        if !(stopped && self.has(Defect::ProbeOfStoppedIsOk)) {
            self.admit(Operation::ProbeMonitor, at)?;
        }
        let lost = self.has(Defect::MonitorIsGivenUp);
        Ok(if lost { MonitorHealth::Lost } else { MonitorHealth::Alive { pid: self.containers[at].monitor } })
    }

    /// What a container was made from.
    #[must_use]
    pub fn blueprint(&self, id: &ContainerId) -> Option<&Blueprint> {
        self.containers.iter().find(|container| container.id == *id)?.blueprint.as_ref()
    }

    /// When a container's program was started.
    #[must_use]
    pub fn started_at(&self, key: Key) -> Option<Moment> {
        self.containers.iter().find(|container| container.key == key)?.started_at
    }

    /// Whether there ever was a container.
    #[must_use]
    pub const fn has_lived(&self) -> bool {
        self.last_key > 0
    }

    /// Whether a container was made from this bundle.
    #[must_use]
    pub fn uses_bundle(&self, bundle: &Path) -> bool {
        self.containers.iter().filter_map(|one| one.blueprint.as_ref()).any(|one| one.bundle == bundle)
    }

    /// Whether a container runs and its program does something about signals.
    #[must_use]
    pub fn is_stubborn(&self, id: &ContainerId) -> bool {
        let running = self.containers.iter().find(|one| one.id == *id && one.thawed());
        running.is_some_and(|one| one.processes.first().is_some_and(Process::traps_anything))
    }

    /// Whether a container, or an exec session, has ended or is gone.
    #[must_use]
    pub fn is_over(&self, key: Key) -> bool {
        if let Some(session) = self.sessions.get(&key) {
            return session.is_over();
        }
        self.containers.iter().all(|one| one.key != key || one.status == ContainerStatus::Stopped)
    }

    /// Whether a delete of this container is under way or done.
    #[must_use]
    pub fn is_deleted(&self, key: Key) -> bool {
        self.containers.iter().all(|one| one.key != key || one.deleting)
    }

    /// What should be gone and is not: one line for each container and each process without one.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let containers =
            self.containers.iter().map(|one| format!("container \"{}\" is {}", one.id, one.status));
        let processes = self.haunted.processes.iter().filter(|(_, left)| !left.is_empty());
        let processes =
            processes.map(|(id, left)| format!("{} processes of container \"{id}\" live on", left.len()));
        containers.chain(processes).collect()
    }

    pub(super) fn phantom(&self, id: &ContainerId) -> ContainerState {
        let mut state = ContainerState::new(id.clone(), ContainerStatus::Stopped, "", self.began);
        state.exit = Some(ExitStatus::exited(0, self.began));
        state
    }

    /// What the defects about answers make of a true one.
    pub(super) fn spoil(&self, state: &mut ContainerState) {
        match self.defect {
            Some(Defect::StoppedSaysRunning) => {
                let later = self.time_of(self.now.saturating_sub(Moment::from_millis(250)));
                if state.exit.as_ref().is_some_and(|exit| exit.finished_at < later) {
                    state.status = ContainerStatus::Running;
                }
            }
            Some(Defect::StartTimeIsWrong) => {
                state.started_at = state.started_at.map(|_| self.began - Moment::from_secs(1));
            }
            Some(Defect::StateExitDiffers) => {
                if let Some(exit) = &mut state.exit {
                    exit.code = exit.code.map(|code| code + 1);
                }
            }
            Some(Defect::LabelsAreLost) => state.labels.clear(),
            Some(Defect::StoppingIsHidden) => state.stopping = false,
            _ => {}
        }
    }
}
