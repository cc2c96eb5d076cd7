//! A container under test.

use std::time::Duration;

use oci_spec::runtime::LinuxResources;
use runtime_api::{
    Capability, CheckpointOutcome, CheckpointRequest, ContainerId, ContainerState, ContainerStatus,
    DeleteRequest, ErrorKind, ExecOutcome, ExecRequest, ExecSyncRequest, ExitStatus, KillRequest, Result,
    Signal, Stats, StopRequest, Streams, UpdateRequest,
};
use tokio::task::JoinHandle;

use super::crilog::{self, CriLog};
use super::{BLIND_START, PATIENCE, Tap, poll_until};
use crate::workload::READY;
use crate::{Bench, Checked, Violation, Workload};

/// What a program printed up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// How often this line stands in standard output.
    #[must_use]
    pub fn count(&self, line: &str) -> usize {
        self.stdout.lines().filter(|each| *each == line).count()
    }
}

/// A container that a clause made. Its methods are those of the runtime, with the id filled in.
#[derive(Debug)]
pub struct Subject<'a> {
    bench: &'a Bench,
    id: ContainerId,
    tap: Option<Tap>,
}

impl<'a> Subject<'a> {
    pub(super) const fn new(bench: &'a Bench, id: ContainerId, tap: Option<Tap>) -> Self {
        Self { bench, id, tap }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &ContainerId {
        &self.id
    }

    /// Runs its program.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn start(&self) -> Result<()> {
        self.bench.runtime().start(&self.id).await
    }

