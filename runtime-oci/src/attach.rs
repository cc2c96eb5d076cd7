//! Attach: the client's side of conmon's socket, and the sizes that go through its control fifo.

use runtime_api::{
    AttachEnd, AttachRequest, Capability, ContainerId, Error, ErrorKind, Operation, Peer, Result, Streams,
    WindowSize,
};
use runtime_host::attach::{Served, no_terminal, serve};

use crate::backend::Backend;
use crate::control::Control;
use crate::observe::Sight;

impl Backend {
    pub(crate) async fn attach(
        &self,
        id: &ContainerId,
        request: AttachRequest,
        streams: Streams,
    ) -> Result<AttachEnd> {
        let named = |error: Error| error.during(Operation::Attach).on(format_args!("container \"{id}\""));
        let sized = request.initial_size.is_some() || streams.resize.is_some();
        if sized {
            self.capabilities.require(Capability::AttachResize).map_err(named)?;
        }
        let (locked, _) = self.admit(Operation::Attach, id).await?;
        if sized && !locked.record.terminal {
            return Err(named(no_terminal()));
        }
        let dir = locked.dir.clone();
        drop(locked);
        match serve(&dir.attach(), &Control::of(dir.path()), request, streams).await {
            Ok(Served::Detached) => return Ok(AttachEnd::Detached),
            Ok(Served::Closed) => {}
            Err(error) => return Err(self.unless_it_ended(Operation::Attach, id, named(error)).await),
        }
        // conmon closes the socket a moment before it writes the exit file. One that was killed closes it too.
        let (locked, sight) = match self.lock(id).await.map_err(named)? {
            Some(mut locked) => {
                let sight = self.settle(&mut locked).await.map_err(named)?;
                (locked, sight)
            }
            None => return Ok(AttachEnd::Ended),
        };
        drop(locked);
        match sight {
            Sight::Stopped(_) | Sight::Ending | Sight::Creating => Ok(AttachEnd::Ended),
            Sight::Alive(_) | Sight::Lost => Err(named(Error::new(ErrorKind::PeerLost(Peer::Monitor)))),
        }
    }

    pub(crate) async fn attach_resize(&self, id: &ContainerId, size: WindowSize) -> Result<()> {
        let operation = Operation::AttachResize;
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let (locked, _) = self.admit(operation, id).await?;
        if !locked.record.terminal {
            return Err(named(no_terminal()));
        }
        // Wanted while the lock is held, so that the sizes of several callers stay in the order of the calls.
        let resize = Control::of(locked.dir.path()).resize(size);
        drop(locked);
        match resize.done().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.unless_it_ended(operation, id, named(error)).await),
        }
    }

    /// The error of a call on the monitor; of one that is gone because the container ended meanwhile, that.
    pub(crate) async fn unless_it_ended(
        &self,
        operation: Operation,
        id: &ContainerId,
        error: Error,
    ) -> Error {
        if !matches!(error.kind(), ErrorKind::PeerLost(Peer::Monitor)) {
            return error;
        }
        match self.admit(operation, id).await {
            Err(ended) if ended.is_wrong_state() || ended.is_not_found() => ended,
            _ => error,
        }
    }
}
