//! The user's terminal while a container's terminal is shown on it.

use std::io::{stdin, stdout};

use runtime_api::WindowSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Hands every key to the container, until it is dropped.
#[derive(Debug)]
pub(super) struct RawMode(Termios);

impl RawMode {
    /// `None` where standard input is no terminal.
    pub(super) fn enter() -> Option<Self> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // There is nobody to tell: a terminal that is gone needs no repair.
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.0);
    }
}

/// The terminal's size, now and whenever it changes.
pub(super) fn sizes() -> watch::Receiver<Option<WindowSize>> {
    let (tell, told) = watch::channel(size());
    if let Ok(mut changes) = signal(SignalKind::window_change()) {
        tokio::spawn(async move {
            while changes.recv().await.is_some() {
                if tell.send(size()).is_err() {
                    break;
                }
            }
        });
    }
    told
}

fn size() -> Option<WindowSize> {
    let size = tcgetwinsize(stdout()).or_else(|_| tcgetwinsize(stdin())).ok()?;
    WindowSize::new(size.ws_row, size.ws_col)
}
