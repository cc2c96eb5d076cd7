//! The start of a session: a directory is filled out of sight, the id is reserved by giving the directory its name, then
//! the monitor makes the fifos and the shim runs the program. Whatever goes wrong, and whenever the caller goes away, it
//! is undone.

use std::sync::Arc;

use runtime_api::{
    ContainerId, Error, ErrorKind, ExecId, ExecSessionRequest, ExecSessionState, Operation, Result,
};
use runtime_host::document::cannot_write;
use runtime_host::exec::{being_killed, merged, read_process};
use runtime_host::lock::{Held, Witness};
use runtime_host::reserve::{discard, reserve};
use runtime_host::tasks::Work;

use super::record::SessionRecord;
use super::subject;
use crate::backend::{Backend, shim_of};
use crate::exec::command::Command;
use crate::exec::running::unused_name;
use crate::exec::strays::write_process;
use crate::layout::ContainerDir;
use crate::monitor::{Key, MonitorClient, ProgramOrder};
use crate::observe;
use crate::record::Record;
use crate::task::any::{self, Payload};
use crate::task::{Answer, ExecTask, Fault, TaskClient};

/// A session in the making.
#[derive(Debug)]
pub(crate) struct Opening {
    backend: Arc<Backend>,
    id: ContainerId,
    request: ExecSessionRequest,
    process: Payload,
    record: SessionRecord,
    command: Command,
    monitor: MonitorClient,
    dir: ContainerDir,
    // The last field, so that the lock is let go of last.
    _held: Held,
}

impl Opening {
    /// Checks the request and reserves the id. When this fails nothing is left.
    pub(crate) async fn begin(
        backend: Arc<Backend>,
        id: ContainerId,
        request: ExecSessionRequest,
    ) -> Result<Self> {
        backend.check_exec(&request.process, None)?;
        let (locked, _) = backend.admit(Operation::ExecStart, &id).await?;
        if observe::is_being_killed(&locked.record) {
            return Err(being_killed());
        }
        let session = &request.session;
        let dir = locked.dir.session(session);
        if dir.path().exists() && !backend.reclaim_session(&id, session).await? {
            return Err(Error::new(ErrorKind::AlreadyExists).on(subject(&id, session)));
        }
        let record = SessionRecord::new(backend.boot_id.clone(), unused_name(), request.process.terminal);
        let process = merged(read_process(&locked.dir.config())?, &request.process, None);
        let sessions = locked.dir.sessions();
        std::fs::create_dir_all(&sessions).map_err(|error| cannot_write(&sessions, error))?;
        let queue = Arc::default();
        let reserved = reserve(dir.path(), &queue, |at| {
            write_process(at, &process)?;
            record.write(&ContainerDir::at(at.to_owned()))
        });
        let held = reserved.await.map_err(|error| error.on(subject(&id, session)))?;
        let command = Command::new(&backend, &locked.record, &record.exec)?.written_at(dir.path());
        let monitor = backend.monitor_of(&locked.record)?;
        let process = any::process(&process)?;
        Ok(Self { backend, id, request, process, record, command, monitor, dir, _held: held })
    }

    /// Has the streams made, and the program run.
    async fn run(&mut self, client: &TaskClient) -> Result<Answer<u32>> {
        let key = Key::exec(self.id.as_str(), &self.record.exec);
        let mut order = ProgramOrder::new(key, self.dir.path(), self.dir.io());
        order.stdin = self.request.stdin;
        order.terminal = self.record.terminal;
        let fifos = self.monitor.add(&order).await?;
        let task = ExecTask {
            id: self.id.to_string(),
            exec: self.record.exec.clone(),
            io: fifos.task_io(self.record.terminal),
            process: self.process.clone(),
        };
        let limit = self.backend.config.exec_timeout;
        let mut answer = client.exec(task, limit).await.map(|()| 0);
        if answer.is_ok() {
            self.command.is_known();
            answer = client.start(self.command.target(), limit).await;
        }
        if matches!(answer, Ok(_) | Err(Fault::Refused { .. })) {
            self.command.is_answered();
        }
        Ok(answer)
    }
}

impl Work for Opening {
    type Output = ExecSessionState;

    async fn finish(&mut self) -> Result<ExecSessionState> {
        let client = self.command.client(&self.backend).await?;
        let pid = match self.run(&client).await? {
            Ok(pid) => pid,
            Err(fault) => {
                let container = self.backend.layout.container(&self.id);
                return Err(self
                    .backend
                    .why_not_run(Operation::ExecStart, &self.id, &container, fault)
                    .await
                    .on(subject(&self.id, &self.request.session)));
            }
        };
        self.monitor.watch(&Key::exec(self.id.as_str(), &self.record.exec)).await?;
        self.record.pid = pid;
        self.record.command = self.command.process_of(pid);
        self.record.started = true;
        self.record.write(&self.dir)?;
        Ok(ExecSessionState::Running { pid })
    }

    async fn undo(self) {
        match Record::read(&self.backend.layout.container(&self.id)) {
            Ok(Some(container)) => {
                self.backend.undo_session(&container, &self.record, self.command, &self.dir).await;
            }
            _ => discard(self.dir.path()),
        }
    }
}

impl Backend {
    /// The way to the monitor that carries a container's streams.
    pub(super) fn monitor_of(&self, record: &Record) -> Result<MonitorClient> {
        Ok(MonitorClient::at(self.layout.shim(&shim_of(record)?.id).path()))
    }

    /// Removes a session whose maker died; whether the id is free now.
    async fn reclaim_session(&self, id: &ContainerId, session: &ExecId) -> Result<bool> {
        let dir = self.layout.container(id).session(session);
        let is_leftover = match SessionRecord::read(&dir) {
            Ok(Some(record)) => {
                !record.started && Witness::open(&dir)?.is_none_or(|witness| witness.is_free())
            }
            _ => false,
        };
        if is_leftover {
            self.lock_session(id, session).await?;
        }
        Ok(!dir.path().exists())
    }
}
