//! Layers in front of a backend: one forwarding file, many small interceptors.
//!
//! An [`Interceptor`] sees every call the same way, whatever it returns: the result travels past the layers in a slot,
//! and what they wrap is a future of `Result<()>`. That future is lazy. A layer that refuses drops it without polling it,
//! and the backend never hears of the call.

mod call;

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use runtime_api::{
    AttachEnd, AttachRequest, BoxRead, BoxWrite, Capabilities, Capability, CheckpointOutcome,
    CheckpointRequest, ContainerId, ContainerState, CreateRequest, DeleteRequest, DiskStats, Error,
    ErrorKind, EventStream, ExecId, ExecOutcome, ExecRequest, ExecSessionRequest, ExecSessionState,
    ExecSyncRequest, ExitStatus, KillRequest, MonitorHealth, Operation, PortForwardRequest, RestoreRequest,
    Result, RuntimeImpl, RuntimeInfo, SharedRuntime, Stats, StopRequest, Streams, UpdateRequest, WindowSize,
};

pub use call::{Asked, Call};

/// The rest of a call, as a layer sees it: lazy, and without the value that it returns.
pub type Rest<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Layers, the outermost first.
pub type Layers = Vec<Box<dyn Interceptor>>;

/// One concern in front of a backend.
pub trait Interceptor: fmt::Debug + Send + Sync + 'static {
    /// Wraps one call. `rest` must be awaited for the call to happen; it may be dropped to refuse it.
    fn around<'a>(&'a self, call: &'a Call<'a>, rest: Rest<'a>) -> Rest<'a>;

    /// The capabilities that are declared in front of this layer. A layer may take away, never add.
    fn narrow(&self, inner: Capabilities) -> Capabilities {
        inner
    }
}

/// A backend behind layers. It is a runtime itself.
#[derive(Debug)]
pub struct Intercepted {
    inner: SharedRuntime,
    layers: Layers,
    capabilities: Capabilities,
}

impl Intercepted {
    /// Puts `layers` in front of `inner`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a layer declares a capability that it does not find behind it.
    pub fn new(inner: SharedRuntime, layers: Layers) -> Result<Self> {
        let mut capabilities = inner.capabilities().clone();
        for layer in layers.iter().rev() {
            let narrowed = layer.narrow(capabilities.clone());
            if let Some((added, _)) =
                narrowed.iter().find(|(each, answer)| answer.is_yes() && !capabilities.has(*each))
            {
                let what = format!("a layer declares {added}, which the backend does not: {layer:?}");
                return Err(Error::new(ErrorKind::Internal(what)).during_step("open"));
            }
            capabilities = narrowed;
        }
        Ok(Self { inner, layers, capabilities })
    }

    fn call(&self, operation: Operation) -> Call<'_> {
        Call::new(operation, self.inner.info(), &self.capabilities)
    }

    async fn through<T: Send>(
        &self,
        call: Call<'_>,
        run: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let mut slot = None;
        let filled = &mut slot;
        let mut rest: Rest<'_> = Box::pin(async move {
            *filled = Some(run.await?);
            Ok(())
        });
        for layer in self.layers.iter().rev() {
            rest = layer.around(&call, rest);
        }
        rest.await?;
        slot.ok_or_else(|| {
            Error::new(ErrorKind::Internal("a layer said Ok without making the call".to_owned()))
                .during(call.operation)
        })
    }
}

