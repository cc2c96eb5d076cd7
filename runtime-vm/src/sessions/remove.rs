//! The end of a session's files: its cleanup, the delete of its container, and what a dead maker left.

use runtime_api::{ContainerId, ContainerStatus, Error, ErrorKind, ExecId, Operation, Result};
use runtime_host::lock::becomes_free;
use runtime_host::reserve::{discard, sweep_hidden};

use super::record::SessionRecord;
use super::{Sight, subject, wrong_state};
use crate::backend::Backend;
use crate::exec::command::Command;
use crate::layout::ContainerDir;
use crate::monitor::Key;
use crate::record::Record;

impl Backend {
    /// Forgets a session that ended, and its files.
    pub(crate) async fn clean_up_session(&self, id: &ContainerId, session: &ExecId) -> Result<()> {
        let named = |error: Error| error.during(Operation::ExecCleanup).on(subject(id, session));
        let (container, _) = self.known(Operation::ExecCleanup, id).map_err(named)?;
        let locked = self.lock_settled_session(&container, session).await.map_err(named)?;
        let Some((locked, sight)) = locked else { return Ok(()) };
        match sight {
            Sight::Running | Sight::Ending | Sight::Unseen => {
                Err(named(wrong_state(ContainerStatus::Running, &[ContainerStatus::Stopped])))
            }
            Sight::Stopped(_) => {
                self.forget_session(&container, &locked.record).await;
                discard(locked.dir.path());
                Ok(())
            }
        }
    }

    /// Removes a session that a dead process was making, in whatever state it is.
    pub(super) async fn demolish_session(
        &self,
        id: &ContainerId,
        record: &SessionRecord,
        dir: &ContainerDir,
    ) {
        if let Ok(Some(container)) = Record::read(&self.layout.container(id))
            && let Ok(command) = Command::new(self, &container, &record.exec)
        {
            self.undo_session(&container, record, command, dir).await;
        } else {
            discard(dir.path());
        }
    }

    /// Ends what was begun for a session that was not made, and removes its files. Where the shim does not end it they are left:
    /// whoever comes to the session next tries again.
    pub(super) async fn undo_session(
        &self,
        container: &Record,
        record: &SessionRecord,
        command: Command,
        dir: &ContainerDir,
    ) {
        let command = command.written_at(dir.path());
        let ended = match command.client(self).await {
            Ok(client) if command.shim_lives() => command.end(&client).await,
            _ => !command.shim_lives(),
        };
        self.release_streams(container, record).await;
        if ended {
            discard(dir.path());
        } else {
            tracing::warn!(exec = record.exec, "the program of a session that was not made may still run");
        }
    }

    /// Lets the shim and the monitor forget the sessions of a container whose processes are gone. Their files go with the
    /// container's.
    pub(crate) async fn forget_sessions(&self, container: &Record, dir: &ContainerDir) {
        for entry in std::fs::read_dir(dir.sessions()).into_iter().flatten().flatten() {
            if let Ok(Some(record)) = SessionRecord::read(&ContainerDir::at(entry.path())) {
                self.forget_session(container, &record).await;
            }
        }
    }

    /// Lets the shim and the monitor forget a session that ended.
    async fn forget_session(&self, container: &Record, record: &SessionRecord) {
        // The monitor first: a shim waits for the last of the output to be read or not to be wanted any more.
        self.release_streams(container, record).await;
        if let Ok(command) = Command::new(self, container, &record.exec)
            && command.shim_lives()
            && let Ok(client) = command.client(self).await
        {
            command.forget(&client, true).await;
        }
    }

    async fn release_streams(&self, container: &Record, record: &SessionRecord) {
        let Ok(monitor) = self.monitor_of(container) else { return };
        match monitor.remove(&Key::exec(container.id.as_str(), &record.exec)).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::PeerLost(_)) => {}
            Err(error) => {
                tracing::warn!(error = error.report(), "the monitor keeps a session's streams");
            }
        }
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
            let starting = SessionRecord::read(&dir)?.is_some_and(|record| !record.started);
            if starting && becomes_free(&dir).await? {
                // To lock it is to remove it.
                self.lock_session(id, &session).await?;
            }
        }
        Ok(())
    }
}