    /// Its state.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn state(&self) -> Result<ContainerState> {
        self.bench.runtime().state(&self.id).await
    }

    /// Sends a signal to its init.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn kill(&self, signal: Signal) -> Result<()> {
        self.bench.runtime().kill(&self.id, KillRequest::new(signal)).await
    }

    /// Ends it, politely for `grace`.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn stop(&self, grace: Duration) -> Result<ExitStatus> {
        self.bench.runtime().stop(&self.id, StopRequest::within(grace)).await
    }

    /// [`Subject::stop`] in a task of its own.
    #[must_use]
    pub fn stopping(&self, grace: Duration) -> JoinHandle<Result<ExitStatus>> {
        let (runtime, id) = (self.bench.runtime(), self.id.clone());
        tokio::spawn(async move { runtime.stop(&id, StopRequest::within(grace)).await })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn wait(&self) -> Result<ExitStatus> {
        self.bench.runtime().wait(&self.id).await
    }

    /// [`Subject::wait`] in a task of its own.
    #[must_use]
    pub fn waiting(&self) -> JoinHandle<Result<ExitStatus>> {
        let (runtime, id) = (self.bench.runtime(), self.id.clone());
        tokio::spawn(async move { runtime.wait(&id).await })
    }

    /// Freezes it.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn pause(&self) -> Result<()> {
        self.bench.runtime().pause(&self.id).await
    }

    /// Thaws it.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn resume(&self) -> Result<()> {
        self.bench.runtime().resume(&self.id).await
    }

    /// Changes its limits.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn update(&self, resources: LinuxResources) -> Result<()> {
        self.bench.runtime().update(&self.id, UpdateRequest::new(resources)).await
    }

    /// What it uses.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn stats(&self) -> Result<Stats> {
        self.bench.runtime().stats(&self.id).await
    }

    /// Saves it to an image.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn checkpoint(&self, request: CheckpointRequest) -> Result<CheckpointOutcome> {
        self.bench.runtime().checkpoint(&self.id, request).await
    }

    /// Forgets it.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn delete(&self) -> Result<()> {
        self.bench.runtime().delete(&self.id, DeleteRequest::new()).await
    }

    /// Kills and forgets it.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn delete_by_force(&self) -> Result<()> {
        self.bench.runtime().delete(&self.id, DeleteRequest::force()).await
    }

    /// Runs the probe program in it and collects its output.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn exec(&self, workload: &Workload) -> Result<ExecOutcome> {
        self.exec_with(ExecSyncRequest::new(workload.process())).await
    }

    /// Runs a program in it and collects its output.
    ///
    /// # Errors
    /// Those of the runtime.
    pub async fn exec_with(&self, request: ExecSyncRequest) -> Result<ExecOutcome> {
        self.bench.runtime().exec_sync(&self.id, request).await
    }

    /// [`Subject::exec_with`] in a task of its own.
    #[must_use]
    pub fn executing(&self, request: ExecSyncRequest) -> JoinHandle<Result<ExecOutcome>> {
        let (runtime, id) = (self.bench.runtime(), self.id.clone());
        tokio::spawn(async move { runtime.exec_sync(&id, request).await })
    }

    /// Runs a program in it with these streams, in a task of its own.
    #[must_use]
    pub fn executing_with(&self, request: ExecRequest, streams: Streams) -> JoinHandle<Result<ExitStatus>> {
        let (runtime, id) = (self.bench.runtime(), self.id.clone());
        tokio::spawn(async move { runtime.exec(&id, request, streams).await })
    }

    /// Breaks the clause unless the container has this status.
    ///
    /// # Errors
    /// With the status that it has.
    pub async fn must_be(&self, status: ContainerStatus) -> Checked {
        let is = self.state().await?.status;
        if is == status {
            return Ok(());
        }
        Err(Violation::new(format!("the container must be {status}, and is {is}")))
    }

    /// Breaks the clause unless the id is unknown.
    ///
    /// # Errors
    /// With what was found.
    pub async fn must_be_unknown(&self) -> Checked {
        match self.state().await {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound) => {}
            Err(error) => return Err(Violation::new(format!("must be unknown, and: {}", error.report()))),
            Ok(state) => return Err(Violation::new(format!("must be unknown, and is {}", state.status))),
        }
        let listed = self.bench.runtime().list().await?;
        if listed.iter().any(|state| state.id == self.id) {
            return Err(Violation::new("must be unknown, and is listed"));
        }
        Ok(())
    }

    /// What the program printed up to now; `None` where that cannot be observed.
    ///
    /// # Errors
    /// When the log is not in the CRI format.
    pub fn output(&self) -> Checked<Option<Output>> {
        if let Some(tap) = &self.tap {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Some(Output { stdout: text(tap.stdout()), stderr: text(tap.stderr()) }));
        }
        if self.bench.has(Capability::Log) {
            let CriLog { stdout, stderr } = self.log()?;
            return Ok(Some(Output { stdout, stderr }));
        }
        Ok(None)
    }

    /// What the program has printed, once nothing more of it comes.
    ///
    /// # Errors
    /// When it goes on to print for a long time.
    pub async fn last_output(&self) -> Checked<Option<Output>> {
        const LOOKS: usize = 20;
        // What a program printed before it stood still may be on its way for a while.
        const ENOUGH: usize = 3;
        let (mut before, mut same) = (self.output()?, 0);
        for _ in 0..LOOKS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.output()?;
            same = if now == before { same + 1 } else { 0 };
            if same == ENOUGH {
                return Ok(now);
            }
            before = now;
        }
        Err(Violation::new("the program goes on to print"))
    }

    /// What its log file says; empty while there is no file.
    fn log(&self) -> Checked<CriLog> {
        let path = self.bench.log_path(&self.id);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(CriLog::default()),
            Err(error) => return Err(Violation::host(path.display(), &error)),
        };
        crilog::read(&String::from_utf8_lossy(&bytes)).map_err(|error| Violation::new(error.to_string()))
    }

    /// Waits until the program printed this line. Where output cannot be observed it gives the program time.
    ///
    /// # Errors
    /// When the line does not come.
    pub async fn until_said(&self, line: &str) -> Checked {
        if self.output()?.is_none() {
            tokio::time::sleep(BLIND_START).await;
            return Ok(());
        }
        let seen = poll_until(PATIENCE, || match self.output() {
            Ok(Some(output)) if output.count(line) == 0 => None,
            Ok(_) => Some(Ok(())),
            Err(violation) => Some(Err(violation)),
        });
        match seen.await {
            Some(outcome) => outcome,
            None => Err(Violation::new(format!(
                "the program must print the line {line:?}, and printed {:?}",
                self.output()?.unwrap_or_default().stdout
            ))),
        }
    }

    /// Waits until the program says that its traps are armed.
    ///
    /// # Errors
    /// When it does not.
    pub async fn until_ready(&self) -> Checked {
        self.until_said(READY).await
    }
}
