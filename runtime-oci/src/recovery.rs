//! What an earlier process left half done is finished or undone when a value opens, and when an id is wanted again.

use std::time::SystemTime;

use runtime_api::{ContainerId, ExitCause, ExitStatus, Result};
use runtime_host::lock::{Witness, becomes_free};
use runtime_host::reserve::sweep_hidden;

use crate::backend::Backend;
use crate::layout::ContainerDir;
use crate::leftover;
use crate::lifecycle::Patience;
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
        Ok(())
    }

    async fn recover_one(&self, id: &ContainerId) -> Result<()> {
        let dir = self.layout.container(id);
        let Some(record) = Record::read(&dir)? else {
            return Ok(());
        };
        let rebooted = record.boot_id != self.boot_id && record.exit.is_none();
        let unfinished = matches!(record.phase, Phase::Creating | Phase::Deleting | Phase::Starting)
            || record.checkpoint.is_some();
        let in_doubt = leftover::is_marked(&dir) || record.is_in_doubt();
        if (unfinished || rebooted || in_doubt) && becomes_free(&dir).await? {
            self.finish(id).await?;
        }
        self.end_orphaned_execs(&dir).await;
        self.recover_sessions(id).await
    }

    /// Finishes what a dead process began. Nothing happens if another live one has taken it up by now.
    async fn finish(&self, id: &ContainerId) -> Result<()> {
        let Some(mut locked) = self.lock(id).await? else { return Ok(()) };
        if matches!(locked.record.phase, Phase::Creating | Phase::Deleting) {
            return self.take_down(&mut locked, Patience::ORDINARY).await;
        }
        self.resolve_checkpoint(&mut locked, false).await?;
        if locked.record.boot_id != self.boot_id
            && locked.record.exit.is_none()
            && !locked.dir.exit().exists()
        {
            locked.record.exit = Some(ExitStatus::new(None, ExitCause::StateLost, SystemTime::now()));
            return locked.save();
        }
        self.settle(&mut locked).await.map(|_| ())
    }

    /// Removes a container whose maker died; whether the id is free now.
    pub(crate) async fn reclaim(&self, id: &ContainerId) -> Result<bool> {
        let dir = self.layout.container(id);
        let is_leftover = match Record::read(&dir) {
            Ok(Some(record)) => record.phase == Phase::Creating && is_free(&dir)?,
            _ => false,
        };
        if is_leftover {
            self.finish(id).await?;
        }
        Ok(!dir.path().exists())
    }
}

/// Whether nobody is at work on a container.
fn is_free(dir: &ContainerDir) -> Result<bool> {
    Ok(Witness::open(dir)?.is_none_or(|witness| witness.is_free()))
}
