//! A toy backend for the tests of this crate: it writes down who called, and keeps its containers in one file.

mod perform;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use async_trait::async_trait;
use runtime_api::*;

pub(crate) use perform::perform;

pub(crate) fn id(text: &str) -> ContainerId {
    ContainerId::new(text).unwrap()
}

pub(crate) fn toy_config(handler: &str) -> HandlerConfig {
    let name = HandlerName::new(handler).unwrap();
    HandlerConfig::new(name, RuntimeKind::new("toy").unwrap(), Origin::other("test"))
}

#[derive(Debug, Default)]
pub(crate) struct ToyFactory;

#[async_trait]
impl RuntimeFactory for ToyFactory {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::new("toy").unwrap()
    }

    fn check(&self, config: &HandlerConfig) -> Result<()> {
        match config.options.keys().find(|key| *key != "stuck" && *key != "boundless") {
            Some(key) => Err(Error::new(ErrorKind::ConfigInvalid(format!("unknown option {key:?}")))),
            None => Ok(()),
        }
    }

    async fn open(&self, config: &HandlerConfig, context: OpenContext) -> Result<SharedRuntime> {
        self.check(config)?;
        let make = if config.options.contains_key("boundless") { Toy::boundless } else { Toy::new };
        let mut toy = make(config.name.as_str());
        toy.stuck = config.options.contains_key("stuck");
        toy.file = Some(context.state_dir.join("toy.json"));
        Ok(std::sync::Arc::new(toy))
    }
}

#[derive(Debug)]
pub(crate) struct Toy {
    info: RuntimeInfo,
    capabilities: Capabilities,
    calls: Mutex<Vec<String>>,
    containers: Mutex<BTreeMap<ContainerId, ContainerState>>,
    file: Option<PathBuf>,
    stuck: bool,
}

impl Toy {
    pub(crate) fn new(handler: &str) -> Self {
        let yes = Evidence::design("it is a toy");
        let capabilities = Capabilities::builder().yes(Capability::ExecSync, yes).build().unwrap();
        let handler = HandlerName::new(handler).unwrap();
        Self {
            info: RuntimeInfo::new(RuntimeKind::new("toy").unwrap(), handler, "toy"),
            capabilities,
            calls: Mutex::default(),
            containers: Mutex::default(),
            file: None,
            stuck: false,
        }
    }

    /// Declares everything.
    pub(crate) fn boundless(handler: &str) -> Self {
        let yes =
            |builder: CapabilitiesBuilder, each: &Capability| builder.yes(*each, Evidence::design("toy"));
        let capabilities = Capability::ALL.iter().fold(Capabilities::builder(), yes).build().unwrap();
        Self { capabilities, ..Self::new(handler) }
    }

    /// Never answers.
    pub(crate) fn stuck(handler: &str) -> Self {
        Self { stuck: true, ..Self::new(handler) }
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn forget_calls(&self) {
        self.calls.lock().unwrap().clear();
    }

    async fn called(&self, operation: Operation, on: &str) {
        self.calls.lock().unwrap().push(format!("{operation} {on}").trim().to_owned());
        if self.stuck {
            std::future::pending::<()>().await;
        }
    }

    /// Changes the containers; with a file, as every process sees them.
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<ContainerId, ContainerState>) -> T) -> T {
        let mut containers = self.containers.lock().unwrap();
        let Some(file) = &self.file else { return change(&mut containers) };
        let stored = std::fs::read(file).ok().map(|text| serde_json::from_slice(&text).unwrap());
        *containers = stored.unwrap_or_default();
        let result = change(&mut containers);
        std::fs::write(file, serde_json::to_vec(&*containers).unwrap()).unwrap();
        result
    }

    fn set(&self, operation: Operation, id: &ContainerId, next: ContainerStatus) -> Result<()> {
        self.change(|containers| {
            let state = containers.get_mut(id).ok_or_else(|| Error::not_found(operation, id))?;
            operation.admit(id, state.status, false)?;
            state.status = next;
            Ok(())
        })
    }

    fn end(operation: Operation) -> Error {
        Error::new(ErrorKind::Internal("the toy ends here".into())).during(operation)
    }
}

