//! What every operation of one runtime value shares. It holds no task and no container.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use runtime_api::{
    Capabilities, ContainerId, ContainerStatus, Error, ErrorKind, ExitCause, ExitStatus, Operation, Peer,
    Result, RuntimeInfo,
};
use runtime_host::cgroup::Hierarchies;
use runtime_host::document::cannot_write;
use runtime_host::exits::{Entries, Entry};
use runtime_host::lock::Held;
use runtime_host::owner::Life;
use runtime_host::process::Identity;

use crate::config::VmConfig;
use crate::layout::{ContainerDir, Layout};
use crate::observe::{self, Sight};
use crate::record::{Frozen, Phase, Reach, Record, ShimRef};
use crate::shims::Shims;
use crate::task::answer::{TaskExit, TaskState, TaskStatus};
use crate::task::{Target, TaskClient};

/// How long a container may be between its end and its exit file before that is told as it is.
pub(crate) const ENDING: Duration = Duration::from_secs(5);
/// How long a shim may take to tell how a container stands.
pub(crate) const STATE_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to say once more that a container ended.
const CONFIRMED: Duration = Duration::from_secs(2);

/// One handler over one state directory.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) config: VmConfig,
    pub(crate) layout: Layout,
    /// The cgroup below which containers go whose specs name none.
    pub(crate) cgroup_parent: String,
    pub(crate) info: RuntimeInfo,
    pub(crate) capabilities: Capabilities,
    pub(crate) shims: Shims,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) entries: Arc<Entries>,
    pub(crate) boot_id: String,
    pub(crate) life: Life,
}

/// A container whose lock is held: nobody else changes it.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) held: Held,
    pub(crate) record: Record,
    pub(crate) dir: ContainerDir,
    pub(crate) entry: Arc<Entry>,
}

impl Locked {
    /// Writes the record and tells those who wait in this process.
    pub(crate) fn save(&self) -> Result<()> {
        self.record.write(&self.dir)?;
        self.entry.touch();
        Ok(())
    }
}

impl Backend {
    /// Locks a container and reads its record; `None` when it is unknown.
    pub(crate) async fn lock(&self, id: &ContainerId) -> Result<Option<Locked>> {
        let dir = self.layout.container(id);
        let entry = self.entries.of(id);
        let Some(held) = Held::acquire(&dir, &entry.queue).await? else { return Ok(None) };
        let Some(record) = Record::read(&dir)? else { return Ok(None) };
        Ok(Some(Locked { held, record, dir, entry }))
    }

    /// [`Backend::lock`] for an operation: an unknown id is `NotFound`, a state in which it is not legal is `WrongState`.
    pub(crate) async fn admit(&self, operation: Operation, id: &ContainerId) -> Result<(Locked, Sight)> {
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        self.let_end(id).await.map_err(named)?;
        let Some(mut locked) = self.lock(id).await.map_err(named)? else {
            return Err(Error::not_found(operation, id));
        };
        let sight = self.settle(&mut locked).await.map_err(named)?;
        let state = observe::state(&locked.record, &sight);
        operation.admit(id, state.status, state.stopping)?;
        Ok((locked, sight))
    }

    /// Admits an operation that only looks: without the lock, so that it is not held up by a start that hangs.
    pub(crate) async fn admit_unlocked(&self, operation: Operation, id: &ContainerId) -> Result<Record> {
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        self.let_end(id).await.map_err(named)?;
        let dir = self.layout.container(id);
        let Some(record) = Record::read(&dir).map_err(named)? else {
            return Err(Error::not_found(operation, id));
        };
        let sight = observe::look(&record, &dir, &self.hierarchies).map_err(named)?;
        if matches!(sight, Sight::Lost | Sight::Unseen(_)) {
            return Ok(self.admit(operation, id).await?.0.record);
        }
        let state = observe::state(&record, &sight);
        operation.admit(id, state.status, state.stopping)?;
        Ok(record)
    }

    /// Waits, without the lock, until a container is not between its end and its exit file.
    pub(crate) async fn let_end(&self, id: &ContainerId) -> Result<()> {
        let dir = self.layout.container(id);
        let Ok(Some(record)) = Record::read(&dir) else { return Ok(()) };
        self.look_until_settled(&record, &dir, Instant::now() + ENDING).await.map(drop)
    }

