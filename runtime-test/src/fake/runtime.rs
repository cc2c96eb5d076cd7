//! The value: [`RuntimeImpl`] over a world.

mod exec;
mod life;
mod saving;
mod sessions;
#[cfg(test)]
mod tests;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runtime_api::{
    AttachEnd, AttachRequest, BoxRead, BoxWrite, Capabilities, Capability, CheckpointOutcome,
    CheckpointRequest, ContainerEvent, ContainerId, ContainerState, ContainerStatus, CreateRequest,
    DeleteRequest, DiskStats, Error, ErrorKind, EventStream, ExecId, ExecOutcome, ExecRequest,
    ExecSessionRequest, ExecSessionState, ExecSyncRequest, ExitStatus, HandlerName, KillRequest,
    MonitorHealth, Operation, PortForwardRequest, RestoreRequest, Result, RuntimeImpl, RuntimeInfo,
    RuntimeKind, Stats, StopRequest, Streams, UpdateRequest, WindowSize,
};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::Defect;

use super::Profile;
use super::attach::Attached;
use super::world::{self, World};
use waiting::Misdeeds;

/// A runtime that runs nothing and keeps the contract. It needs a tokio runtime with time; under a paused clock waiting
/// costs nothing.
///
/// Dropping it leaves its containers alive. Where its profile declares `reopen`, another value over the same directory,
/// in the same process, finds them; what happened meanwhile happened at its proper time.
#[derive(Debug)]
pub struct FakeRuntime {
    pub(super) world: Arc<World>,
    state_dir: PathBuf,
    profile: Profile,
    info: [RuntimeInfo; 2],
    answers: [Capabilities; 2],
    misdeeds: Misdeeds,
    driver: Mutex<Option<JoinHandle<()>>>,
    events: Mutex<Option<broadcast::Sender<ContainerEvent>>>,
}

impl FakeRuntime {
    /// Opens a value over a state directory for the handler `fake`. The directory is made if it is missing and stays
    /// empty.
    ///
    /// # Errors
    /// `PermissionDenied` and `Internal` when the directory cannot be used.
    pub async fn open(state_dir: &Path, profile: Profile) -> Result<Self> {
        Self::open_as(HandlerName::new("fake")?, state_dir, profile).await
    }

    /// [`FakeRuntime::open`] for a handler of this name.
    ///
    /// # Errors
    /// As [`FakeRuntime::open`].
    pub async fn open_as(handler: HandlerName, state_dir: &Path, profile: Profile) -> Result<Self> {
        let answers = [profile.answers(false)?, profile.answers(true)?];
        let mut info = RuntimeInfo::new(RuntimeKind::new("fake")?, handler, "fake");
        info.version = Some(env!("CARGO_PKG_VERSION").to_owned());
        let mut other = info.clone();
        if profile.has(Defect::InfoChanges) {
            other.version = Some("another".to_owned());
        }
        let (state_dir, world) = world::open(state_dir, &profile)?;
        let driven = Arc::clone(&world);
        let driver = Mutex::new(Some(tokio::spawn(async move { driven.drive().await })));
        let misdeeds = Misdeeds::default();
        let teller = broadcast::Sender::new(EventStream::CAPACITY);
        world.look(|parts| parts.add_teller(&teller));
        let events = Mutex::new(Some(teller));
        Ok(Self { world, state_dir, profile, info: [info, other], answers, misdeeds, driver, events })
    }

    pub(super) fn defect(&self, defect: Defect) -> bool {
        self.profile.has(defect)
    }

    /// Refuses what the profile does not declare.
    fn granted(&self, operation: Operation) -> Result<()> {
        self.profile.capabilities().require_for(operation)
    }

    /// 0, or 1 once a container was created: which of two answers a defective value gives.
    fn age(&self) -> usize {
        usize::from(self.world.look(|parts| parts.model.has_lived()))
    }

    /// Leaves the world, once: containers go on.
    fn leave(&self) -> Option<JoinHandle<()>> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        driver.abort();
        let teller = self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.defect(Defect::EventsNeverEnd) {
            std::mem::forget(teller);
        }
        if self.defect(Defect::DropEndsContainers) {
            self.world.act(|parts| parts.model.end_all());
        }
        if self.defect(Defect::ReopenThaws) {
            self.world.act(|parts| parts.model.thaw_all());
        }
        if self.defect(Defect::SessionsEndWithTheValue) {
            self.world.act(|parts| parts.model.end_all_sessions());
        }
        world::close(&self.state_dir, &self.world);
        Some(driver)
    }
}

impl Drop for FakeRuntime {
    fn drop(&mut self) {
        self.leave();
    }
}

#[async_trait]
impl RuntimeImpl for FakeRuntime {
    fn info(&self) -> &RuntimeInfo {
        &self.info[self.age()]
    }

