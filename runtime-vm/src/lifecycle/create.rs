//! Create: a private copy of the bundle, a shim with its monitor (or the one of its sandbox), and a task in it.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use runtime_api::{
    Capability, ContainerId, ContainerState, ContainerStatus, CreateRequest, Error, ErrorKind, LogConfig,
    LogDriver, Peer, Result, Signal,
};
use runtime_host::cgroup::Claim;
use runtime_host::criu;
use runtime_host::document::cannot_write;
use runtime_host::exits::Entry;
use runtime_host::lock::{Held, Witness};
use runtime_host::process::Identity;
use runtime_host::reserve::{discard, reserve};
use runtime_host::spec::{Additions, SpecDocument};
use runtime_host::tasks::Work;

use crate::backend::{Backend, reach_of};
use crate::layout::ContainerDir;
use crate::monitor::{Key, LogOrder, MonitorClient, Notice, ProgramOrder, StartOrder};
use crate::observe::{self, Sight};
use crate::record::{Phase, Reach, Record, ShimRef};
use crate::sandbox::{Role, role_of};
use crate::shims::{Members, PATIENCE};
use crate::task::{CreateTask, Target, TaskApi, TaskClient};

use super::restore::{RESTORE_LIMIT, RestoreSource};

/// A create under way. Undone unless it comes to its end.
#[derive(Debug)]
pub(crate) struct Making {
    backend: Arc<Backend>,
    request: CreateRequest,
    source: Option<RestoreSource>,
    record: Record,
    role: Role,
    dir: ContainerDir,
    entry: Arc<Entry>,
    held: Held,
    /// Held until the container is in its cgroup, or gone.
    _claim: Claim,
}

impl Making {
    /// Checks the request and reserves the id. When this fails nothing is left.
    pub(crate) async fn begin(
        backend: Arc<Backend>,
        request: CreateRequest,
        source: Option<RestoreSource>,
    ) -> Result<Self> {
        backend.binary()?;
        let capabilities = &backend.capabilities;
        if request.stop_signal.is_some_and(Signal::is_real_time) {
            capabilities.require(Capability::KillRealTime)?;
        }
        let asked = [
            (request.notify_socket.is_some(), Capability::Notify),
            (!request.descriptors.is_empty(), Capability::Descriptors),
            (request.cgroup_parent.is_some(), Capability::CgroupParent),
        ];
        for (_, needed) in asked.into_iter().filter(|(asked, _)| *asked) {
            capabilities.require(needed)?;
        }
        let spec = SpecDocument::read(&request.bundle)?;
        spec.check_cgroup_path()?;
        check_log(&request.log)?;
        let cgroup = backend.place(&request, &spec)?;
        let role = role_of(&request, &spec.annotations());
        let mut record = Record::new(request.id.clone(), spec.bundle.clone(), backend.boot_id.clone());
        record.chose_cgroup = spec.cgroup().is_none();
        record.cgroup = Some(cgroup.clone());
        record.sandbox = role.sandbox().cloned();
        record.root = spec.root();
        record.terminal = spec.terminal();
        record.stop_signal = request.stop_signal;
        record.annotations = spec.annotations();
        record.labels.clone_from(&request.labels);
        record.log = request.log.path.clone().filter(|_| request.log.driver == LogDriver::CriFile);
        record.made_log = record.log.clone().filter(|path| !path.exists());

        let dir = backend.layout.container(&request.id);
        if dir.path().exists() && !backend.reclaim(&request.id).await? {
            return Err(Error::new(ErrorKind::AlreadyExists));
        }
        let entry = backend.entries.of(&request.id);
        let additions =
            Additions { cgroup: record.chose_cgroup.then(|| cgroup.clone()), ..Additions::default() };
        let copy = spec.private_copy(&additions);
        let mut held = reserve(dir.path(), &entry.queue, |at| {
            let at = &ContainerDir::at(at.to_owned());
            std::fs::write(at.config(), &copy).map_err(|error| cannot_write(&at.config(), error))?;
            record.write(at)
        })
        .await?;
        // Only now, when the id is ours: what another container of this id has in its cgroup is not in our way.
        let claimed = match Claim::take(&cgroup).await {
            Ok(claim) => backend.hierarchies.check_unused(&cgroup).map(|()| claim),
            Err(error) => Err(error),
        };
        let claim = match claimed {
            Ok(claim) => claim,
            Err(error) => {
                backend.forget(&record, &dir, &mut held, None);
                return Err(error);
            }
        };
        Ok(Self { backend, request, source, record, role, dir, entry, held, _claim: claim })
    }

