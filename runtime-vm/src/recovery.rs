//! What an earlier process left half done is finished or undone when a value opens.

use std::time::SystemTime;

use runtime_api::{ContainerId, ExitCause, ExitStatus, Result};
use runtime_host::lock::Witness;
use runtime_host::reserve::sweep_hidden;

use crate::backend::Backend;
use crate::observe::{self, Sight};
use crate::record::{Phase, Record};

impl Backend {
    /// Looks through the state directory. A container that resists is reported and left; it must not keep the others
    /// from being used.
    pub(crate) async fn recover(&self) -> Result<()> {
        sweep_hidden(&self.layout.containers());
        for id in self.ids()? {
            if let Err(error) = self.recover_one(&id).await {
                tracing::warn!(%id, error = %error.report(), "a container could not be recovered");
            }
        }
        for entry in std::fs::read_dir(self.layout.shims()).into_iter().flatten().flatten() {
            if let Some(id) = entry.file_name().to_str() {
                self.remove_unused_shim(id).await;
            }
        }
        Ok(())
    }

    async fn recover_one(&self, id: &ContainerId) -> Result<()> {
        let dir = self.layout.container(id);
        let Some(record) = Record::read(&dir)? else { return Ok(()) };
        let rebooted = record.boot_id != self.boot_id && record.exit.is_none();
        let unfinished = matches!(record.phase, Phase::Creating | Phase::Deleting | Phase::Starting);
        let sight = observe::look(&record, &dir, &self.hierarchies)?;
        let unclear = matches!(sight, Sight::Unseen(_) | Sight::Lost);
        let free = Witness::open(&dir)?.is_none_or(|witness| witness.is_free());
        if free && (rebooted || unfinished || unclear) {
            self.finish(id).await?;
        }
        self.end_orphaned_execs(&dir).await;
        self.recover_sessions(id).await
    }

    /// Finishes what a dead process began. Nothing happens if another live one has taken it up by now.
    async fn finish(&self, id: &ContainerId) -> Result<()> {
        let Some(mut locked) = self.lock(id).await? else { return Ok(()) };
        if matches!(locked.record.phase, Phase::Creating | Phase::Deleting) {
            return self.take_down(&mut locked).await;
        }
        let rebooted = locked.record.boot_id != self.boot_id;
        if rebooted && locked.record.exit.is_none() && !locked.dir.exit().exists() {
            locked.record.exit = Some(ExitStatus::new(None, ExitCause::StateLost, SystemTime::now()));
            return locked.save();
        }
        self.settle(&mut locked).await.map(|_| ())
    }
}
