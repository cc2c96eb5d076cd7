//! Attach, the size of the terminal, and the log: what the monitor and the shim do for a container's streams.

use std::time::Duration;

use runtime_api::{
    AttachEnd, AttachRequest, Capability, ContainerId, Error, ErrorKind, Operation, Peer, Result, Streams,
    WindowSize,
};
use runtime_host::attach::{Served, Terminal, no_terminal, serve};

use crate::backend::{Backend, shim_of};
use crate::monitor::{Key, MonitorClient};
use crate::observe::Sight;
use crate::record::Record;
use crate::task::{Target, TaskClient};

/// How long a shim may take to change a size.
const RESIZE_LIMIT: Duration = Duration::from_secs(10);

/// The terminal of a program behind a shim.
#[derive(Debug)]
pub(crate) struct ShimTerminal {
    pub(crate) client: TaskClient,
    pub(crate) id: String,
    pub(crate) exec: Option<String>,
}

impl Terminal for ShimTerminal {
    async fn resize(&self, size: WindowSize) -> Result<()> {
        let target = Target { id: &self.id, exec: self.exec.as_deref() };
        let (width, height) = (u32::from(size.columns), u32::from(size.rows));
        let resized = self.client.resize_pty(target, width, height, RESIZE_LIMIT).await;
        resized.map_err(|fault| fault.into_error(Operation::AttachResize))
    }
}

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
        let (dir, terminal) = (locked.dir.clone(), self.terminal(&locked.record).await);
        drop(locked);
        match serve(&dir.attach(), &terminal.map_err(named)?, request, streams).await {
            Ok(Served::Detached) => return Ok(AttachEnd::Detached),
            Ok(Served::Closed) => {}
            Err(error) => return Err(self.unless_it_ended(Operation::Attach, id, named(error)).await),
        }
        // The monitor closes the socket around the time at which it writes the exit file. One that was killed closes it too.
        self.let_end(id).await.map_err(named)?;
        let Some(mut locked) = self.lock(id).await.map_err(named)? else { return Ok(AttachEnd::Ended) };
        match self.settle(&mut locked).await.map_err(named)? {
            Sight::Stopped(_) | Sight::Ending | Sight::Creating => Ok(AttachEnd::Ended),
            Sight::Alive(_) | Sight::Unseen(_) | Sight::Lost => {
                Err(named(Error::new(ErrorKind::PeerLost(Peer::Monitor))))
            }
        }
    }

    async fn terminal(&self, record: &Record) -> Result<ShimTerminal> {
        Ok(ShimTerminal { client: self.client(record).await?, id: record.id.to_string(), exec: None })
    }

    pub(crate) async fn attach_resize(&self, id: &ContainerId, size: WindowSize) -> Result<()> {
        let named =
            |error: Error| error.during(Operation::AttachResize).on(format_args!("container \"{id}\""));
        let (locked, _) = self.admit(Operation::AttachResize, id).await?;
        if !locked.record.terminal {
            return Err(named(no_terminal()));
        }
        // While the lock is held, so that the sizes of several callers stay in the order of the calls.
        let terminal = self.terminal(&locked.record).await.map_err(named)?;
        terminal.resize(size).await.map_err(named)
    }

    pub(crate) async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let operation = Operation::ReopenLog;
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let (locked, _) = self.admit(operation, id).await?;
        let record = locked.record.clone();
        drop(locked);
        if record.log.is_none() {
            return Ok(());
        }
        let shim = shim_of(&record).map_err(named)?;
        let monitor = MonitorClient::at(self.layout.shim(&shim.id).path());
        match monitor.reopen_log(&Key::init(id.as_str())).await {
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
        if !matches!(error.kind(), ErrorKind::PeerLost(_) | ErrorKind::NotFound) {
            return error;
        }
        match self.admit(operation, id).await {
            Err(ended) if ended.is_wrong_state() || ended.is_not_found() => ended,
            _ => error,
        }
    }
}
