//! The end of a program: it is waited for, and written down once everything that was printed has come.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use runtime_api::{ErrorKind, Peer};
use runtime_host::document::replace;

use super::program::{ProgramOrder, Remote};
use super::serve::Heard;
use super::{Ended, Tasks};

/// The exit code of a program that was killed.
const KILLED: i32 = 137;
/// How long the notice of a kill for want of memory may be later than the end that it explains.
const NOTICE: Duration = Duration::from_millis(250);
/// The pauses between two tries to wait.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// One program, and everything that is needed to see it to its end.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) order: ProgramOrder,
    pub(super) remote: Remote,
    pub(super) heard: Arc<Heard>,
    pub(super) tasks: Arc<dyn Tasks>,
    /// Whether the shim is gone.
    pub(super) gone: watch::Receiver<bool>,
    /// Whether the shim tells things by itself.
    pub(super) tells: watch::Receiver<bool>,
}

impl Watch {
    pub(super) async fn until_the_end(mut self) {
        match self.ended().await {
            Some(ended) => {
                self.until_the_notice(&ended).await;
                if !self.remote.drain().await {
                    tracing::warn!(key = %self.order.key, "the program ended, and somebody still holds its output open");
                }
                if let Err(error) = write_down(&self.order, &ended) {
                    tracing::error!(%error, key = %self.order.key, "the end cannot be written down");
                }
            }
            // Nobody knows how it ended. That is for others to say.
            None => tracing::warn!(key = %self.order.key, "the shim does not tell how the program ends"),
        }
        self.remote.leave().await;
    }

    /// Waits for the end; nothing when nobody will tell it.
    async fn ended(&mut self) -> Option<Ended> {
        let mut pause = PAUSES[0];
        loop {
            let failed = tokio::select! {
                biased;
                ended = self.tasks.wait(&self.order.key) => match ended {
                    Ok(ended) => return Some(ended),
                    Err(error) => error,
                },
                _ = self.gone.wait_for(|gone| *gone) => return None,
            };
            if matches!(failed.kind(), ErrorKind::NotFound | ErrorKind::PeerLost(Peer::Shim)) {
                tracing::warn!(error = failed.report(), key = %self.order.key, "the shim does not know the program");
                return None;
            }
            tracing::warn!(error = failed.report(), key = %self.order.key, "the wait for a program failed");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// After a kill, waits for what the shim tells by itself: why it happened, or that it happened. Whoever sees the exit
    /// file shall find the other one there.
    async fn until_the_notice(&self, ended: &Ended) {
        if ended.code != KILLED || self.order.key.exec.is_some() || !*self.tells.borrow() {
            return;
        }
        let (mut kills, mut exited) = (self.heard.kills.subscribe(), self.heard.exited.subscribe());
        let told = async {
            tokio::select! {
                _ = kills.wait_for(|kills| *kills > 0) => {}
                _ = exited.wait_for(|exited| *exited) => {}
            }
        };
        let _ = timeout(NOTICE, told).await;
    }
}

/// Writes the exit files, the one that others wait for last.
fn write_down(order: &ProgramOrder, ended: &Ended) -> std::io::Result<()> {
    let code = ended.code.to_string();
    let time = humantime::format_rfc3339_nanos(ended.at).to_string();
    replace(&order.dir.join("exit-time"), time.as_bytes())?;
    replace(&order.dir.join("exit"), code.as_bytes())?;
    if let Some(notice) = &order.notice {
        let path = notice.dir.join(Path::new(&notice.name));
        replace(&path, code.as_bytes())?;
    }
    Ok(())
}
