//! Kill. Where the host sees the container's processes there is no fork: the signal goes through a pid file descriptor,
//! after the start time was compared. Where it does not, the runtime sends it, but for KILL: that goes to the sandbox,
//! which takes everything in it along, whatever state the runtime believes it to be in.

use std::time::Duration;

use runtime_api::{
    Capability, ContainerId, ContainerStatus, Error, ErrorKind, KillRequest, Operation, Result, Signal,
};
use runtime_host::process::Identity;

use crate::backend::{Backend, Locked};
use crate::dialect::Reach;
use crate::observe::Sight;

/// How long a runtime may take to send a signal.
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
            if request.all {
                self.signal_others(&locked, Signal::KILL).map_err(named)?;
            }
            return self.kill_init(&mut locked, &sight).await.map_err(named);
        }
        let needed = match sight {
            Sight::Alive(ContainerStatus::Created) => Some(Capability::KillCreated),
            Sight::Alive(ContainerStatus::Paused) => Some(Capability::KillPaused),
            _ => None,
        };
        if let Some(needed) = needed {
            self.capabilities.require(needed).map_err(named)?;
        }
        match (request.all, locked.record.reach) {
            (false, _) => self.signal(&locked, request.signal).await,
            (true, Reach::Host) => {
                self.signal_others(&locked, request.signal).map_err(named)?;
                self.signal(&locked, request.signal).await
            }
            (true, Reach::Runtime) => self.signal_inside(&locked, &["--all"], request.signal).await,
        }
        .map_err(named)
    }

    /// Sends KILL, and thaws what is paused.
    pub(super) async fn kill_init(&self, locked: &mut Locked, sight: &Sight) -> Result<()> {
        self.signal(locked, Signal::KILL).await?;
        if *sight == Sight::Alive(ContainerStatus::Paused) && locked.record.reach == Reach::Host {
            // KILL first: it is pending when the processes thaw, so no instruction of the program runs in between.
            self.thaw(locked).await?;
        }
        Ok(())
    }

    /// Signals the init. One that is gone by now needs no signal.
    pub(super) async fn signal(&self, locked: &Locked, signal: Signal) -> Result<()> {
        if locked.record.reach == Reach::Runtime && signal != Signal::KILL {
            return self.signal_inside(locked, &[], signal).await;
        }
        signal_process(locked.record.init, signal)
    }

    /// [`Backend::signal`] on the way to the end, where a runtime whose binary vanished is no obstacle: the sandbox gets
    /// the signal then, and passes it on or dies of it.
    pub(super) async fn signal_for_stop(&self, locked: &Locked, signal: Signal) -> Result<()> {
        match self.signal(locked, signal).await {
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable(_)) => {
                signal_process(locked.record.init, signal)
            }
            other => other,
        }
    }

    /// Lets the runtime send a signal.
    async fn signal_inside(&self, locked: &Locked, options: &[&str], signal: Signal) -> Result<()> {
        let number = signal.number().to_string();
        let verb = [&["kill"], options, &[locked.record.id.as_str(), &number]].concat();
        match self.run_verb(&locked.dir, &verb, LIMIT).await {
            Ok(_) => Ok(()),
            Err(error) if self.is_gone(&error) => Ok(()),
            // It died during the call.
            Err(_) if !locked.record.init.is_some_and(Identity::lives) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Signals every process of the container that the host sees but the init. Monitors of sessions may be in its cgroup,
    /// and are none of it.
    fn signal_others(&self, locked: &Locked, signal: Signal) -> Result<()> {
        let monitors = self.session_monitors_inside(&locked.dir);
        let spared = |one: &Identity| Some(*one) == locked.record.init || monitors.contains(one);
        let others = self.members(&locked.record).into_iter().filter(|one| !spared(one));
        for process in others {
            process.signal(signal).map_err(|error| not_delivered(process, signal, error))?;
        }
        Ok(())
    }
}

fn signal_process(process: Option<Identity>, signal: Signal) -> Result<()> {
    let Some(process) = process else { return Ok(()) };
    process.signal(signal).map(|_| ()).map_err(|error| not_delivered(process, signal, error))
}

fn not_delivered(process: Identity, signal: Signal, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Internal(format!("{signal} cannot be sent to process {}", process.pid)),
    };
    Error::new(kind).caused_by(error)
}
