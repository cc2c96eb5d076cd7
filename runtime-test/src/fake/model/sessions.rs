//! Second programs that outlive whoever started them: exec sessions.

use std::sync::Arc;
use std::time::Duration;

use runtime_api::{
    ContainerId, ContainerStatus, Error, ErrorKind, ExecId, ExecSessionState, Operation, Result, StdinMode,
};

use crate::Defect;
use crate::fake::terminal::Terminal;

use super::signals::earlier;
use super::{Input, Key, Model, Moment, Pid, Process, Program};

/// The signal that a stop sends first, and the code of what is killed.
const TERM: i32 = 15;
const KILLED: i32 = 137;

/// One session. Its key is never that of a container.
#[derive(Debug)]
pub(super) struct Session {
    container: Key,
    id: ExecId,
    /// Its program; none while the start is under way.
    main: Option<Pid>,
    pub(super) input: Input,
    pub(super) input_kept: bool,
    pub(super) terminal: Option<Terminal>,
    /// The stop that is under way, and when KILL is sent.
    stopping: Option<Option<Moment>>,
    /// How it ended, once it has.
    ended: Option<Option<i32>>,
    asked: bool,
}

impl Session {
    /// When KILL is sent.
    pub(super) fn wake(&self) -> Option<Moment> {
        self.stopping.flatten().filter(|_| self.ended.is_none())
    }

    /// The input of its program.
    pub(super) fn input_of(&mut self, pid: Pid) -> Option<&mut Input> {
        (self.main == Some(pid)).then_some(&mut self.input)
    }

    pub(super) const fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// Its container and its program.
    pub(super) fn program(&self) -> Option<(Key, Pid)> {
        Some((self.container, self.main?))
    }
}

impl Model {
    /// Takes a session id in a running container, for a session that is about to be started.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `AlreadyExists`.
    pub fn reserve_session(&mut self, id: &ContainerId, session: &ExecId) -> Result<Key> {
        let at = self.find(Operation::ExecStart, id)?;
        let idle = self.containers[at].status == ContainerStatus::Created;
        if !(idle && self.has(Defect::SessionBeforeStartIsOk)) {
            self.admit(Operation::ExecStart, at)?;
        }
        let container = self.containers[at].key;
        let haunted = self.haunted.sessions.contains(&(container, session.clone()));
        let taken = haunted && self.has(Defect::SessionCleanupKeepsTheId);
        match self.session_at(container, session) {
            Some(known) if self.has(Defect::SessionTwiceReplaces) => {
                self.end_session(known);
                self.sessions.remove(&known);
            }
            None if !taken => {}
            _ => {
                return Err(Error::new(ErrorKind::AlreadyExists)
                    .during(Operation::ExecStart)
                    .on(subject(id, session)));
            }
        }
        self.last_key += 1;
        let session = Session {
            container,
            id: session.clone(),
            main: None,
            input: Input::default(),
            input_kept: false,
            terminal: None,
            stopping: None,
            ended: None,
            asked: false,
        };
        self.sessions.insert(self.last_key, session);
        Ok(self.last_key)
    }

    /// Gives a session id back; nothing is left of the start, which was refused or `dropped`.
    pub fn abandon_session(&mut self, key: Key, dropped: bool) {
        if dropped && self.has(Defect::DroppedSessionStays) {
            if let Some(session) = self.sessions.get_mut(&key) {
                session.main = Some(0);
            }
            return;
        }
        self.sessions.remove(&key);
    }