    /// The shim for the container: that of its sandbox, else a new one.
    async fn shim(&mut self) -> Result<ShimRef> {
        let backend = Arc::clone(&self.backend);
        if let Role::Member(sandbox) = &self.role
            && let Some(shim) = backend.shim_of_sandbox(sandbox, &self.record.id)?
        {
            let lost = || {
                Error::new(ErrorKind::PeerLost(Peer::Shim))
                    .hint(format!("the shim of sandbox \"{sandbox}\" is gone; make the sandbox again"))
            };
            if !observe::shim_lives(&shim) {
                return Err(lost());
            }
            let members = Members::of(&backend.layout, &shim.id).await?.ok_or_else(lost)?;
            if members.is_empty() {
                return Err(lost());
            }
            // On record first, so that whoever finds the record takes it out again.
            self.remember(shim.clone())?;
            members.join(&self.record.id)?;
            return Ok(shim);
        }
        let id = self.record.id.clone();
        let members = Members::make(&backend.layout, id.as_str()).await?;
        if !members.is_empty() {
            return Err(Error::new(ErrorKind::AlreadyExists).hint(format!(
                "a shim of the name \"{id}\" still serves other containers of its sandbox; delete them first"
            )));
        }
        let mut order = StartOrder::new(backend.binary()?, id.as_str(), self.dir.path());
        order.debug = backend.config.debug;
        order.namespace = backend.layout.namespace();
        // Whoever gives a create less time than the start of a shim may take means that, too.
        order.start_limit = order.start_limit.min(backend.config.create_timeout);
        order.dial_limit = order.dial_limit.min(backend.config.create_timeout);
        let starting = backend.shims.connector().start(members.dir().path(), order).await?;
        let started = starting.started();
        let shim = ShimRef {
            id: id.to_string(),
            address: started.address.clone(),
            api: if started.api == 3 { TaskApi::V3 } else { TaskApi::V2 },
            process: started.shim,
            monitor: started.monitor,
        };
        // On record before it lives without us, so that whoever finds the record finds the shim.
        self.remember(shim.clone())?;
        members.join(&id)?;
        starting.keep().await?;
        Ok(shim)
    }

    fn remember(&mut self, shim: ShimRef) -> Result<()> {
        self.record.shim = Some(shim);
        self.record.write(&self.dir)
    }

    /// Has the shim continue a program; its pid. Shims do nothing of that before the start.
    async fn continue_from(
        &mut self,
        source: RestoreSource,
        client: &TaskClient,
        mut task: CreateTask,
    ) -> Result<u32> {
        let work = self.dir.criu();
        criu::make_work(&work)?;
        task.checkpoint = Some(source.image.clone());
        let made = client.create(task, self.backend.config.create_timeout).await;
        made.map_err(|fault| source.refused(fault, &work))?;
        self.record.started_at = Some(SystemTime::now());
        let started = client.start(Target::init(self.record.id.as_str()), RESTORE_LIMIT).await;
        started.map_err(|fault| source.refused(fault, &work))
    }

    /// What the monitor is to do for the program.
    fn program(&self) -> ProgramOrder {
        let id = self.record.id.as_str();
        let mut order = ProgramOrder::new(Key::init(id), self.dir.path(), self.dir.io());
        order.stdin = self.request.stdin;
        order.terminal = self.record.terminal;
        order.log = self.record.log.clone().map(|path| {
            let mut log = LogOrder::new(path);
            log.max_size = self.request.log.max_size;
            log
        });
        order.notice = Some(Notice::new(self.backend.layout.exits(), id));
        order
    }
}

impl Work for Making {
    type Output = ContainerState;

