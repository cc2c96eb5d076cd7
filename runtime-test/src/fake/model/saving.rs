//! Checkpoint and restore: the state of the processes goes into a value and comes back out of it.

use runtime_api::{
    CheckpointRequest, ContainerId, ContainerState, ContainerStatus, EventKind, ExitCause, ExitStatus,
    Operation, Result,
};

use crate::Defect;

use super::{Key, Model, Saved};

impl Model {
    /// What a checkpoint of a container would hold.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn save(&self, id: &ContainerId) -> Result<(Key, Saved)> {
        let at = self.find(Operation::Checkpoint, id)?;
        if !(self.has(Defect::CheckpointCreatedIsOk)
            && self.containers[at].status == ContainerStatus::Created)
        {
            self.admit(Operation::Checkpoint, at)?;
        }
        let container = &self.containers[at];
        Ok((container.key, Saved::of(&container.processes, &container.input, self.now)))
    }

    /// The image is written: the container ends, unless it is left running.
    pub fn saved(&mut self, key: Key, request: &CheckpointRequest) {
        let Some(at) = self.containers.iter().position(|container| container.key == key) else { return };
        if request.leave_running || request.pre_dump {
            if self.has(Defect::LeaveRunningEnds) {
                self.end(at, 137);
            } else if self.has(Defect::CheckpointThaws)
                && self.containers[at].status == ContainerStatus::Paused
            {
                self.thaw(at);
            }
            return;
        }
        if self.has(Defect::CheckpointSaysKilled) {
            return self.end(at, 137);
        }
        self.end_with(at, 0, ExitCause::Checkpointed);
    }

    /// What a later value tells of those that were checkpointed, where a defect wants it.
    pub fn forget_checkpoints(&mut self) {
        for container in &mut self.containers {
            if let Some(exit) = container.ending.get().filter(|exit| exit.cause == ExitCause::Checkpointed) {
                let forgotten = ExitStatus::exited(137, exit.finished_at);
                container.ending = std::sync::Arc::new(std::sync::OnceLock::from(forgotten));
            }
        }
    }

    /// Which life an id stands for now.
    #[must_use]
    pub fn key_of(&self, id: &ContainerId) -> Option<Key> {
        self.containers.iter().find(|container| container.id == *id).map(|container| container.key)
    }

    /// Lets a container that was just made continue from an image instead of beginning. Nothing if the image makes no
    /// sense.
    pub fn revive(&mut self, key: Key, saved: &Saved) -> Option<ContainerState> {
        let at = self.containers.iter().position(|container| container.key == key)?;
        let (mut last, now) = (self.last_pid, self.now);
        let fresh = || {
            last += 1;
            last
        };
        let processes = saved.revive(fresh, now)?;
        self.last_pid = last;
        let container = &mut self.containers[at];
        container.processes = processes;
        container.input.bytes.extend(saved.unread());
        container.status = ContainerStatus::Running;
        container.started_at = Some(now);
        let id = container.id.clone();
        self.happened(at, EventKind::Started);
        self.run_due();
        self.state(&id).ok()
    }
}
