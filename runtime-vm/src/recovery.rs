//! What an earlier process left half done is finished or undone when a value opens.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use runtime_api::{ContainerId, ExitCause, ExitStatus, Result};
use runtime_host::lock::becomes_free;
use runtime_host::reserve::sweep_hidden;
use runtime_host::tasks::Tasks;

use crate::backend::Backend;
use crate::observe::{self, Sight};
use crate::record::{Phase, Record};

/// How long an open waits for all of it. A shim that hangs takes longer, and nobody else is to wait for that one: what is
/// not over by then goes on as long as the value.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks through the state directory, at all containers side by side.
pub(crate) async fn recover(backend: &Arc<Backend>, tasks: &Tasks) -> Result<()> {
    sweep_hidden(&backend.layout.containers());
    let ids = backend.ids()?;
    let (done, over) = oneshot::channel();
    let backend = Arc::clone(backend);
    tasks.spawn(async move {
        let mut at_work = JoinSet::new();
        for id in ids {
            let backend = Arc::clone(&backend);
            at_work.spawn(async move { backend.recover_or_report(&id).await });
        }
        while at_work.join_next().await.is_some() {}
        for entry in std::fs::read_dir(backend.layout.shims()).into_iter().flatten().flatten() {
            let backend = Arc::clone(&backend);
            at_work.spawn(async move {
                if let Some(id) = entry.file_name().to_str() {
                    // Whoever is at work on it now needs it, or tidies up.
                    backend.remove_unused_shim(id, Duration::ZERO).await;
                }
            });
        }
        while at_work.join_next().await.is_some() {}
        let _ = done.send(());
    });
    if timeout(PATIENCE, over).await.is_err() {
        tracing::warn!("some of what was left half done takes long; it goes on");
    }
    Ok(())
}

impl Backend {
    /// A container that resists is reported and left; it must not keep the others from being used.
    async fn recover_or_report(&self, id: &ContainerId) {
        if let Err(error) = self.recover_one(id).await {
            tracing::warn!(%id, error = %error.report(), "a container could not be recovered");
        }
    }

    async fn recover_one(&self, id: &ContainerId) -> Result<()> {
        let dir = self.layout.container(id);
        let Some(record) = Record::read(&dir)? else { return Ok(()) };
        let rebooted = record.boot_id != self.boot_id && record.exit.is_none();
        let unfinished = matches!(record.phase, Phase::Creating | Phase::Deleting | Phase::Starting)
            || record.checkpoint.is_some();
        let sight = observe::look(&record, &dir, &self.hierarchies)?;
        let unclear = matches!(sight, Sight::Unseen(_) | Sight::Lost);
        if (rebooted || unfinished || unclear) && becomes_free(&dir).await? {
            self.finish(id).await?;
        }
        self.end_orphaned_execs(&dir).await;
        self.recover_sessions(id).await
    }

    /// Finishes what a dead process began. Nothing happens if another live one has taken it up by now.
    async fn finish(&self, id: &ContainerId) -> Result<()> {
        let Some(mut locked) = self.lock(id).await? else { return Ok(()) };
        if matches!(locked.record.phase, Phase::Creating | Phase::Deleting) {
            return self.take_down(&mut locked, false).await;
        }
        self.resolve_checkpoint(&mut locked, false).await?;
        let rebooted = locked.record.boot_id != self.boot_id;
        if rebooted && locked.record.exit.is_none() && !locked.dir.exit().exists() {
            locked.record.exit = Some(ExitStatus::new(None, ExitCause::StateLost, SystemTime::now()));
            return locked.save();
        }
        self.settle(&mut locked).await.map(|_| ())
    }
}