    /// Starts the shim and makes the task.
    async fn finish(&mut self) -> Result<ContainerState> {
        let backend = Arc::clone(&self.backend);
        let id = self.record.id.clone();
        let payload = backend.config.payload(&backend.root(), &self.dir.criu())?;
        let shim = self.shim().await?;
        let monitor = MonitorClient::at(backend.layout.shim(&shim.id).path());
        let fifos = monitor.add(&self.program()).await?;
        let io = fifos.task_io(self.record.terminal);
        let client = backend.shims.client(&shim, &backend.layout.namespace(), &id).await?;
        let mut task = CreateTask::new(id.as_str(), self.dir.path(), io);
        task.options = payload;
        let gate = backend.hierarchies.hold_open().await;
        let pid = match self.source.clone() {
            None => {
                let made = client.create(task, backend.config.create_timeout).await;
                made.map_err(|fault| fault.into_error(runtime_api::Operation::Create))?
            }
            Some(source) => self.continue_from(source, &client, task).await?,
        };
        drop(gate);
        monitor.watch(&Key::init(id.as_str())).await?;
        self.record.init = i32::try_from(pid).ok().and_then(Identity::of);
        if let Some(init) = self.record.init {
            self.record.reach = reach_of(init, self.record.root.as_deref());
            if self.record.reach == Reach::Host {
                self.record.init_program = init.program().filter(|_| self.source.is_none());
                self.record.own_cgroup = backend.own_cgroup(init, &shim);
                let cgroup = self.record.own_cgroup.as_deref();
                self.record.own_cgroup_identity = cgroup.and_then(|path| backend.hierarchies.identity(path));
            }
        }
        let (phase, status) = match &self.source {
            None => (Phase::Created, ContainerStatus::Created),
            Some(_) => (Phase::Started, ContainerStatus::Running),
        };
        self.record.phase = phase;
        self.record.write(&self.dir)?;
        self.entry.touch();
        Ok(observe::state(&self.record, &Sight::Alive(status)))
    }

    async fn undo(mut self) {
        self.backend.demolish(&self.record, &self.dir, &mut self.held).await;
        self.entry.touch();
    }
}

impl Backend {
    /// Removes what a create made, in whatever state it is.
    pub(crate) async fn demolish(&self, record: &Record, dir: &ContainerDir, held: &mut Held) {
        if record.shim.is_some() {
            self.end_half_made(record, dir).await;
            if let Err(error) = self.remove_task(record, true).await {
                // Not forgotten: the next who opens, or deletes it, finds a delete that is not finished.
                tracing::warn!(id = %record.id, error = %error.report(), "a failed create is not undone");
                let unfinished = Record { phase: Phase::Deleting, ..record.clone() };
                if unfinished.write(dir).is_ok() {
                    return;
                }
            }
            // A shim that failed, or was cut off, knows nothing of what the runtime made.
            let _ = self.clean_up(record).await;
            if let Err(error) = self.leave_shim(record).await {
                tracing::warn!(id = %record.id, error = %error.report(), "the shim of a failed create is left");
            }
            // The shim may just have begun what it does no more now.
            self.end_half_restored(record, dir).await;
        } else {
            // Nobody told its monitor to go on, so that undoes what it began.
            self.remove_unused_shim(record.id.as_str(), PATIENCE).await;
        }
        self.remove_cgroup_of(record).await;
        if let Some(log) = &record.made_log {
            let _ = std::fs::remove_file(log);
        }
        self.forget(record, dir, held, None);
    }

    /// Removes our own files. The final status goes into the lock file first, for those who wait.
    pub(crate) fn forget(
        &self,
        record: &Record,
        dir: &ContainerDir,
        held: &mut Held,
        status: Option<&runtime_api::ExitStatus>,
    ) {
        if let Some(status) = status
            && let Err(error) = held.leave_status(status, record.started_at.is_some())
        {
            tracing::warn!(id = %record.id, %error, "waiters will not learn the final status");
        }
        self.shims.forget_wait(&record.id);
        // Before the directory: whoever is cut off in between leaves a delete that the next open finishes.
        let _ = std::fs::remove_file(self.layout.exit_notice(&record.id));
        discard(dir.path());
    }

    /// The cgroup of a new container.
    fn place(&self, request: &CreateRequest, spec: &SpecDocument) -> Result<String> {
        if let Some(named) = spec.cgroup() {
            return Ok(named.to_owned());
        }
        let Some(parent) = &request.cgroup_parent else { return Ok(self.default_cgroup(&request.id)) };
        if !runtime_host::spec::is_plain_cgroup(parent) {
            let what = format!("cgroup parent {parent:?} is not an absolute path below the root");
            return Err(Error::new(ErrorKind::InvalidArgument(what)));
        }
        Ok(format!("{}/{}", parent.trim_end_matches('/'), request.id))
    }