#[async_trait]
impl RuntimeImpl for Toy {
    fn info(&self) -> &RuntimeInfo {
        &self.info
    }
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    async fn create(&self, request: CreateRequest) -> Result<ContainerState> {
        self.called(Operation::Create, request.id.as_str()).await;
        if request.bundle.ends_with("broken") {
            return Err(Error::new(ErrorKind::ConfigInvalid("the bundle is broken".into())));
        }
        self.change(|containers| {
            if containers.contains_key(&request.id) {
                return Err(Error::new(ErrorKind::AlreadyExists));
            }
            let now = SystemTime::now();
            let mut state =
                ContainerState::new(request.id.clone(), ContainerStatus::Created, request.bundle, now);
            state.labels = request.labels;
            containers.insert(request.id, state.clone());
            Ok(state)
        })
    }
    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.called(Operation::Start, id.as_str()).await;
        if id.as_str().starts_with("unstartable") && self.calls().len() < 4 {
            let (class, message) = (Rejection::ExecNotFound, "no such program".to_owned());
            return Err(Error::new(ErrorKind::Rejected { class, message }).during(Operation::Start));
        }
        self.set(Operation::Start, id, ContainerStatus::Running)
    }
    async fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        self.called(Operation::State, id.as_str()).await;
        self.change(|all| all.get(id).cloned()).ok_or_else(|| Error::not_found(Operation::State, id))
    }
    async fn list(&self) -> Result<Vec<ContainerState>> {
        self.called(Operation::List, "").await;
        Ok(self.change(|all| all.values().cloned().collect()))
    }
    async fn kill(&self, id: &ContainerId, _request: KillRequest) -> Result<()> {
        self.called(Operation::Kill, id.as_str()).await;
        self.set(Operation::Kill, id, ContainerStatus::Stopped)
    }
    async fn stop(&self, id: &ContainerId, _request: StopRequest) -> Result<ExitStatus> {
        self.called(Operation::Stop, id.as_str()).await;
        self.set(Operation::Stop, id, ContainerStatus::Stopped)?;
        Ok(ExitStatus::exited(143, SystemTime::now()))
    }
    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        self.called(Operation::Wait, id.as_str()).await;
        Ok(ExitStatus::exited(0, SystemTime::now()))
    }
    async fn delete(&self, id: &ContainerId, request: DeleteRequest) -> Result<()> {
        self.called(Operation::Delete, id.as_str()).await;
        self.change(|all| match all.remove(id) {
            None if !request.force => Err(Error::not_found(Operation::Delete, id)),
            _ => Ok(()),
        })
    }
    async fn exec(&self, id: &ContainerId, _request: ExecRequest, _streams: Streams) -> Result<ExitStatus> {
        self.called(Operation::Exec, id.as_str()).await;
        Err(Self::end(Operation::Exec))
    }
    async fn exec_sync(&self, id: &ContainerId, _request: ExecSyncRequest) -> Result<ExecOutcome> {
        self.called(Operation::ExecSync, id.as_str()).await;
        Ok(ExecOutcome::new(ExecEnd::Exited(0)))
    }
    async fn exec_start(&self, id: &ContainerId, _request: ExecSessionRequest) -> Result<ExecSessionState> {
        self.called(Operation::ExecStart, id.as_str()).await;
        Err(Self::end(Operation::ExecStart))
    }
    async fn exec_attach(
        &self,
        id: &ContainerId,
        _session: &ExecId,
        _request: AttachRequest,
        _streams: Streams,
    ) -> Result<AttachEnd> {
        self.called(Operation::ExecAttach, id.as_str()).await;
        Err(Self::end(Operation::ExecAttach))
    }
    async fn exec_state(&self, id: &ContainerId, _session: &ExecId) -> Result<ExecSessionState> {
        self.called(Operation::ExecState, id.as_str()).await;
        Err(Self::end(Operation::ExecState))
    }
    async fn exec_stop(
        &self,
        id: &ContainerId,
        _session: &ExecId,
        _request: StopRequest,
    ) -> Result<ExecSessionState> {
        self.called(Operation::ExecStop, id.as_str()).await;
        Err(Self::end(Operation::ExecStop))
    }
    async fn exec_cleanup(&self, id: &ContainerId, _session: &ExecId) -> Result<()> {
        self.called(Operation::ExecCleanup, id.as_str()).await;
        Ok(())
    }
    async fn exec_resize(&self, id: &ContainerId, _session: &ExecId, _size: WindowSize) -> Result<()> {
        self.called(Operation::ExecResize, id.as_str()).await;
        Ok(())
    }
    async fn attach(
        &self,
        id: &ContainerId,
        _request: AttachRequest,
        _streams: Streams,
    ) -> Result<AttachEnd> {
        self.called(Operation::Attach, id.as_str()).await;
        Ok(AttachEnd::Ended)
    }
    async fn attach_resize(&self, id: &ContainerId, _size: WindowSize) -> Result<()> {
        self.called(Operation::AttachResize, id.as_str()).await;
        Ok(())
    }
    async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.called(Operation::Pause, id.as_str()).await;
        Ok(())
    }
    async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.called(Operation::Resume, id.as_str()).await;
        Ok(())
    }
    async fn update(&self, id: &ContainerId, _request: UpdateRequest) -> Result<()> {
        self.called(Operation::Update, id.as_str()).await;
        Ok(())
    }
    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        self.called(Operation::Stats, id.as_str()).await;
        Err(Self::end(Operation::Stats))
    }
    async fn disk_stats(&self, id: &ContainerId) -> Result<DiskStats> {
        self.called(Operation::DiskStats, id.as_str()).await;
        Err(Self::end(Operation::DiskStats))
    }
    async fn checkpoint(&self, id: &ContainerId, _request: CheckpointRequest) -> Result<CheckpointOutcome> {
        self.called(Operation::Checkpoint, id.as_str()).await;
        Err(Self::end(Operation::Checkpoint))
    }
    async fn restore(&self, request: RestoreRequest) -> Result<ContainerState> {
        self.called(Operation::Restore, request.create.id.as_str()).await;
        // One that a factory opened has somewhere to keep it.
        if self.file.is_some() {
            return self.create(request.create).await;
        }
        Err(Self::end(Operation::Restore))
    }
    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.called(Operation::ReopenLog, id.as_str()).await;
        Ok(())
    }
    async fn port_forward(
        &self,
        id: &ContainerId,
        _request: PortForwardRequest,
        _from: BoxRead,
        _to: BoxWrite,
    ) -> Result<()> {
        self.called(Operation::PortForward, id.as_str()).await;
        Ok(())
    }
    async fn probe_monitor(&self, id: &ContainerId) -> Result<MonitorHealth> {
        self.called(Operation::ProbeMonitor, id.as_str()).await;
        Ok(MonitorHealth::Lost)
    }
    async fn events(&self) -> Result<EventStream> {
        self.called(Operation::Events, "").await;
        Err(Self::end(Operation::Events))
    }
}
