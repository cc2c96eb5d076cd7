//! The end of a session's files: its cleanup, the delete of its container, and what a dead maker left.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use runtime_api::{ContainerId, ContainerStatus, Error, ExecId, Operation, Result};
use runtime_host::lock::becomes_free;
use runtime_host::process::{Identity, end_all, end_whatever};
use runtime_host::reserve::{discard, sweep_hidden};

use super::record::SessionRecord;
use super::{Sight, subject, wrong_state};
use crate::backend::Backend;
use crate::conmon;
use crate::dialect::Reach;
use crate::exec::orphans::{kill_member, runtimes_of};
use crate::layout::ContainerDir;
use crate::record::Record;

/// How long conmon may live after its session's program.
const MONITOR_LIMIT: Duration = Duration::from_secs(2);

impl Backend {
    /// Forgets a session that ended, and its files.
    pub(crate) async fn clean_up_session(&self, id: &ContainerId, session: &ExecId) -> Result<()> {
        let named = |error: Error| error.during(Operation::ExecCleanup).on(subject(id, session));
        self.known(Operation::ExecCleanup, id).map_err(named)?;
        let locked = self.lock_settled_session(id, session).await.map_err(named)?;
        let Some((locked, sight)) = locked else { return Ok(()) };
        match sight {
            Sight::Running | Sight::Ending => {
                Err(named(wrong_state(ContainerStatus::Running, &[ContainerStatus::Stopped])))
            }
            Sight::Stopped(_) => {
                end_monitors(locked.record.monitor).await;
                discard(locked.dir.path());
                Ok(())
            }
        }
    }

    /// Removes a session that was not made, in whatever state it is.
    pub(super) async fn demolish_session(&self, container: &ContainerDir, dir: &ContainerDir) {
        let record = Record::read(container).ok().flatten();
        if let Some(record) = record.as_ref().filter(|record| record.reach == Reach::Runtime) {
            self.end_program_inside(record, dir).await;
        }
        // conmon with the runtime and the program below it. They are found by their arguments, for a conmon that was
        // started a moment ago has not written its pid yet; and again, for it may just have forked.
        end_whatever(|| conmon::at_work_on(dir)).await;
        // A program that has lost its monitor.
        if let Some(record) = record {
            kill_member(&dir.pidfile(), &self.members(&record), record.init);
        }
        discard(dir.path());
    }

    /// Ends the program of a session in a sandbox, which its monitor may be about to begin: so that goes first. The runtime
    /// is not killed before it has told the program's pid, without which nobody could end it.
    async fn end_program_inside(&self, record: &Record, dir: &ContainerDir) {
        // In this order: what is a runtime now may have been a monitor's child before, but not the other way round.
        let (all, runtimes) = (conmon::at_work_on(dir).await, runtimes_of(dir.path()).await);
        end_all(all.into_iter().filter(|each| !runtimes.contains(each))).await;
        self.end_orphan_inside(record, dir.path(), &runtimes_of(dir.path()).await).await;
    }

    /// Ends what is left of the sessions of a container whose processes are gone: monitors that hang, and starts that are
    /// under way. Their files go with the container's. Who does not hold the container's lock has to tell, each time after
    /// some were found, whether they still are those of the container that it means: only then is one ended.
    pub(crate) async fn end_sessions(&self, container: &ContainerDir, is_still: impl Fn() -> bool + Sync) {
        if !std::fs::read_dir(container.sessions()).is_ok_and(|mut sessions| sessions.next().is_some()) {
            return;
        }
        let found = async || {
            let found = conmon::at_work_on_sessions(container).await;
            if is_still() { found } else { Vec::new() }
        };
        end_monitors(found().await).await;
        end_whatever(found).await;
    }

    /// The monitors of sessions that are in the container's cgroup.
    pub(crate) fn session_monitors_inside(&self, container: &ContainerDir) -> Vec<Identity> {
        if !self.config.sessions_monitored_inside {
            return Vec::new();
        }
        let sessions = std::fs::read_dir(container.sessions()).into_iter().flatten().flatten();
        sessions.filter_map(|each| conmon::daemon(&ContainerDir::at(each.path()))).collect()
    }

    /// Removes the sessions of a container that a dead process was making or removing.
    pub(crate) async fn recover_sessions(&self, id: &ContainerId) -> Result<()> {
        let container = self.layout.container(id);
        sweep_hidden(&container.sessions());
        for entry in std::fs::read_dir(container.sessions()).into_iter().flatten().flatten() {
            let Some(session) = entry.file_name().to_str().and_then(|name| ExecId::new(name).ok()) else {
                continue;
            };
            let dir = container.session(&session);
            let starting = SessionRecord::read(&dir)?.is_some_and(|record| record.is_starting());
            if starting && becomes_free(&dir).await? {
                // To lock it is to remove it.
                self.lock_session(id, &session).await?;
            }
        }
        Ok(())
    }
}

/// Waits until monitors have left that have nothing more to watch, and ends those that hang.
async fn end_monitors(monitors: impl IntoIterator<Item = Identity>) {
    let deadline = Instant::now() + MONITOR_LIMIT;
    let mut hanging = Vec::new();
    for monitor in monitors {
        if let Some(open) = monitor.open()
            && timeout_at(deadline, open.ended()).await.is_err()
        {
            hanging.push(monitor);
        }
    }
    end_all(hanging).await;
}
