//! State, list and the probe of the monitor.

use tokio::time::Instant;

use runtime_api::{ContainerId, ContainerState, Error, ErrorKind, MonitorHealth, Operation, Result};

use crate::backend::{Backend, ENDING, shim_of};
use crate::observe::{self, Sight};
use crate::record::Record;

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
        for id in self.ids().map_err(|error| error.during(Operation::List))? {
            match self.look_at(&id, deadline).await {
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

    async fn look_at(&self, id: &ContainerId, deadline: Instant) -> Result<Option<ContainerState>> {
        let dir = self.layout.container(id);
        let Some(record) = Record::read(&dir)? else { return Ok(None) };
        let sight = self.look_until_settled(&record, &dir, deadline).await?;
        match sight {
            // Its maker may have gone after this value looked for such, as when a value ends just now.
            Sight::Creating if self.reclaim(id).await? => Ok(None),
            Sight::Lost | Sight::Unseen(_) | Sight::Ending => {
                let locked = match self.lock(id).await {
                    // Whoever is at work on it will write it down.
                    Err(error) if matches!(error.kind(), ErrorKind::Busy { .. }) => {
                        return Ok(Some(observe::state(&record, &sight)));
                    }
                    locked => locked?,
                };
                let Some(mut locked) = locked else { return Ok(None) };
                let sight = self.settle(&mut locked).await?;
                Ok(Some(observe::state(&locked.record, &sight)))
            }
            sight => Ok(Some(observe::state(&record, &sight))),
        }
    }

    /// Whether the process that holds a container's streams lives.
    pub(crate) async fn probe_monitor(&self, id: &ContainerId) -> Result<MonitorHealth> {
        let (locked, _) = self.admit(Operation::ProbeMonitor, id).await?;
        let monitor = shim_of(&locked.record)?.monitor;
        drop(locked);
        match u32::try_from(monitor.pid) {
            Ok(pid) if monitor.lives() => Ok(MonitorHealth::Alive { pid }),
            _ => Ok(MonitorHealth::Lost),
        }
    }
}
