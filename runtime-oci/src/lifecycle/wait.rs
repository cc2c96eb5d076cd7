//! Wait: on the exit file, by the watch of the exit directory; on the processes, for ends that nobody writes down; and
//! by a slow poll beside both.

use std::time::Duration;

use runtime_api::{ContainerId, Error, ErrorKind, ExitStatus, Operation, Result};
use runtime_host::lock::Witness;

use crate::backend::Backend;
use crate::observe::{self, Sight};
use crate::record::{Phase, Record};

/// How often a waiter looks even though nothing told it to.
const POLL: Duration = Duration::from_secs(1);

impl Backend {
    /// Waits for the end of a container, also across its delete.
    pub(crate) async fn wait(&self, operation: Operation, id: &ContainerId) -> Result<ExitStatus> {
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let dir = self.layout.container(id);
        let Some(mut witness) = Witness::open(&dir).map_err(named)? else {
            return Err(Error::not_found(operation, id));
        };
        // What a deleted container left in its lock file is for those who waited before; this is a new wait.
        if !witness.is_current(&dir) {
            return Err(Error::not_found(operation, id));
        }
        self.wait_for_this(operation, id, &mut witness).await
    }

    /// [`Backend::wait`] for exactly the container that the witness saw, whoever has its id by now.
    pub(super) async fn wait_for_this(
        &self,
        operation: Operation,
        id: &ContainerId,
        witness: &mut Witness,
    ) -> Result<ExitStatus> {
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let dir = self.layout.container(id);
        let entry = self.entries.of(id);
        let mut changes = entry.changes();
        loop {
            if let Some(status) = witness.status() {
                return Ok(status);
            }
            let record = if witness.is_current(&dir) { Record::read(&dir).map_err(named)? } else { None };
            let Some(record) = record else {
                // Removed without a status: a create that failed.
                return witness.status().ok_or_else(|| Error::not_found(operation, id));
            };
            match observe::look(&record, &dir, &self.hierarchies).map_err(named)? {
                // Whoever starts it has the last word on how it ended, and holds the lock until then.
                Sight::Stopped(_) if is_being_started(&record) => match self.lock(id).await {
                    Ok(Some(mut locked)) => {
                        if witness.is_current(&dir)
                            && let Sight::Stopped(status) = self.settle(&mut locked).await.map_err(named)?
                        {
                            return Ok(status);
                        }
                        continue;
                    }
                    Err(error) if !matches!(error.kind(), ErrorKind::Busy { .. }) => {
                        return Err(named(error));
                    }
                    Ok(None) | Err(_) => {}
                },
                Sight::Stopped(status) => return Ok(status),
                Sight::Lost => {
                    // Whoever takes the lock first writes it down; then all see the same.
                    if let Some(mut locked) = self.lock(id).await.map_err(named)?
                        && witness.is_current(&dir)
                    {
                        self.settle(&mut locked).await.map_err(named)?;
                    }
                    continue;
                }
                Sight::Creating if self.reclaim(id).await.map_err(named)? => continue,
                Sight::Creating | Sight::Alive(_) | Sight::Ending => {}
            }
            let process_end = async {
                // The monitor goes last, so its end is the one to wait for; without it, the init's.
                let process = record
                    .monitor
                    .and_then(|one| one.open())
                    .or_else(|| record.init.and_then(|one| one.open()));
                match process {
                    Some(process) if process_is_worth_waiting(&record) => drop(process.ended().await),
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                () = process_end => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}

/// Whether somebody is starting it, or was when he died.
fn is_being_started(record: &Record) -> bool {
    record.phase == Phase::Starting && record.exit.is_none()
}

/// A container in the making has no processes on record yet.
fn process_is_worth_waiting(record: &Record) -> bool {
    record.init.is_some() || record.monitor.is_some()
}
