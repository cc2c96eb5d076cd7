//! Checkpoint: the runtime saves the container into a hidden directory, which gets its name when it is complete.
//!
//! Killing a runtime in the middle of it could leave the container frozen or half taken apart, so nobody does before the
//! deadline: the call runs in a task of the runtime value, and the command outlives even that. What was begun stands in
//! the record; whoever gets the lock after the caller is gone waits for the command and finishes the rest.

use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use runtime_api::{
    CheckpointOutcome, CheckpointRequest, ContainerId, ContainerStatus, Error, ErrorKind, ExitCause,
    ExitStatus, Operation, Result,
};
use runtime_host::criu;
use runtime_host::image::{CheckpointPhase, ImagePlace};
use runtime_host::process::{Identity, end_all, kill_tree};

use crate::backend::{Backend, Locked};
use crate::complaint;
use crate::conmon;
use crate::dialect::{Reach, Saver};
use crate::layout::ContainerDir;
use crate::observe::Sight;
use crate::record::Frozen;

/// How long processes that were saved may take to be gone.
const GONE: Duration = Duration::from_secs(5);
/// How long a command whose caller is gone is waited for before the next caller is told that it is still at work.
const PATIENCE: Duration = Duration::from_secs(20);

impl Backend {
    /// Checkpoints a container and tells the caller, if it is still there.
    pub(crate) async fn checkpoint(
        &self,
        id: ContainerId,
        request: CheckpointRequest,
        told: oneshot::Sender<Result<CheckpointOutcome>>,
    ) {
        let named = |error: Error| error.during(Operation::Checkpoint).on(format_args!("container \"{id}\""));
        let done = self.try_checkpoint(&id, &request).await.map_err(named);
        // Nobody may be listening any more: it goes on without its caller.
        let _ = told.send(done);
    }

    async fn try_checkpoint(
        &self,
        id: &ContainerId,
        request: &CheckpointRequest,
    ) -> Result<CheckpointOutcome> {
        let (mut locked, sight) = self.admit(Operation::Checkpoint, id).await?;
        let place = ImagePlace::plan(&request.image)?;
        let parent = request.parent.as_deref().map(|parent| place.to_parent(parent)).transpose()?;
        self.binary_of(id)?;
        locked.record.checkpoint = Some(CheckpointPhase {
            owner: self.life.owner(),
            place: place.clone(),
            was_paused: sight == Sight::Alive(ContainerStatus::Paused),
            ends: !request.leave_running && !request.pre_dump,
            saved: None,
        });
        locked.save()?;
        if let Err(error) = place.make() {
            // What is in its place is not ours.
            locked.record.checkpoint = None;
            locked.save()?;
            return Err(error);
        }
        let image = place.path.clone();
        match self.save_container(&locked, request, &place, parent.as_deref()).await {
            Ok(()) => self.conclude_checkpoint(&mut locked).await.map(|()| CheckpointOutcome::new(image)),
            Err(error) => {
                if let Err(other) = self.retract_checkpoint(&mut locked).await {
                    tracing::warn!(%id, error = %other.report(), "a checkpoint that failed is not undone");
                }
                Err(error)
            }
        }
    }

