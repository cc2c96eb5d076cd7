//! State, list and the probe of the monitor.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use runtime_api::{ContainerId, ContainerState, Error, ErrorKind, MonitorHealth, Operation, Result};
use runtime_host::tasks::Tasks;

use crate::backend::{Backend, ENDING, shim_of};
use crate::observe::{self, Sight};
use crate::record::Record;

/// The states of all containers, the oldest first. Those that cannot be told at once are looked at side by side: a hundred
/// shims that hang must not take a hundred times as long as one, and what is late is told as it looks.
pub(crate) async fn list(backend: &Arc<Backend>, tasks: &Tasks) -> Result<Vec<ContainerState>> {
    let (mut states, mut unclear) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + ENDING;
    for id in backend.ids().map_err(|error| error.during(Operation::List))? {
        match backend.glance(&id) {
            Ok(Some((record, sight @ (Sight::Alive(_) | Sight::Stopped(_))))) => {
                states.push(observe::state(&record, &sight));
            }
            Ok(Some((record, sight))) => {
                let (told, tells) = oneshot::channel();
                let backend = Arc::clone(backend);
                // What it finds out is written down, also when that comes too late for this list.
                tasks.spawn(async move {
                    let _ = told.send(backend.look_at(&id, deadline).await);
                });
                unclear.push((observe::state(&record, &sight), tells));
            }
            Ok(None) => {}
            Err(error) => left_out(&id, &error),
        }
    }
    for (looked, tells) in unclear {
        match timeout_at(deadline, tells).await {
            Ok(Ok(Ok(state))) => states.extend(state),
            Ok(Ok(Err(error))) => left_out(&looked.id, &error),
            Ok(Err(_)) | Err(_) => states.push(looked),
        }
    }
    states.sort_by(|a, b| a.created_at.cmp(&b.created_at).then_with(|| a.id.cmp(&b.id)));
    Ok(states)
}

/// One damaged record must not hide the others; asking for that container tells what is wrong.
fn left_out(id: &ContainerId, error: &Error) {
    tracing::warn!(%id, error = %error.report(), "a container is left out of the list");
}

impl Backend {
    /// What can be seen of a container at once; `None` when it is unknown.
    fn glance(&self, id: &ContainerId) -> Result<Option<(Record, Sight)>> {
        let dir = self.layout.container(id);
        let Some(record) = Record::read(&dir)? else { return Ok(None) };
        let sight = observe::look(&record, &dir, &self.hierarchies)?;
        Ok(Some((record, sight)))
    }

    /// The state of a container, or `NotFound`.
    pub(crate) async fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        let named = |error: Error| error.during(Operation::State).on(format_args!("container \"{id}\""));
        match self.look_at(id, Instant::now() + ENDING).await.map_err(named)? {
            Some(state) => Ok(state),
            None => Err(Error::not_found(Operation::State, id)),
        }
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
