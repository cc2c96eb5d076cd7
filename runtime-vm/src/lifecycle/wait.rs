//! Wait: on the exit file, by the watch of the exit directory; on the processes, for ends that nobody writes down; and
//! by a slow poll beside both.

use std::time::Duration;

use tokio::time::Instant;

use runtime_api::{ContainerId, Error, ErrorKind, ExitStatus, Operation, Result};
use runtime_host::lock::Witness;
use runtime_host::process::Identity;

use crate::backend::{Backend, ENDING, STATE_LIMIT};
use crate::observe::{self, Sight};
use crate::record::{Phase, Reach, Record};
use crate::task::Target;

/// How often a waiter looks even though nothing told it to.
const POLL: Duration = Duration::from_secs(1);
/// How often it asks whether the shim still knows a container that nobody else sees.
const FORGOTTEN: Duration = Duration::from_secs(20);

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
        let mut ending: Option<Instant> = None;
        let begun = Instant::now();
        let mut asked: Option<Instant> = None;
        loop {
            if let Some(status) = witness.status() {
                return Ok(status);
            }
            let record = if witness.is_current(&dir) { Record::read(&dir).map_err(named)? } else { None };
            let Some(record) = record else {
                // Removed without a status: a create that failed.
                return witness.status().ok_or_else(|| Error::not_found(operation, id));
            };
            let sight = observe::look(&record, &dir, &self.hierarchies).map_err(named)?;
            match sight {
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
                Sight::Ending if ending.get_or_insert_with(Instant::now).elapsed() > ENDING => {
                    // The monitor hangs or could not write it down.
                    ending = None;
                    if let Some(mut locked) = self.lock(id).await.map_err(named)?
                        && witness.is_current(&dir)
                    {
                        self.settle(&mut locked).await.map_err(named)?;
                    }
                    continue;
                }
                // Where nobody watches, or only the shim sees, it may have forgotten what it is waited for.
                Sight::Alive(_) | Sight::Unseen(_) if may_be_forgotten(&record, &sight, asked, begun) => {
                    asked = Some(Instant::now());
                    if self.is_forgotten(&record).await
                        && let Some(mut locked) = self.lock(id).await.map_err(named)?
                    {
                        // Somebody else may have written down the end, or have made another container of this id.
                        let seen = observe::look(&locked.record, &dir, &self.hierarchies).map_err(named)?;
                        if witness.is_current(&dir) && !matches!(seen, Sight::Stopped(_)) {
                            self.resolve(&mut locked).await.map_err(named)?;
                        }
                        continue;
                    }
                }
                Sight::Creating if self.reclaim(id).await.map_err(named)? => continue,
                _ => {}
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = first_end(&record) => {}
                () = self.told_by_the_shim(&record, &sight) => {
                    if let Some(mut locked) = self.lock(id).await.map_err(named)?
                        && !matches!(self.settle(&mut locked).await.map_err(named)?, Sight::Stopped(_))
                    {
                        drop(locked);
                        // It says the one and the other.
                        tokio::time::sleep(POLL).await;
                    }
                }
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Where no monitor writes down the end, the shim is waited for here.
    async fn told_by_the_shim(&self, record: &Record, sight: &Sight) {
        let known = |id: &ContainerId| self.layout.container(id).path().exists();
        if let (Sight::Unseen(_), Some(shim)) = (sight, &record.shim)
            && self.shims.end_of(shim, &self.layout.namespace(), &record.id, known).await
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    /// Whether a shim has forgotten a container that it had: nobody will tell how it ended.
    async fn is_forgotten(&self, record: &Record) -> bool {
        match self.client(record).await {
            Ok(client) => {
                let state = client.state(Target::init(record.id.as_str()), STATE_LIMIT).await;
                state.is_err_and(|fault| fault.is_not_found())
            }
            Err(_) => false,
        }
    }
}

/// Whether somebody is starting it, or was when he died.
fn is_being_started(record: &Record) -> bool {
    record.phase == Phase::Starting && record.exit.is_none()
}

/// Whether it is time to ask whether the shim still knows a container: at once where nobody watches it, else now and then.
fn may_be_forgotten(record: &Record, sight: &Sight, asked: Option<Instant>, begun: Instant) -> bool {
    match (sight, asked) {
        (Sight::Unseen(_), None) => true,
        _ => record.reach == Reach::Guest && asked.unwrap_or(begun).elapsed() > FORGOTTEN,
    }
}

/// The end of a process that says something: the shim's, the monitor's, or the init's.
async fn first_end(record: &Record) {
    let shim = record.shim.as_ref();
    let ends = |process: Option<Identity>| async move {
        match process.and_then(Identity::open) {
            Some(process) => drop(process.ended().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = ends(shim.and_then(|shim| shim.process)) => {}
        () = ends(shim.map(|shim| shim.monitor)) => {}
        () = ends(record.init.filter(|_| record.reach == Reach::Host)) => {}
    }
}
