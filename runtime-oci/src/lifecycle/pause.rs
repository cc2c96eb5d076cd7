//! Pause and resume, by the runtime; uniform, whatever the runtime thinks of a second pause.

use std::time::Duration;

use runtime_api::{ContainerId, Error, Operation, Result};

use crate::backend::{Backend, Locked};
use crate::dialect::Reach;
use crate::record::Frozen;

pub(super) const LIMIT: Duration = Duration::from_secs(10);

impl Backend {
    pub(crate) async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.freezer_verb(Operation::Pause, id, "pause").await
    }

    pub(crate) async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.freezer_verb(Operation::Resume, id, "resume").await
    }

    async fn freezer_verb(&self, operation: Operation, id: &ContainerId, verb: &str) -> Result<()> {
        let (mut locked, _) = self.admit(operation, id).await?;
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        self.freeze_or_thaw(&mut locked, verb).await.map_err(named)
    }

    /// Runs the verb. Where the host cannot see what came of it, it is written down; and before it that it is in doubt,
    /// so that whoever comes after a crash asks the runtime.
    pub(super) async fn freeze_or_thaw(&self, locked: &mut Locked, verb: &str) -> Result<()> {
        let id = locked.record.id.clone();
        if locked.record.reach == Reach::Runtime {
            self.binary_of(&id)?;
            locked.record.frozen = Frozen::InDoubt;
            locked.save()?;
        }
        let done = self.run_verb(&locked.dir, &[verb, id.as_str()], LIMIT).await;
        if locked.record.reach == Reach::Runtime {
            if done.is_ok() {
                locked.record.frozen = if verb == "pause" { Frozen::Yes } else { Frozen::No };
                locked.save()?;
            } else {
                self.resolve(locked).await?;
            }
        }
        locked.entry.touch();
        done.map(|_| ())
    }

    /// Thaws a container on the way to its end. One that is gone by now needs no thawing.
    pub(super) async fn thaw(&self, locked: &mut Locked) -> Result<()> {
        match self.freeze_or_thaw(locked, "resume").await {
            Ok(_) => Ok(()),
            Err(error) if self.is_gone(&error) || !locked.record.init.is_some_and(|init| init.lives()) => {
                Ok(())
            }
            // The kernel can do it alone; the runtime's own note of the pause goes with the container.
            Err(error) => {
                match locked.record.own_cgroup.as_deref().map(|cgroup| self.hierarchies.thaw(cgroup)) {
                    Some(Ok(())) => Ok(()),
                    _ => Err(error),
                }
            }
        }
    }
}
