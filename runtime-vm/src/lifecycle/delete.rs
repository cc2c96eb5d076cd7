//! Delete: the end of the processes, of the task, of the streams, of the shim with its last container, of our record.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use runtime_api::{
    ContainerId, ContainerStatus, DeleteRequest, Error, ErrorKind, ExitCause, ExitStatus, Operation, Result,
};
use runtime_host::lock::{Held, Witness};
use runtime_host::process::Identity;

use crate::backend::{Backend, Locked};
use crate::monitor::Started;
use crate::observe::{self, Sight};
use crate::record::{Phase, Reach, Record, ShimRef};
use crate::task::TaskApi;

/// How long the processes of a container may live after KILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How long the monitor may take to write down an end.
const MONITOR_LIMIT: Duration = Duration::from_secs(3);
/// How long a forced delete waits for others.
const FORCE_PATIENCE: Duration = Duration::from_secs(3);

impl Backend {
    pub(crate) async fn delete(&self, id: &ContainerId, request: DeleteRequest) -> Result<()> {
        let named = |error: Error| error.during(Operation::Delete).on(format_args!("container \"{id}\""));
        let locked = if request.force {
            self.lock_for_force(id).await.map_err(named)?
        } else {
            // A delete that was cut off left this phase; whoever asks again finishes it.
            match self.lock(id).await.map_err(named)? {
                Some(locked) if locked.record.phase == Phase::Deleting => Some(locked),
                Some(locked) => {
                    drop(locked);
                    Some(self.admit(Operation::Delete, id).await?.0)
                }
                None => return Err(Error::not_found(Operation::Delete, id)),
            }
        };
        match locked {
            None => Ok(()),
            Some(mut locked) => self.take_down(&mut locked, request.force).await.map_err(named),
        }
    }

    /// Locks a container for a forced delete. A record that cannot be read is no obstacle.
    async fn lock_for_force(&self, id: &ContainerId) -> Result<Option<Locked>> {
        let dir = self.layout.container(id);
        let entry = self.entries.of(id);
        let Some(held) = Held::acquire_within(&dir, &entry.queue, FORCE_PATIENCE).await? else {
            return Ok(None);
        };
        let record = match Record::read(&dir) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::ConfigInvalid(_)) => {
                let mut record = Record::new(id.clone(), dir.path().to_owned(), self.boot_id.clone());
                record.phase = Phase::Started;
                record.cgroup = Some(self.default_cgroup(id));
                record.chose_cgroup = true;
                record.shim = self.shim_on_file(id);
                record
            }
            Err(error) => return Err(error),
        };
        Ok(Some(Locked { held, record, dir, entry }))
    }

    /// Ends and removes a locked container.
    pub(crate) async fn take_down(&self, locked: &mut Locked, force: bool) -> Result<()> {
        if locked.record.phase == Phase::Creating {
            self.demolish(&locked.record, &locked.dir, &mut locked.held).await;
            locked.entry.touch();
            return Ok(());
        }
        self.end_checkpoint(locked, force).await?;
        locked.record.phase = Phase::Deleting;
        locked.save()?;
        let status = self.end(locked).await?;
        self.forget_sessions(&locked.record, &locked.dir).await;
        self.remove_task(&locked.record, force).await?;
        self.leave_shim(&locked.record).await?;
        // Before the record goes: whoever is cut off in between leaves a delete that the next open finishes.
        self.remove_cgroup_of(&locked.record).await;
        self.forget(&locked.record, &locked.dir, &mut locked.held, Some(&status));
        locked.entry.touch();
        Ok(())
    }

    /// Kills what still lives and gives the final status.
    async fn end(&self, locked: &mut Locked) -> Result<ExitStatus> {
        let id = locked.record.id.clone();
        let sight = self.settle(locked).await.unwrap_or(Sight::Alive(ContainerStatus::Running));
        if let Sight::Stopped(status) = sight {
            return Ok(status);
        }
        if let Err(error) = self.kill_init(locked, &sight, true).await {
            tracing::warn!(%id, error = %error.report(), "KILL was not delivered; the container is cleaned up");
            return self.end_unheard(locked).await;
        }
        let Some(mut witness) = Witness::open(&locked.dir)? else { return Ok(lost()) };
        let dir = locked.dir.clone();
        // The end is looked for without the lock's help, for we hold it.
        let begun = Instant::now();
        let ended = async {
            loop {
                let mut sight = observe::look(&locked.record, &locked.dir, &self.hierarchies)?;
                // The monitor is given a moment before the shim is asked.
                if matches!(sight, Sight::Lost | Sight::Unseen(_)) || begun.elapsed() > MONITOR_LIMIT {
                    sight = self.resolve_or_settle(locked).await?;
                }
                if let Sight::Stopped(status) = sight {
                    return Ok::<_, Error>(status);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::time::timeout(KILL_LIMIT, ended).await;
        match ended {
            Ok(status) => status,
            Err(_) if witness.is_current(&dir) && witness.status().is_none() => {
                tracing::warn!(%id, "nobody tells that the container ended of KILL; it is cleaned up");
                self.end_unheard(locked).await
            }
            Err(_) => Ok(lost()),
        }
    }

    /// Ends what the shim does not end, or does not say that it did: by its own command, and on the host.
    async fn end_unheard(&self, locked: &mut Locked) -> Result<ExitStatus> {
        let sight = self.bury(locked).await?;
        let record = &locked.record;
        if record.reach == Reach::Host && record.init.is_some_and(Identity::lives) {
            return Err(Error::new(ErrorKind::TimedOut(KILL_LIMIT))
                .hint("it is still there after KILL; delete it again when it is gone"));
        }
        match sight {
            Sight::Stopped(status) => Ok(status),
            _ => Ok(lost()),
        }
    }

    /// Settles it, and asks the shim of what looks alive after KILL.
    async fn resolve_or_settle(&self, locked: &mut Locked) -> Result<Sight> {
        match self.settle(locked).await? {
            Sight::Alive(_) => self.resolve(locked).await,
            sight => Ok(sight),
        }
    }

    /// The shim of a container whose record is damaged, as its monitor wrote it down: the one that has it as a member.
    fn shim_on_file(&self, id: &ContainerId) -> Option<ShimRef> {
        let shims = std::fs::read_dir(self.layout.shims()).ok()?.flatten();
        let mut names = shims.filter_map(|entry| entry.file_name().into_string().ok());
        let name = names.find(|name| self.layout.shim(name).member(id).exists())?;
        let started = Started::read(self.layout.shim(&name).path()).ok()?;
        Some(ShimRef {
            id: name,
            address: started.address.clone(),
            api: if started.api == 3 { TaskApi::V3 } else { TaskApi::V2 },
            process: started.shim,
            monitor: started.monitor,
        })
    }
}

fn lost() -> ExitStatus {
    ExitStatus::new(None, ExitCause::MonitorLost, SystemTime::now())
}
