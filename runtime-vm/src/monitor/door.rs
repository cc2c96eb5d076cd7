//! The attach socket, and who comes in.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SocketFlags, accept_with};
use tokio::time::sleep;
use tokio_seqpacket::{UnixSeqpacket, UnixSeqpacketListener};

use super::socket::{Placed, place};

/// A socket with a path, which goes with it.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixSeqpacketListener,
    /// The same socket, to be asked without a wait.
    at_once: OwnedFd,
    _placed: Placed,
}

impl Door {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let ((listener, at_once), placed) = place(path, 0o700, |path| {
            let socket = OwnedFd::from(UnixSeqpacketListener::bind(path)?);
            let at_once = socket.try_clone()?;
            Ok((UnixSeqpacketListener::try_from(socket)?, at_once))
        })?;
        Ok(Self { listener, at_once, _placed: placed })
    }

    /// Waits for the next client.
    pub(super) async fn next(&mut self) -> UnixSeqpacket {
        loop {
            match self.listener.accept().await {
                Ok(client) => return client,
                Err(error) => {
                    tracing::warn!(%error, "a client of an attach socket cannot be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// A client that has connected by now. Whoever is connected gets what is printed from then on, although nobody had
    /// time to accept.
    pub(super) fn next_at_once(&self) -> Option<UnixSeqpacket> {
        let client = accept_with(&self.at_once, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()?;
        UnixSeqpacket::try_from(client).ok()
    }
}
