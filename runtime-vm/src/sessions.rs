//! Exec sessions: programs in a container that outlive whoever started them. The shim runs each of them, and the monitor
//! carries its streams and writes down its end, as for a container, in a directory below the container's.
//!
//! What a session's program does is observed, as with a container: its exit file and the processes decide, and where
//! these cannot tell the shim is asked. A session has a lock of its own, under which it is made, stopped and removed.

mod attach;
mod record;
mod remove;
mod start;
mod stop;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use runtime_api::{
    ContainerId, ContainerStatus, Error, ErrorKind, ExecId, ExecSessionState, Operation, Result,
};
use runtime_host::document::replace;
use runtime_host::lock::{Held, Witness};
use runtime_host::process::Identity;

use crate::backend::{Backend, ENDING, STATE_LIMIT, confirmed};
use crate::exec::command::Command;
use crate::layout::ContainerDir;
use crate::monitor::Untold;
use crate::observe::{exit_code, shim_lives};
use crate::record::{Phase, Record};
use crate::task::answer::TaskStatus;
use record::SessionRecord;

pub(crate) use start::Opening;

/// How often a waiter looks even though nothing told it to: where the end of a process tells, and where nothing does.
const POLL: Duration = Duration::from_secs(1);
const SHORT_POLL: Duration = Duration::from_millis(50);

/// What can be seen of a session right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Its program lives.
    Running,
    /// Its program is gone and the monitor is about to write the exit file.
    Ending,
    /// Only the shim can tell.
    Unseen,
    /// It ended; without a code when nobody is left who could tell.
    Stopped(Option<i32>),
}

/// A session whose lock is held: nobody else changes it.
#[derive(Debug)]
struct Locked {
    record: SessionRecord,
    dir: ContainerDir,
    _held: Held,
}

impl Backend {
    /// A container and its directory, for an operation that is legal in all its states; sessions are seen from there.
    fn known(&self, operation: Operation, id: &ContainerId) -> Result<(Record, ContainerDir)> {
        let dir = self.layout.container(id);
        match Record::read(&dir)? {
            None => Err(Error::not_found(operation, id)),
            Some(record) => {
                if record.phase == Phase::Creating {
                    operation.admit(id, ContainerStatus::Creating, false)?;
                }
                Ok((record, dir))
            }
        }
    }

    /// Tells how a session stands.
    pub(crate) async fn session_state(&self, id: &ContainerId, session: &ExecId) -> Result<ExecSessionState> {
        let named = |error: Error| error.during(Operation::ExecState).on(subject(id, session));
        let (container, dir) = self.known(Operation::ExecState, id).map_err(named)?;
        let dir = dir.session(session);
        let record = match SessionRecord::read(&dir).map_err(named)? {
            Some(record) if record.started => record,
            // It is being made: once that is over there is a session or there is none.
            Some(_) => match self.lock_session(id, session).await.map_err(named)? {
                Some(locked) => locked.record,
                None => return Err(named(Error::new(ErrorKind::NotFound))),
            },
            None => return Err(named(Error::new(ErrorKind::NotFound))),
        };
        let sight = self.settle_session(&container, &record, &dir).await.map_err(named)?;
        Ok(state(&record, sight))
    }

    /// Locks a session and reads its record; `None` when it is unknown. What a dead maker left is removed on the way.
    async fn lock_session(&self, id: &ContainerId, session: &ExecId) -> Result<Option<Locked>> {
        let dir = self.layout.container(id).session(session);
        // Each caller has a queue of its own: the lock between processes keeps callers in one process apart as well.
        let Some(held) = Held::acquire(&dir, &Arc::default()).await? else { return Ok(None) };
        let Some(record) = SessionRecord::read(&dir)? else { return Ok(None) };
        if !record.started {
            self.demolish_session(id, &record, &dir).await;
            return Ok(None);
        }
        Ok(Some(Locked { record, dir, _held: held }))
    }

    fn look_at_session(
        &self,
        container: &Record,
        record: &SessionRecord,
        dir: &ContainerDir,
    ) -> Result<Sight> {
        if let Some(code) = exit_code(dir)? {
            return Ok(Sight::Stopped(Some(code)));
        }
        let is_given_up = record.command.is_none() && Untold::read(dir.path()) == Some(Untold::Shim);
        let may_live = record.boot_id == self.boot_id && !is_given_up;
        let shim = container.shim.as_ref().filter(|shim| may_live && shim_lives(shim));
        let Some(shim) = shim else {
            // The monitor may have written the file and gone between the two looks.
            return exit_code(dir).map(Sight::Stopped);
        };
        let watched = shim.monitor.lives();
        Ok(match record.command.map(Identity::lives) {
            Some(true) => Sight::Running,
            Some(false) if watched => Sight::Ending,
            None if watched => Sight::Running,
            _ => Sight::Unseen,
        })
    }

