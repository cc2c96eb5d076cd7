//! What those who carry an exec's streams must know of its course.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::conmon::pid_in;

/// How long output may still come after the command has ended, from children that hold its streams.
const DRAIN: Duration = Duration::from_secs(1);

/// Whether a command has begun, and when it ended.
#[derive(Clone, Debug)]
pub(super) struct Course {
    pid_file: PathBuf,
    ended: Arc<watch::Sender<Option<Instant>>>,
}

impl Course {
    /// A command whose pid the runtime writes to this file once it runs.
    pub(super) fn new(pid_file: PathBuf) -> Self {
        Self { pid_file, ended: Arc::new(watch::Sender::new(None)) }
    }

    pub(super) fn pid_file(&self) -> &PathBuf {
        &self.pid_file
    }

    /// Whether the command runs or ran.
    pub(super) fn has_begun(&self) -> bool {
        pid_in(&self.pid_file).is_some()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Whether nothing more is waited for.
    pub(super) fn is_over(&self) -> bool {
        self.ended.borrow().is_some_and(|at| at + DRAIN <= Instant::now())
    }

    /// Tells that the command, or the runtime that did not run it, has ended.
    pub(super) fn tell_end(&self) {
        self.ended.send_replace(Some(Instant::now()));
    }

    /// Waits for the end, and gives the moment.
    pub(super) async fn ended(&self) -> Instant {
        loop {
            // We hold the sender, so the wait does not fail.
            if let Ok(ended) = self.ended.subscribe().wait_for(Option::is_some).await
                && let Some(at) = *ended
            {
                return at;
            }
        }
    }

    /// Waits until nothing more is waited for.
    pub(super) async fn over(&self) {
        sleep_until(self.ended().await + DRAIN).await;
    }

    /// Waits until it is known whether the command has begun: an end without a beginning is a failure of the runtime.
    pub(super) async fn settled(&self) -> bool {
        let mut pause = Duration::from_millis(1);
        loop {
            let ended = self.has_ended();
            if self.has_begun() || ended {
                return self.has_begun();
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_millis(50)),
                _ = self.ended() => {}
            }
        }
    }
}
