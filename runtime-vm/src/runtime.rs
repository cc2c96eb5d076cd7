//! The runtime value: the trait over the backend, and the tasks that belong to the value.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;

use runtime_api::{
    AttachEnd, AttachRequest, BoxRead, BoxWrite, Capabilities, CheckpointOutcome, CheckpointRequest,
    ContainerId, ContainerState, CreateRequest, DeleteRequest, DiskStats, Error, EventStream, ExecId,
    ExecOutcome, ExecRequest, ExecSessionRequest, ExecSessionState, ExecSyncRequest, ExitStatus, KillRequest,
    MonitorHealth, Operation, PortForwardRequest, RestoreRequest, Result, RuntimeImpl, RuntimeInfo, Stats,
    StopRequest, Streams, UpdateRequest, WindowSize,
};
use runtime_host::cgroup::Hierarchies;
use runtime_host::events::Events;
use runtime_host::ladder;
use runtime_host::tasks::{Tasks, shut_down};

use crate::backend::Backend;
use crate::lifecycle::{Making, RestoreSource, list};
use crate::recovery::recover;
use crate::sessions::Opening;

/// The containers behind one kind of shim, over one state directory.
#[derive(Debug)]
pub struct VmRuntime {
    backend: Arc<Backend>,
    tasks: Arc<Tasks>,
    events: Arc<Events>,
}

impl VmRuntime {
    pub(crate) fn new(backend: Backend) -> Result<Self> {
        let watch = runtime_host::exits::watch_directory(&backend.layout.exits())?;
        let tasks: Arc<Tasks> = Arc::default();
        tasks.spawn(runtime_host::exits::pass_on(watch, Arc::clone(&backend.entries)));
        Ok(Self { backend: Arc::new(backend), tasks, events: Arc::default() })
    }

    /// Makes a container, or continues one.
    async fn make(
        &self,
        operation: Operation,
        request: CreateRequest,
        source: Option<RestoreSource>,
    ) -> Result<ContainerState> {
        let id = request.id.clone();
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let making = Making::begin(Arc::clone(&self.backend), request, source).await.map_err(named)?;
        self.tasks.complete(operation, making).await.map_err(named)
    }

    /// Finishes or undoes what earlier processes left half done.
    pub(crate) async fn recover(&self) -> Result<()> {
        recover(&self.backend, &self.tasks).await
    }
}

#[async_trait]
impl RuntimeImpl for VmRuntime {
    fn info(&self) -> &RuntimeInfo {
        &self.backend.info
    }

    fn capabilities(&self) -> &Capabilities {
        &self.backend.capabilities
    }

    async fn create(&self, request: CreateRequest) -> Result<ContainerState> {
        self.make(Operation::Create, request, None).await
    }

    async fn checkpoint(&self, id: &ContainerId, request: CheckpointRequest) -> Result<CheckpointOutcome> {
        let capabilities = &self.backend.capabilities;
        capabilities.require_for(Operation::Checkpoint)?;
        let named = |error: Error| error.during(Operation::Checkpoint).on(format_args!("container \"{id}\""));
        request.needs().try_for_each(|option| capabilities.require(option)).map_err(named)?;
        let (told, result) = oneshot::channel();
        let (backend, id) = (Arc::clone(&self.backend), id.clone());
        self.tasks.spawn(async move { backend.checkpoint(id, request, told).await });
        result.await.unwrap_or_else(|_| Err(shut_down(Operation::Checkpoint)))
    }

    async fn restore(&self, request: RestoreRequest) -> Result<ContainerState> {
        let capabilities = &self.backend.capabilities;
        capabilities.require_for(Operation::Restore)?;
        let id = request.create.id.clone();
        let named = |error: Error| error.during(Operation::Restore).on(format_args!("container \"{id}\""));
        request.needs().try_for_each(|option| capabilities.require(option)).map_err(named)?;
        let source = RestoreSource::of(&request).map_err(named)?;
        self.make(Operation::Restore, request.create, Some(source)).await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.backend.start(id).await
    }

