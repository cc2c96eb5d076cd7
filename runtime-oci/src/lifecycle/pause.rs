//! Pause and resume, by the runtime; uniform, whatever the runtime thinks of a second pause.

use std::time::Duration;

use runtime_api::{ContainerId, Operation, Result};

use crate::backend::{Backend, Locked};

pub(super) const LIMIT: Duration = Duration::from_secs(10);

impl Backend {
    pub(crate) async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.freezer_verb(Operation::Pause, id, "pause").await
    }

    pub(crate) async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.freezer_verb(Operation::Resume, id, "resume").await
    }

    async fn freezer_verb(&self, operation: Operation, id: &ContainerId, verb: &str) -> Result<()> {
        let (locked, _) = self.admit(operation, id).await?;
        let done = self.run_verb(&locked.dir, &[verb, id.as_str()], LIMIT).await;
        locked.entry.touch();
        done.map(|_| ()).map_err(|error| error.during(operation).on(format_args!("container \"{id}\"")))
    }

    /// Thaws a container on the way to its end. One that is gone by now needs no thawing.
    pub(super) async fn thaw(&self, locked: &Locked) -> Result<()> {
        match self.run_verb(&locked.dir, &["resume", locked.record.id.as_str()], LIMIT).await {
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
