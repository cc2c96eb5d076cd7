//! Containers with a terminal.

use std::time::Duration;

use runtime_api::{
    ContainerId, ContainerStatus, Error, ErrorKind, ExecId, Operation, Rejection, Result, WindowSize,
};

use crate::Defect;
use crate::fake::terminal::{self, Terminal};

use super::{Chunk, Key, Model, Stream};

/// The signal that tells of another size.
const WINCH: i32 = 28;
/// Sizes that come closer together than this are a burst.
const BURST: Duration = Duration::from_millis(50);

impl Model {
    /// Checks that a container has a terminal, as an attach with sizes needs.
    ///
    /// # Errors
    /// `Rejected`, `NotFound`.
    pub fn must_have_terminal(&self, operation: Operation, id: &ContainerId) -> Result<()> {
        let at = self.find(operation, id)?;
        if self.containers[at].terminal.is_some() || self.has(Defect::ResizeWithoutTerminalIsOk) {
            return Ok(());
        }
        let message = "the container has no terminal that could have a size".to_owned();
        Err(Error::new(ErrorKind::Rejected { class: Rejection::Other, message })
            .during(operation)
            .on(format_args!("container \"{id}\"")))
    }

    /// Changes the size of a container's terminal, and tells its program.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Rejected`.
    pub fn resize(&mut self, operation: Operation, id: &ContainerId, size: WindowSize) -> Result<()> {
        let at = self.find(operation, id)?;
        if self.containers[at].status == ContainerStatus::Stopped && self.has(Defect::ResizeStoppedIsOk) {
            return Ok(());
        }
        self.admit(operation, at)?;
        self.must_have_terminal(operation, id)?;
        let last = self.containers[at].last_resize.replace(self.now);
        let lost = last.is_some_and(|last| self.now.saturating_sub(last) < BURST)
            && self.has(Defect::BurstsOfSizesAreLost);
        let ignored = lost
            || match operation {
                Operation::AttachResize => self.has(Defect::ResizeIsIgnored),
                _ => false,
            };
        let wanted = (size.rows, size.columns);
        let Some(terminal) = self.containers[at].terminal.as_mut().filter(|one| one.size != wanted) else {
            return Ok(());
        };
        if ignored {
            return Ok(());
        }
        terminal.size = wanted;
        // An init that has not run its program traps nothing.
        if self.containers[at].status != ContainerStatus::Created {
            self.signal(at, WINCH, false);
        }
        Ok(())
    }

    /// Changes the size of a session's terminal, and tells its program.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Rejected`.
    pub fn resize_session(&mut self, id: &ContainerId, session: &ExecId, size: WindowSize) -> Result<()> {
        let operation = Operation::ExecResize;
        let key = self.session_key(operation, id, session)?;
        let refused = |kind: ErrorKind| {
            let subject = format!("exec session \"{session}\" of container \"{id}\"");
            Err(Error::new(kind).during(operation).on(subject))
        };
        if self.is_over(key) {
            let (is, allowed) = (ContainerStatus::Stopped, &[ContainerStatus::Running]);
            return refused(ErrorKind::WrongState { is, stopping: false, allowed });
        }
        if !self.session_has_terminal(key) && !self.has(Defect::SessionResizeWithoutTerminalIsOk) {
            let message = "the program has no terminal that could have a size".to_owned();
            return refused(ErrorKind::Rejected { class: Rejection::Other, message });
        }
        if !self.has(Defect::SessionResizeIsIgnored) {
            self.set_session_size(key, size);
        }
        Ok(())
    }

    /// Whether a session has a terminal.
    #[must_use]
    pub fn session_has_terminal(&self, key: Key) -> bool {
        self.sessions.get(&key).is_some_and(|session| session.terminal.is_some())
    }

    /// Gives a session's terminal a size.
    pub fn set_session_size(&mut self, key: Key, size: WindowSize) {
        let wanted = (size.rows, size.columns);
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let program = session.program();
        let Some(terminal) = session.terminal.as_mut().filter(|one| one.size != wanted) else { return };
        terminal.size = wanted;
        if let Some((container, pid)) = program {
            self.send_to_process(container, Some(pid), WINCH);
        }
        self.run_due();
    }

    pub(super) fn terminal_of(&self, key: Key) -> Option<&Terminal> {
        self.containers.iter().find(|container| container.key == key)?.terminal.as_ref()
    }

    /// What the program gets of what a client sends, and whether that ends its input. A terminal shows it, too.
    pub(super) fn typed(&mut self, key: Key, bytes: &[u8]) -> (Vec<u8>, bool) {
        let at = self.now;
        let container = self.containers.iter_mut().find(|container| container.key == key);
        let session = self.sessions.get_mut(&key).and_then(|session| session.terminal.as_mut());
        let Some(terminal) = container.and_then(|container| container.terminal.as_mut()).or(session) else {
            return (bytes.to_vec(), false);
        };
        let typed = terminal.press(bytes);
        if !typed.echo.is_empty() {
            self.output.push(Chunk { container: key, at, stream: Stream::Stdout, bytes: typed.echo });
        }
        (typed.input, typed.ended)
    }

    /// What comes out of a container, where a terminal is in between.
    pub(super) fn displayed(&self, at: usize, stream: Stream, bytes: Vec<u8>) -> (Stream, Vec<u8>) {
        if self.containers[at].terminal.is_none() || self.has(Defect::TerminalIsAPipe) {
            return (stream, bytes);
        }
        (Stream::Stdout, terminal::shown(&bytes))
    }

    /// The same of a session.
    pub(super) fn displayed_by_session(&self, key: Key, stream: Stream, bytes: Vec<u8>) -> (Stream, Vec<u8>) {
        if self.session_has_terminal(key) {
            (Stream::Stdout, terminal::shown(&bytes))
        } else {
            (stream, bytes)
        }
    }
}
