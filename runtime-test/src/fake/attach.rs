//! Serves one attached client.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtime_api::{
    AttachEnd, BoxRead, BoxWrite, ContainerId, DetachKeys, Error, ErrorKind, Operation, Peer, Result,
    Streams, WindowSize,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Defect;

use super::clients::{ClientId, Taken};
use super::model::{Key, Stream};
use super::world::World;

/// A client that leaves this much unread ...
const UNREAD_LIMIT: usize = 8 * 1024 * 1024;
/// ... and does not read at all for this long is cut off.
const SILENCE: Duration = Duration::from_secs(1);
/// How much standard input the model's pipe holds.
const PIPE: usize = 64 * 1024;
/// How much input passes where a defect cuts it.
const CUT: usize = 512 * 1024;

/// An attached client; it is forgotten when this is dropped.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) world: Arc<World>,
    pub(super) client: ClientId,
    pub(super) container: Key,
    pub(super) defect: Option<Defect>,
    /// Whether there is input that has not ended.
    pub(super) reads: AtomicBool,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.world.look(|parts| parts.clients.remove(self.client));
    }
}

impl Attached {
    /// Carries output and input until the program ends or the client goes.
    pub(super) async fn serve(
        self,
        id: &ContainerId,
        streams: Streams,
        keys: Option<DetachKeys>,
    ) -> Result<AttachEnd> {
        let output = async {
            tokio::try_join!(
                self.pump(Stream::Stdout, streams.stdout),
                self.pump(Stream::Stderr, streams.stderr)
            )
        };
        let named = |error: Error| error.during(Operation::Attach).on(format_args!("container \"{id}\""));
        let sizes = self.pass_on(id, streams.resize);
        tokio::select! {
            biased;
            () = sizes => Ok(AttachEnd::Ended),
            done = output => {
                if self.has(Defect::AttachNeverEnds) && self.reads.load(Ordering::Relaxed) {
                    pending::<()>().await;
                }
                done.map(|_| AttachEnd::Ended).map_err(named)
            }
            () = self.feed(streams.stdin, keys) => Ok(AttachEnd::Detached),
        }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// Passes on the sizes that the client wants; never returns.
    async fn pass_on(&self, id: &ContainerId, sizes: Option<watch::Receiver<Option<WindowSize>>>) {
        if let Some(mut sizes) = sizes.filter(|_| !self.has(Defect::SizesAreNotPassedOn)) {
            loop {
                let newest = *sizes.borrow_and_update();
                if let Some(size) = newest {
                    // The end of the container is told by its output.
                    let _ = self.world.act(|parts| match parts.model.is_session(self.container) {
                        true => {
                            parts.model.set_session_size(self.container, size);
                            Ok(())
                        }
                        false => parts.model.resize(Operation::Attach, id, size),
                    });
                }
                if sizes.changed().await.is_err() {
                    break;
                }
            }
        }
        pending::<()>().await;
    }

    async fn pump(&self, stream: Stream, to: Option<BoxWrite>) -> Result<()> {
        let next = || {
            self.world.until(|parts| match parts.clients.take(self.client, stream) {
                Taken::Bytes(bytes) => Some(Some(bytes)),
                Taken::Ended => Some(None),
                Taken::Nothing => None,
            })
        };
        let Some(mut to) = to else {
            while next().await.is_some() {}
            return Ok(());
        };
        while let Some(bytes) = next().await {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let written = self.unless_silent(rest.len(), to.write(rest)).await?;
                rest = &rest[written..];
            }
            self.unless_silent(0, async { to.flush().await.map(|()| 1) }).await?;
        }
        // The program has ended; a client that is gone already misses nothing.
        let _ = to.shutdown().await;
        Ok(())
    }

    /// Waits for a write as long as the client is not silent for too long.
    async fn unless_silent(
        &self,
        held: usize,
        write: impl Future<Output = std::io::Result<usize>>,
    ) -> Result<usize> {
        let mut write = pin!(write);
        loop {
            let silence = if self.has(Defect::SlowClientsAreCutOff) { SILENCE / 20 } else { SILENCE };
            match timeout(silence, &mut write).await {
                Ok(Ok(count)) if count > 0 => return Ok(count),
                Ok(Ok(_)) => return Err(Error::new(ErrorKind::PeerLost(Peer::Client))),
                Ok(Err(error)) => return Err(Error::new(ErrorKind::PeerLost(Peer::Client)).caused_by(error)),
                Err(_) => {
                    let unread = held + self.world.look(|parts| parts.clients.unread(self.client));
                    if unread >= UNREAD_LIMIT && !self.has(Defect::SilentClientsStay) {
                        return Err(Error::new(ErrorKind::Lagged(unread as u64))
                            .hint("read the output as it comes, or keep it in a log"));
                    }
                }
            }
        }
    }

    /// Carries input; returns when the client pressed the detach keys.
    async fn feed(&self, from: Option<BoxRead>, keys: Option<DetachKeys>) {
        let Some(mut from) = from else { return pending().await };
        let mut keys = DetachMatcher::new(keys.filter(|_| !self.has(Defect::DetachKeysAreInput)));
        let mut passed = 0;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            // A client whose input cannot be read any more has none.
            let count = from.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                self.reads.store(false, Ordering::Relaxed);
                self.world.act(|parts| parts.model.end_input(self.container));
                return pending().await;
            }
            let (bytes, detached) = keys.filter(&buffer[..count]);
            let room = |parts: &mut super::world::Parts| {
                let fits =
                    parts.model.unread_input(self.container) < PIPE || parts.model.is_over(self.container);
                fits.then_some(())
            };
            self.world.until(room).await;
            passed += bytes.len();
            if passed > CUT && self.has(Defect::LargeInputIsCut) {
                continue;
            }
            self.world.act(|parts| parts.model.write_input(self.container, &bytes));
            if detached {
                return;
            }
        }
    }
}

/// Finds the detach keys in a stream of input, also when they come in pieces.
struct DetachMatcher {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachMatcher {
    fn new(keys: Option<DetachKeys>) -> Self {
        Self { keys: keys.map(|keys| keys.bytes().to_vec()).unwrap_or_default(), matched: 0 }
    }

    /// What the program gets of these bytes, and whether the keys were completed.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (bytes.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if *byte != self.keys[self.matched] {
                // What looked like the keys and is not belongs to the program.
                passed.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if *byte == self.keys[self.matched] {
                self.matched += 1;
            } else {
                passed.push(*byte);
            }
            if self.matched == self.keys.len() {
                return (passed, true);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_do_not_reach_the_program() {
        let mut keys = DetachMatcher::new(Some("ctrl-p,ctrl-q".parse().unwrap()));
        assert_eq!(keys.filter(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(keys.filter(b"b\x10\x10"), (b"\x10b\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11c"), (Vec::new(), true));
        assert_eq!(DetachMatcher::new(None).filter(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
