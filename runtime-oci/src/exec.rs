//! Exec: the runtime is run directly, detached and with streams of ours. No monitor is in between, only the small
//! process of `reaper.rs` that collects the command's code.
//!
//! Each exec has a directory below its container, with its owner and the pid of its command. When the caller goes away,
//! at the time limit, or at the next open after the owner died, the command itself is killed with its descendants.
//! Killing the runtime's process alone would leave the command running.

pub(crate) mod affinity;
pub(crate) mod inside;
pub(crate) mod orphans;
mod running;
mod streams;
mod terminal;

use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::Instant;

use runtime_api::{
    Capability, ContainerId, ContainerStatus, Error, ErrorKind, ExecEnd, ExecOutcome, ExecRequest,
    ExecSyncRequest, ExitStatus, Operation, ProcessRequest, Result, Streams, WindowSize,
};
use runtime_host::exec::{Input, Room, Sink, being_killed, check, merged, read_spec};
use runtime_host::process::Identity;

use crate::backend::{Backend, ENDING};
use crate::command::code_of;
use crate::complaint;
use crate::layout::ContainerDir;
use crate::observe;
use crate::record::Record;
use crate::tries::Tries;
use running::{Given, Met, Running};
use streams::Ends;

/// The code of a command that was killed with its container.
pub(crate) const KILLED: i32 = 137;
/// What a process leaves with that waited for a command and lost its sandbox.
pub(crate) const LOST: i32 = 128;

impl Backend {
    /// The process document of an exec in the container of this directory.
    pub(crate) fn process_of(
        &self,
        dir: &ContainerDir,
        request: &ProcessRequest,
        size: Option<WindowSize>,
    ) -> Result<Value> {
        let mut spec = read_spec(&dir.config())?;
        let own = spec["process"].take();
        let mut process = merged(own, request, size);
        if self.config.execs_begin_on_first_cpu {
            affinity::begin_on_first(&mut process, &spec);
        }
        Ok(process)
    }

    /// Runs a program and collects its output.
    pub(crate) async fn exec_sync(&self, id: &ContainerId, request: ExecSyncRequest) -> Result<ExecOutcome> {
        let operation = Operation::ExecSync;
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        self.check_exec(&request.process, request.timeout).map_err(named)?;
        let begun = Instant::now();
        let mut tries = Tries::of(self.dialect.alone());
        loop {
            match self.exec_sync_once(id, &request, begun).await {
                Err(error) if tries.again(&error).await => {}
                done => return done,
            }
        }
    }

    async fn exec_sync_once(
        &self,
        id: &ContainerId,
        request: &ExecSyncRequest,
        begun: Instant,
    ) -> Result<ExecOutcome> {
        let operation = Operation::ExecSync;
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let (mut exec, ends) = self.begin_exec(operation, id, Given::nothing(&request.process)).await?;
        let room = Room::new(request.output_limit);
        let (mut stdout, mut stderr) = (Sink::kept(&room), Sink::kept(&room));
        let (course, mut none) = (exec.course(), Input::none());
        let carried = streams::carry(ends, &mut none, &mut stdout, &mut stderr, &course);
        let met = exec.attend(carried, left(request.timeout, begun)).await.map_err(named)?;
        let mut outcome = ExecOutcome::new(ExecEnd::TimedOut);
        outcome.stdout = stdout.into_kept();
        outcome.stderr = stderr.into_kept();
        outcome.truncated = room.was_exceeded();
        if let Some(code) =
            self.conclude(operation, id, &mut exec, met, &outcome.stderr).await.map_err(named)?
        {
            outcome.end = ExecEnd::Exited(code);
        }
        Ok(outcome)
    }

    /// Runs a program with the caller's streams.
    pub(crate) async fn exec(
        &self,
        id: &ContainerId,
        request: ExecRequest,
        streams: Streams,
    ) -> Result<ExitStatus> {
        let operation = Operation::Exec;
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        self.check_exec(&request.process, request.timeout).map_err(named)?;
        if !request.descriptors.is_empty() {
            self.capabilities.require(Capability::ExecDescriptors).map_err(named)?;
        }
        let begun = Instant::now();
        let may_repeat = self.dialect.may_do_nothing();
        let mut client = Client {
            input: Input { from: streams.stdin, sizes: streams.resize, waits: may_repeat },
            stdout: Sink::client(streams.stdout),
            stderr: Sink::client(streams.stderr),
        };
        let mut tries = Tries::of(self.dialect.alone());
        let ended = loop {
            let given = Given::new(&request.process, &client.input, request.descriptors.clone());
            let limit = left(request.timeout, begun);
            match self.exec_once(id, given, limit, &mut client).await {
                Err(error) if tries.again(&error).await => {}
                ended => break ended,
            }
        };
        // Where nothing was run nobody has told the client yet that nothing will come.
        client.stdout.close().await;
        client.stderr.close().await;
        match ended.map_err(named)? {
            Some(code) => Ok(ExitStatus::exited(code, SystemTime::now())),
            None => {
                let late = Error::new(ErrorKind::TimedOut(request.timeout.unwrap_or_default()));
                Err(named(late.hint("the command was killed with what it had started")))
            }
        }
    }

