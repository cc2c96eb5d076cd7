//! Signals that this process gets, as a queue.

use runtime_api::{Error, ErrorKind, Result, Signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// Every signal that is handed on to the container, from the moment of [`Signals::listen`] on.
#[derive(Debug)]
pub(super) struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    pub(super) fn listen() -> Result<Self> {
        // As many as a person can send; more than that waiting means that nobody listens any more.
        let (tell, told) = mpsc::channel(64);
        for kind in [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::terminate(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ] {
            let number = Signal::from_number(kind.as_raw_value())?;
            let mut source = signal(kind).map_err(|error| {
                Error::new(ErrorKind::Exhausted("no handler for signals can be set".to_owned()))
                    .caused_by(error)
            })?;
            let tell = tell.clone();
            tokio::spawn(async move {
                while source.recv().await.is_some() {
                    if tell.send(number).await.is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self(told))
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// Whether somebody who sends this wants the end.
pub(super) fn wants_the_end(signal: Signal) -> bool {
    signal == Signal::INT || signal == Signal::TERM
}
