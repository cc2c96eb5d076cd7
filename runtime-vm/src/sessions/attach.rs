//! Attach to a session and the size of its terminal, by the same means as for a container.

use runtime_api::{
    AttachEnd, AttachRequest, ContainerId, ContainerStatus, Error, ErrorKind, ExecId, Operation, Peer,
    Result, Streams, WindowSize,
};
use runtime_host::attach::{Served, Terminal as _, no_terminal, serve};

use super::record::SessionRecord;
use super::{Locked, Sight, subject, wrong_state};
use crate::backend::Backend;
use crate::exec::command::Command;
use crate::record::Record;
use crate::streams::ShimTerminal;

impl Backend {
    pub(crate) async fn attach_to_session(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: AttachRequest,
        streams: Streams,
    ) -> Result<AttachEnd> {
        let operation = Operation::ExecAttach;
        let named = |error: Error| error.during(operation).on(subject(id, session));
        let sized = request.initial_size.is_some() || streams.resize.is_some();
        let locked = self.admit_session(operation, id, session).await?;
        if sized && !locked.record.terminal {
            return Err(named(no_terminal()));
        }
        let (record, dir) = (locked.record.clone(), locked.dir.clone());
        let terminal = self.session_terminal(id, &record).await.map_err(named)?;
        drop(locked);
        match serve(&dir.attach(), &terminal, request, streams).await {
            Ok(Served::Detached) => return Ok(AttachEnd::Detached),
            Ok(Served::Closed) => {}
            Err(error) => return Err(self.unless_session_ended(operation, id, session, named(error)).await),
        }
        // The monitor closes the socket around the time at which it writes the exit file. One that was killed closes it too.
        let Some(container) = Record::read(&self.layout.container(id)).map_err(named)? else {
            return Ok(AttachEnd::Ended);
        };
        match self.settle_session(&container, &record, &dir).await.map_err(named)? {
            Sight::Running | Sight::Unseen => Err(named(Error::new(ErrorKind::PeerLost(Peer::Monitor)))),
            Sight::Ending | Sight::Stopped(_) => Ok(AttachEnd::Ended),
        }
    }

    pub(crate) async fn resize_session(
        &self,
        id: &ContainerId,
        session: &ExecId,
        size: WindowSize,
    ) -> Result<()> {
        let operation = Operation::ExecResize;
        let named = |error: Error| error.during(operation).on(subject(id, session));
        let locked = self.admit_session(operation, id, session).await?;
        if !locked.record.terminal {
            return Err(named(no_terminal()));
        }
        // While the lock is held, so that the sizes of several callers stay in the order of the calls.
        let terminal = self.session_terminal(id, &locked.record).await.map_err(named)?;
        let resized = terminal.resize(size).await;
        drop(locked);
        match resized {
            Ok(()) => Ok(()),
            Err(error) => Err(self.unless_session_ended(operation, id, session, named(error)).await),
        }
    }

    async fn session_terminal(&self, id: &ContainerId, record: &SessionRecord) -> Result<ShimTerminal> {
        let (container, _) = self.known(Operation::ExecAttach, id)?;
        let client = Command::new(self, &container, &record.exec)?.client(self).await?;
        Ok(ShimTerminal { client, id: id.to_string(), exec: Some(record.exec.clone()) })
    }

    /// Locks a session that runs, in a container that runs.
    async fn admit_session(
        &self,
        operation: Operation,
        id: &ContainerId,
        session: &ExecId,
    ) -> Result<Locked> {
        let named = |error: Error| error.during(operation).on(subject(id, session));
        let container = self.admit(operation, id).await?.0.record;
        let settled = self.lock_settled_session(&container, session).await.map_err(named)?;
        let (locked, sight) = settled.ok_or_else(|| named(Error::new(ErrorKind::NotFound)))?;
        match sight {
            Sight::Running | Sight::Ending | Sight::Unseen => Ok(locked),
            Sight::Stopped(_) => {
                Err(named(wrong_state(ContainerStatus::Stopped, &[ContainerStatus::Running])))
            }
        }
    }

    /// The error of a call on the monitor; of one that is gone because the session ended meanwhile, that.
    async fn unless_session_ended(
        &self,
        operation: Operation,
        id: &ContainerId,
        session: &ExecId,
        error: Error,
    ) -> Error {
        if !matches!(error.kind(), ErrorKind::PeerLost(_) | ErrorKind::NotFound) {
            return error;
        }
        match self.admit_session(operation, id, session).await {
            Err(ended) if ended.is_wrong_state() || ended.is_not_found() => ended,
            _ => error,
        }
    }
}
