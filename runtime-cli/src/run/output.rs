//! The container's output, on its way to the streams of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How much may be on its way at a time.
const BUFFER: usize = 64 * 1024;
/// How long output may stand still at the end of a life before the rest is given up.
const STILL: Duration = Duration::from_secs(5);

/// What tells slow from stuck.
#[derive(Debug, Default)]
struct Progress {
    /// Counts what was written.
    steps: AtomicU64,
    /// How many pumps wait for a reader of this process's output.
    writing: AtomicU64,
}

/// Copies output and flushes it. The runtime writes to one end and never waits for a flush of ours.
#[derive(Debug)]
pub(super) struct Pumps {
    tasks: Vec<JoinHandle<()>>,
    progress: Arc<Progress>,
    /// Told when a reader of ours went away.
    gone: (mpsc::Sender<()>, mpsc::Receiver<()>),
}

impl Pumps {
    pub(super) fn new() -> Self {
        Self { tasks: Vec::new(), progress: Arc::default(), gone: mpsc::channel(1) }
    }

    /// The end for the runtime; what it writes there comes out at `to`.
    pub(super) fn to(&mut self, to: impl AsyncWrite + Send + Unpin + 'static) -> DuplexStream {
        let (ours, theirs) = duplex(BUFFER);
        let copy = copy(ours, to, Arc::clone(&self.progress), self.gone.0.clone());
        self.tasks.push(tokio::spawn(copy));
        theirs
    }

    /// Waits until a reader of this process's output has gone away. Cancel safe.
    pub(super) async fn reader_is_gone(&mut self) {
        if self.gone.1.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until everything that the runtime wrote has come out. Whoever reads slowly gets everything; a source that
    /// says nothing and does not end is given up after a while.
    pub(super) async fn drain(&mut self) {
        for task in &mut self.tasks {
            loop {
                let before = self.progress.steps.load(Ordering::Relaxed);
                if tokio::time::timeout(STILL, &mut *task).await.is_ok() {
                    break;
                }
                let writing = self.progress.writing.load(Ordering::Relaxed) > 0;
                if !writing && self.progress.steps.load(Ordering::Relaxed) == before {
                    task.abort();
                    break;
                }
            }
        }
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    progress: Arc<Progress>,
    gone: mpsc::Sender<()>,
) {
    let mut buffer = vec![0; BUFFER];
    let mut broken = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if broken {
            continue;
        }
        progress.writing.fetch_add(1, Ordering::Relaxed);
        let written = async {
            to.write_all(&buffer[..count]).await?;
            to.flush().await
        }
        .await;
        progress.writing.fetch_sub(1, Ordering::Relaxed);
        progress.steps.fetch_add(1, Ordering::Relaxed);
        if written.is_err() {
            // The rest is read and dropped, so that the runtime is not held up.
            broken = true;
            let _ = gone.try_send(());
        }
    }
}
