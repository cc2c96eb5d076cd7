//! An exec with streams of our own.

use runtime_api::{ExecRequest, ExitStatus, Result, Streams};
use tokio::task::JoinHandle;

use super::tap::Kept;
use super::{PATIENCE, poll_until};
use crate::{Checked, Subject, Violation};

/// An exec whose output is kept as it comes. Dropping it drops the exec.
#[derive(Debug)]
pub struct ExecTap {
    stdout: Kept,
    stderr: Kept,
    running: JoinHandle<Result<ExitStatus>>,
}

impl ExecTap {
    /// Begins an exec with the input and the sizes of these streams; their outputs are replaced by this client's own.
    #[must_use]
    pub fn begin(container: &Subject<'_>, request: ExecRequest, streams: Streams) -> Self {
        let (stdout, stderr) = (Kept::default(), Kept::default());
        let running =
            container.executing_with(request, streams.stdout(stdout.clone()).stderr(stderr.clone()));
        Self { stdout, stderr, running }
    }

    /// What came from standard output up to now.
    #[must_use]
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.bytes()
    }

    /// What came from standard error up to now.
    #[must_use]
    pub fn stderr(&self) -> Vec<u8> {
        self.stderr.bytes()
    }

    /// Whether the exec is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.running.is_finished()
    }

    /// Waits until standard output holds this text.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn until_got(&self, text: &str) -> Checked {
        let holds = || self.stdout().windows(text.len()).any(|window| window == text.as_bytes());
        if poll_until(PATIENCE, || holds().then_some(())).await.is_some() {
            return Ok(());
        }
        let got = self.stdout();
        let got = String::from_utf8_lossy(&got[..got.len().min(200)]).into_owned();
        Err(Violation::new(format!("the exec's client must get {text:?}, and got {got:?}")))
    }

    /// Waits for the result of the exec.
    ///
    /// # Errors
    /// When it panicked or does not end.
    pub async fn ended(&mut self) -> Checked<Result<ExitStatus>> {
        match tokio::time::timeout(PATIENCE, &mut self.running).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(Violation::new(format!("exec panicked: {error}"))),
            Err(_late) => Err(Violation::new("the exec does not end")),
        }
    }

    /// Waits for the end and gives the exit code.
    ///
    /// # Errors
    /// When the exec failed, or has no code.
    pub async fn code(&mut self) -> Checked<i32> {
        self.ended().await??.code.ok_or_else(|| Violation::new("the exec ended without a code"))
    }
}

impl Drop for ExecTap {
    fn drop(&mut self) {
        self.running.abort();
    }
}
