//! Making, removing and running execs: what takes more than one step.

use std::sync::Arc;
use std::time::Duration;

use runtime_api::{
    Capability, ContainerId, ContainerState, ContainerStatus, CreateRequest, Error, ErrorKind, ExecOutcome,
    ExecSyncRequest, LogDriver, Operation, Rejection, Result, Signal, StdinMode,
};
use tokio::time::sleep;

use crate::{Defect, probe};

use super::{FakeRuntime, WORK};
use crate::fake::log::{Lenience, LogFile};
use crate::fake::model::{Blueprint, ExecKey, ExecLimits, Key, Program};
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

/// An exec that somebody waits for; dropping it ends its tree.
struct RunningExec {
    world: Arc<World>,
    key: ExecKey,
}

impl Drop for RunningExec {
    fn drop(&mut self) {
        self.world.act(|parts| parts.model.drop_exec(self.key));
    }
}

impl FakeRuntime {
    pub(super) async fn make(&self, request: CreateRequest) -> Result<ContainerState> {
        let _turn = self.misdeeds.turn(self.defect(Defect::OneLifeAtATime)).await;
        if request.log.driver == LogDriver::CriFile {
            self.profile.capabilities().require(Capability::Log)?;
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
        let lenience = Lenience {
            makes_directories: self.defect(Defect::LogDirectoryIsMade),
            follows_links: self.defect(Defect::LogLinkIsFollowed),
            times_are_wrong: self.defect(Defect::LogTimesAreWrong),
            ends_every_line: self.defect(Defect::LogEndsEveryLine),
        };
        let log = LogFile::open(&request.log, lenience)?;
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
            input_open: request.stdin != StdinMode::Closed,
            input_kept: request.stdin == StdinMode::KeepOpen,
            limits: spec.limits,
            stop_signal: request.stop_signal.unwrap_or(Signal::TERM),
        })
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
            sleep(Duration::from_secs(10)).await;
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

    pub(super) async fn run_exec(&self, id: &ContainerId, request: ExecSyncRequest) -> Result<ExecOutcome> {
        let invalid = |why: &str| Err(Error::new(ErrorKind::InvalidArgument(why.to_owned())));
        if request.process.argv.is_empty() {
            return invalid("an exec needs a program");
        }
        if request.timeout == Some(Duration::ZERO) {
            return invalid("a time limit of zero would let nothing run; leave it out for no limit");
        }
        if request.process.terminal {
            self.profile.capabilities().require(Capability::ExecTty)?;
        }
        let limits = ExecLimits { timeout: request.timeout, output: request.output_limit };
        let key = self.world.act(|parts| {
            let status = parts.model.state(id)?.status;
            if status != ContainerStatus::Created || !self.defect(Defect::ExecBeforeStartIsOk) {
                parts.model.admitted(Operation::ExecSync, id)?;
            }
            let Some(blueprint) = parts.model.blueprint(id) else {
                return Err(Error::not_found(Operation::ExecSync, id));
            };
            let mut program = program::for_exec(&blueprint.program, request.process)?;
            if self.defect(Defect::ExecForgetsSettings) {
                program.env.clone_from(&blueprint.program.env);
                program.cwd.clone_from(&blueprint.program.cwd);
            }
            match program::check(&blueprint.rootfs, &program) {
                Err(error) if self.defect(Defect::ExecMissingProgramRuns) && is_exec_not_found(&error) => {
                    program.argv = vec![probe::PATH.to_owned(), "exit:127".to_owned()];
                }
                checked => checked?,
            }
            parts.model.exec(id, program, limits)
        })?;
        let _running = RunningExec { world: Arc::clone(&self.world), key };
        Ok(self.world.until(|parts| parts.model.collect(key)).await)
    }
}

fn is_exec_not_found(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Rejected { class: Rejection::ExecNotFound, .. })
}
