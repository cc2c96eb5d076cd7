//! Kill: no fork. The signal goes through a pid file descriptor, after the start time was compared.

use runtime_api::{
    Capability, ContainerId, ContainerStatus, Error, ErrorKind, KillRequest, Operation, Result, Signal,
};

use crate::backend::{Backend, Locked};
use crate::observe::Sight;
use crate::process::Identity;

impl Backend {
    pub(crate) async fn kill(&self, id: &ContainerId, request: KillRequest) -> Result<()> {
        let named = |error: Error| error.during(Operation::Kill).on(format_args!("container \"{id}\""));
        if request.all {
            self.capabilities.require(Capability::KillAll).map_err(named)?;
        }
        let (locked, sight) = self.admit(Operation::Kill, id).await?;
        let needed = match sight {
            Sight::Alive(ContainerStatus::Created) => Some(Capability::KillCreated),
            Sight::Alive(ContainerStatus::Paused) => Some(Capability::KillPaused),
            _ => None,
        };
        if let Some(needed) = needed.filter(|_| request.signal != Signal::KILL) {
            self.capabilities.require(needed).map_err(named)?;
        }
        if request.all {
            self.signal_all(&locked, request.signal).map_err(named)?;
        }
        self.signal(&locked, request.signal).map_err(named)?;
        if request.signal == Signal::KILL && sight == Sight::Alive(ContainerStatus::Paused) {
            // KILL first: it is pending when the processes thaw, so no instruction of the program runs in between.
            self.thaw(&locked).await.map_err(named)?;
        }
        Ok(())
    }

    /// Signals the init. One that is gone by now needs no signal.
    pub(super) fn signal(&self, locked: &Locked, signal: Signal) -> Result<()> {
        let Some(init) = locked.record.init else { return Ok(()) };
        init.signal(signal).map(|_| ()).map_err(|error| not_delivered(init, signal, error))
    }

    /// Signals every process but the init.
    fn signal_all(&self, locked: &Locked, signal: Signal) -> Result<()> {
        let others = self.members(&locked.record).into_iter().filter(|one| Some(*one) != locked.record.init);
        for process in others {
            process.signal(signal).map_err(|error| not_delivered(process, signal, error))?;
        }
        Ok(())
    }
}

fn not_delivered(process: Identity, signal: Signal, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Internal(format!("{signal} cannot be sent to process {}", process.pid)),
    };
    Error::new(kind).caused_by(error)
}
