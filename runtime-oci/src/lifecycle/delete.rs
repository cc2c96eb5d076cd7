//! Delete: the end of the processes, of the runtime's own state, of the monitor, of our record, in this order.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use runtime_api::{
    ContainerId, DeleteRequest, Error, ErrorKind, ExitCause, ExitStatus, Operation, Result, Signal,
};
use runtime_host::lock::Held;
use runtime_host::process::{Identity, end_all, kill_tree};
use runtime_host::reserve::discard;

use super::create::DELETE_LIMIT;
use crate::backend::{Backend, ENDING, Locked};
use crate::conmon;
use crate::dialect::Reach;
use crate::layout::ContainerDir;
use crate::leftover;
use crate::observe::Sight;
use crate::record::{Phase, Record};

/// How long the processes of a container may live after KILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How long a forced delete waits for others before it kills the command that they wait for.
const FORCE_PATIENCE: Duration = Duration::from_secs(1);
/// How long conmon may live after its container: it syncs the log to the disk.
const MONITOR_LIMIT: Duration = Duration::from_secs(2);

/// How long others may take for their part of a delete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the runtime, all its commands together.
    runtime: Duration,
    /// For the monitor, to tell how the container ended.
    monitor: Duration,
    /// Whether what cannot be finished is given up.
    by_force: bool,
}

impl Patience {
    pub(crate) const ORDINARY: Self = Self { runtime: DELETE_LIMIT, monitor: ENDING, by_force: false };
    /// The processes are gone by then, and a monitor that does not say so hangs.
    const FORCED: Self =
        Self { runtime: Duration::from_secs(5), monitor: Duration::from_secs(2), by_force: true };
}

impl Backend {
    pub(crate) async fn delete(&self, id: &ContainerId, request: DeleteRequest) -> Result<()> {
        let named = |error: Error| error.during(Operation::Delete).on(format_args!("container \"{id}\""));
        let locked = if request.force {
            self.lock_for_force(id).await.map_err(named)?
        } else {
            // A delete that was cut off left this phase; whoever asks again finishes it.
            match self.lock(id).await.map_err(named)? {
                Some(locked) if locked.record.phase == Phase::Deleting => Some(locked),
                Some(locked) => Some(self.admit_locked(Operation::Delete, id, locked).await?.0),
                None => return Err(Error::not_found(Operation::Delete, id)),
            }
        };
        match locked {
            None => Ok(()),
            Some(mut locked) => {
                let patience = if request.force { Patience::FORCED } else { Patience::ORDINARY };
                self.take_down(&mut locked, patience).await.map_err(named)
            }
        }
    }

