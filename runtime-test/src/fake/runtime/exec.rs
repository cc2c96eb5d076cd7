//! Running second programs.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use runtime_api::{
    BoxRead, BoxWrite, Capability, ContainerId, ContainerStatus, Error, ErrorKind, ExecEnd, ExecOutcome,
    ExecRequest, ExecSyncRequest, ExitStatus, Operation, ProcessRequest, Rejection, Result, Streams,
    WindowSize,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::{Defect, probe};

use super::FakeRuntime;
use crate::fake::model::{ExecKey, ExecTerms, Program, Stream};
use crate::fake::program;
use crate::fake::world::{Parts, World};

/// How much standard input the model's pipe holds.
const PIPE: usize = 64 * 1024;

/// An exec that somebody waits for; dropping it ends its tree.
struct RunningExec {
    world: Arc<World>,
    key: ExecKey,
}

impl Drop for RunningExec {
    fn drop(&mut self) {
        self.world.act(|parts| parts.model.drop_exec(self.key));
    }
}

impl FakeRuntime {
    /// Runs a program and collects its output.
    pub(super) async fn run_exec(&self, id: &ContainerId, request: ExecSyncRequest) -> Result<ExecOutcome> {
        let terms = ExecTerms {
            operation: Operation::ExecSync,
            timeout: request.timeout,
            output: request.output_limit,
            input: false,
            terminal: request.process.terminal.then_some((0, 0)),
            descriptors: Vec::new(),
        };
        let running = self.begin_exec(id, request.process, terms)?;
        Ok(self.world.until(|parts| parts.model.collect(running.key)).await)
    }

    /// Runs a program with the caller's streams.
    pub(super) async fn carry_exec(
        &self,
        id: &ContainerId,
        request: ExecRequest,
        streams: Streams,
    ) -> Result<ExitStatus> {
        let timeout = request.timeout;
        let input = streams.stdin.is_some();
        if !request.descriptors.is_empty() {
            self.profile.capabilities().require(Capability::ExecDescriptors)?;
        }
        let first = streams.resize.as_ref().and_then(|sizes| *sizes.borrow());
        let first = first.map_or((0, 0), |size| (size.rows, size.columns));
        let terms = ExecTerms {
            operation: Operation::Exec,
            timeout,
            output: usize::MAX,
            input,
            terminal: request.process.terminal.then_some(first),
            descriptors: request.descriptors,
        };
        let running = match self.begin_exec(id, request.process, terms) {
            Err(error) if self.defect(Defect::AttachedRefusalIsPrinted) => {
                if let Some(mut stderr) = streams.stderr {
                    // Whether it could be printed is the defect's own affair.
                    let _ = stderr.write_all(format!("{error}\n").as_bytes()).await;
                }
                return Err(error);
            }
            begun => begun?,
        };
        {
            let output = async {
                tokio::join!(
                    running.pump(Stream::Stdout, streams.stdout, self),
                    running.pump(Stream::Stderr, streams.stderr, self)
                )
            };
            let (mut output, mut input) = (
                pin!(output),
                pin!(async {
                    tokio::join!(running.feed(streams.stdin), running.follow(streams.resize));
                }),
            );
            tokio::select! {
                biased;
                lost = &mut output => {
                    if lost.0 || lost.1 {
                        return Ok(ExitStatus::exited(141, self.clock()));
                    }
                }
                () = &mut input => {}
            }
        }
        let outcome = self.world.until(|parts| parts.model.collect(running.key)).await;
        match outcome.end {
            ExecEnd::Exited(code) => Ok(ExitStatus::exited(code, self.clock())),
            _ => Err(Error::new(ErrorKind::TimedOut(timeout.unwrap_or_default()))),
        }
    }

    /// The time of day.
    fn clock(&self) -> std::time::SystemTime {
        self.world.look(|parts| parts.model.time_of(parts.model.now()))
    }

    fn begin_exec(&self, id: &ContainerId, process: ProcessRequest, terms: ExecTerms) -> Result<RunningExec> {
        let operation = terms.operation;
        self.check_exec(&process, terms.timeout)?;
        let key = self.world.act(|parts| {
            let status = parts.model.state(id)?.status;
            let stopped = status == ContainerStatus::Stopped;
            if stopped && parts.model.has_run_an_exec(id) && self.defect(Defect::LateExecIsRejected) {
                let message = "no such process".to_owned();
                return Err(Error::new(ErrorKind::Rejected { class: Rejection::Other, message }));
            }
            if !parts.model.pretends_to_exec(operation, status) {
                parts.model.admitted(operation, id)?;
            }
            let program = self.program_of_exec(parts, operation, id, process)?;
            parts.model.exec(id, program, terms)
        })?;
        Ok(RunningExec { world: Arc::clone(&self.world), key })
    }

