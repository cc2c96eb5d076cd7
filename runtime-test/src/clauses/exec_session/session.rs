//! One session as the clauses use it.

use std::time::Duration;

use runtime_api::{
    AttachEnd, AttachRequest, ContainerId, ErrorKind, ExecId, ExecSessionRequest, ExecSessionState, ProcessRequest,
    Result, StdinMode, StopRequest, Streams,
};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::PATIENCE;
use crate::bench::{Tap, poll_until};
use crate::{Bench, Checked, Step, Subject, Violation, Workload};

/// The time between two ticks.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Arms a trap, then prints a line every few milliseconds for ever: who attaches late still sees that it is armed.
pub(super) fn ticking(trap: Step) -> Workload {
    Workload::new([trap, Step::Tick(TICK)])
}

/// A session of a clause, known or not.
pub(super) struct Session<'a> {
    pub(super) bench: &'a Bench,
    pub(super) container: ContainerId,
    pub(super) id: ExecId,
}

impl<'a> Session<'a> {
    /// The clause's token is in the id, so that whatever is left of the session on the host can be found.
    pub(super) fn of(bench: &'a Bench, container: &Subject<'_>, name: &str) -> Checked<Self> {
        let id = ExecId::new(bench.id(name).as_str())?;
        Ok(Self { bench, container: container.id().clone(), id })
    }

    pub(super) async fn start(&self, workload: &Workload) -> Result<ExecSessionState> {
        self.start_process(workload.process(), StdinMode::Closed).await
    }

    pub(super) async fn start_process(&self, process: ProcessRequest, stdin: StdinMode) -> Result<ExecSessionState> {
        let request = ExecSessionRequest::new(self.id.clone(), process).stdin(stdin);
        self.bench.runtime().exec_start(&self.container, request).await
    }

    pub(super) async fn state(&self) -> Result<ExecSessionState> {
        self.bench.runtime().exec_state(&self.container, &self.id).await
    }

    pub(super) async fn runs(&self) -> Result<bool> {
        Ok(matches!(self.state().await?, ExecSessionState::Running { .. }))
    }

    pub(super) async fn clean_up(&self) -> Result<()> {
        self.bench.runtime().exec_cleanup(&self.container, &self.id).await
    }

    /// Stops it; gives the code.
    pub(super) async fn stop(&self, grace: Duration) -> Result<Option<i32>> {
        let request = StopRequest::within(grace);
        match self.bench.runtime().exec_stop(&self.container, &self.id, request).await? {
            ExecSessionState::Stopped { code } => Ok(code),
            other => Err(runtime_api::Error::new(ErrorKind::Internal(format!("stopped, it is {other:?}")))),
        }
    }

    pub(super) fn stopping(&self, grace: Duration) -> JoinHandle<Result<ExecSessionState>> {
        let (runtime, container, id) = (self.bench.runtime(), self.container.clone(), self.id.clone());
        tokio::spawn(async move { runtime.exec_stop(&container, &id, StopRequest::within(grace)).await })
    }

    /// Waits for its end; gives the code.
    pub(super) async fn ended(&self) -> Checked<Option<i32>> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let ExecSessionState::Stopped { code } = self.state().await? {
                return Ok(code);
            }
            if Instant::now() >= give_up {
                return Err(Violation::new(format!("session \"{}\" has not ended", self.id)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn soon_unknown(&self) -> Checked<bool> {
        for _ in 0..100 {
            match self.state().await {
                Err(error) if error.is_not_found() => return Ok(true),
                Err(error) => return Err(error.into()),
                Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
        Ok(false)
    }

    /// Attaches without streams.
    pub(super) async fn attach(&self) -> Result<AttachEnd> {
        let request = AttachRequest::new();
        self.bench.runtime().exec_attach(&self.container, &self.id, request, Streams::none()).await
    }

    pub(super) async fn attached(&self, streams: Streams) -> Checked<Tap> {
        Tap::attached_to_session(self.bench, &self.container, &self.id, streams).await
    }

    /// Waits until a program that ticks has armed its trap.
    pub(super) async fn until_armed(&self) -> Checked {
        let client = self.attached(Streams::none()).await?;
        let ticks = || client.stdout().windows(4).any(|four| four == b"tick").then_some(());
        let seen = poll_until(PATIENCE, ticks).await;
        seen.ok_or_else(|| Violation::new(format!("session \"{}\" never ticked", self.id)))
    }
}

pub(super) async fn write(to: &mut tokio::io::DuplexStream, bytes: &[u8]) -> Checked {
    to.write_all(bytes).await.map_err(|error| Violation::host("the input of the attachment", &error))
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