    /// Looks until the container is not between its end and its exit file, which takes the monitor a few milliseconds.
    pub(crate) async fn look_until_settled(
        &self,
        record: &Record,
        dir: &ContainerDir,
        deadline: Instant,
    ) -> Result<Sight> {
        let entry = self.entries.of(&record.id);
        let mut changes = entry.changes();
        loop {
            let sight = observe::look(record, dir, &self.hierarchies)?;
            if sight != Sight::Ending || Instant::now() >= deadline {
                return Ok(sight);
            }
            let _ = tokio::time::timeout(Duration::from_millis(5), changes.changed()).await;
        }
    }

    /// Looks at a locked container, asks the shim where the host cannot tell, and writes down what nobody else will write.
    pub(crate) async fn settle(&self, locked: &mut Locked) -> Result<Sight> {
        self.resolve_checkpoint(locked, false).await?;
        let sight = observe::look(&locked.record, &locked.dir, &self.hierarchies)?;
        match sight {
            // Ending for so long that nobody will write it down: the shim knows.
            Sight::Unseen(_) | Sight::Ending => self.resolve(locked).await,
            Sight::Lost => self.bury(locked).await,
            Sight::Alive(status)
                if locked.record.phase == Phase::Starting && status != ContainerStatus::Created =>
            {
                // We hold the lock, so whoever asked for the start is done or dead.
                locked.record.phase = Phase::Started;
                locked.save()?;
                Ok(sight)
            }
            _ => Ok(sight),
        }
    }

    /// Asks the shim how a container stands, and writes down what it says.
    pub(crate) async fn resolve(&self, locked: &mut Locked) -> Result<Sight> {
        let id = locked.record.id.clone();
        let said = match self.client(&locked.record).await {
            Ok(client) => client.state(Target::init(id.as_str()), STATE_LIMIT).await,
            Err(error) => {
                tracing::warn!(%id, error = %error.report(), "the shim does not tell how a container stands");
                // Taken to be as it was: then nothing is removed that may be at work.
                return Ok(self.as_it_was(&locked.record));
            }
        };
        match said {
            Ok(state) if state.status == TaskStatus::Stopped => self.take_down_the_end(locked, &state).await,
            Ok(state) => self.take_down_what_the_shim_said(locked, &state),
            Err(fault) if fault.is_not_found() => {
                self.write_exit(locked, ExitStatus::new(None, ExitCause::StateLost, SystemTime::now()))
            }
            Err(fault) => {
                tracing::warn!(%id, %fault, "the shim does not tell how a container stands");
                Ok(self.as_it_was(&locked.record))
            }
        }
    }

    /// Writes down that a container ended.
    async fn take_down_the_end(&self, locked: &mut Locked, state: &TaskState) -> Result<Sight> {
        let id = locked.record.id.clone();
        let client = self.client(&locked.record).await;
        let exit = match &client {
            Ok(client) => confirmed(client, Target::init(id.as_str()), state).await,
            Err(_) => None,
        };
        let Some(exit) = exit else {
            tracing::warn!(%id, "the shim says that a container ended, and does not answer one who waits for that");
            return Ok(self.as_it_was(&locked.record));
        };
        let at = exit.at.unwrap_or_else(SystemTime::now);
        let status = observe::ended(&locked.record, &locked.dir, &self.hierarchies, exit.code, at);
        self.write_exit(locked, status)
    }

    fn take_down_what_the_shim_said(&self, locked: &mut Locked, state: &TaskState) -> Result<Sight> {
        let status = match state.status {
            TaskStatus::Created => ContainerStatus::Created,
            TaskStatus::Paused | TaskStatus::Pausing => ContainerStatus::Paused,
            TaskStatus::Running | TaskStatus::Stopped | TaskStatus::Unknown(_) => ContainerStatus::Running,
        };
        let record = &mut locked.record;
        let before = (record.phase, record.frozen);
        record.frozen = if status == ContainerStatus::Paused { Frozen::Yes } else { Frozen::No };
        match status {
            ContainerStatus::Created if record.phase == Phase::Starting => {
                (record.phase, record.started_at) = (Phase::Created, None);
            }
            ContainerStatus::Created => {}
            _ if record.phase == Phase::Starting => record.phase = Phase::Started,
            _ => {}
        }
        if before != (record.phase, record.frozen) {
            locked.save()?;
        }
        Ok(Sight::Alive(status))
    }