    /// Starts the program of a session.
    ///
    /// # Errors
    /// `NotFound` and `WrongState` when its container ended meanwhile.
    pub fn run_session(
        &mut self,
        key: Key,
        program: Program,
        stdin: StdinMode,
        terminal: bool,
    ) -> Result<ExecSessionState> {
        let pid = self.fresh_pid();
        let terminal = terminal && !self.has(Defect::SessionTerminalIsAPipe);
        let lost = || Error::new(ErrorKind::NotFound).during(Operation::ExecStart);
        let session = self.sessions.get_mut(&key).ok_or_else(lost)?;
        let container = session.container;
        session.main = Some(pid);
        // A terminal's input is always open.
        session.input.closed = stdin == StdinMode::Closed && !terminal;
        session.input_kept = stdin == StdinMode::KeepOpen || terminal;
        session.terminal = terminal.then(Terminal::default);
        let at = self.containers.iter().position(|one| one.key == container).ok_or_else(lost)?;
        if self.containers[at].status == ContainerStatus::Created && self.has(Defect::SessionBeforeStartIsOk)
        {
            self.sessions.remove(&key);
            return Ok(ExecSessionState::Running { pid });
        }
        if let Err(refusal) = self.admit(Operation::ExecStart, at) {
            self.sessions.remove(&key);
            return Err(refusal);
        }
        let mut process = Process::new(pid, false, Arc::new(program));
        process.sink = Some(key);
        self.containers[at].processes.push(process);
        self.run_due();
        Ok(ExecSessionState::Running { pid })
    }

    /// Tells how a session stands.
    ///
    /// # Errors
    /// `NotFound`, and `WrongState` while the container is Creating.
    pub fn session_state(&mut self, id: &ContainerId, session: &ExecId) -> Result<ExecSessionState> {
        let key = self.session_key(Operation::ExecState, id, session)?;
        let forgets = self.has(Defect::SessionForgetsItsCode);
        let wrong_pid = Pid::from(self.has(Defect::SessionPidDiffers));
        let Some(known) = self.sessions.get_mut(&key) else { return Err(Error::new(ErrorKind::NotFound)) };
        Ok(match known.ended {
            None => ExecSessionState::Running { pid: known.main.unwrap_or_default() + wrong_pid },
            Some(_) if std::mem::replace(&mut known.asked, true) && forgets => {
                ExecSessionState::Stopped { code: None }
            }
            Some(code) => ExecSessionState::Stopped { code },
        })
    }

    /// The key of a session that was started.
    ///
    /// # Errors
    /// `NotFound`, and `WrongState` where the operation is not legal in the container's state.
    pub fn session_key(&self, operation: Operation, id: &ContainerId, session: &ExecId) -> Result<Key> {
        let container = self.admitted(operation, id)?;
        let started = |key: &Key| self.sessions.get(key).is_some_and(|session| session.main.is_some());
        self.session_at(container, session)
            .filter(started)
            .ok_or_else(|| Error::new(ErrorKind::NotFound).during(operation).on(subject(id, session)))
    }

    /// How a session ended, once it has; `NotFound` once it is gone.
    ///
    /// # Errors
    /// `NotFound`.
    #[must_use]
    pub fn session_end(&self, key: Key) -> Option<Result<Option<i32>>> {
        match self.sessions.get(&key) {
            None => Some(Err(Error::new(ErrorKind::NotFound))),
            Some(session) => session.ended.map(Ok),
        }
    }

    /// Whether a key names a session.
    #[must_use]
    pub fn is_session(&self, key: Key) -> bool {
        self.sessions.contains_key(&key)
    }

    /// Begins to end a session, or changes a stop that is under way.
    ///
    /// # Errors
    /// `NotFound`, and `WrongState` while the container is Creating or Paused.
    pub fn stop_session(
        &mut self,
        id: &ContainerId,
        session: &ExecId,
        grace: Option<Duration>,
    ) -> Result<Key> {
        let key = self.session_key(Operation::ExecStop, id, session)?;
        let grace = if self.has(Defect::SessionGraceIsHalved) { grace.map(|grace| grace / 2) } else { grace };
        let wanted = grace.and_then(|grace| self.now.checked_add(grace));
        let ignores = self.has(Defect::SessionShorterGraceIsIgnored);
        let spoils = self.has(Defect::SessionStopChangesTheCode);
        let paused = self.is_paused(id) && !self.has(Defect::SessionStopIgnoresThePause);
        let Some(known) = self.sessions.get_mut(&key) else { return Err(Error::new(ErrorKind::NotFound)) };
        if known.ended.is_some() {
            if spoils {
                known.ended = Some(Some(KILLED));
            }
            return Ok(key);
        }
        if paused {
            let (is, allowed) = (ContainerStatus::Paused, &[ContainerStatus::Running]);
            return Err(Error::new(ErrorKind::WrongState { is, stopping: false, allowed })
                .during(Operation::ExecStop)
                .on(subject(id, session)));
        }
        let before = known.stopping;
        known.stopping = Some(match before {
            None => wanted,
            Some(first) if ignores => first,
            Some(first) => earlier(first, wanted),
        });
        let (container, main) = (known.container, known.main);
        if before.is_none() && grace != Some(Duration::ZERO) {
            self.send_to_process(container, main, TERM);
        }
        self.run_due();
        Ok(key)
    }

