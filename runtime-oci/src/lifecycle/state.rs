//! State, list and the probe of the monitor: looks, without a command.

use tokio::time::Instant;

use runtime_api::{ContainerId, ContainerState, Error, MonitorHealth, Operation, Result};
use runtime_host::document::cannot_write;
use runtime_host::lock::Witness;

use crate::backend::{Backend, ENDING};
use crate::observe::{self, Sight};

impl Backend {
    /// The state of a container, or `NotFound`.
    pub(crate) async fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        let named = |error: Error| error.during(Operation::State).on(format_args!("container \"{id}\""));
        match self.look_at(id, Instant::now() + ENDING).await.map_err(named)? {
            Some(state) => Ok(state),
            None => Err(Error::not_found(Operation::State, id)),
        }
    }

    /// The states of all containers, the oldest first.
    pub(crate) async fn list(&self) -> Result<Vec<ContainerState>> {
        let mut states = Vec::new();
        // One for all: a hundred monitors that hang must not take a hundred times as long as one.
        let deadline = Instant::now() + ENDING;
        let ids = self.ids().map_err(|error| error.during(Operation::List))?;
        self.shelf.keep_only(&ids);
        let mut rest = Vec::new();
        for (id, seen) in ids.iter().zip(self.glance_at_all(&ids)) {
            match seen {
                Some(state) => states.push(state),
                None => rest.push(id),
            }
        }
        for id in rest {
            match self.look_at(id, deadline).await {
                Ok(Some(state)) => states.push(state),
                Ok(None) => {}
                // One damaged record must not hide the others; asking for that container tells what is wrong.
                Err(error) => {
                    tracing::warn!(%id, error = %error.report(), "a container is left out of the list");
                }
            }
        }
        states.sort_by(|a, b| a.created_at.cmp(&b.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(states)
    }

    /// The states of those of whom one look tells, on all processors when there are many.
    fn glance_at_all(&self, ids: &[ContainerId]) -> Vec<Option<ContainerState>> {
        const WORTH_A_THREAD: usize = 100;
        let threads =
            std::thread::available_parallelism().map_or(1, usize::from).min(ids.len() / WORTH_A_THREAD);
        if threads < 2 {
            return ids.iter().map(|id| self.glance(id)).collect();
        }
        let mut seen = vec![None; ids.len()];
        let each = ids.len().div_ceil(threads);
        std::thread::scope(|scope| {
            for (ids, seen) in ids.chunks(each).zip(seen.chunks_mut(each)) {
                scope.spawn(move || {
                    for (id, seen) in ids.iter().zip(seen) {
                        *seen = self.glance(id);
                    }
                });
            }
        });
        seen
    }

    /// The state of a container, unless it needs a closer look.
    fn glance(&self, id: &ContainerId) -> Option<ContainerState> {
        let dir = self.layout.container(id);
        let known = self.shelf.read(id, &dir).ok()??;
        match observe::look_at_known(&known, &dir, &self.hierarchies).ok()? {
            Sight::Creating | Sight::Ending | Sight::Lost => None,
            sight => Some(observe::state(&known.record, &sight)),
        }
    }

    /// Whether a container's monitor lives.
    pub(crate) async fn probe_monitor(&self, id: &ContainerId) -> Result<MonitorHealth> {
        let (locked, _) = self.admit(Operation::ProbeMonitor, id).await?;
        let monitor = locked.record.monitor;
        drop(locked);
        let alive = monitor.filter(|monitor| monitor.lives()).and_then(|one| u32::try_from(one.pid).ok());
        if let Some(pid) = alive {
            return Ok(MonitorHealth::Alive { pid });
        }
        // It goes when its container has ended, too: then the container is Stopped now.
        self.admit(Operation::ProbeMonitor, id).await?;
        Ok(MonitorHealth::Lost)
    }

    /// The ids that have a directory.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>> {
        let containers = self.layout.containers();
        let entries = std::fs::read_dir(&containers).map_err(|error| cannot_write(&containers, error))?;
        // What begins with a dot is being made or removed; it parses as no id.
        Ok(entries.flatten().filter_map(|entry| ContainerId::new(entry.file_name().to_str()?).ok()).collect())
    }

    async fn look_at(&self, id: &ContainerId, deadline: Instant) -> Result<Option<ContainerState>> {
        let dir = self.layout.container(id);
        let Some(known) = self.shelf.read(id, &dir)? else { return Ok(None) };
        let record = &known.record;
        let mut sight = observe::look_at_known(&known, &dir, &self.hierarchies)?;
        if sight == Sight::Ending {
            sight = self.look_until_settled(record, &dir, &self.entries.of(id), deadline).await?;
        }
        // Its maker may have gone after this value looked for such, as when a value ends just now.
        if sight == Sight::Creating && self.reclaim(id).await? {
            return Ok(None);
        }
        // Whoever is at work on it will write down what only the runtime knows; the dead will not.
        let in_doubt = record.is_in_doubt() && Witness::open(&dir)?.is_some_and(|witness| witness.is_free());
        if sight != Sight::Lost && !in_doubt {
            return Ok(Some(observe::state(record, &sight)));
        }
        // That it was lost is final once it is written down, so that everybody is told the same time.
        let Some(mut locked) = self.lock(id).await? else { return Ok(None) };
        let sight = self.settle(&mut locked).await?;
        Ok(Some(observe::state(&locked.record, &sight)))
    }
}