    fn write_exit(&self, locked: &mut Locked, status: ExitStatus) -> Result<Sight> {
        locked.record.exit = Some(status.clone());
        locked.save()?;
        Ok(Sight::Stopped(status))
    }

    fn as_it_was(&self, record: &Record) -> Sight {
        match observe::look(record, &self.layout.container(&record.id), &self.hierarchies) {
            Ok(Sight::Unseen(status)) => Sight::Alive(status),
            Ok(other) => other,
            Err(_) => Sight::Alive(ContainerStatus::Running),
        }
    }

    /// The cgroup that holds a container's processes and nobody else's, unless another one has its name by now.
    pub(crate) fn cgroup_of<'a>(&self, record: &'a Record) -> Option<&'a str> {
        let cgroup = record.own_cgroup.as_deref().filter(|_| record.reach == Reach::Host)?;
        let is_it = self.hierarchies.identity(cgroup) == Some(record.own_cgroup_identity?);
        is_it.then_some(cgroup)
    }

    /// A connection to the shim that serves a container.
    pub(crate) async fn client(&self, record: &Record) -> Result<TaskClient> {
        self.shims.client(shim_of(record)?, &self.layout.namespace(), &record.id).await
    }

    /// The ids that have a directory.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>> {
        let containers = self.layout.containers();
        let entries = std::fs::read_dir(&containers).map_err(|error| cannot_write(&containers, error))?;
        // What begins with a dot is being made or removed; it parses as no id.
        Ok(entries.flatten().filter_map(|entry| ContainerId::new(entry.file_name().to_str()?).ok()).collect())
    }

    /// Where a container goes whose spec names no cgroup.
    pub(crate) fn default_cgroup(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.cgroup_parent.trim_end_matches('/'))
    }

    /// Removes the cgroups that only a value's containers needed; false if somebody was in the way for a moment.
    pub(crate) fn prune_cgroups(&self) -> bool {
        let idle = self.ids().is_ok_and(|ids| ids.is_empty());
        !idle || self.hierarchies.prune(&self.cgroup_parent)
    }

    /// The root of the runtime below the shim, where it takes one.
    pub(crate) fn root(&self) -> PathBuf {
        self.config.root.clone().unwrap_or_else(|| self.layout.root())
    }

    /// The shim's binary.
    pub(crate) fn binary(&self) -> Result<&Path> {
        self.config.shim.as_deref().map_err(|why| {
            Error::new(ErrorKind::Unavailable(why.clone()))
                .hint(format!("install it, or correct the paths of handler \"{}\"", self.config.handler))
        })
    }
}

/// How a program ended of which its shim says that it has. What has ended has ended at some time: a shim that does not say when
/// must say it again to one who waits.
pub(crate) async fn confirmed(
    client: &TaskClient,
    target: Target<'_>,
    state: &TaskState,
) -> Option<TaskExit> {
    match state.exit.filter(|exit| exit.at.is_some()) {
        Some(exit) => Some(exit),
        None => tokio::time::timeout(CONFIRMED, client.wait(target)).await.ok()?.ok(),
    }
}

/// The shim of a container that was made.
pub(crate) fn shim_of(record: &Record) -> Result<&ShimRef> {
    record.shim.as_ref().ok_or_else(|| Error::new(ErrorKind::PeerLost(Peer::Shim)))
}

/// Whether the shim's pid is a process of the container: it has the container's root as its own. The machine in which a
/// container runs has the host's.
pub(crate) fn reach_of(pid: Identity, root: Option<&Path>) -> Reach {
    use std::os::unix::fs::MetadataExt as _;
    let place = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let its_root = PathBuf::from(format!("/proc/{}/root", pid.pid));
    match (place(&its_root), root.and_then(place)) {
        (Some(its), Some(ours)) if its == ours => Reach::Host,
        _ => Reach::Guest,
    }
}
