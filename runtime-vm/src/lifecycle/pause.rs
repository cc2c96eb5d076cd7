//! Pause and resume, by the shim; uniform, whatever it thinks of a second pause.

use std::time::Duration;

use runtime_api::{ContainerId, Error, Operation, Result};

use crate::backend::{Backend, Locked};
use crate::record::{Frozen, Reach, Record};

const LIMIT: Duration = Duration::from_secs(10);

impl Backend {
    pub(crate) async fn pause(&self, id: &ContainerId) -> Result<()> {
        let (mut locked, _) = self.admit(Operation::Pause, id).await?;
        let named = |error: Error| error.during(Operation::Pause).on(format_args!("container \"{id}\""));
        self.freeze(&mut locked, true, Operation::Pause).await.map_err(named)
    }

    pub(crate) async fn resume(&self, id: &ContainerId) -> Result<()> {
        let (mut locked, _) = self.admit(Operation::Resume, id).await?;
        let named = |error: Error| error.during(Operation::Resume).on(format_args!("container \"{id}\""));
        let Err(error) = self.freeze(&mut locked, false, Operation::Resume).await else { return Ok(()) };
        // A shim that loses its caller in a pause may believe for ever that it is still at it, and resume nothing.
        if self.thaw_by_the_kernel(&locked.record) {
            tracing::warn!(%id, error = %error.report(), "the shim does not resume a container; it was thawed");
            locked.entry.touch();
            return Ok(());
        }
        Err(named(error))
    }

    /// Asks the shim. Where the host cannot see what came of it, it is written down; and before it that it is in doubt, so
    /// that whoever comes after a crash asks the shim.
    pub(super) async fn freeze(&self, locked: &mut Locked, freeze: bool, operation: Operation) -> Result<()> {
        let id = locked.record.id.clone();
        let client = self.client(&locked.record).await?;
        let hidden = locked.record.reach == Reach::Guest;
        if hidden {
            locked.record.frozen = Frozen::InDoubt;
            locked.save()?;
        }
        let done = if freeze {
            client.pause(id.as_str(), LIMIT).await
        } else {
            client.resume(id.as_str(), LIMIT).await
        };
        if hidden {
            if done.is_ok() {
                locked.record.frozen = if freeze { Frozen::Yes } else { Frozen::No };
                locked.save()?;
            } else {
                self.resolve(locked).await?;
            }
        }
        locked.entry.touch();
        done.map_err(|fault| fault.into_error(operation))
    }

    /// Thaws a container on the way to its end. One that is gone by now needs no thawing.
    pub(super) async fn thaw(&self, locked: &mut Locked) -> Result<()> {
        let Err(error) = self.freeze(locked, false, Operation::Resume).await else { return Ok(()) };
        if self.thaw_by_the_kernel(&locked.record) || !locked.record.init.is_some_and(|init| init.lives()) {
            return Ok(());
        }
        Err(error)
    }

    /// Thaws a container without its shim, where it is on the host; whether that was done.
    fn thaw_by_the_kernel(&self, record: &Record) -> bool {
        self.cgroup_of(record).is_some_and(|cgroup| self.hierarchies.thaw(cgroup).is_ok())
    }
}