    /// Locks a container for a forced delete. A command that hangs while it holds the lock is killed, and with it whoever
    /// waits for it gives up the lock. A record that cannot be read is no obstacle: what it would tell is then taken from
    /// the pid files.
    async fn lock_for_force(&self, id: &ContainerId) -> Result<Option<Locked>> {
        let dir = self.layout.container(id);
        let entry = self.entries.of(id);
        let held = match Held::acquire_within(&dir, &entry.queue, FORCE_PATIENCE).await {
            Err(error) if matches!(error.kind(), ErrorKind::Busy { .. }) => {
                for process in conmon::at_work_on(&dir).await {
                    if Some(process) != conmon::daemon(&dir) {
                        end_all(kill_tree(process)).await;
                    }
                }
                self.end_hung_monitor(&dir).await;
                Held::acquire_within(&dir, &entry.queue, FORCE_PATIENCE * 2).await?
            }
            other => other?,
        };
        let Some(held) = held else { return Ok(None) };
        leftover::settle(&dir, Duration::ZERO).await?;
        let record = match Record::read(&dir) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::ConfigInvalid(_)) => {
                let mut record = Record::new(id.clone(), dir.path().to_owned(), self.boot_id.clone());
                record.phase = Phase::Started;
                record.cgroup = Some(self.default_cgroup(id));
                record.monitor = conmon::daemon(&dir);
                record.init = self.init_from_pidfile(&record, &dir);
                record
            }
            Err(error) => return Err(error),
        };
        Ok(Some(Locked { held, record, dir, entry }))
    }

    /// Ends the monitor of a container whose init is dead, if it does not tell of that: whoever holds the lock may be
    /// waiting for its word.
    async fn end_hung_monitor(&self, dir: &ContainerDir) {
        let (Ok(Some(record)), Ok(id)) = (Record::read(dir), dir.id()) else { return };
        let patience = Instant::now() + FORCE_PATIENCE;
        let sight = self.look_until_settled(&record, dir, &self.entries.of(&id), patience).await;
        if matches!(sight, Ok(Sight::Ending)) {
            end_all(record.monitor).await;
        }
    }

    /// Ends and removes a locked container.
    pub(crate) async fn take_down(&self, locked: &mut Locked, patience: Patience) -> Result<()> {
        if locked.record.phase == Phase::Creating {
            self.demolish(&locked.record, &locked.dir, &mut locked.held).await;
            locked.entry.touch();
            return Ok(());
        }
        self.end_checkpoint(locked, patience.by_force).await?;
        locked.record.phase = Phase::Deleting;
        locked.save()?;
        let status = self.end(locked, patience.monitor).await?;
        self.remove_from_runtime(locked, patience.runtime).await?;
        if let Some(monitor) =
            locked.record.monitor.and_then(|monitor| monitor.open().map(|fd| (monitor, fd)))
        {
            // It has nothing more to watch. One that hangs, on a disk or on a client, must not outlive its container.
            if tokio::time::timeout(MONITOR_LIMIT, monitor.1.ended()).await.is_err() {
                end_all([monitor.0]).await;
            }
        }
        // Before the record goes: whoever is cut off in between leaves a delete that the next open finishes. And from then on
        // the id is free, so that a successor may be about to enter a cgroup of the same name.
        self.remove_cgroups_of(&locked.record).await;
        self.forget(&locked.record, &locked.dir, &mut locked.held, Some(&status));
        locked.entry.touch();
        Ok(())
    }

    /// Kills what still lives and gives the final status.
    async fn end(&self, locked: &mut Locked, patience: Duration) -> Result<ExitStatus> {
        let init = locked.record.init.filter(|init| init.lives());
        if let Some(init) = init {
            let frozen = self.hierarchies.is_frozen(init.pid);
            let others = self.members(&locked.record);
            self.signal(locked, Signal::KILL).await?;
            for process in others {
                // Without a pid namespace of its own the container's other processes outlive its init.
                let _ = process.signal(Signal::KILL);
            }
            if frozen {
                self.thaw(locked).await?;
            }
        }
        // The init is not dead before the programs of its sessions are taken note of: a monitor that hangs holds it up.
        self.end_sessions(&locked.dir, || true).await;
        if let Some(fd) = init.and_then(Identity::open)
            && tokio::time::timeout(KILL_LIMIT, fd.ended()).await.is_err()
        {
            return Err(Error::new(ErrorKind::TimedOut(KILL_LIMIT))
                .hint("process is still there after KILL; delete it again when it is gone"));
        }
        Ok(self.final_status(locked, patience).await)
    }

    /// How a container ended whose init is dead. A monitor that does not tell in time never will, and is ended.
    async fn final_status(&self, locked: &mut Locked, patience: Duration) -> ExitStatus {
        let lost = || ExitStatus::new(None, ExitCause::MonitorLost, SystemTime::now());
        let mut sight = self.settle_within(locked, patience).await;
        if matches!(sight, Ok(Sight::Ending)) {
            end_all(locked.record.monitor).await;
            sight = self.settle(locked).await;
        }
        match sight {
            Ok(Sight::Stopped(status)) => status,
            Ok(_) => lost(),
            Err(error) => {
                tracing::warn!(id = %locked.record.id, error = %error.report(), "the exit status of a deleted container is lost");
                lost()
            }
        }
    }

    /// Lets the runtime remove its own state and the cgroup. Without force, because the init is known to be dead: some
    /// runtimes kill whoever has its pid by now when told to use force.
    async fn remove_from_runtime(&self, locked: &Locked, limit: Duration) -> Result<()> {
        let id = locked.record.id.as_str();
        if self.runtime_state(&locked.record.id).is_empty() {
            return Ok(());
        }
        if locked.record.reach == Reach::Runtime {
            self.mend_runtime_note(&locked.record.id);
        }
        let removed = self.let_runtime_remove(locked, id, limit).await;
        if removed.is_ok() && self.config.root.is_none() {
            // Locks, for instance, which it leaves behind when several ask at once.
            self.remove_runtime_state(&locked.record.id);
        }
        removed
    }

    async fn let_runtime_remove(&self, locked: &Locked, id: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        // None gets no time at all: what is over in milliseconds shall not fail for those before it.
        let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
        let Err(error) = self.run_verb(&locked.dir, &["delete", id], limit).await else {
            return Ok(());
        };
        if self.is_gone(&error) || self.runtime_state(&locked.record.id).is_empty() {
            return Ok(());
        }
        // One that hangs would do so again.
        if let ErrorKind::TimedOut(_) = error.kind() {
            return self.remove_without_runtime(locked, error);
        }
        // Others may have removed ours from a root that they share, and made one of the same name.
        if self.runtime_says_ours(id, &locked.dir, left()).await == Some(false) {
            return Ok(());
        }
        match self.run_verb(&locked.dir, &["delete", "--force", id], left()).await {
            Ok(_) => Ok(()),
            Err(error) => self.remove_without_runtime(locked, error),
        }
    }

    /// A container whose binary vanished or hangs can still be removed, but for what only the binary knows. In a root that
    /// others use too, what has its name may be somebody else's by now, and only the binary could tell.
    fn remove_without_runtime(&self, locked: &Locked, error: Error) -> Result<()> {
        let silent = matches!(error.kind(), ErrorKind::Unavailable(_) | ErrorKind::TimedOut(_));
        if !silent || self.config.root.is_some() {
            return Err(error);
        }
        tracing::warn!(id = %locked.record.id, error = %error.report(), "a container is removed without its runtime");
        self.remove_runtime_state(&locked.record.id);
        Ok(())
    }

    /// Removes our own files. The final status goes into the lock file first, for those who wait.
    pub(crate) fn forget(
        &self,
        record: &Record,
        dir: &ContainerDir,
        held: &mut Held,
        status: Option<&ExitStatus>,
    ) {
        if let Some(status) = status
            && let Err(error) = held.leave_status(status, record.started_at.is_some())
        {
            tracing::warn!(id = %record.id, %error, "waiters will not learn the final status");
        }
        self.shelf.forget(&record.id);
        // Before the directory: whoever is cut off in between leaves a delete that the next open finishes.
        let _ = std::fs::remove_file(self.layout.exit_notice(&record.id));
        discard(dir.path());
    }
}
