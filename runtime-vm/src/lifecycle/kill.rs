//! Kill, by the shim. KILL reaches what the host can see even where the shim does not answer.

use std::time::Duration;

use runtime_api::{
    Capability, ContainerId, ContainerStatus, Error, ErrorKind, KillRequest, Operation, Result, Signal,
};

use crate::backend::{Backend, Locked};
use crate::observe::Sight;
use crate::record::{Reach, Record};
use crate::task::Target;

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

    /// Sends KILL, and thaws what is paused.
    pub(super) async fn kill_init(&self, locked: &mut Locked, sight: &Sight, all: bool) -> Result<()> {
        let paused = *sight == Sight::Alive(ContainerStatus::Paused);
        if paused && locked.record.reach == Reach::Guest {
            // Whether a signal may be sent to what stands still is the guest's affair; the thaw comes first there.
            self.thaw(locked).await?;
        }
        let sent = self.signal(&locked.record, Signal::KILL, all).await;
        if paused && locked.record.reach == Reach::Host {
            // KILL first: it is pending when the processes thaw, so no instruction of the program runs in between.
            self.thaw(locked).await?;
        }
        sent
    }

    /// Lets the shim send a signal. What is gone by now needs none.
    pub(super) async fn signal(&self, record: &Record, signal: Signal, all: bool) -> Result<()> {
        let number = u32::try_from(signal.number()).unwrap_or_default();
        let sent = match self.client(record).await {
            Ok(client) => {
                let target = Target::init(record.id.as_str());
                client.kill(target, number, all, LIMIT).await.or_else(|fault| {
                    if fault.is_gone() { Ok(()) } else { Err(fault.into_error(Operation::Kill)) }
                })
            }
            Err(error) => Err(error),
        };
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

/// How long an init that could not be started may live after KILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
