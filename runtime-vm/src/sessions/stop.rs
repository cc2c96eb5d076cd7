//! Stop of a session: TERM, the grace, KILL, with the same ladder as the stop of a container. The signals go to the
//! program itself where it is a process of the host, else through the shim.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use runtime_api::{
    ContainerId, ContainerStatus, Error, ErrorKind, ExecId, ExecSessionState, Operation, Result, Retry,
    Signal, StopRequest,
};
use runtime_host::lock::Witness;

use super::record::SessionRecord;
use super::{Locked, Sight, subject, wrong_state};
use crate::backend::Backend;
use crate::exec::command::Command;
use crate::observe;
use crate::record::{Record, StopPhase, StopStage};

/// The pause between two KILLs grows up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// How far the polite part came.
enum Progress {
    Done(Option<i32>),
    Kill(Witness),
}

impl Backend {
    /// Stops a session and tells the caller, if it is still there.
    pub(crate) async fn stop_session(
        &self,
        id: ContainerId,
        session: ExecId,
        request: StopRequest,
        told: oneshot::Sender<Result<ExecSessionState>>,
    ) {
        let named = |error: Error| error.during(Operation::ExecStop).on(subject(&id, &session));
        let mut told = Some(told);
        let mut tell = |result: Result<Option<i32>>| {
            if let Some(told) = told.take() {
                // Nobody may be listening any more: the stop goes on without its caller.
                let _ = told.send(result.map(|code| ExecSessionState::Stopped { code }).map_err(named));
            }
        };
        let witness = match self.terminate_session(&id, &session, request).await {
            Err(error) => return tell(Err(error)),
            Ok(Progress::Done(code)) => return tell(Ok(code)),
            Ok(Progress::Kill(witness)) => witness,
        };
        let dir = self.layout.container(&id).session(&session);
        let (begun, limit) = (Instant::now(), self.config.kill_timeout);
        let mut pause = Duration::from_millis(20);
        loop {
            match self.kill_session_once(&id, &session, &witness).await {
                Ok(Some(code)) => return tell(Ok(code)),
                Ok(None) => {}
                // Somebody else is at work on it, and will be done.
                Err(error) if matches!(error.kind(), ErrorKind::Busy { .. } | ErrorKind::TimedOut(_)) => {}
                // Removed meanwhile, or not ours to kill: repeating will not help.
                Err(error) => return tell(Err(error)),
            }
            if let Ok(ended) = timeout(pause, self.session_end(&id, &dir, &witness)).await {
                return tell(ended);
            }
            if begun.elapsed() >= limit {
                tell(Err(Error::new(ErrorKind::TimedOut(limit)).retry(Retry::Later).hint(
                    "KILL was sent and is being repeated; a process that is frozen, or in uninterruptible sleep \
                     (state D), dies when it goes on",
                )));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The polite part: TERM, and the grace.
    async fn terminate_session(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: StopRequest,
    ) -> Result<Progress> {
        let begun = Instant::now();
        let (container, dir) = self.known(Operation::ExecStop, id)?;
        let dir = dir.session(session);
        let settled = self.lock_settled_session(&container, session).await?;
        let (mut locked, sight) = settled.ok_or_else(|| Error::new(ErrorKind::NotFound))?;
        if let Sight::Stopped(code) = sight {
            return Ok(Progress::Done(code));
        }
        self.refuse_in_paused(&container)?;
        // Before the lock is let go of: from then on another session may get the id, and it is not to be stopped.
        let witness = Witness::open(&dir)?.ok_or_else(|| Error::new(ErrorKind::NotFound))?;
        if request.grace == Some(Duration::ZERO) {
            return Ok(Progress::Kill(witness));
        }
        if !locked.record.stop.is_some_and(|stop| stop.owner.lives()) {
            self.mark_session(&mut locked, StopStage::Terminating)?;
            let command = self.command_of(&container, &locked.record)?;
            command.signal(self, Signal::TERM).await?;
        }
        drop(locked);
        let ended = self.session_end(id, &dir, &witness);
        match request.grace {
            None => ended.await.map(Progress::Done),
            Some(grace) => match timeout(grace.saturating_sub(begun.elapsed()), ended).await {
                Ok(code) => code.map(Progress::Done),
                Err(_over) => Ok(Progress::Kill(witness)),
            },
        }
    }

    /// In a container that is paused nothing acts on a signal, and to let it go on is not for the stop of a session.
    fn refuse_in_paused(&self, container: &Record) -> Result<()> {
        let dir = self.layout.container(&container.id);
        match observe::look(container, &dir, &self.hierarchies)? {
            observe::Sight::Alive(paused @ ContainerStatus::Paused) => {
                Err(wrong_state(paused, &[ContainerStatus::Running]).hint("resume the container first"))
            }
            _ => Ok(()),
        }
    }

    /// Sends KILL to the program and all that descends from it, once; the code if it was dead already. `NotFound` when
    /// another session has the id by now.
    async fn kill_session_once(
        &self,
        id: &ContainerId,
        session: &ExecId,
        witness: &Witness,
    ) -> Result<Option<Option<i32>>> {
        let (container, _) = self.known(Operation::ExecStop, id)?;
        let settled = self.lock_settled_session(&container, session).await?;
        let (mut locked, sight) = settled.ok_or_else(|| Error::new(ErrorKind::NotFound))?;
        if !witness.is_current(&locked.dir) {
            return Err(Error::new(ErrorKind::NotFound));
        }
        if let Sight::Stopped(code) = sight {
            return Ok(Some(code));
        }
        self.mark_session(&mut locked, StopStage::Killing)?;
        let command = self.command_of(&container, &locked.record)?;
        command.kill_now();
        if command.process().is_none() {
            command.signal(self, Signal::KILL).await?;
        }
        Ok(None)
    }

    fn command_of(&self, container: &Record, record: &SessionRecord) -> Result<Command> {
        let mut command = Command::new(self, container, &record.exec)?;
        command.is_process(record.command);
        Ok(command)
    }

    /// Notes how far the stop has come, and whose it is.
    fn mark_session(&self, locked: &mut Locked, stage: StopStage) -> Result<()> {
        if locked.record.stop.is_some_and(|known| known.stage >= stage && known.owner.lives()) {
            return Ok(());
        }
        locked.record.stop = Some(StopPhase { stage, owner: self.life.owner() });
        locked.record.write(&locked.dir)
    }
}