    /// The cgroup of a new init, unless it is one that it shares with the shim, the monitor or us.
    fn own_cgroup(&self, init: Identity, shim: &ShimRef) -> Option<String> {
        let of = |process: Identity| self.hierarchies.path_of(process.pid);
        let cgroup = of(init)?;
        let makers = [Some(Identity::own()), Some(shim.monitor), shim.process];
        let shared = makers.into_iter().flatten().any(|one| of(one).as_ref() == Some(&cgroup));
        (!shared).then_some(cgroup)
    }

    pub(crate) async fn remove_cgroup_of(&self, record: &Record) {
        if let Some(cgroup) = record.cgroup.as_deref().filter(|_| record.chose_cgroup) {
            self.hierarchies.remove(cgroup).await;
        }
    }

    /// Removes a container whose maker died; whether the id is free now.
    pub(crate) async fn reclaim(&self, id: &ContainerId) -> Result<bool> {
        let dir = self.layout.container(id);
        let is_leftover = match Record::read(&dir) {
            Ok(Some(record)) => {
                let free = Witness::open(&dir)?.is_none_or(|witness| witness.is_free());
                record.phase == Phase::Creating && free
            }
            _ => false,
        };
        if is_leftover
            && let Some(mut locked) = self.lock(id).await?
            && locked.record.phase == Phase::Creating
        {
            self.demolish(&locked.record, &locked.dir, &mut locked.held).await;
            locked.entry.touch();
        }
        Ok(!dir.path().exists())
    }

    /// The shim that serves the containers of a sandbox, if any of them is here.
    fn shim_of_sandbox(
        &self,
        sandbox: &runtime_api::SandboxId,
        but: &ContainerId,
    ) -> Result<Option<ShimRef>> {
        let mut making = false;
        // The one that made the sandbox first, then whoever is there.
        let mut ids = self.ids()?;
        ids.sort_by_key(|id| id.as_str() != sandbox.as_str());
        for id in ids.into_iter().filter(|id| id != but) {
            let Ok(Some(record)) = Record::read(&self.layout.container(&id)) else { continue };
            let member = record.sandbox.as_ref() == Some(sandbox) || id.as_str() == sandbox.as_str();
            match record.shim {
                Some(shim) if member && record.phase != Phase::Deleting => return Ok(Some(shim)),
                None if member => making = true,
                _ => {}
            }
        }
        if making {
            let holder = format!("a create in sandbox \"{sandbox}\"");
            return Err(Error::new(ErrorKind::Busy { holder }).hint("try again when it is done"));
        }
        Ok(None)
    }
}

/// A log is replaced when it has reached its limit, so that much fits into it at least.
const SMALLEST_LOG: u64 = 8192;

fn check_log(log: &LogConfig) -> Result<()> {
    if log.driver == LogDriver::Journald {
        let what = "the monitor of a shim writes no journal";
        return Err(Error::new(ErrorKind::Unsupported { capability: Capability::Log, why: what.into() })
            .hint("use a log file"));
    }
    if log.driver != LogDriver::CriFile {
        return Ok(());
    }
    let Some(path) = &log.path else {
        return Err(Error::new(ErrorKind::InvalidArgument("a log file needs a path".into())));
    };
    let invalid = |what: &str, path: &Path| {
        Error::new(ErrorKind::ConfigInvalid(what.to_owned())).on(format_args!("log {}", path.display()))
    };
    if let Some(max) = log.max_size.filter(|max| *max < SMALLEST_LOG) {
        let what = format!("a log of at most {max} bytes; the least is {SMALLEST_LOG}");
        return Err(Error::new(ErrorKind::InvalidArgument(what)));
    }
    if !path.is_absolute() {
        return Err(invalid("the path is not absolute", path));
    }
    if !path.parent().is_some_and(Path::is_dir) {
        return Err(invalid("its directory does not exist", path).hint("make the directory first"));
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() => Err(invalid("it is a symbolic link, which is not followed", path)),
        Ok(there) if there.is_dir() => Err(invalid("it is a directory", path)),
        _ => Ok(()),
    }
}
