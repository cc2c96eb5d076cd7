//! Kill, by the shim. KILL reaches what the host can see even where the shim does not answer.

use std::time::Duration;

use runtime_api::{
    Capability, ContainerId, ContainerStatus, Error, ErrorKind, KillRequest, Operation, Result, Signal,
};

use crate::backend::{Backend, Locked};
use crate::observe::{self, Sight};
use crate::record::{Reach, Record};
use crate::task::{Fault, Target};

/// How long a shim may take to send a signal.
const LIMIT: Duration = Duration::from_secs(10);

impl Backend {
    pub(crate) async fn kill(&self, id: &ContainerId, request: KillRequest) -> Result<()> {
        let named = |error: Error| error.during(Operation::Kill).on(format_args!("container \"{id}\""));
        if request.all {
            self.capabilities.require(Capability::KillAll).map_err(named)?;
        }
        if request.signal.is_real_time() {
            self.capabilities.require(Capability::KillRealTime).map_err(named)?;
        }
        let (mut locked, sight) = self.admit(Operation::Kill, id).await?;
        if request.signal == Signal::KILL {
            return self.kill_init(&mut locked, &sight, request.all).await.map_err(named);
        }
        let needed = match sight {
            Sight::Alive(ContainerStatus::Created) => Some(Capability::KillCreated),
            Sight::Alive(ContainerStatus::Paused) => Some(Capability::KillPaused),
            _ => None,
        };
        if let Some(needed) = needed {
            self.capabilities.require(needed).map_err(named)?;
        }
        self.signal(&locked.record, request.signal, request.all).await.map_err(named)
    }

    /// Sends KILL, and thaws what is paused. KILL comes first: it is pending when the processes thaw, so no instruction of the
    /// program runs in between.
    pub(super) async fn kill_init(&self, locked: &mut Locked, sight: &Sight, all: bool) -> Result<()> {
        let sent = self.signal(&locked.record, Signal::KILL, all).await;
        if *sight != Sight::Alive(ContainerStatus::Paused) {
            return sent;
        }
        let thawed = self.thaw(locked).await;
        match (locked.record.reach, sent) {
            (Reach::Host, sent) => thawed.and(sent),
            // What stood still in a guest may have died at once; then there was nothing to thaw.
            (Reach::Guest, Ok(())) if locked.record.exit.is_some() => Ok(()),
            (Reach::Guest, Ok(())) => thawed,
            // Whether a signal may be sent to what stands still is the guest's affair.
            (Reach::Guest, Err(_)) => self.signal(&locked.record, Signal::KILL, all).await,
        }
    }

    /// Lets the shim send a signal. What is gone by now needs none.
    pub(super) async fn signal(&self, record: &Record, signal: Signal, all: bool) -> Result<()> {
        let mut sent = self.signal_once(record, signal, all).await;
        // A connection that broke leaves open whether it was sent. Once more does no harm to what it kills.
        if signal == Signal::KILL && sent.as_ref().is_err_and(is_lost) && self.may_answer(record) {
            sent = self.signal_once(record, signal, all).await;
        }
        let Err(error) = sent else { return Ok(()) };
        let init = record.init.filter(|_| record.reach == Reach::Host);
        match init {
            // It died during the call.
            Some(init) if !init.lives() => Ok(()),
            // A shim that hangs or is gone must not keep a container alive.
            Some(init) if signal == Signal::KILL => init.signal(Signal::KILL).map(drop).map_err(|cause| {
                let what = format!("KILL cannot be sent to process {}", init.pid);
                Error::new(ErrorKind::Internal(what)).caused_by(cause)
            }),
            _ => Err(error),
        }
    }

    async fn signal_once(&self, record: &Record, signal: Signal, all: bool) -> Result<()> {
        let number = u32::try_from(signal.number()).unwrap_or_default();
        let client = self.client(record).await?;
        let sent = client.kill(Target::init(record.id.as_str()), number, all, LIMIT).await;
        sent.or_else(|fault| match fault {
            // It takes its container along when it dies. While it lives nobody knows whether the signal was sent.
            Fault::Closed(_) if !self.may_answer(record) => Ok(()),
            Fault::Closed(_) => Err(fault.into_error(Operation::Kill)),
            fault if fault.is_gone() => Ok(()),
            fault => Err(fault.into_error(Operation::Kill)),
        })
    }

    /// Whether the shim is there to be asked again.
    fn may_answer(&self, record: &Record) -> bool {
        record.shim.as_ref().is_some_and(observe::shim_lives)
    }

    /// Ends what could not be started.
    pub(super) async fn end_unstarted(&self, record: &Record) {
        if let Err(error) = self.signal(record, Signal::KILL, false).await {
            tracing::warn!(id = %record.id, error = %error.report(), "what could not be started cannot be killed");
        }
        if let Some(init) = record.init.filter(|_| record.reach == Reach::Host).and_then(|init| init.open()) {
            let _ = tokio::time::timeout(KILL_LIMIT, init.ended()).await;
        }
    }
}

fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PeerLost(_))
}

/// How long an init that could not be started may live after KILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
