//! Exec sessions: programs in a container that outlive whoever started them. conmon runs each of them, as it runs a
//! container, in a directory below the container's.
//!
//! What a session's processes do is observed, as with a container: its exit file and its processes decide. A session
//! has a lock of its own, under which it is made, stopped and removed; the container's lock is held only while a session
//! is begun, so that a stop that turns to KILL either sees it or has refused it.

mod attach;
mod record;
mod remove;
mod start;
mod stop;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use runtime_api::{
    ContainerId, ContainerStatus, Error, ErrorKind, ExecId, ExecSessionState, Operation, Result,
};
use runtime_host::lock::{Held, Witness};
use runtime_host::process::Identity;

use crate::backend::{Backend, ENDING};
use crate::dialect::Reach;
use crate::exec::{KILLED, LOST};
use crate::layout::ContainerDir;
use crate::observe::exit_code;
use crate::record::{Phase, Record};
use record::SessionRecord;

pub(crate) use start::Opening;

/// How often a waiter looks even though nothing told it to.
const POLL: Duration = Duration::from_secs(1);

/// How far apart a container and the sessions that end with it may be seen to end.
const TOGETHER: Duration = ENDING;

/// What can be seen of a session right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Its program lives.
    Running,
    /// Its program is gone and its monitor is about to write the exit file.
    Ending,
    /// It ended; without a code when the monitor died before it could tell.
    Stopped(Option<i32>),
}

/// A session whose lock is held: nobody else changes it.
#[derive(Debug)]
struct Locked {
    record: SessionRecord,
    dir: ContainerDir,
    held: Held,
}

impl Backend {
    /// The directory of a container, for an operation that is legal in all its states; sessions are seen from there.
    fn known(&self, operation: Operation, id: &ContainerId) -> Result<ContainerDir> {
        let dir = self.layout.container(id);
        match Record::read(&dir)? {
            None => Err(Error::not_found(operation, id)),
            Some(record) if record.phase == Phase::Creating => {
                operation.admit(id, ContainerStatus::Creating, false).map(|()| dir)
            }
            Some(_) => Ok(dir),
        }
    }

    /// Tells how a session stands.
    pub(crate) async fn session_state(&self, id: &ContainerId, session: &ExecId) -> Result<ExecSessionState> {
        let named = |error: Error| error.during(Operation::ExecState).on(subject(id, session));
        let dir = self.known(Operation::ExecState, id).map_err(named)?.session(session);
        let record = match SessionRecord::read(&dir).map_err(named)? {
            Some(record) if !record.is_starting() => record,
            // It is being made: once that is over there is a session or there is none.
            Some(_) => match self.lock_session(id, session).await.map_err(named)? {
                Some(locked) => locked.record,
                None => return Err(named(Error::new(ErrorKind::NotFound))),
            },
            None => return Err(named(Error::new(ErrorKind::NotFound))),
        };
        let sight = self.settle_session(&record, &dir).await.map_err(named)?;
        state(&record, sight).map_err(named)
    }

    /// Locks a session and reads its record; `None` when it is unknown. What a dead maker left is removed on the way.
    async fn lock_session(&self, id: &ContainerId, session: &ExecId) -> Result<Option<Locked>> {
        let container = self.layout.container(id);
        let dir = container.session(session);
        // Each caller has a queue of its own: the lock between processes keeps callers in one process apart as well.
        let Some(held) = Held::acquire(&dir, &Arc::default()).await? else { return Ok(None) };
        let Some(record) = SessionRecord::read(&dir)? else { return Ok(None) };
        if record.is_starting() {
            self.demolish_session(&container, &dir).await;
            return Ok(None);
        }
        Ok(Some(Locked { record, dir, held }))
    }

    /// Locks a session that is not between its end and its exit file, and tells how it stands. The lock is not held while a
    /// monitor is waited for: it may hang, and others may want to end it. After a while the session is told as it is.
    async fn lock_settled_session(
        &self,
        id: &ContainerId,
        session: &ExecId,
    ) -> Result<Option<(Locked, Sight)>> {
        let patience = Instant::now() + ENDING;
        loop {
            let Some(locked) = self.lock_session(id, session).await? else { return Ok(None) };
            let sight = self.look_at_session(&locked.record, &locked.dir)?;
            if sight != Sight::Ending || Instant::now() >= patience {
                return Ok(Some((locked, sight)));
            }
            let Locked { record, dir, held } = locked;
            drop(held);
            self.settle_session_by(&record, &dir, patience).await?;
        }
    }

