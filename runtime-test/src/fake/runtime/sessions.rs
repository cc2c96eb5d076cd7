//! Exec sessions.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use runtime_api::{
    AttachEnd, AttachRequest, ContainerId, ContainerStatus, Error, ErrorKind, ExecId, ExecSessionRequest,
    ExecSessionState, Operation, Rejection, Result, StopRequest, Streams,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::Defect;

use super::waiting::WhenDropped;
use super::{FakeRuntime, WORK};
use crate::fake::attach::Attached;

impl FakeRuntime {
    pub(super) async fn start_session(
        &self,
        id: &ContainerId,
        request: ExecSessionRequest,
    ) -> Result<ExecSessionState> {
        self.check_exec(&request.process, None)?;
        let key = self.world.act(|parts| parts.model.reserve_session(id, &request.session))?;
        let mut given_back =
            WhenDropped(Some(|| self.world.act(|parts| parts.model.abandon_session(key, true))));
        sleep(WORK).await;
        given_back.0 = None;
        let terminal = request.process.terminal;
        self.world.act(|parts| {
            let program = self.program_of_exec(parts, Operation::ExecStart, id, request.process);
            let started =
                program.and_then(|program| parts.model.run_session(key, program, request.stdin, terminal));
            if started.is_err() {
                parts.model.abandon_session(key, false);
            }
            started
        })
    }

    pub(super) async fn attach_to_session(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: AttachRequest,
        streams: Streams,
    ) -> Result<AttachEnd> {
        let operation = Operation::ExecAttach;
        let named = |error: Error| {
            error.during(operation).on(format_args!("exec session \"{session}\" of container \"{id}\""))
        };
        let wants = (streams.stdout.is_some(), streams.stderr.is_some());
        let registered: Result<_> = self.world.act(|parts| {
            let key = parts.model.session_key(operation, id, session)?;
            if parts.model.is_over(key) {
                let (is, allowed) = (ContainerStatus::Stopped, &[ContainerStatus::Running]);
                return Err(named(Error::new(ErrorKind::WrongState { is, stopping: false, allowed })));
            }
            let sized = request.initial_size.is_some() || streams.resize.is_some();
            if sized && !parts.model.session_has_terminal(key) {
                return Err(named(no_terminal()));
            }
            if let Some(size) = request.initial_size {
                parts.model.set_session_size(key, size);
            }
            Ok((key, parts.clients.add(key, wants.0, wants.1, None)))
        });
        let (key, client) = match registered {
            Err(error) if error.is_wrong_state() && self.defect(Defect::AttachStoppedIsOk) => {
                return Ok(AttachEnd::Ended);
            }
            registered => registered?,
        };
        let (defect, reads) = (self.profile.defect(), AtomicBool::new(streams.stdin.is_some()));
        let attached = Attached { world: Arc::clone(&self.world), client, container: key, defect, reads };
        if let Some(told) = request.attached {
            // A caller that does not listen need not be told.
            let _ = told.send(());
        }
        attached.serve(id, streams, request.detach_keys).await.map_err(named)
    }

    pub(super) async fn stop_session(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: StopRequest,
    ) -> Result<ExecSessionState> {
        let stopped = self.world.act(|parts| parts.model.stop_session(id, session, request.grace));
        let key = match stopped {
            Err(error) if error.is_not_found() && self.defect(Defect::StopOfUnknownSessionIsOk) => {
                return Ok(ExecSessionState::Stopped { code: None });
            }
            stopped => stopped?,
        };
        let forgetful = self.defect(Defect::DroppedSessionStopIsForgotten);
        let _guard = WhenDropped(
            forgetful.then_some(|| self.world.act(|parts| parts.model.give_up_session_stop(key))),
        );
        let whole_grace = request.grace.and_then(|grace| Instant::now().checked_add(grace));
        let code = self.world.until(|parts| parts.model.session_end(key)).await.map_err(|error| {
            error
                .during(Operation::ExecStop)
                .on(format_args!("exec session \"{session}\" of container \"{id}\""))
        })?;
        if let Some(over) = whole_grace.filter(|_| self.defect(Defect::SessionStopTakesItsGrace)) {
            sleep_until(over).await;
        }
        Ok(ExecSessionState::Stopped { code })
    }
}

fn no_terminal() -> Error {
    let message = "the program has no terminal that could have a size".to_owned();
    Error::new(ErrorKind::Rejected { class: Rejection::Other, message })
}
