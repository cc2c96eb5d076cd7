//! Exec: a second program that the shim runs, with fifos of ours for its streams. No monitor is in between.
//!
//! Each exec has a directory below its container, whose name is the exec's on the shim and begins with its owner. When the
//! caller goes away, at the time limit, or at the next open after the owner died, the command is killed with its
//! descendants, and the shim forgets it.

pub(crate) mod command;
mod orphans;
pub(crate) mod running;
pub(crate) mod strays;
mod streams;

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use runtime_api::{
    Capability, ContainerId, ContainerStatus, Error, ErrorKind, ExecEnd, ExecOutcome, ExecRequest,
    ExecSyncRequest, ExitStatus, Operation, Peer, ProcessRequest, Result, Streams, WindowSize,
};
use runtime_host::exec::{Input, Room, Sink, being_killed, check, merged, read_process};
use runtime_host::process::Identity;

use crate::backend::{Backend, ENDING};
use crate::layout::ContainerDir;
use crate::observe;
use crate::record::Record;
use crate::task::answer::TaskExit;
use crate::task::{Answer, ExecTask, Fault, TaskClient, any};
use command::Command;
use running::{Met, Place, Running};
use strays::write_process;
use streams::{Client, Ends, carry};

/// The code of a command that was killed with its container.
const KILLED: i32 = 137;

/// How often a shim is asked for a command whose end it does not tell.
const DOUBT: Duration = Duration::from_secs(20);

/// The end of a command: the shim's answer to the wait, or what it says of it elsewhere if that answer does not come.
async fn end_by(client: &TaskClient, command: &Command) -> Answer<TaskExit> {
    let told = async {
        loop {
            sleep(DOUBT).await;
            let state = client.state(command.target(), DOUBT).await;
            // What has ended has ended at some time.
            let exit = state.ok().and_then(|state| state.exit).filter(|exit| exit.at.is_some());
            if let Some(exit) = exit {
                return Ok(exit);
            }
        }
    };
    tokio::select! {
        biased;
        waited = client.wait(command.target()) => waited,
        told = told => told,
    }
}

/// What a command is given.
struct Given<'a> {
    process: &'a ProcessRequest,
    input: bool,
    size: Option<WindowSize>,
}

