//! The end of a program: it is waited for, and written down once everything that was printed has come.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use runtime_api::{Error, ErrorKind, Peer};
use runtime_host::document::replace;

use super::program::{ProgramOrder, Remote};
use super::serve::Heard;
use super::untold::Untold;
use super::{Ended, Tasks};

/// The exit code of a program that was killed.
const KILLED: i32 = 137;
/// How long the notice of a kill for want of memory may be later than the end that it explains.
const NOTICE: Duration = Duration::from_millis(250);
/// The pauses between two tries to wait.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// How long after a program has ended the wait for it may go on.
const LATE: Duration = Duration::from_secs(2);
/// How often the shim is asked for a program whose end it does not tell.
const DOUBT: Duration = Duration::from_secs(20);

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
    pub(super) async fn until_the_end(self) {
        match self.ended().await {
            Ok(ended) => {
                self.until_the_notice(&ended).await;
                if !self.remote.drain().await {
                    tracing::warn!(key = %self.order.key, "the program ended, and somebody still holds its output open");
                }
                if let Err(error) = write_down(&self.order, &ended) {
                    tracing::error!(%error, key = %self.order.key, "the end cannot be written down");
                }
            }
            // Nobody knows how it ended. That is for others to say.
            Err(untold) => {
                tracing::warn!(key = %self.order.key, "the shim does not tell how the program ends");
                if let Some(Err(error)) = untold.map(|untold| untold.write(&self.order.dir)) {
                    tracing::error!(%error, key = %self.order.key, "that cannot be written down");
                }
            }
        }
        self.remote.leave().await;
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Why nobody will tell it, unless it is only that we end.
    async fn ended(&self) -> Result<Ended, Option<Untold>> {
        let mut pause = PAUSES[0];
        let mut gone = self.gone.clone();
        loop {
            let failed = tokio::select! {
                biased;
                ended = self.tasks.wait(&self.order.key) => match ended {
                    Ok(ended) => return Ok(ended),
                    Err(error) => error,
                },
                ended = self.told_otherwise() => return Ok(ended),
                gone = gone.wait_for(|gone| *gone) => return Err(gone.is_ok().then_some(Untold::Shim)),
            };
            // A shim that says nothing of its end may still know it.
            let known = match failed.kind() {
                ErrorKind::NotFound => self.tasks.ended(&self.order.key).await,
                ErrorKind::PeerLost(Peer::Shim) => Err(Error::new(failed.kind().clone())),
                _ => Ok(None),
            };
            match known {
                Ok(Some(ended)) => return Ok(ended),
                Err(error) if is_final(&error) => {
                    tracing::warn!(error = failed.report(), key = %self.order.key, "the shim does not know the program");
                    let shim_is_gone = matches!(error.kind(), ErrorKind::PeerLost(_));
                    return Err(Some(if shim_is_gone { Untold::Shim } else { Untold::Program }));
                }
                _ => {}
            }
            tracing::warn!(error = failed.report(), key = %self.order.key, "the wait for a program failed");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// The end of a program as the shim tells it elsewhere, where it leaves the wait without an answer. An event says only when
    /// to ask: what it says may be about another program of this name.
    async fn told_otherwise(&self) -> Ended {
        let mut exited = self.heard.exited.subscribe();
        loop {
            let heard = timeout(DOUBT, exited.wait_for(|exited| *exited)).await.is_ok();
            sleep(LATE).await;
            match self.tasks.ended(&self.order.key).await {
                Ok(Some(ended)) => {
                    tracing::warn!(key = %self.order.key, "the shim does not answer the wait for a program that ended");
                    return ended;
                }
                // It is not true, or not yet.
                _ if heard => sleep(DOUBT).await,
                _ => {}
            }
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

/// Whether a shim will never tell.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PeerLost(Peer::Shim))
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