    async fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        self.backend.state(id).await
    }

    async fn list(&self) -> Result<Vec<ContainerState>> {
        list(&self.backend, &self.tasks).await
    }

    async fn kill(&self, id: &ContainerId, request: KillRequest) -> Result<()> {
        self.backend.kill(id, request).await
    }

    async fn stop(&self, id: &ContainerId, request: StopRequest) -> Result<ExitStatus> {
        let (told, result) = oneshot::channel();
        let (backend, id) = (Arc::clone(&self.backend), id.clone());
        self.tasks.spawn(async move { ladder::stop(&*backend, id, request, told).await });
        result.await.unwrap_or_else(|_| Err(shut_down(Operation::Stop)))
    }

    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        self.backend.wait(Operation::Wait, id).await
    }

    async fn delete(&self, id: &ContainerId, request: DeleteRequest) -> Result<()> {
        self.backend.delete(id, request).await
    }

    async fn attach(&self, id: &ContainerId, request: AttachRequest, streams: Streams) -> Result<AttachEnd> {
        self.backend.capabilities.require_for(Operation::Attach)?;
        self.backend.attach(id, request, streams).await
    }

    async fn attach_resize(&self, id: &ContainerId, size: WindowSize) -> Result<()> {
        self.backend.capabilities.require_for(Operation::AttachResize)?;
        self.backend.attach_resize(id, size).await
    }

    async fn exec(&self, id: &ContainerId, request: ExecRequest, streams: Streams) -> Result<ExitStatus> {
        self.backend.capabilities.require_for(Operation::Exec)?;
        self.backend.exec(id, request, streams).await
    }

    async fn exec_sync(&self, id: &ContainerId, request: ExecSyncRequest) -> Result<ExecOutcome> {
        self.backend.capabilities.require_for(Operation::ExecSync)?;
        self.backend.exec_sync(id, request).await
    }

    async fn exec_start(&self, id: &ContainerId, request: ExecSessionRequest) -> Result<ExecSessionState> {
        self.backend.capabilities.require_for(Operation::ExecStart)?;
        let named = |error: Error| error.during(Operation::ExecStart).on(format_args!("container \"{id}\""));
        let opening = Opening::begin(Arc::clone(&self.backend), id.clone(), request).await.map_err(named)?;
        self.tasks.complete(Operation::ExecStart, opening).await.map_err(named)
    }

    async fn exec_attach(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: AttachRequest,
        streams: Streams,
    ) -> Result<AttachEnd> {
        self.backend.capabilities.require_for(Operation::ExecAttach)?;
        self.backend.attach_to_session(id, session, request, streams).await
    }

    async fn exec_state(&self, id: &ContainerId, session: &ExecId) -> Result<ExecSessionState> {
        self.backend.capabilities.require_for(Operation::ExecState)?;
        self.backend.session_state(id, session).await
    }

    async fn exec_stop(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: StopRequest,
    ) -> Result<ExecSessionState> {
        self.backend.capabilities.require_for(Operation::ExecStop)?;
        let (told, result) = oneshot::channel();
        let (backend, id, session) = (Arc::clone(&self.backend), id.clone(), session.clone());
        self.tasks.spawn(async move { backend.stop_session(id, session, request, told).await });
        result.await.unwrap_or_else(|_| Err(shut_down(Operation::ExecStop)))
    }

    async fn exec_cleanup(&self, id: &ContainerId, session: &ExecId) -> Result<()> {
        self.backend.capabilities.require_for(Operation::ExecCleanup)?;
        self.backend.clean_up_session(id, session).await
    }

    async fn exec_resize(&self, id: &ContainerId, session: &ExecId, size: WindowSize) -> Result<()> {
        self.backend.capabilities.require_for(Operation::ExecResize)?;
        self.backend.resize_session(id, session, size).await
    }

    async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.backend.capabilities.require_for(Operation::Pause)?;
        self.backend.pause(id).await
    }

    async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.backend.capabilities.require_for(Operation::Resume)?;
        self.backend.resume(id).await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.backend.capabilities.require_for(Operation::ReopenLog)?;
        self.backend.reopen_log(id).await
    }

    async fn probe_monitor(&self, id: &ContainerId) -> Result<MonitorHealth> {
        self.backend.capabilities.require_for(Operation::ProbeMonitor)?;
        self.backend.probe_monitor(id).await
    }

    async fn update(&self, id: &ContainerId, request: UpdateRequest) -> Result<()> {
        self.backend.capabilities.require_for(Operation::Update)?;
        self.backend.update(id, request).await
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        self.backend.capabilities.require_for(Operation::Stats)?;
        self.backend.stats(id).await
    }

    async fn disk_stats(&self, id: &ContainerId) -> Result<DiskStats> {
        self.backend.capabilities.require_for(Operation::DiskStats)?;
        self.backend.disk_stats(id).await
    }

    async fn port_forward(
        &self,
        id: &ContainerId,
        request: PortForwardRequest,
        from: BoxRead,
        to: BoxWrite,
    ) -> Result<()> {
        self.backend.capabilities.require_for(Operation::PortForward)?;
        self.backend.port_forward(id, request, from, to).await
    }

    async fn events(&self) -> Result<EventStream> {
        self.backend.capabilities.require_for(Operation::Events)?;
        self.events.subscribe(&self.backend, &self.tasks)
    }

    async fn shutdown(&self) {
        self.events.close();
        self.tasks.end().await;
        self.backend.life.end();
        Hierarchies::until_pruned(|| self.backend.prune_cgroups()).await;
    }
}

impl Drop for VmRuntime {
    fn drop(&mut self) {
        // The tasks are ended with the value, a moment before the last of them lets go of the backend.
        self.backend.life.end();
        // Whoever is in the way now is at work on a container, and tidies up when its own value ends.
        self.backend.prune_cgroups();
    }
}