impl Backend {
    /// Runs a program and collects its output.
    pub(crate) async fn exec_sync(&self, id: &ContainerId, request: ExecSyncRequest) -> Result<ExecOutcome> {
        let operation = Operation::ExecSync;
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        self.check_exec(&request.process, request.timeout).map_err(named)?;
        let mut outcome = ExecOutcome::new(ExecEnd::TimedOut);
        let room = Room::new(request.output_limit);
        let mut client = Client::collects(&room);
        let given = Given { process: &request.process, input: false, size: None };
        let code = self.run(operation, id, &given, request.timeout, &mut client).await.map_err(named)?;
        outcome.stdout = client.stdout.into_kept();
        outcome.stderr = client.stderr.into_kept();
        outcome.truncated = room.was_exceeded();
        if let Some(code) = code {
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
        let size = streams.resize.as_ref().and_then(|sizes| *sizes.borrow());
        let given = Given { process: &request.process, input: streams.stdin.is_some(), size };
        let mut client = Client {
            input: Input { from: streams.stdin, sizes: streams.resize, waits: false },
            stdout: Sink::client(streams.stdout),
            stderr: Sink::client(streams.stderr),
        };
        let ended = self.run(operation, id, &given, request.timeout, &mut client).await;
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

    /// Refuses what cannot be run, before anything is looked up.
    pub(crate) fn check_exec(&self, process: &ProcessRequest, limit: Option<Duration>) -> Result<()> {
        check(process, limit)?;
        if process.terminal { self.capabilities.require(Capability::ExecTty) } else { Ok(()) }
    }

    /// Runs a program to its end; its code, or nothing when it was killed at its time limit.
    async fn run(
        &self,
        operation: Operation,
        id: &ContainerId,
        given: &Given<'_>,
        limit: Option<Duration>,
        client: &mut Client<'_>,
    ) -> Result<Option<i32>> {
        let begun = Instant::now();
        let left = || limit.map(|limit| limit.saturating_sub(begun.elapsed()));
        let Some((exec, ends)) = self.begin_exec(operation, id, given, left()).await? else {
            return Ok(None);
        };
        let course = exec.course();
        let command = exec.command().clone();
        let carried = Box::pin(carry(ends, client, &course, &command, exec.client()));
        let waited = self.end_of(&command, id);
        match exec.attend(carried, waited, left()).await? {
            Met::Ended(code) => Ok(Some(code)),
            Met::TimedOut => Ok(None),
        }
    }

    /// Locks a running container and begins an exec in it; nothing when the time limit passes before it runs.
    async fn begin_exec(
        &self,
        operation: Operation,
        id: &ContainerId,
        given: &Given<'_>,
        limit: Option<Duration>,
    ) -> Result<Option<(Running, Ends)>> {
        let begun = Instant::now();
        let (locked, _) = self.admit(operation, id).await?;
        if observe::is_being_killed(&locked.record) {
            return Err(being_killed());
        }
        let dir = locked.dir.clone();
        let client = self.client(&locked.record).await?;
        let process = merged(read_process(&dir.config())?, given.process, given.size);
        let place = Place::make(&dir)?;
        write_process(place.path(), &process)?;
        let process = any::process(&process)?;
        let command = Command::new(self, &locked.record, place.name())?.written_at(place.path());
        let (ends, io) = Ends::make(place.path(), given.process.terminal, given.input)?;
        let mut exec = Running::new(command, client.clone(), place);
        let most = self.config.exec_timeout;
        let left = || limit.map_or(most, |limit| limit.min(most)).saturating_sub(begun.elapsed());
        let task = ExecTask { id: id.to_string(), exec: exec.command().name().to_owned(), io, process };
        let mut answer = client.exec(task, left()).await.map(|()| 0);
        if answer.is_ok() {
            exec.is_known();
            // A start that hangs must not keep the container from being killed, and what is being killed starts nothing.
            drop(locked);
            answer = client.start(exec.command().target(), left()).await;
        }
        match answer {
            Ok(pid) => {
                exec.has_begun(pid);
                Ok(Some((exec, ends)))
            }
            // What it did by now is undone with the value.
            Err(Fault::Late(_)) if limit.is_some_and(|limit| limit <= most) => Ok(None),
            Err(fault @ Fault::Late(_)) => Err(fault.into_error(operation)),
            Err(fault) => {
                if matches!(fault, Fault::Refused { .. }) {
                    exec.is_answered();
                }
                exec.end().await;
                Err(self.why_not_run(operation, id, &dir, fault).await)
            }
        }
    }

    /// Waits for the end of a command, and gives its code.
    async fn end_of(&self, command: &Command, id: &ContainerId) -> Result<i32> {
        loop {
            let fault = match command.client(self).await {
                Ok(client) => match end_by(&client, command).await {
                    Ok(exit) => return Ok(exit.code),
                    // The shim may still be there.
                    Err(Fault::Closed(_) | Fault::Late(_)) if command.shim_lives() => {
                        sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                    Err(fault) => fault.into_error(Operation::Exec),
                },
                Err(error) => error,
            };
            // Who does not know the command any more has ended it with the container.
            let gone = matches!(fault.kind(), ErrorKind::NotFound | ErrorKind::PeerLost(Peer::Shim));
            if gone && !self.is_running(id).await {
                return Ok(KILLED);
            }
            return Err(fault);
        }
    }

    /// Whether a container still runs; one that was deleted does not.
    async fn is_running(&self, id: &ContainerId) -> bool {
        self.state(id).await.is_ok_and(|state| state.status == ContainerStatus::Running)
    }

    /// The command did not run: either the container ended meanwhile, or there is a reason of its own. What is said of a
    /// container that dies under an exec has as many forms as there are moments for it, so the container is asked.
    pub(crate) async fn why_not_run(
        &self,
        operation: Operation,
        id: &ContainerId,
        dir: &ContainerDir,
        fault: Fault,
    ) -> Error {
        let refusal = fault.into_error(operation);
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
            sleep(Duration::from_millis(5)).await;
        }
    }
}
