//! The rungs of a stop's ladder.

use std::time::Duration;

use runtime_api::{ContainerId, ContainerStatus, Error, ErrorKind, ExitStatus, Operation, Result, Signal};
use runtime_host::ladder::{Asked, Ladder};
use runtime_host::lock::Witness;

use crate::backend::{Backend, Locked};
use crate::observe::{self, Sight};
use crate::record::{StopPhase, StopStage};

impl Ladder for Backend {
    fn kill_limit(&self) -> Duration {
        self.config.kill_timeout
    }

    async fn ask(&self, id: &ContainerId, at_once: bool) -> Result<Asked> {
        let (mut locked, sight) = self.admit(Operation::Stop, id).await?;
        let alive = match sight {
            Sight::Stopped(status) => return Ok(Asked::Ended(status)),
            Sight::Alive(status) => Some(status),
            _ => None,
        };
        let witness = Witness::open(&locked.dir)?.ok_or_else(|| Error::not_found(Operation::Stop, id))?;
        if at_once || alive == Some(ContainerStatus::Created) {
            return Ok(Asked::NoGrace(witness));
        }
        if !observe::is_stopping(&locked.record) {
            if alive == Some(ContainerStatus::Paused) {
                self.thaw(&mut locked).await?;
            }
            self.mark(&mut locked, StopStage::Terminating)?;
            let signal = locked.record.stop_signal.unwrap_or(Signal::TERM);
            unless_lost(self.signal(&locked.record, signal, false).await)?;
        }
        Ok(Asked::Told(witness))
    }

    async fn wait_for(&self, id: &ContainerId, witness: &mut Witness) -> Result<ExitStatus> {
        self.wait_for_this(Operation::Stop, id, witness).await
    }

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
        if sight == Sight::Ending {
            // The init is gone and the monitor has not said so for seconds: the shim knows.
            return match self.resolve(&mut locked).await? {
                Sight::Stopped(status) => Ok(Some(status)),
                _ => Ok(None),
            };
        }
        self.mark(&mut locked, StopStage::Killing)?;
        unless_lost(self.kill_init(&mut locked, &sight, false).await)?;
        Ok(None)
    }

    async fn still_there(&self, _id: &ContainerId, _witness: &Witness, _for_so_long: Duration) {}
}

/// A shim that is dying takes its container along, which whoever waits is told of; one that cannot be reached now is asked
/// again.
fn unless_lost(sent: Result<()>) -> Result<()> {
    match sent {
        Err(error) if matches!(error.kind(), ErrorKind::PeerLost(_)) => Ok(()),
        other => other,
    }
}

impl Backend {
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