    /// Lets the runtime save the container. When it fails, the error tells what criu said.
    async fn save_container(
        &self,
        locked: &Locked,
        request: &CheckpointRequest,
        place: &ImagePlace,
        parent: Option<&Path>,
    ) -> Result<()> {
        let (dir, log) = (&locked.dir, locked.dir.oci_log());
        let work = dir.criu();
        criu::make_work(&work)?;
        let mut line = self.command(&locked.record.id, &log)?.arg("checkpoint");
        line = line.arg("--image-path").arg(&place.hidden).arg("--work-path").arg(&work);
        let flags = [
            (request.leave_running && !request.pre_dump, "--leave-running"),
            (request.tcp_established, "--tcp-established"),
            (request.file_locks, "--file-locks"),
            (request.pre_dump, "--pre-dump"),
        ];
        line = line.args(flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag));
        if let Some(parent) = parent {
            line = line.arg("--parent-path").arg(parent);
        }
        let line = line.arg(locked.record.id.as_str());
        let _ = std::fs::remove_file(&log);
        let limit = Operation::Checkpoint.row().deadline.unwrap_or(Duration::from_secs(300));
        let done = line.run_lasting(&work.join("stderr"), limit).await?;
        if done.code == 0 {
            return Ok(());
        }
        let (message, tail) = account(dir, &done.stderr, &work.join("dump.log"));
        Err(self.rejected(message).with_command(line.detail(Some(done.code), tail)))
    }

    /// The container was saved: the image gets its name, and the end of the container is written down.
    async fn conclude_checkpoint(&self, locked: &mut Locked) -> Result<()> {
        let Some(phase) = decide(locked, true)? else { return Ok(()) };
        let put_back = if phase.ends {
            // What was saved must not go on beside what is continued from the image.
            if let Some(init) = locked.record.init
                && let Some(process) = init.open()
                && timeout(GONE, process.ended()).await.is_err()
            {
                end_all([init]).await;
            }
            locked.record.exit = Some(ExitStatus::new(Some(0), ExitCause::Checkpointed, SystemTime::now()));
            Ok(())
        } else {
            self.put_back(locked, &phase).await
        };
        // Whatever came of that is told once, and holds nobody up afterwards.
        let published = phase.place.publish();
        locked.record.checkpoint = None;
        locked.save()?;
        published.and(put_back)
    }

    /// Nothing was saved: the container goes on as it was, and what was made of the image goes.
    async fn retract_checkpoint(&self, locked: &mut Locked) -> Result<()> {
        let Some(phase) = decide(locked, false)? else { return Ok(()) };
        phase.place.discard();
        let put_back = self.put_back(locked, &phase).await;
        locked.record.checkpoint = None;
        locked.save()?;
        put_back
    }

    /// Saving freezes processes. Afterwards they are frozen if they were before, and only then.
    async fn put_back(&self, locked: &mut Locked, phase: &CheckpointPhase) -> Result<()> {
        let Some(init) = locked.record.init.filter(|init| init.lives()) else { return Ok(()) };
        let is_frozen = match locked.record.reach {
            Reach::Host => self.hierarchies.is_frozen(init.pid),
            Reach::Runtime => {
                locked.record.frozen = Frozen::InDoubt;
                self.resolve(locked).await?;
                locked.record.frozen == Frozen::Yes
            }
        };
        match (phase.was_paused, is_frozen) {
            (false, true) => self.thaw(locked).await,
            (true, false) => self.freeze_or_thaw(locked, "pause").await,
            _ => Ok(()),
        }
    }

    /// Finishes a checkpoint whose caller is gone. The holder of the lock calls it, so nobody of ours is at work; the
    /// command may be, for it outlives its caller. With `by_force` it is ended.
    ///
    /// # Errors
    /// `Busy` when the command takes long, or does not die of KILL.
    pub(crate) async fn resolve_checkpoint(&self, locked: &mut Locked, by_force: bool) -> Result<()> {
        let Some(phase) = locked.record.checkpoint.clone() else { return Ok(()) };
        let give_up = Instant::now() + if by_force { GONE } else { PATIENCE };
        while let Some(command) = conmon::saving(&locked.dir).await.first().copied() {
            if Instant::now() >= give_up {
                let holder = format!("the checkpoint of a caller that is gone, process {}", command.pid);
                return Err(Error::new(ErrorKind::Busy { holder }).hint("try again when it is done"));
            }
            if by_force {
                end_all(kill_tree(command)).await;
            }
            sleep(Duration::from_millis(10)).await;
        }
        if !by_force {
            self.until_it_left(locked, &phase).await;
        }
        if self.was_saved(locked, &phase) {
            self.conclude_checkpoint(locked).await
        } else {
            self.retract_checkpoint(locked).await
        }
    }

    /// Finishes a checkpoint under a delete. By force, one that cannot be finished is given up.
    pub(super) async fn end_checkpoint(&self, locked: &mut Locked, by_force: bool) -> Result<()> {
        match self.resolve_checkpoint(locked, true).await {
            Err(error) if by_force => {
                tracing::warn!(id = %locked.record.id, error = %error.report(), "a checkpoint is given up");
                if let Some(phase) = locked.record.checkpoint.take().filter(|phase| phase.saved != Some(true))
                {
                    phase.place.discard();
                }
                Ok(())
            }
            other => other,
        }
    }

    /// One that saves itself leaves once that is done, and its monitor tells of that a moment later.
    async fn until_it_left(&self, locked: &Locked, phase: &CheckpointPhase) {
        let image = phase.place.hidden.join(Saver::Itself.landmark());
        if phase.saved.is_some() || self.dialect.saver != Some(Saver::Itself) || !image.exists() {
            return;
        }
        if let Some(init) = locked.record.init.and_then(Identity::open)
            && timeout(GONE, init.ended()).await.is_err()
        {
            return;
        }
        let give_up = Instant::now() + GONE;
        let is_watched = || locked.record.monitor.is_some_and(Identity::lives);
        while !locked.dir.exit().exists() && is_watched() && Instant::now() < give_up {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Whether the container was saved: as it was written down, or by what a command left that nobody saw the end of.
    fn was_saved(&self, locked: &Locked, phase: &CheckpointPhase) -> bool {
        if let Some(saved) = phase.saved {
            return saved;
        }
        let saver = self.dialect.saver.unwrap_or(Saver::Criu);
        let image = phase.place.hidden.join(saver.landmark());
        let there = std::fs::metadata(image).is_ok_and(|file| file.len() > 0);
        match saver {
            // criu writes its statistics last, and only if all went well.
            Saver::Criu => there && locked.dir.criu().join(criu::SAVED).exists(),
            // The monitor tells how the sandbox ended: one that was saved leaves by itself.
            Saver::Itself => {
                let lives = locked.record.init.is_some_and(|init| init.lives());
                let code = std::fs::read_to_string(locked.dir.exit()).unwrap_or_default();
                there && !lives && code.trim() == "0"
            }
        }
    }
}

/// Writes down whether the container was saved, before anything is done about it.
fn decide(locked: &mut Locked, saved: bool) -> Result<Option<CheckpointPhase>> {
    let Some(phase) = &mut locked.record.checkpoint else { return Ok(None) };
    if phase.saved != Some(saved) {
        phase.saved = Some(saved);
        locked.save()?;
    }
    Ok(locked.record.checkpoint.clone())
}

/// What went wrong: in one line, and with the end of criu's log.
pub(super) fn account(dir: &ContainerDir, stderr: &str, criu_log: &Path) -> (String, String) {
    let mut message = complaint::account(Some(&dir.oci_log()), stderr);
    let log = criu::tail_of(criu_log);
    if let Some(reason) = criu::reason(&log) {
        message = format!("{message}: {reason}");
    }
    (message, format!("{}\n{log}", stderr.trim_end()))
}
