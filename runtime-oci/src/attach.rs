//! The client's side of conmon's attach socket.
//!
//! The socket carries packets. From conmon: one byte that names the stream, and up to 8192 bytes of it. To conmon: raw
//! input, at most 32768 bytes each, for conmon drops the rest of a longer one. conmon writes to its clients in turn and
//! waits for each: a client that does not read would stall the log and the container itself. So output is read into a
//! bounded queue, and a client that lets it stay full is cut off.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{UnixAddr, getpeername};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_seqpacket::UnixSeqpacket;

use runtime_api::{
    AttachEnd, AttachRequest, BoxRead, BoxWrite, Capability, ContainerId, DetachKeys, Error, ErrorKind,
    Operation, Peer, Result, Streams,
};

use crate::backend::Backend;
use crate::observe::Sight;

/// The largest packet from conmon: the stream's byte and its buffer.
const PACKET: usize = 8193;
/// The largest packet that conmon reads whole.
const INPUT: usize = 32 * 1024;
/// How much a client may leave unread,
const BACKLOG: usize = 8 * 1024 * 1024;
/// and for how long.
const STALL: Duration = Duration::from_secs(1);

/// How long conmon may take to accept a client.
const CONNECT: Duration = Duration::from_secs(5);

/// conmon's names for the streams.
const STDOUT: u8 = 2;
const STDERR: u8 = 3;

impl Backend {
    pub(crate) async fn attach(
        &self,
        id: &ContainerId,
        request: AttachRequest,
        streams: Streams,
    ) -> Result<AttachEnd> {
        let named = |error: Error| error.during(Operation::Attach).on(format_args!("container \"{id}\""));
        if request.initial_size.is_some() || streams.resize.is_some() {
            self.capabilities.require(Capability::AttachResize).map_err(named)?;
        }
        let (locked, _) = self.admit(Operation::Attach, id).await?;
        let path = locked.dir.attach();
        drop(locked);
        let socket = connect(&path).await.map_err(named)?;
        if let Some(attached) = request.attached {
            // The caller may have stopped listening; it is attached all the same.
            let _ = attached.send(());
        }
        let keys = request.detach_keys.as_ref().map(DetachKeys::bytes).unwrap_or_default();
        let detached = {
            let output = pump_output(&socket, streams.stdout, streams.stderr);
            let input = pump_input(&socket, streams.stdin, keys);
            let (mut output, mut input) = (std::pin::pin!(output), std::pin::pin!(input));
            tokio::select! {
                ended = &mut output => { ended.map_err(named)?; false }
                detached = &mut input => {
                    if !detached {
                        output.await.map_err(named)?;
                    }
                    detached
                }
            }
        };
        if detached {
            return Ok(AttachEnd::Detached);
        }
        // conmon closes the socket a moment before it writes the exit file. One that was killed closes it too.
        let (locked, sight) = match self.lock(id).await.map_err(named)? {
            Some(mut locked) => {
                let sight = self.settle(&mut locked).await.map_err(named)?;
                (locked, sight)
            }
            None => return Ok(AttachEnd::Ended),
        };
        drop(locked);
        match sight {
            Sight::Stopped(_) | Sight::Ending | Sight::Creating => Ok(AttachEnd::Ended),
            Sight::Alive(_) | Sight::Lost => Err(named(Error::new(ErrorKind::PeerLost(Peer::Monitor)))),
        }
    }
}

/// Connects to a socket whose path may be longer than a socket address holds: through a descriptor of its directory.
async fn connect(path: &Path) -> Result<UnixSeqpacket> {
    let failed = |error: io::Error| {
        Error::new(ErrorKind::PeerLost(Peer::Monitor))
            .caused_by(error)
            .hint("the monitor does not serve its socket; its container can still be stopped and deleted")
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let directory =
        rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed(error.into()))?;
    let short: PathBuf = format!("/proc/self/fd/{}", directory.as_raw_fd()).into();
    let address = short.join(path.file_name().unwrap_or_default());
    let deadline = Instant::now() + CONNECT;
    loop {
        let socket = UnixSeqpacket::connect(&address).await.map_err(failed)?;
        // When many connect at once and the queue is full, the kernel says "later", which is taken for "soon connected".
        match getpeername::<UnixAddr>(socket.as_raw_fd()) {
            Err(nix::errno::Errno::ENOTCONN) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(nix::errno::Errno::ENOTCONN) => return Err(Error::new(ErrorKind::TimedOut(CONNECT))),
            _ => return Ok(socket),
        }
    }
}

/// Passes input on. True when the detach keys were seen; at the end of input it half-closes the socket.
async fn pump_input(socket: &UnixSeqpacket, stdin: Option<BoxRead>, keys: &[u8]) -> bool {
    let Some(mut stdin) = stdin else {
        // A client without input has nothing to say about the end of input either.
        return std::future::pending().await;
    };
    let mut filter = KeyFilter { keys, seen: 0 };
    let mut chunk = vec![0; INPUT - keys.len()];
    loop {
        let read = stdin.read(&mut chunk).await.unwrap_or(0);
        if read == 0 {
            let _ = socket.shutdown(Shutdown::Write);
            return false;
        }
        let (pass, detached) = filter.pass(&chunk[..read]);
        // A container that closed its input, or is gone, takes no more; its output tells the end.
        if !pass.is_empty() && socket.send(&pass).await.is_err() {
            return false;
        }
        if detached {
            return true;
        }
    }
}

