//! The start of a session: a directory is filled out of sight, the id is reserved by giving the directory its name, then
//! conmon runs the runtime's exec. Whatever goes wrong, and whenever the caller goes away, it is undone.

use std::sync::Arc;
use std::time::Duration;

use runtime_api::{
    ContainerId, Error, ErrorKind, ExecId, ExecSessionRequest, ExecSessionState, Operation, Result,
};
use runtime_host::document::cannot_write;
use runtime_host::exec::being_killed;
use runtime_host::lock::{Held, Witness};
use runtime_host::process::Identity;
use runtime_host::reserve::{discard, reserve};
use runtime_host::tasks::Work;

use super::record::SessionRecord;
use super::{running, subject};
use crate::backend::Backend;
use crate::complaint;
use crate::conmon::{self, Report, SessionArgs, SessionMonitor};
use crate::dialect::Reach;
use crate::exec::inside;
use crate::layout::ContainerDir;
use crate::observe;

/// How long conmon's first process gets to fork its daemon when a start is undone.
const FORK_PATIENCE: Duration = Duration::from_secs(1);

/// A session in the making.
#[derive(Debug)]
pub(crate) struct Opening {
    backend: Arc<Backend>,
    id: ContainerId,
    session: ExecId,
    record: SessionRecord,
    dir: ContainerDir,
    monitor: SessionMonitor,
    // The last field, so that the lock is let go of last.
    _held: Held,
}

impl Opening {
    /// Checks the request, reserves the id and starts conmon. When this fails nothing is left.
    pub(crate) async fn begin(
        backend: Arc<Backend>,
        id: ContainerId,
        request: ExecSessionRequest,
    ) -> Result<Self> {
        backend.check_exec(&request.process, None)?;
        // Begun under the container's lock: a stop that turns to KILL either sees this session or has refused it.
        let (locked, _) = backend.admit(Operation::ExecStart, &id).await?;
        if observe::is_being_killed(&locked.record) {
            return Err(being_killed());
        }
        let (conmon, runtime) = (backend.monitor()?.clone(), backend.binary_of(&id)?);
        let session = request.session;
        let dir = locked.dir.session(&session);
        if dir.path().exists() && !backend.reclaim_session(&id, &session).await? {
            return Err(Error::new(ErrorKind::AlreadyExists).on(subject(&id, &session)));
        }
        let record = SessionRecord::new(backend.boot_id.clone(), request.process.terminal);
        let process = backend.process_of(&locked.dir, &request.process, None)?.to_string();
        let sessions = locked.dir.sessions();
        std::fs::create_dir_all(&sessions).map_err(|error| cannot_write(&sessions, error))?;
        let queue = Arc::default();
        let reserved = reserve(dir.path(), &queue, |at| {
            let at = &ContainerDir::at(at.to_owned());
            std::fs::write(at.process(), &process).map_err(|error| cannot_write(&at.process(), error))?;
            record.write(at)
        });
        let held = reserved.await.map_err(|error| error.on(subject(&id, &session)))?;
        // From here to the end nothing waits, so that nobody can be cut off between a conmon and what undoes it.
        let inner_pid = (locked.record.reach == Reach::Runtime).then(|| inside::pid_file(dir.path()));
        let args = SessionArgs {
            conmon: &conmon,
            runtime: &runtime,
            runtime_args: &backend.global_args(&id, &dir.oci_log()),
            config: &backend.config,
            id: &id,
            session: &session,
            dir: &dir,
            stdin: request.stdin,
            terminal: record.terminal,
            takes_tty: backend.dialect.execs_take_tty,
            inner_pid: inner_pid.as_deref(),
        };
        match SessionMonitor::start(args.command_line(), |pid| {
            backend.place_session_monitor(&locked.record, pid)
        }) {
            Ok(monitor) => Ok(Self { backend, id, session, record, dir, monitor, _held: held }),
            Err(error) => {
                discard(dir.path());
                Err(error)
            }
        }
    }

    /// The command did not run: either the container is no longer running, or the runtime has a reason of its own.
    async fn why_not_run(&self, said: &str) -> Error {
        let message = complaint::account(Some(&self.dir.oci_log()), said);
        let container = self.backend.layout.container(&self.id);
        let why = self.backend.why_not_run(Operation::ExecStart, &self.id, &container, message).await;
        why.with_command(self.monitor.line().detail(None, said.to_owned()))
    }
}

impl Work for Opening {
    type Output = ExecSessionState;

    async fn finish(&mut self) -> Result<ExecSessionState> {
        let limit = self.backend.config.exec_timeout;
        self.monitor.ready(limit).await?;
        self.record.monitor = conmon::daemon(&self.dir);
        self.record.write(&self.dir)?;
        match self.monitor.report(limit).await? {
            Report::Pid(pid) => {
                self.record.pid = pid;
                self.record.command = Identity::of(pid);
                self.record.write(&self.dir)?;
                running(pid)
            }
            Report::Failed(message) => Err(self.why_not_run(&message).await),
            Report::Silent => Err(self.why_not_run("").await),
        }
        .map_err(|error| error.on(subject(&self.id, &self.session)))
    }

    async fn undo(mut self) {
        // The first process leaves within milliseconds; then it is reaped here and nowhere else.
        self.monitor.abandon(FORK_PATIENCE).await;
        self.backend.demolish_session(&self.backend.layout.container(&self.id), &self.dir).await;
    }
}

impl Backend {
    /// Removes a session whose maker died; whether the id is free now.
    async fn reclaim_session(&self, id: &ContainerId, session: &ExecId) -> Result<bool> {
        let dir = self.layout.container(id).session(session);
        let is_leftover = match SessionRecord::read(&dir) {
            Ok(Some(record)) => {
                record.is_starting() && Witness::open(&dir)?.is_none_or(|witness| witness.is_free())
            }
            _ => false,
        };
        if is_leftover {
            self.lock_session(id, session).await?;
        }
        Ok(!dir.path().exists())
    }
}
