//! What those who carry an exec's streams must know of its course.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How long output may still come after the command has ended, from children that hold its streams.
const DRAIN: Duration = Duration::from_secs(1);

/// Whether a command has begun, and when it ended.
#[derive(Clone)]
pub struct Course {
    begun: Arc<dyn Fn() -> bool + Send + Sync>,
    ended: Arc<watch::Sender<Option<Instant>>>,
}

impl Course {
    /// A command of which this tells whether it runs or ran.
    pub fn new(begun: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { begun: Arc::new(begun), ended: Arc::new(watch::Sender::new(None)) }
    }

    /// Whether the command runs or ran.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        (self.begun)()
    }

    /// Whether it, or the runtime that did not run it, has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Whether nothing more is waited for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended.borrow().is_some_and(|at| at + DRAIN <= Instant::now())
    }

    /// Tells that the command, or the runtime that did not run it, has ended.
    pub fn tell_end(&self) {
        self.ended.send_replace(Some(Instant::now()));
    }

    /// Waits for the end, and gives the moment.
    pub async fn ended(&self) -> Instant {
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
    pub async fn over(&self) {
        sleep_until(self.ended().await + DRAIN).await;
    }

    /// Waits until it is known whether the command has begun: an end without a beginning is a failure of the runtime.
    pub async fn settled(&self) -> bool {
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

impl fmt::Debug for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Course").field("begun", &self.has_begun()).field("ended", &self.has_ended()).finish()
    }
}