// The lint makes forgetting a method of the trait impossible: its default body would hide the backend's.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl RuntimeImpl for Intercepted {
    fn info(&self) -> &RuntimeInfo {
        self.inner.info()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn supports_checkpoint(&self) -> bool {
        self.capabilities.has(Capability::Checkpoint)
    }

    fn supports_json_errors(&self) -> bool {
        self.capabilities.has(Capability::JsonErrors)
    }

    fn supports_no_cgroups(&self) -> bool {
        self.capabilities.has(Capability::NoCgroups)
    }

    async fn create(&self, request: CreateRequest) -> Result<ContainerState> {
        let call = self.call(Operation::Create).on(&request.id).asking(Asked::Create(request.clone()));
        self.through(call, self.inner.create(request)).await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.through(self.call(Operation::Start).on(id), self.inner.start(id)).await
    }

    async fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        self.through(self.call(Operation::State).on(id), self.inner.state(id)).await
    }

    async fn list(&self) -> Result<Vec<ContainerState>> {
        self.through(self.call(Operation::List), self.inner.list()).await
    }

    async fn kill(&self, id: &ContainerId, request: KillRequest) -> Result<()> {
        let call = self.call(Operation::Kill).on(id).asking(Asked::Kill(request));
        self.through(call, self.inner.kill(id, request)).await
    }

    async fn stop(&self, id: &ContainerId, request: StopRequest) -> Result<ExitStatus> {
        let call = self.call(Operation::Stop).on(id).asking(Asked::Stop(request));
        self.through(call, self.inner.stop(id, request)).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        self.through(self.call(Operation::Wait).on(id), self.inner.wait(id)).await
    }

    async fn delete(&self, id: &ContainerId, request: DeleteRequest) -> Result<()> {
        let call = self.call(Operation::Delete).on(id).asking(Asked::Delete(request));
        self.through(call, self.inner.delete(id, request)).await
    }

    async fn exec(&self, id: &ContainerId, request: ExecRequest, streams: Streams) -> Result<ExitStatus> {
        let asked = Asked::Program { process: request.process.clone(), timeout: request.timeout };
        let call = self.call(Operation::Exec).on(id).asking(asked);
        self.through(call, self.inner.exec(id, request, streams)).await
    }

    async fn exec_sync(&self, id: &ContainerId, request: ExecSyncRequest) -> Result<ExecOutcome> {
        let asked = Asked::Program { process: request.process.clone(), timeout: request.timeout };
        let call = self.call(Operation::ExecSync).on(id).asking(asked);
        self.through(call, self.inner.exec_sync(id, request)).await
    }

    async fn exec_start(&self, id: &ContainerId, request: ExecSessionRequest) -> Result<ExecSessionState> {
        let asked = Asked::Program { process: request.process.clone(), timeout: None };
        let call = self.call(Operation::ExecStart).on(id).session(&request.session).asking(asked);
        self.through(call, self.inner.exec_start(id, request)).await
    }

    async fn exec_attach(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: AttachRequest,
        streams: Streams,
    ) -> Result<AttachEnd> {
        let call = self.call(Operation::ExecAttach).on(id).session(session);
        self.through(call, self.inner.exec_attach(id, session, request, streams)).await
    }

    async fn exec_state(&self, id: &ContainerId, session: &ExecId) -> Result<ExecSessionState> {
        let call = self.call(Operation::ExecState).on(id).session(session);
        self.through(call, self.inner.exec_state(id, session)).await
    }

    async fn exec_stop(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: StopRequest,
    ) -> Result<ExecSessionState> {
        let call = self.call(Operation::ExecStop).on(id).session(session).asking(Asked::Stop(request));
        self.through(call, self.inner.exec_stop(id, session, request)).await
    }

    async fn exec_cleanup(&self, id: &ContainerId, session: &ExecId) -> Result<()> {
        let call = self.call(Operation::ExecCleanup).on(id).session(session);
        self.through(call, self.inner.exec_cleanup(id, session)).await
    }

    async fn exec_resize(&self, id: &ContainerId, session: &ExecId, size: WindowSize) -> Result<()> {
        let call = self.call(Operation::ExecResize).on(id).session(session);
        self.through(call, self.inner.exec_resize(id, session, size)).await
    }

    async fn attach(&self, id: &ContainerId, request: AttachRequest, streams: Streams) -> Result<AttachEnd> {
        let call = self.call(Operation::Attach).on(id);
        self.through(call, self.inner.attach(id, request, streams)).await
    }

    async fn attach_resize(&self, id: &ContainerId, size: WindowSize) -> Result<()> {
        let call = self.call(Operation::AttachResize).on(id);
        self.through(call, self.inner.attach_resize(id, size)).await
    }

    async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.through(self.call(Operation::Pause).on(id), self.inner.pause(id)).await
    }

    async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.through(self.call(Operation::Resume).on(id), self.inner.resume(id)).await
    }

    async fn update(&self, id: &ContainerId, request: UpdateRequest) -> Result<()> {
        let call = self.call(Operation::Update).on(id).asking(Asked::Update(Box::new(request.clone())));
        self.through(call, self.inner.update(id, request)).await
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        self.through(self.call(Operation::Stats).on(id), self.inner.stats(id)).await
    }

    async fn disk_stats(&self, id: &ContainerId) -> Result<DiskStats> {
        self.through(self.call(Operation::DiskStats).on(id), self.inner.disk_stats(id)).await
    }

    async fn checkpoint(&self, id: &ContainerId, request: CheckpointRequest) -> Result<CheckpointOutcome> {
        let call = self.call(Operation::Checkpoint).on(id).asking(Asked::Checkpoint(request.clone()));
        self.through(call, self.inner.checkpoint(id, request)).await
    }

    async fn restore(&self, request: RestoreRequest) -> Result<ContainerState> {
        let asked = Asked::Create(request.create.clone());
        let call = self.call(Operation::Restore).on(&request.create.id).asking(asked);
        self.through(call, self.inner.restore(request)).await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.through(self.call(Operation::ReopenLog).on(id), self.inner.reopen_log(id)).await
    }

    async fn port_forward(
        &self,
        id: &ContainerId,
        request: PortForwardRequest,
        from: BoxRead,
        to: BoxWrite,
    ) -> Result<()> {
        let call = self.call(Operation::PortForward).on(id).asking(Asked::Port(request.port));
        self.through(call, self.inner.port_forward(id, request, from, to)).await
    }

    async fn probe_monitor(&self, id: &ContainerId) -> Result<MonitorHealth> {
        self.through(self.call(Operation::ProbeMonitor).on(id), self.inner.probe_monitor(id)).await
    }

    async fn events(&self) -> Result<EventStream> {
        self.through(self.call(Operation::Events), self.inner.events()).await
    }

    // Not a call to a container: it ends the value, and layers must not keep it from ending.
    async fn shutdown(&self) {
        self.inner.shutdown().await;
    }

    // A capability that a layer took away is refused with that layer's reason.
    fn refuse(&self, operation: Operation) -> Error {
        match self.capabilities.require_for(operation) {
            Err(refusal) => refusal,
            Ok(()) => self.inner.refuse(operation),
        }
    }
}

#[cfg(test)]
mod tests;
