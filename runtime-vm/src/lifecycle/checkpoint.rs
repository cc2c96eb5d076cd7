//! Checkpoint: the shim has the container saved into a hidden directory, which gets its name when it is complete.
//!
//! The call runs in a task of the runtime value, so that it goes on without its caller. When the whole process goes, the shim
//! ends the runtime below, and criu either lets the container go on or comes to its end all the same. What was begun stands
//! in the record; whoever gets the lock next waits until nobody saves any more, and finishes it or takes it back.
//!
//! A shim that stands still may come to what it was asked long after that. So it finds the hidden directory through a link of
//! ours only, and that leads nowhere before anybody looks whether the container was saved.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use runtime_api::{
    CheckpointOutcome, CheckpointRequest, ContainerId, ContainerStatus, Error, ErrorKind, ExitCause,
    ExitStatus, Operation, Rejection, Result,
};
use runtime_host::criu;
use runtime_host::image::{CheckpointPhase, ImagePlace};
use runtime_host::process::{Identity, end_all, kill_tree};

use crate::backend::{Backend, Locked};
use crate::observe::{self, Sight};
use crate::record::{Frozen, Reach};
use crate::saving;
use crate::task::Fault;
use crate::task::any::RuncCheckpoint;

/// How long processes that were saved may take to be gone.
const GONE: Duration = Duration::from_secs(5);
/// How long what saves for a caller that is gone is waited for before the next one is told that it is still at work.
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
        locked.record.checkpoint = Some(CheckpointPhase {
            owner: self.life.owner(),
            place: place.clone(),
            was_paused: sight == Sight::Alive(ContainerStatus::Paused),
            ends: !request.leave_running,
            saved: None,
        });
        locked.save()?;
        if let Err(error) = place.make() {
            // What is in its place is not ours.
            locked.record.checkpoint = None;
            locked.save()?;
            return Err(error);
        }
        if let Err(error) = self.save_container(&locked, request, &place).await {
            if let Err(busy) = until_nobody_saves(&locked, Instant::now() + PATIENCE, false).await {
                tracing::warn!(%id, error = %busy.report(), "a checkpoint that failed is not over");
                return Err(error.hint(
                    "it is still at work; the next who asks for the container finds out what comes of it",
                ));
            }
            // A shim that does not answer, or dies, may have done it.
            if !was_saved(&locked, &place) {
                if let Err(other) = self.retract_checkpoint(&mut locked).await {
                    tracing::warn!(%id, error = %other.report(), "a checkpoint that failed is not undone");
                }
                return Err(error);
            }
        }
        self.conclude_checkpoint(&mut locked).await?;
        Ok(CheckpointOutcome::new(place.path))
    }

    /// Has the shim save the container. When it fails, the error tells what criu said.
    async fn save_container(
        &self,
        locked: &Locked,
        request: &CheckpointRequest,
        place: &ImagePlace,
    ) -> Result<()> {
        let work = locked.dir.criu();
        criu::make_work(&work)?;
        let link = saving::lead(&locked.dir, &place.hidden)?;
        let options = RuncCheckpoint {
            exit: !request.leave_running,
            image: Some(link.clone()),
            work: Some(work.clone()),
            ..RuncCheckpoint::default()
        };
        let client = self.client(&locked.record).await?;
        let limit = Operation::Checkpoint.row().deadline.unwrap_or(Duration::from_secs(300));
        let id = locked.record.id.as_str();
        let saved = client.checkpoint(id, &link, Some(options.payload()), limit).await;
        if matches!(saved, Ok(()) | Err(Fault::Refused { .. })) {
            // It will not come to it again.
            let _ = std::fs::remove_file(&link);
        }
        saved.map_err(|fault| {
            let error = fault.into_error(Operation::Checkpoint);
            let reason = criu::reason(&criu::tail_of(&work.join("dump.log"))).map(str::to_owned);
            match (error.kind(), reason) {
                (ErrorKind::Rejected { class: Rejection::Other, message }, Some(reason)) => {
                    let message = format!("{message}: {reason}");
                    Error::new(ErrorKind::Rejected { class: Rejection::Other, message })
                }
                _ => error,
            }
        })
    }

    /// The container was saved: the image gets its name, and the end of the container is written down.
    async fn conclude_checkpoint(&self, locked: &mut Locked) -> Result<()> {
        let Some(phase) = decide(locked, true)? else { return Ok(()) };
        let put_back = if phase.ends {
            // What was saved must not go on beside what is continued from the image.
            if let Some(init) = locked.record.init.filter(|_| locked.record.reach == Reach::Host)
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
        let record = &mut locked.record;
        let is_frozen = match record.reach {
            Reach::Host if !record.init.is_some_and(Identity::lives) => return Ok(()),
            Reach::Host => observe::status_of(record, &self.hierarchies) == ContainerStatus::Paused,
            Reach::Guest => {
                record.frozen = Frozen::InDoubt;
                self.resolve(locked).await?;
                locked.record.frozen == Frozen::Yes
            }
        };
        match (phase.was_paused, is_frozen) {
            (false, true) => self.thaw(locked).await,
            (true, false) => self.freeze(locked, true, Operation::Pause).await,
            _ => Ok(()),
        }
    }

    /// Finishes a checkpoint whose caller is gone. The holder of the lock calls it, so nobody of ours is at work; what the
    /// shim began may be. With `by_force` that is ended.
    ///
    /// # Errors
    /// `Busy` when it takes long, or does not die of KILL.
    pub(crate) async fn resolve_checkpoint(&self, locked: &mut Locked, by_force: bool) -> Result<()> {
        let Some(phase) = locked.record.checkpoint.clone() else { return Ok(()) };
        let give_up = Instant::now() + if by_force { GONE } else { PATIENCE };
        until_nobody_saves(locked, give_up, by_force).await?;
        let saved = phase.saved.unwrap_or_else(|| was_saved(locked, &phase.place));
        if saved { self.conclude_checkpoint(locked).await } else { self.retract_checkpoint(locked).await }
    }

    /// Finishes a checkpoint under a delete. By force, one that cannot be finished is given up.
    pub(super) async fn end_checkpoint(&self, locked: &mut Locked, force: bool) -> Result<()> {
        match self.resolve_checkpoint(locked, true).await {
            Err(error) if force => {
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
}

/// Waits until nobody saves a container any more, which goes on for a moment when the shim has lost its caller, and lets nobody
/// begin.
async fn until_nobody_saves(locked: &Locked, give_up: Instant, by_force: bool) -> Result<()> {
    saving::bar(&locked.dir)?;
    let work = locked.dir.criu();
    // criu is done with its log before it is done with the image.
    let image = locked.record.checkpoint.as_ref().map(|phase| phase.place.hidden.as_path());
    while let Some(at_work) = saving::at_work(&work, image).await.first().copied() {
        if Instant::now() >= give_up {
            let holder = format!("the checkpoint of a caller that is gone, process {}", at_work.pid);
            return Err(Error::new(ErrorKind::Busy { holder }).hint("try again when it is done"));
        }
        if by_force {
            end_all(kill_tree(at_work)).await;
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Whether the container was saved, by what is left of it. criu writes its statistics last, and only if all went well.
fn was_saved(locked: &Locked, place: &ImagePlace) -> bool {
    let there = |file: PathBuf| std::fs::metadata(file).is_ok_and(|file| file.len() > 0);
    there(place.hidden.join(criu::LANDMARK)) && there(locked.dir.criu().join(criu::SAVED))
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
