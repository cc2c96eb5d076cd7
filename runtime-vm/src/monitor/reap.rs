//! A process that adopts what a shim leaves behind, and buries it.
//!
//! The command that starts a shim leaves a process and ends. That process comes to the nearest reaper above it, which is the
//! monitor: so it knows at once when the shim dies. Whatever else comes is reaped, too.

use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::AbortHandle;

use runtime_api::{Error, ErrorKind, Result};

/// Reaps for as long as it lives. There is at most one in a process, and the process must be made for it: it takes the end
/// of every child.
#[derive(Debug)]
pub(super) struct Reaper {
    /// Held while a command of ours runs, whose end is its starter's to see.
    quiet: Arc<Mutex<()>>,
    task: AbortHandle,
}

impl Reaper {
    /// Makes this process the one to which orphans below it come.
    pub(super) fn begin() -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Internal("this process cannot adopt orphans".into())).caused_by(error)
        };
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|error| failed(error.into()))?;
        let mut ends = signal(SignalKind::child()).map_err(failed)?;
        let quiet = Arc::new(Mutex::new(()));
        let wanted = Arc::clone(&quiet);
        let task = tokio::spawn(async move {
            loop {
                let turn = wanted.lock().await;
                reap();
                drop(turn);
                if ends.recv().await.is_none() {
                    return;
                }
            }
        });
        Ok(Self { quiet, task: task.abort_handle() })
    }

    /// Until the answer is dropped nobody is reaped, so that the ends of commands can be seen by those who started them.
    pub(super) async fn hold(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.quiet).lock_owned().await
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(status) => tracing::debug!(?status, "reaped"),
            Err(Errno::EINTR) => {}
            Err(error) => {
                tracing::warn!(%error, "children cannot be reaped");
                return;
            }
        }
    }
}