    /// Gives up a stop of a session, as no sound runtime does.
    pub fn give_up_session_stop(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.stopping = None;
        }
    }

    /// Forgets a session that ended.
    ///
    /// # Errors
    /// `NotFound` for an unknown container, `WrongState` while it runs.
    pub fn clean_up_session(&mut self, id: &ContainerId, session: &ExecId) -> Result<()> {
        let container = self.admitted(Operation::ExecCleanup, id)?;
        let Some(key) = self.session_at(container, session) else { return Ok(()) };
        let runs = self.sessions.get(&key).is_some_and(|session| session.ended.is_none());
        if runs && !self.has(Defect::SessionCleanupOfRunningIsOk) {
            let (is, allowed) = (ContainerStatus::Running, &[ContainerStatus::Stopped]);
            return Err(Error::new(ErrorKind::WrongState { is, stopping: false, allowed })
                .during(Operation::ExecCleanup)
                .on(subject(id, session)));
        }
        self.end_session(key);
        self.sessions.remove(&key);
        if self.defect.is_some() {
            self.haunted.sessions.push((container, session.clone()));
        }
        Ok(())
    }

    /// Kills every session, as a value does on its way out that has the defect for it.
    pub fn end_all_sessions(&mut self) {
        let keys: Vec<Key> = self.sessions.keys().copied().collect();
        for key in keys {
            self.end_session(key);
        }
    }

    pub(super) fn session_process_ended(&mut self, pid: Pid, code: i32) {
        if let Some(session) = self.sessions.values_mut().find(|session| session.main == Some(pid)) {
            session.ended.get_or_insert(Some(code));
        }
    }

    pub(super) fn container_of_sessions_ended(&mut self, container: Key) {
        let killed = if self.has(Defect::KilledExecSucceeds) { 0 } else { KILLED };
        for session in self.sessions.values_mut().filter(|session| session.container == container) {
            session.ended.get_or_insert(Some(killed));
        }
    }

    pub(super) fn forget_sessions_of(&mut self, container: Key) {
        self.sessions.retain(|_, session| session.container != container);
    }

    pub(super) fn run_sessions(&mut self) {
        let now = self.now;
        let due = |session: &Session| session.wake().is_some_and(|kill_at| kill_at <= now);
        let keys: Vec<Key> =
            self.sessions.iter().filter(|(_, session)| due(session)).map(|(key, _)| *key).collect();
        for key in keys {
            self.end_session(key);
        }
    }

    /// Kills a session's program with everything that descends from it.
    fn end_session(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(&key).filter(|session| session.ended.is_none()) else {
            return;
        };
        session.ended = Some(Some(KILLED));
        if let Some(main) = session.main {
            let container = session.container;
            self.kill_tree(container, main, self.has(Defect::SessionStopSparesDescendants));
        }
    }

    fn is_paused(&self, id: &ContainerId) -> bool {
        let at = self.find(Operation::ExecStop, id);
        at.is_ok_and(|at| self.containers[at].status == ContainerStatus::Paused)
    }

    fn session_at(&self, container: Key, session: &ExecId) -> Option<Key> {
        let mut sessions = self.sessions.iter();
        sessions.find(|(_, one)| one.container == container && one.id == *session).map(|(key, _)| *key)
    }
}

fn subject(id: &ContainerId, session: &ExecId) -> String {
    format!("exec session \"{session}\" of container \"{id}\"")
}
