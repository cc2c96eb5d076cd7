//! A client of our own at a container's streams.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use runtime_api::{AttachEnd, AttachRequest, ContainerId, ExecId, Result, Streams};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{PATIENCE, poll_until};

/// How much of the end of an output is looked at.
const RECENT: usize = 4096;
use crate::{Bench, Checked, Violation};

/// An attached client that keeps everything it gets. Dropping it detaches.
#[derive(Debug)]
pub struct Tap {
    stdout: Kept,
    stderr: Kept,
    attachment: JoinHandle<Result<AttachEnd>>,
}

impl Tap {
    /// Attaches without input, and returns once nothing can be missed any more.
    ///
    /// # Errors
    /// When the attach ends before it began.
    pub async fn attached(bench: &Bench, id: &ContainerId) -> Checked<Self> {
        Self::attached_with(bench, id, Streams::none()).await
    }

    /// Attaches with the input of these streams; their outputs are replaced by this client's own.
    ///
    /// # Errors
    /// When the attach ends before it began.
    pub async fn attached_with(bench: &Bench, id: &ContainerId, streams: Streams) -> Checked<Self> {
        Self::attached_by(bench, id, AttachRequest::new(), streams).await
    }

    /// [`Tap::attached_with`] by a request of one's own, which must not ask to be told of the beginning.
    ///
    /// # Errors
    /// When the attach ends before it began.
    pub async fn attached_by(
        bench: &Bench,
        id: &ContainerId,
        request: AttachRequest,
        streams: Streams,
    ) -> Checked<Self> {
        let (runtime, id) = (bench.runtime(), id.clone());
        Self::begun(request, streams, |request, streams| {
            tokio::spawn(async move { runtime.attach(&id, request, streams).await })
        })
        .await
    }

    /// [`Tap::attached_with`] at the streams of an exec session.
    ///
    /// # Errors
    /// When the attach ends before it began.
    pub async fn attached_to_session(
        bench: &Bench,
        id: &ContainerId,
        session: &ExecId,
        streams: Streams,
    ) -> Checked<Self> {
        let (runtime, id, session) = (bench.runtime(), id.clone(), session.clone());
        Self::begun(AttachRequest::new(), streams, |request, streams| {
            tokio::spawn(async move { runtime.exec_attach(&id, &session, request, streams).await })
        })
        .await
    }

    async fn begun(
        request: AttachRequest,
        streams: Streams,
        attach: impl FnOnce(AttachRequest, Streams) -> JoinHandle<Result<AttachEnd>>,
    ) -> Checked<Self> {
        let (stdout, stderr) = (Kept::default(), Kept::default());
        let streams = streams.stdout(stdout.clone()).stderr(stderr.clone());
        let (told, attached) = oneshot::channel();
        let attachment = attach(request.on_attached(told), streams);
        let tap = Self { stdout, stderr, attachment };
        if attached.await.is_ok() {
            return Ok(tap);
        }
        match tap.ended().await {
            Err(violation) => Err(violation),
            Ok(end) => Err(Violation::new(format!("attach ended ({end:?}) and never said that it began"))),
        }
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

    /// Waits for the end of the attachment.
    ///
    /// # Errors
    /// When the attachment failed.
    pub async fn ended(mut self) -> Checked<AttachEnd> {
        match (&mut self.attachment).await {
            Ok(end) => Ok(end?),
            Err(error) => Err(Violation::new(format!("attach panicked or was aborted: {error}"))),
        }
    }

    /// Waits until standard output begins with this text.
    ///
    /// # Errors
    /// When something else comes, or nothing.
    pub async fn until_got(&self, text: &str) -> Checked {
        let came = poll_until(PATIENCE, || (self.stdout().len() >= text.len()).then_some(())).await;
        let got = self.stdout();
        if came.is_some() && got.starts_with(text.as_bytes()) {
            return Ok(());
        }
        let got = String::from_utf8_lossy(&got[..got.len().min(200)]).into_owned();
        Err(Violation::new(format!("the client must get {text:?}, and got {got:?}")))
    }

    /// Waits until `text` is in the end of what the client has got so far, whatever came before.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn until_gets(&self, text: &str) -> Checked {
        let holds = || {
            let got = self.stdout();
            let end = &got[got.len().saturating_sub(RECENT)..];
            end.windows(text.len()).any(|window| window == text.as_bytes())
        };
        if poll_until(PATIENCE, || holds().then_some(())).await.is_some() {
            return Ok(());
        }
        let got = self.stdout();
        let end = String::from_utf8_lossy(&got[got.len().saturating_sub(RECENT)..]).into_owned();
        Err(Violation::new(format!("the client must get {text:?}, and got at last {end:?}")))
    }

    /// Waits for the end of the attachment and gives all of standard output and of standard error.
    ///
    /// # Errors
    /// When the attachment failed.
    pub async fn streams(self) -> Checked<(Vec<u8>, Vec<u8>)> {
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        self.ended().await?;
        Ok((stdout.bytes(), stderr.bytes()))
    }

    /// Waits for the end of the attachment and gives all of standard output.
    ///
    /// # Errors
    /// When the attachment failed.
    pub async fn everything(self) -> Checked<Vec<u8>> {
        Ok(self.streams().await?.0)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.attachment.abort();
    }
}

/// A writer that keeps what it is given.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AsyncWrite for Kept {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