    /// Looks until the session is not between its end and its exit file, and asks the shim where nothing else tells.
    async fn settle_session(
        &self,
        container: &Record,
        record: &SessionRecord,
        dir: &ContainerDir,
    ) -> Result<Sight> {
        let deadline = Instant::now() + ENDING;
        loop {
            match self.look_at_session(container, record, dir)? {
                Sight::Ending if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Sight::Ending | Sight::Unseen => {
                    return Ok(self.ask_for_session(container, record, dir).await);
                }
                sight => return Ok(sight),
            }
        }
    }

    /// Locks a session that is not between its end and its exit file, and looks at it; nothing when there is none. The monitor
    /// is waited for without the lock, so that nobody else has to, and the shim is asked where nothing else tells.
    async fn lock_settled_session(
        &self,
        container: &Record,
        session: &ExecId,
    ) -> Result<Option<(Locked, Sight)>> {
        let mut ending: Option<Instant> = None;
        loop {
            let Some(locked) = self.lock_session(&container.id, session).await? else { return Ok(None) };
            match self.look_at_session(container, &locked.record, &locked.dir)? {
                // What it printed last may be on its way.
                Sight::Ending if ending.get_or_insert_with(Instant::now).elapsed() < ENDING => {
                    drop(locked);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Sight::Ending | Sight::Unseen => {
                    let sight = self.ask_for_session(container, &locked.record, &locked.dir).await;
                    return Ok(Some((locked, sight)));
                }
                sight => return Ok(Some((locked, sight))),
            }
        }
    }

    /// Asks the shim how a session stands. Its end is written down, for nobody else will.
    async fn ask_for_session(&self, container: &Record, record: &SessionRecord, dir: &ContainerDir) -> Sight {
        let Ok(command) = Command::new(self, container, &record.exec) else { return Sight::Stopped(None) };
        let Ok(client) = command.client(self).await else { return Sight::Running };
        match client.state(command.target(), STATE_LIMIT).await {
            Ok(state) if state.status == TaskStatus::Stopped => {
                let Some(exit) = confirmed(&client, command.target(), &state).await else {
                    tracing::warn!(
                        exec = record.exec,
                        "the shim says that a session ended, and does not answer one who waits for that"
                    );
                    return Sight::Running;
                };
                if let Err(error) = replace(&dir.exit(), exit.code.to_string().as_bytes()) {
                    tracing::warn!(%error, exec = record.exec, "the end of a session cannot be written down");
                }
                Sight::Stopped(Some(exit.code))
            }
            Err(fault) if fault.is_not_found() => Sight::Stopped(None),
            // Taken to be as it was: then nothing is removed that may be at work.
            _ => Sight::Running,
        }
    }

    /// Waits for the end of the session that the witness saw; `NotFound` when it is removed meanwhile.
    async fn session_end(
        &self,
        id: &ContainerId,
        dir: &ContainerDir,
        witness: &Witness,
    ) -> Result<Option<i32>> {
        loop {
            let record = SessionRecord::read(dir)?.filter(|_| witness.is_current(dir));
            let container = Record::read(&self.layout.container(id))?;
            let (Some(record), Some(container)) = (record, container) else {
                return Err(Error::new(ErrorKind::NotFound));
            };
            if let Sight::Stopped(code) = self.settle_session(&container, &record, dir).await? {
                return Ok(code);
            }
            match record.command.and_then(Identity::open) {
                Some(process) => drop(tokio::time::timeout(POLL, process.ended()).await),
                None => tokio::time::sleep(SHORT_POLL).await,
            }
        }
    }
}

/// What the shim calls the session that is kept in a directory.
pub(crate) fn name_at(path: PathBuf) -> Option<String> {
    SessionRecord::read(&ContainerDir::at(path)).ok().flatten().map(|record| record.exec)
}

/// The state for callers. One that is ending calls itself running until its code is known.
fn state(record: &SessionRecord, sight: Sight) -> ExecSessionState {
    match sight {
        Sight::Running | Sight::Ending | Sight::Unseen => ExecSessionState::Running { pid: record.pid },
        Sight::Stopped(code) => ExecSessionState::Stopped { code },
    }
}

/// How errors name a session.
fn subject(id: &ContainerId, session: &ExecId) -> String {
    format!("exec session \"{session}\" of container \"{id}\"")
}

/// The refusal of a session that is not in the state that an operation needs.
fn wrong_state(is: ContainerStatus, allowed: &'static [ContainerStatus]) -> Error {
    Error::new(ErrorKind::WrongState { is, stopping: false, allowed })
}