    fn capabilities(&self) -> &Capabilities {
        &self.answers[self.age()]
    }

    async fn create(&self, request: CreateRequest) -> Result<ContainerState> {
        let subject = format!("container \"{}\"", request.id);
        self.make(request).await.map_err(|error| error.during(Operation::Create).on(subject))
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        let changed = if self.defect(Defect::ConfigIsReadAtStart) { self.program_now(id) } else { None };
        self.world.act(|parts| {
            if let Some(program) = changed {
                parts.model.replace_program(id, program);
            }
            parts.model.start(id)
        })
    }

    async fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        self.world.act(|parts| parts.model.state(id))
    }

    async fn list(&self) -> Result<Vec<ContainerState>> {
        Ok(self.world.act(|parts| parts.model.list()))
    }

    async fn kill(&self, id: &ContainerId, request: KillRequest) -> Result<()> {
        let answers = self.profile.capabilities();
        if request.all {
            answers.require(Capability::KillAll).map_err(|error| error.during(Operation::Kill))?;
        }
        self.world.act(|parts| parts.model.kill(id, request.signal, request.all, answers))
    }

    async fn stop(&self, id: &ContainerId, request: StopRequest) -> Result<ExitStatus> {
        self.stop_and_wait(id, request).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        self.wait_for_end(id).await
    }

    async fn delete(&self, id: &ContainerId, request: DeleteRequest) -> Result<()> {
        self.remove(id, request.force).await
    }

    async fn exec_sync(&self, id: &ContainerId, request: ExecSyncRequest) -> Result<ExecOutcome> {
        self.granted(Operation::ExecSync)?;
        let done = self.run_exec(id, request).await;
        done.map_err(|error| error.during(Operation::ExecSync).on(format_args!("container \"{id}\"")))
    }

    async fn exec(&self, id: &ContainerId, request: ExecRequest, streams: Streams) -> Result<ExitStatus> {
        self.granted(Operation::Exec)?;
        let done = self.carry_exec(id, request, streams).await;
        done.map_err(|error| error.during(Operation::Exec).on(format_args!("container \"{id}\"")))
    }

    async fn exec_start(&self, id: &ContainerId, request: ExecSessionRequest) -> Result<ExecSessionState> {
        self.granted(Operation::ExecStart)?;
        let subject = format!("exec session \"{}\" of container \"{id}\"", request.session);
        let started = self.start_session(id, request).await;
        started.map_err(|error| error.during(Operation::ExecStart).on(subject))
    }

    async fn exec_attach(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: AttachRequest,
        streams: Streams,
    ) -> Result<AttachEnd> {
        self.granted(Operation::ExecAttach)?;
        self.attach_to_session(id, session, request, streams).await
    }

    async fn exec_state(&self, id: &ContainerId, session: &ExecId) -> Result<ExecSessionState> {
        self.granted(Operation::ExecState)?;
        self.world.act(|parts| parts.model.session_state(id, session))
    }

    async fn exec_stop(
        &self,
        id: &ContainerId,
        session: &ExecId,
        request: StopRequest,
    ) -> Result<ExecSessionState> {
        self.granted(Operation::ExecStop)?;
        self.stop_session(id, session, request).await
    }

    async fn exec_cleanup(&self, id: &ContainerId, session: &ExecId) -> Result<()> {
        self.granted(Operation::ExecCleanup)?;
        self.world.act(|parts| parts.model.clean_up_session(id, session))
    }

    async fn exec_resize(&self, id: &ContainerId, session: &ExecId, size: WindowSize) -> Result<()> {
        self.granted(Operation::ExecResize)?;
        self.world.act(|parts| parts.model.resize_session(id, session, size))
    }

    async fn attach(&self, id: &ContainerId, request: AttachRequest, streams: Streams) -> Result<AttachEnd> {
        self.granted(Operation::Attach)?;
        let wants = (streams.stdout.is_some(), streams.stderr.is_some());
        let sized = request.initial_size.is_some() || streams.resize.is_some();
        if sized {
            self.profile.capabilities().require(Capability::AttachResize)?;
        }
        let size = request.initial_size.filter(|_| !self.defect(Defect::InitialSizeIsIgnored));
        let defect = self.profile.defect();
        let registered: Result<_> = self.world.act(|parts| {
            let container = parts.model.admitted(Operation::Attach, id)?;
            if sized {
                parts.model.must_have_terminal(Operation::Attach, id)?;
            }
            if let Some(size) = size {
                parts.model.resize(Operation::Attach, id, size)?;
            }
            Ok((container, parts.clients.add(container, wants.0, wants.1, defect)))
        });
        let (container, client) = match registered {
            Err(error) if error.is_wrong_state() && self.defect(Defect::AttachStoppedIsOk) => {
                return Ok(AttachEnd::Ended);
            }
            registered => registered?,
        };
        let reads = AtomicBool::new(streams.stdin.is_some());
        let attached = Attached { world: Arc::clone(&self.world), client, container, defect, reads };
        if let Some(told) = request.attached {
            // A caller that does not listen need not be told.
            let _ = told.send(());
        }
        let served = attached.serve(id, streams, request.detach_keys).await;
        served.map_err(|error| error.during(Operation::Attach).on(format_args!("container \"{id}\"")))
    }

    async fn attach_resize(&self, id: &ContainerId, size: WindowSize) -> Result<()> {
        self.granted(Operation::AttachResize)?;
        self.world.act(|parts| parts.model.resize(Operation::AttachResize, id, size))
    }

    async fn pause(&self, id: &ContainerId) -> Result<()> {
        self.granted(Operation::Pause)?;
        self.world.act(|parts| parts.model.pause(id))
    }

    async fn resume(&self, id: &ContainerId) -> Result<()> {
        self.granted(Operation::Resume)?;
        self.world.act(|parts| parts.model.resume(id))
    }

    async fn update(&self, id: &ContainerId, request: UpdateRequest) -> Result<()> {
        self.granted(Operation::Update)?;
        if !self.defect(Defect::EmptyUpdateIsOk) {
            request.check().map_err(|error| error.during(Operation::Update))?;
        }
        self.world.act(|parts| parts.model.update(id, &request.resources))
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        self.granted(Operation::Stats)?;
        self.world.act(|parts| parts.model.stats(id))
    }

    async fn disk_stats(&self, id: &ContainerId) -> Result<DiskStats> {
        if !self.defect(Defect::UnsupportedSaysOk) {
            self.granted(Operation::DiskStats)?;
        }
        self.world.act(|parts| parts.model.disk_stats(id))
    }

    async fn checkpoint(&self, id: &ContainerId, request: CheckpointRequest) -> Result<CheckpointOutcome> {
        self.granted(Operation::Checkpoint)?;
        let done = self.save(id, request).await;
        done.map_err(|error| error.during(Operation::Checkpoint).on(format_args!("container \"{id}\"")))
    }

    async fn restore(&self, request: RestoreRequest) -> Result<ContainerState> {
        self.granted(Operation::Restore)?;
        let subject = format!("container \"{}\"", request.create.id);
        self.revive(request).await.map_err(|error| error.during(Operation::Restore).on(subject))
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        self.granted(Operation::ReopenLog)?;
        self.world.act(|parts| {
            let state = parts.model.state(id).map_err(|error| error.during(Operation::ReopenLog))?;
            if state.stopping && self.defect(Defect::StopRefusesReopens) {
                Operation::ReopenLog.admit(id, ContainerStatus::Stopped, true)?;
            }
            if state.status == ContainerStatus::Stopped && self.defect(Defect::ReopenStoppedIsOk) {
                return Ok(());
            }
            let key = parts.model.admitted(Operation::ReopenLog, id)?;
            let now = parts.model.time_of(parts.model.now());
            let Some(log) = parts.logs.get_mut(&key) else { return Ok(()) };
            log.reopen(now).map_err(|error| error.during(Operation::ReopenLog))
        })
    }

    async fn port_forward(
        &self,
        id: &ContainerId,
        request: PortForwardRequest,
        from: BoxRead,
        to: BoxWrite,
    ) -> Result<()> {
        self.granted(Operation::PortForward)?;
        self.forward(id, request, from, to).await
    }

    async fn probe_monitor(&self, id: &ContainerId) -> Result<MonitorHealth> {
        self.granted(Operation::ProbeMonitor)?;
        self.world.act(|parts| parts.model.monitor(id))
    }

    async fn events(&self) -> Result<EventStream> {
        self.granted(Operation::Events)?;
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if self.defect(Defect::OneSubscriberIsTold) {
            let fresh = broadcast::Sender::new(EventStream::CAPACITY);
            self.world.look(|parts| parts.add_teller(&fresh));
            // The old channel stays open and silent.
            std::mem::forget(events.replace(fresh).map(|old| old.subscribe()));
        }
        let Some(teller) = events.as_ref() else {
            let gone = ErrorKind::Unavailable("the runtime value is being shut down".to_owned());
            return Err(Error::new(gone).during(Operation::Events));
        };
        let stream = EventStream::new(teller.subscribe());
        for event in self.world.look(|parts| parts.told().to_vec()) {
            let _ = teller.send(event);
        }
        Ok(stream)
    }

    async fn shutdown(&self) {
        if let Some(driver) = self.leave() {
            // It was aborted: that it did not end by itself is no news.
            let _ = driver.await;
        }
    }
}

/// How long making and removing a container take, so that there is a moment in which they are under way.
const WORK: Duration = Duration::from_millis(2);
