//! An end of the whole run before its time, by INT or TERM: what runs is cleaned up, and nothing more is begun.

use std::sync::LazyLock;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{Outcome, tokio_runtime};
use crate::Verdict;

/// The signal that came, once one has.
static CAME: LazyLock<watch::Sender<Option<u8>>> = LazyLock::new(|| watch::Sender::new(None));

/// From now on the first INT or TERM ends the run, and the second one this process at once.
pub(crate) fn listen() {
    // Without the thread or its handlers the signals do what they always did.
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(|| {
        let Ok(tokio) = tokio_runtime(false) else { return };
        tokio.block_on(async {
            let kinds = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut int), Ok(mut term)) = kinds else { return };
            loop {
                let number = tokio::select! {
                    _ = int.recv() => 2,
                    _ = term.recv() => 15,
                };
                if CAME.send_replace(Some(number)).is_some() {
                    std::process::exit(128 + i32::from(number));
                }
            }
        });
    });
}

/// The code of a run that was interrupted.
pub(crate) fn code() -> Option<u8> {
    CAME.borrow().map(|number| 128 + number)
}

/// Waits until the run is to end. Cancel safe.
pub(super) async fn came() {
    // The sender lives as long as the process.
    let _ = CAME.subscribe().wait_for(Option::is_some).await;
}

/// What becomes of a clause that was not run, or not to its end.
pub(super) fn outcome() -> Outcome {
    Outcome::new(Verdict::Skipped, "the run was interrupted".to_owned())
}
