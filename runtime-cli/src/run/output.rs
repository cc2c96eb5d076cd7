//! The container's output, on its way to the streams of this process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::print;

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
    /// Told when nothing more can be written.
    broken: (mpsc::Sender<Broken>, mpsc::Receiver<Broken>),
    /// The first that was no reader's leave-taking.
    lost: Option<Broken>,
}

/// A stream of this process that cannot be written.
#[derive(Debug)]
struct Broken {
    stream: &'static str,
    error: io::Error,
}

/// Output that did not come out, though somebody may want it.
#[derive(Debug)]
pub(super) struct Lost {
    broken: Broken,
    stopped: bool,
}

impl Lost {
    /// What happened, and what was done about it.
    pub(super) fn told(&self) -> String {
        let Broken { stream, error } = &self.broken;
        let done = if self.stopped { "the container was stopped" } else { "some of its output is lost" };
        format!("write {stream}: {}; {done}", print::cause(error))
    }
}

impl Pumps {
    pub(super) fn new() -> Self {
        Self { tasks: Vec::new(), progress: Arc::default(), broken: mpsc::channel(2), lost: None }
    }

    /// The end for the runtime; what it writes there comes out on standard output.
    pub(super) fn stdout(&mut self) -> DuplexStream {
        self.to("standard output", tokio::io::stdout())
    }

    /// [`Self::stdout`] for standard error.
    pub(super) fn stderr(&mut self) -> DuplexStream {
        self.to("standard error", tokio::io::stderr())
    }

    fn to(&mut self, stream: &'static str, to: impl AsyncWrite + Send + Unpin + 'static) -> DuplexStream {
        let (ours, theirs) = duplex(BUFFER);
        let (progress, broken) = (Arc::clone(&self.progress), self.broken.0.clone());
        self.tasks.push(tokio::spawn(copy(ours, to, progress, broken, stream)));
        theirs
    }

    /// Waits until this process's output can no longer be written. Cancel safe.
    pub(super) async fn broken(&mut self) {
        match self.broken.1.recv().await {
            Some(broken) => self.keep(broken),
            None => std::future::pending().await,
        }
    }

    /// What was lost. A reader that has left, as `head` does, has seen what it wanted.
    pub(super) fn lost(mut self, stopped: bool) -> Option<Lost> {
        while let Ok(broken) = self.broken.1.try_recv() {
            self.keep(broken);
        }
        self.lost.map(|broken| Lost { broken, stopped })
    }

    fn keep(&mut self, broken: Broken) {
        if broken.error.kind() != io::ErrorKind::BrokenPipe {
            self.lost.get_or_insert(broken);
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
    broken: mpsc::Sender<Broken>,
    stream: &'static str,
) {
    let mut buffer = vec![0; BUFFER];
    let mut writable = true;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if !writable {
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
        if let Err(error) = written {
            // The rest is read and dropped, so that the runtime is not held up.
            writable = false;
            let _ = broken.try_send(Broken { stream, error });
        }
    }
}