/// Finds the detach keys in input, across reads. What began like them and went on otherwise is passed on.
struct KeyFilter<'a> {
    keys: &'a [u8],
    seen: usize,
}

impl KeyFilter<'_> {
    fn pass(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(input.len() + self.seen);
        for byte in input {
            while self.seen > 0 && self.keys.get(self.seen) != Some(byte) {
                // The first held-back byte was no key; the rest may still begin the sequence.
                out.push(self.keys[0]);
                let held = &self.keys[1..self.seen];
                self.seen = (0..=held.len()).rev().find(|n| held.ends_with(&self.keys[..*n])).unwrap_or(0);
                out.extend_from_slice(&held[..held.len() - self.seen]);
            }
            if self.keys.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return (out, true);
                }
            } else {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

/// Passes output on until the socket ends and everything is written.
async fn pump_output(
    socket: &UnixSeqpacket,
    stdout: Option<BoxWrite>,
    stderr: Option<BoxWrite>,
) -> Result<()> {
    let (mut out, mut err) = (Sink::new(stdout), Sink::new(stderr));
    let mut packet = vec![0; PACKET];
    let mut open = true;
    let mut stalled = Instant::now();
    while open || !out.is_empty() || !err.is_empty() {
        let full = out.queued + err.queued >= BACKLOG;
        tokio::select! {
            received = socket.recv(&mut packet), if open && !full => {
                match received.map(|info| info.bytes_read()) {
                    Ok(n @ 1..) => match packet[0] {
                        STDOUT => out.push(&packet[1..n]),
                        STDERR => err.push(&packet[1..n]),
                        _ => {}
                    },
                    // conmon went away: after an orderly end, or killed; the caller finds out which.
                    Ok(0) | Err(_) => open = false,
                }
                stalled = Instant::now();
            }
            () = out.write(), if !out.is_empty() => stalled = Instant::now(),
            () = err.write(), if !err.is_empty() => stalled = Instant::now(),
            () = tokio::time::sleep_until(stalled + STALL), if full => {
                let left = out.queued + err.queued;
                return Err(Error::new(ErrorKind::Lagged(u64::try_from(left).unwrap_or(u64::MAX)))
                    .hint("the client read nothing for a second; attach again to go on"));
            }
        }
    }
    out.flush().await;
    err.flush().await;
    Ok(())
}

/// One of the client's streams, with what it has not taken yet. Without a stream, output is read and dropped.
struct Sink {
    to: Option<BoxWrite>,
    queue: VecDeque<u8>,
    queued: usize,
}

impl Sink {
    fn new(to: Option<BoxWrite>) -> Self {
        Self { to, queue: VecDeque::new(), queued: 0 }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.to.is_some() {
            self.queue.extend(bytes);
            self.queued = self.queue.len();
        }
    }

    /// Writes once. Cancel safe: what the client took is removed in the same step.
    async fn write(&mut self) {
        let Some(to) = &mut self.to else { return };
        match to.write(self.queue.as_slices().0).await {
            Ok(n @ 1..) => drop(self.queue.drain(..n)),
            // The client closed this stream; the other one may go on.
            Ok(0) | Err(_) => {
                self.queue.clear();
                self.to = None;
            }
        }
        self.queued = self.queue.len();
    }

    async fn flush(&mut self) {
        if let Some(to) = &mut self.to {
            let _ = tokio::time::timeout(STALL, to.flush()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(keys: &[u8], reads: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut filter = KeyFilter { keys, seen: 0 };
        let mut all = Vec::new();
        for read in reads {
            let (pass, detached) = filter.pass(read);
            all.extend(pass);
            if detached {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn detach_keys_are_found_across_reads_and_nothing_else_is_lost() {
        let keys = [16, 17];
        assert_eq!(filtered(&keys, &[b"ab\x10", b"\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(filtered(&keys, &[b"a\x10", b"b\x10\x10\x11"]), (b"a\x10b\x10".to_vec(), true));
        assert_eq!(filtered(b"aab", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(filtered(&[], &[b"a\x10\x11"]), (b"a\x10\x11".to_vec(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_off() {
        let (ours, conmon) = UnixSeqpacket::pair().unwrap();
        let (_client, stdout) = tokio::io::duplex(1024);
        let feed = tokio::spawn(async move {
            let mut packet = vec![b'x'; PACKET];
            packet[0] = STDOUT;
            while conmon.send(&packet).await.is_ok() {}
        });
        let error = pump_output(&ours, Some(Box::new(stdout)), None).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Lagged(_)), "{error:?}");
        drop(ours);
        feed.await.unwrap();
    }

    #[tokio::test]
    async fn streams_are_told_apart_and_arrive_whole() {
        let (ours, conmon) = UnixSeqpacket::pair().unwrap();
        let (mut client, stdout) = tokio::io::duplex(16);
        let (mut errors, stderr) = tokio::io::duplex(16);
        let feed = tokio::spawn(async move {
            for _ in 0..100 {
                conmon.send(b"\x02out").await.unwrap();
                conmon.send(b"\x03e").await.unwrap();
                conmon.send(b"\x01?").await.unwrap();
            }
        });
        let read = tokio::spawn(async move {
            let (mut out, mut err) = (String::new(), String::new());
            let _ = tokio::join!(client.read_to_string(&mut out), errors.read_to_string(&mut err));
            (out, err)
        });
        pump_output(&ours, Some(Box::new(stdout)), Some(Box::new(stderr))).await.unwrap();
        feed.await.unwrap();
        assert_eq!(read.await.unwrap(), ("out".repeat(100), "e".repeat(100)));
    }
}