    fn look_at_session(&self, record: &SessionRecord, dir: &ContainerDir) -> Result<Sight> {
        if let Some(code) = exit_code(dir)? {
            return self.code_of_session(dir, code).map(|code| Sight::Stopped(Some(code)));
        }
        let lives = |process: Option<Identity>| {
            record.boot_id == self.boot_id && process.is_some_and(Identity::lives)
        };
        if lives(record.command) {
            return Ok(Sight::Running);
        }
        if lives(record.monitor) {
            return Ok(Sight::Ending);
        }
        // The monitor may have written the file and gone between the two looks above.
        let code = exit_code(dir)?.map(|code| self.code_of_session(dir, code)).transpose()?;
        Ok(Sight::Stopped(code))
    }

    /// The code of a program, from that of the process which the monitor saw end. In a sandbox that is one which waits for
    /// the program; where the sandbox was killed under it, it tells a code of its own.
    fn code_of_session(&self, dir: &ContainerDir, code: i32) -> Result<i32> {
        let Some(container) = dir.path().ancestors().nth(2).filter(|_| code == LOST) else { return Ok(code) };
        let container = ContainerDir::at(container.to_owned());
        let Some(record) = Record::read(&container)?.filter(|record| record.reach == Reach::Runtime) else {
            return Ok(code);
        };
        let sandbox_lives = record.init.is_some_and(Identity::lives);
        let ended = |dir: &ContainerDir| std::fs::metadata(dir.exit()).and_then(|file| file.modified()).ok();
        // Nobody tells which of the two ended first: so close to each other they ended together.
        let before = |(session, container): (SystemTime, SystemTime)| session + TOGETHER < container;
        let alone = sandbox_lives || ended(dir).zip(ended(&container)).is_some_and(before);
        Ok(if alone { code } else { KILLED })
    }

    /// Looks until the session is not between its end and its exit file. A monitor that hangs holds up nobody for long.
    async fn settle_session(&self, record: &SessionRecord, dir: &ContainerDir) -> Result<Sight> {
        self.settle_session_by(record, dir, Instant::now() + ENDING).await
    }

    async fn settle_session_by(
        &self,
        record: &SessionRecord,
        dir: &ContainerDir,
        deadline: Instant,
    ) -> Result<Sight> {
        loop {
            let sight = self.look_at_session(record, dir)?;
            if sight != Sight::Ending || Instant::now() >= deadline {
                return Ok(sight);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the end of the session that the witness saw; `NotFound` when it is removed meanwhile.
    async fn session_end(&self, dir: &ContainerDir, witness: &Witness) -> Result<Option<i32>> {
        loop {
            let record = SessionRecord::read(dir)?.filter(|_| witness.is_current(dir));
            let Some(record) = record else { return Err(Error::new(ErrorKind::NotFound)) };
            if let Sight::Stopped(code) = self.look_at_session(&record, dir)? {
                return Ok(code);
            }
            // The monitor goes last, so its end is the one to wait for; without it, the program's.
            let process = record.monitor.and_then(Identity::open);
            let ended = async {
                match process.or_else(|| record.command.and_then(Identity::open)) {
                    Some(process) => drop(process.ended().await),
                    None => std::future::pending().await,
                }
            };
            // A poll stands behind it, and behind a monitor that has written the file and not left.
            let _ = tokio::time::timeout(POLL, ended).await;
        }
    }
}

/// The state for callers. One that is ending calls itself running until its code is known.
fn state(record: &SessionRecord, sight: Sight) -> Result<ExecSessionState> {
    match sight {
        Sight::Running | Sight::Ending => running(record.pid),
        Sight::Stopped(code) => Ok(ExecSessionState::Stopped { code }),
    }
}

fn running(pid: i32) -> Result<ExecSessionState> {
    let pid = u32::try_from(pid).map_err(|error| {
        Error::new(ErrorKind::Internal("a session's pid is negative".into())).caused_by(error)
    })?;
    Ok(ExecSessionState::Running { pid })
}

/// How errors name a session.
fn subject(id: &ContainerId, session: &ExecId) -> String {
    format!("exec session \"{session}\" of container \"{id}\"")
}

/// The refusal of a session that is not in the state that an operation needs.
fn wrong_state(is: ContainerStatus, allowed: &'static [ContainerStatus]) -> Error {
    Error::new(ErrorKind::WrongState { is, stopping: false, allowed })
}