    /// Runs a program with a caller's streams, which stay whole if the runtime does nothing; its code, or nothing when
    /// it was killed at its time limit.
    async fn exec_once(
        &self,
        id: &ContainerId,
        given: Given<'_>,
        limit: Option<Duration>,
        client: &mut Client<'_>,
    ) -> Result<Option<i32>> {
        let (mut exec, ends) = self.begin_exec(Operation::Exec, id, given).await?;
        let course = exec.course();
        let Client { input, stdout, stderr } = client;
        let carried = streams::carry(ends, input, stdout, stderr, &course);
        let met = exec.attend(carried, limit).await?;
        self.conclude(Operation::Exec, id, &mut exec, met, &[]).await
    }

    /// Refuses what cannot be run, before anything is looked up.
    pub(crate) fn check_exec(&self, process: &ProcessRequest, limit: Option<Duration>) -> Result<()> {
        check(process, limit)?;
        if process.terminal { self.capabilities.require(Capability::ExecTty) } else { Ok(()) }
    }

    /// Locks a running container and begins an exec in it.
    async fn begin_exec(
        &self,
        operation: Operation,
        id: &ContainerId,
        given: Given<'_>,
    ) -> Result<(Running, Ends)> {
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        // Begun under the lock: a stop that turns to KILL either sees this exec or has refused it.
        let (locked, _) = self.admit(operation, id).await?;
        if observe::is_being_killed(&locked.record) {
            return Err(named(being_killed()));
        }
        self.spawn_exec(&locked, id, &given).map_err(named)
    }

    /// What an exec that was attended comes to: its code, or nothing when it was killed at its time limit.
    async fn conclude(
        &self,
        operation: Operation,
        id: &ContainerId,
        exec: &mut Running,
        met: Met,
        stderr: &[u8],
    ) -> Result<Option<i32>> {
        let (status, said) = match met {
            Met::Ended(status, said) => (status, said),
            Met::TimedOut => {
                exec.kill().await;
                return Ok(None);
            }
            Met::NeverBegan => {
                exec.kill().await;
                let late = Error::new(ErrorKind::TimedOut(self.config.exec_timeout));
                return Err(late.with_command(exec.line().detail(None, "")));
            }
        };
        let dir = self.layout.container(id);
        if running::by_signal(status) {
            // Somebody killed the process that collects the code, so the command has no one to tell it to.
            self.kill_command(&dir, exec).await;
            let gone = "the process that waits for the exec was killed";
            return Err(Error::new(ErrorKind::Internal(gone.into())));
        }
        let code = code_of(status);
        if exec.never_ran(code) {
            exec.end_what_began().await;
            let said = if said.is_empty() { stderr } else { &said };
            let stderr = String::from_utf8_lossy(said).into_owned();
            let message = complaint::account(Some(&exec.log()), &stderr);
            let detail = exec.line().detail(Some(code), stderr);
            return Err(self.why_not_run(operation, id, &dir, message).await.with_command(detail));
        }
        if exec.may_have_lost(code) && !self.is_running(id).await {
            return Ok(Some(KILLED));
        }
        Ok(Some(code))
    }

    /// Whether a container still runs; one that was deleted does not.
    async fn is_running(&self, id: &ContainerId) -> bool {
        self.state(id).await.is_ok_and(|state| state.status == ContainerStatus::Running)
    }

    /// The command did not run: either the container ended meanwhile, or the runtime has a reason of its own. What runtimes
    /// say of a container that dies under them has as many forms as there are moments for it, so the container is asked.
    pub(crate) async fn why_not_run(
        &self,
        operation: Operation,
        id: &ContainerId,
        dir: &ContainerDir,
        message: String,
    ) -> Error {
        let refusal = self.rejected(message);
        let patience = Instant::now() + ENDING;
        loop {
            let state = match self.state(id).await {
                Ok(state) => state,
                Err(gone) if gone.is_not_found() && !dir.path().exists() => {
                    return Error::not_found(operation, id);
                }
                Err(_) => return refusal,
            };
            if let Err(wrong_state) = operation.admit(id, state.status, state.stopping) {
                return wrong_state;
            }
            let Ok(Some(record)) = Record::read(dir) else { return refusal };
            if observe::is_being_killed(&record) {
                return being_killed();
            }
            if !record.init.is_none_or(Identity::is_ending) || Instant::now() >= patience {
                return refusal;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The streams of the client of an exec.
struct Client<'a> {
    input: Input,
    stdout: Sink<'a>,
    stderr: Sink<'a>,
}

/// What is left of a time limit.
fn left(limit: Option<Duration>, begun: Instant) -> Option<Duration> {
    limit.map(|limit| limit.saturating_sub(begun.elapsed()))
}
