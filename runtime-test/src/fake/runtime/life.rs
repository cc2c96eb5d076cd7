//! Making and removing: what takes more than one step.

use std::sync::Arc;
use std::time::Duration;

use runtime_api::{
    Capability, ContainerId, ContainerState, CreateRequest, Error, ErrorKind, LogDriver, Operation,
    Rejection, Result, Signal, StdinMode,
};
use tokio::time::sleep;

use crate::{Defect, probe};

use super::{FakeRuntime, WORK};
use crate::fake::log::LogFile;
use crate::fake::model::{Blueprint, Key, Program};
use crate::fake::program::{self, BundleSpec};
use crate::fake::world::World;

/// An id that is taken for a container which is being made; dropping it gives the id back.
struct Reservation {
    world: Arc<World>,
    key: Option<Key>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.world.act(|parts| parts.model.abandon(key, true));
        }
    }
}

impl FakeRuntime {
    pub(super) async fn make(&self, request: CreateRequest) -> Result<ContainerState> {
        let _turn = self.misdeeds.turn(self.defect(Defect::OneLifeAtATime)).await;
        let asked = [
            (request.log.driver == LogDriver::CriFile, Capability::Log),
            (request.cgroup_parent.is_some(), Capability::CgroupParent),
            (request.notify_socket.is_some(), Capability::Notify),
            (!request.descriptors.is_empty(), Capability::Descriptors),
        ];
        for (_, capability) in asked.iter().filter(|(asked, _)| *asked) {
            self.profile.capabilities().require(*capability)?;
        }
        if request.stop_signal.is_some_and(Signal::is_real_time) {
            self.profile.capabilities().require(Capability::KillRealTime)?;
        }
        let key = self.world.act(|parts| parts.model.reserve(&request.id))?;
        let mut reservation = Reservation { world: Arc::clone(&self.world), key: Some(key) };
        sleep(WORK).await;
        reservation.key = None;
        let made = self.finish(key, &request);
        if made.is_err() {
            self.world.act(|parts| parts.model.abandon(key, false));
        }
        made
    }

    /// Makes the container for which the id was taken.
    fn finish(&self, key: Key, request: &CreateRequest) -> Result<ContainerState> {
        let blueprint = self.blueprint(request)?;
        // The log comes last, so that a create which is refused leaves no file.
        let log = LogFile::open(&request.log, self.profile.defect())?;
        self.world.act(|parts| {
            let state = parts.model.fill(key, blueprint)?;
            if let Some(log) = log {
                parts.logs.insert(key, log);
            }
            Ok(state)
        })
    }

    /// What a container of this request will be.
    fn blueprint(&self, request: &CreateRequest) -> Result<Blueprint> {
        let mut spec = match BundleSpec::read(&request.bundle) {
            Err(error) if self.tolerates(&error, request) => BundleSpec::nothing(),
            spec => spec?,
        };
        match program::check(&spec.rootfs, &spec.program) {
            Err(error) if self.defect(Defect::MissingProgramRuns) && is_exec_not_found(&error) => {
                spec.program.argv = vec![probe::PATH.to_owned(), "exit:127".to_owned()];
            }
            Err(_) if spec.rootfs.as_os_str().is_empty() => {}
            checked => checked?,
        }
        if self.defect(Defect::CreateWritesToTheBundle) {
            // Whether the trace could be left is the defect's own affair.
            let _ = std::fs::write(request.bundle.join("attach"), "");
        }
        let in_use = |parts: &mut crate::fake::world::Parts| parts.model.uses_bundle(&request.bundle);
        if self.defect(Defect::BundleIsExclusive) && self.world.look(in_use) {
            let message = "the bundle is in use".to_owned();
            return Err(Error::new(ErrorKind::Rejected { class: Rejection::Other, message }));
        }
        Ok(Blueprint {
            bundle: request.bundle.clone(),
            rootfs: spec.rootfs,
            program: spec.program,
            annotations: spec.annotations,
            labels: request.labels.clone(),
            terminal: spec.terminal,
            input_open: self.has_input(request, spec.terminal),
            input_kept: request.stdin == StdinMode::KeepOpen || spec.terminal,
            limits: spec.limits,
            stop_signal: request.stop_signal.unwrap_or(Signal::TERM),
        })
    }

    fn has_input(&self, request: &CreateRequest, terminal: bool) -> bool {
        terminal || request.stdin != StdinMode::Closed || self.defect(Defect::InputIsAlwaysOpen)
    }

    fn tolerates(&self, error: &Error, request: &CreateRequest) -> bool {
        let there = request.bundle.join("config.json").exists();
        matches!(error.kind(), ErrorKind::ConfigInvalid(_))
            && self.defect(if there {
                Defect::BrokenConfigIsAccepted
            } else {
                Defect::MissingBundleIsAccepted
            })
    }

    /// What the bundle of a container says at this moment.
    pub(super) fn program_now(&self, id: &ContainerId) -> Option<Program> {
        let state = self.world.look(|parts| parts.model.state(id)).ok()?;
        BundleSpec::read(&state.bundle).ok().map(|spec| spec.program)
    }

    pub(super) async fn remove(&self, id: &ContainerId, force: bool) -> Result<()> {
        if force && self.defect(Defect::ForceIsPolite) && self.world.look(|parts| parts.model.is_stubborn(id))
        {
            sleep(Duration::from_secs(25)).await;
        }
        let begun = self.world.act(|parts| parts.model.begin_delete(id, force))?;
        let Some(key) = begun else { return Ok(()) };
        sleep(WORK).await;
        let (there, log) = self.world.act(|parts| (parts.model.forget(key), parts.logs.remove(&key)));
        if let Some(log) = log.filter(|_| self.defect(Defect::DeleteRemovesTheLog)) {
            let _ = std::fs::remove_file(log.path());
        }
        if there || force { Ok(()) } else { Err(Error::not_found(Operation::Delete, id)) }
    }
}

fn is_exec_not_found(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Rejected { class: Rejection::ExecNotFound, .. })
}
