//! Stop: the ladder from the stop signal to KILL.
//!
//! The lock is taken for single steps only. How far the stop has come stands in the record, with the caller whose it
//! is: the stop signal is sent once, and each caller, in any process, escalates when its own grace is over. So a later
//! stop can shorten the grace and never lengthens it. Each call runs in a task of the runtime value, so that it goes on
//! when its caller is gone.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use runtime_api::{
    ContainerId, ContainerStatus, Error, ErrorKind, ExitStatus, Operation, Result, Signal, StopRequest,
};
use runtime_host::lock::Witness;
use runtime_host::process::end_all;

use crate::backend::{Backend, Locked};
use crate::observe::{self, Sight};
use crate::record::{StopPhase, StopStage};

/// The pause between two KILLs grows up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// How long the monitors of a container's sessions may hold up its end.
const SESSIONS_LIMIT: Duration = Duration::from_secs(1);

impl Backend {
    /// Stops a container and tells the caller, if it is still there.
    pub(crate) async fn stop(
        &self,
        id: ContainerId,
        request: StopRequest,
        told: oneshot::Sender<Result<ExitStatus>>,
    ) {
        let named = |error: Error| error.during(Operation::Stop).on(format_args!("container \"{id}\""));
        match self.terminate(&id, request).await {
            Err(error) => drop(told.send(Err(named(error)))),
            Ok(Progress::Done(status)) => drop(told.send(Ok(status))),
            Ok(Progress::Kill(witness)) => self.kill_until_gone(&id, witness, told).await,
        }
    }

    /// The polite part: the stop signal, and the grace.
    async fn terminate(&self, id: &ContainerId, request: StopRequest) -> Result<Progress> {
        let begun = Instant::now();
        let (mut locked, sight) = self.admit(Operation::Stop, id).await?;
        let alive = match sight {
            Sight::Stopped(status) => return Ok(Progress::Done(status)),
            Sight::Alive(status) => Some(status),
            _ => None,
        };
        // Before the lock is let go of: from then on another container may get the id, and it is not to be stopped.
        let mut witness = Witness::open(&locked.dir)?.ok_or_else(|| Error::not_found(Operation::Stop, id))?;
        if alive == Some(ContainerStatus::Created) || request.grace == Some(Duration::ZERO) {
            return Ok(Progress::Kill(witness));
        }
        if !observe::is_stopping(&locked.record) {
            if alive == Some(ContainerStatus::Paused) {
                self.thaw(&mut locked).await?;
            }
            self.mark(&mut locked, StopStage::Terminating)?;
            let signal = locked.record.stop_signal.unwrap_or(Signal::TERM);
            self.signal_for_stop(&locked, signal).await?;
        }
        drop(locked);
        let ended = self.wait_for(Operation::Stop, id, &mut witness);
        match request.grace {
            None => ended.await.map(Progress::Done),
            Some(grace) => match timeout(grace.saturating_sub(begun.elapsed()), ended).await {
                Ok(status) => status.map(Progress::Done),
                Err(_over) => Ok(Progress::Kill(witness)),
            },
        }
    }

    /// The forceful part. The caller is told when the container is gone, or that it is still there after a while; in
    /// that case KILL is repeated until it works: a process in a system call that cannot be interrupted dies later.
    async fn kill_until_gone(
        &self,
        id: &ContainerId,
        mut witness: Witness,
        told: oneshot::Sender<Result<ExitStatus>>,
    ) {
        let named = |error: Error| error.during(Operation::Stop).on(format_args!("container \"{id}\""));
        let limit = self.config.kill_timeout;
        let begun = Instant::now();
        let mut told = Some(told);
        let mut pause = Duration::from_millis(20);
        let mut tell = |result: Result<ExitStatus>| {
            if let Some(told) = told.take() {
                // Nobody may be listening any more: the stop goes on without its caller.
                let _ = told.send(result);
            }
        };
        loop {
            match self.kill_once(id, &mut witness).await {
                Ok(Some(status)) => return tell(Ok(status)),
                Ok(None) => {}
                // Somebody else is at work on it, and will be done.
                Err(error) if matches!(error.kind(), ErrorKind::Busy { .. } | ErrorKind::TimedOut(_)) => {}
                // Deleted meanwhile, or not ours to kill: repeating will not help.
                Err(error) => return tell(Err(named(error))),
            }
            match timeout(pause, self.wait_for(Operation::Stop, id, &mut witness)).await {
                Ok(result) => return tell(result),
                Err(_still_there) => {}
            }
            if begun.elapsed() >= SESSIONS_LIMIT {
                // The init is not dead before the programs of its sessions are taken note of.
                let dir = self.layout.container(id);
                self.end_sessions(&dir, || witness.is_current(&dir)).await;
            }
            if begun.elapsed() >= limit {
                tell(Err(named(
                    Error::new(ErrorKind::TimedOut(limit))
                        .retry(runtime_api::Retry::Later)
                        .hint("KILL was sent and is being repeated; a process in uninterruptible sleep (state D) dies when its system call ends"),
                )));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            sleep(Duration::ZERO).await;
        }
    }

    /// Sends KILL once, to the container that the witness saw; the status if it was dead already.
    async fn kill_once(&self, id: &ContainerId, witness: &mut Witness) -> Result<Option<ExitStatus>> {
        let admitted = self.admit(Operation::Stop, id).await;
        if !witness.is_current(self.layout.container(id)) {
            // Deleted meanwhile. What has its id now is another one.
            return witness.status().map(Some).ok_or_else(|| Error::not_found(Operation::Stop, id));
        }
        let (mut locked, sight) = admitted?;
        if let Sight::Stopped(status) = sight {
            return Ok(Some(status));
        }
        if let (Sight::Ending, Some(monitor)) = (&sight, locked.record.monitor) {
            // The init is gone and the monitor has not said so for seconds: it hangs, and would for ever.
            end_all([monitor]).await;
            return match self.settle(&mut locked).await? {
                Sight::Stopped(status) => Ok(Some(status)),
                _ => Ok(None),
            };
        }
        self.mark(&mut locked, StopStage::Killing)?;
        self.kill_init(&mut locked, &sight).await?;
        Ok(None)
    }

    /// Notes how far the stop has come, and whose it is.
    fn mark(&self, locked: &mut Locked, stage: StopStage) -> Result<()> {
        let phase = StopPhase { stage, owner: self.life.owner() };
        if locked.record.stop.is_some_and(|known| known.stage >= stage && known.owner.lives()) {
            return Ok(());
        }
        locked.record.stop = Some(phase);
        locked.save()
    }
}

/// How far the polite part came.
enum Progress {
    Done(ExitStatus),
    Kill(Witness),
}