    /// What an exec runs, if it is there.
    pub(super) fn program_of_exec(
        &self,
        parts: &Parts,
        operation: Operation,
        id: &ContainerId,
        process: ProcessRequest,
    ) -> Result<Program> {
        let Some(blueprint) = parts.model.blueprint(id) else {
            return Err(Error::not_found(operation, id));
        };
        let mut program = program::for_exec(&blueprint.program, process)?;
        if self.defect(Defect::ExecForgetsTheUser) {
            program.who.clone_from(&blueprint.program.who);
        }
        if self.defect(Defect::ExecHasAllCapabilities) {
            program.who.effective = u64::MAX >> 23;
        }
        if self.defect(Defect::ExecForgetsSettings) {
            program.env.clone_from(&blueprint.program.env);
            program.cwd.clone_from(&blueprint.program.cwd);
        }
        match program::check(&blueprint.rootfs, &program) {
            Err(error) if self.defect(Defect::ExecMissingProgramRuns) && is_exec_not_found(&error) => {
                program.argv = vec![probe::PATH.to_owned(), "exit:127".to_owned()];
            }
            checked => checked?,
        }
        Ok(program)
    }

    pub(super) fn check_exec(&self, process: &ProcessRequest, timeout: Option<Duration>) -> Result<()> {
        let invalid = |why: &str| Err(Error::new(ErrorKind::InvalidArgument(why.to_owned())));
        if process.argv.is_empty() {
            return invalid("an exec needs a program");
        }
        if timeout == Some(Duration::ZERO) {
            return invalid("a time limit of zero would let nothing run; leave it out for no limit");
        }
        if process.terminal { self.profile.capabilities().require(Capability::ExecTty) } else { Ok(()) }
    }
}

impl RunningExec {
    /// Gives what the program writes to a client. Tells whether the client was lost and a defect minds it.
    async fn pump(&self, stream: Stream, to: Option<BoxWrite>, value: &FakeRuntime) -> bool {
        let mut to = to;
        loop {
            let take = |parts: &mut Parts| parts.model.take_exec_output(self.key, stream);
            let written = self.world.until(take).await;
            if written.is_empty() {
                break;
            }
            let Some(client) = &mut to else { continue };
            let sent = async {
                client.write_all(&written).await?;
                client.flush().await
            };
            let turn = value.misdeeds.turn(value.defect(Defect::ClientsTakeTurns)).await;
            let sent = sent.await;
            drop(turn);
            if sent.is_err() {
                to = None;
                if value.defect(Defect::LostClientEndsExec) {
                    return true;
                }
            }
        }
        if let Some(mut client) = to {
            // A client that is gone misses nothing any more.
            let _ = client.shutdown().await;
        }
        false
    }

    /// Gives the terminal the sizes that are wanted; never returns.
    async fn follow(&self, sizes: Option<watch::Receiver<Option<WindowSize>>>) {
        let Some(mut sizes) = sizes else { return pending().await };
        loop {
            let wanted = *sizes.borrow_and_update();
            if let Some(size) = wanted {
                self.world.act(|parts| parts.model.resize_exec(self.key, (size.rows, size.columns)));
            }
            if sizes.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// Gives the program a caller's input; never returns.
    async fn feed(&self, from: Option<BoxRead>) {
        let Some(mut from) = from else { return pending().await };
        let mut buffer = vec![0; 16 * 1024];
        loop {
            // A caller whose input cannot be read any more has none.
            let count = from.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                self.world.act(|parts| parts.model.end_exec_input(self.key));
                return pending().await;
            }
            let room = |parts: &mut Parts| match parts.model.unread_exec_input(self.key) {
                Some(unread) => (unread < PIPE).then_some(()),
                None => Some(()),
            };
            self.world.until(room).await;
            self.world.act(|parts| parts.model.write_exec_input(self.key, &buffer[..count]));
        }
    }
}

fn is_exec_not_found(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Rejected { class: Rejection::ExecNotFound, .. })
}
