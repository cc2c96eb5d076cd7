//! The client's side of an attach socket, as conmon serves it.
//!
//! The socket carries packets. From conmon: one byte that names the stream, and up to 8192 bytes of it. To conmon: raw
//! input, at most 32768 bytes each, for conmon drops the rest of a longer one. conmon writes to its clients in turn and
//! waits for each: a client that does not read would stall the log and the container itself. So output is read into a
//! bounded queue, and a client that lets it stay full is cut off.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{UnixAddr, getpeername};
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_seqpacket::UnixSeqpacket;

use runtime_api::{
    AttachRequest, BoxRead, BoxWrite, DetachKeys, Error, ErrorKind, Peer, Rejection, Result, Streams,
    WindowSize,
};

/// The largest packet from conmon: the stream's byte and its buffer.
const PACKET: usize = 8193;
/// The largest packet that conmon reads whole.
const INPUT: usize = 32 * 1024;
/// How much a client may leave unread,
const BACKLOG: usize = 8 * 1024 * 1024;
/// and for how many such times. One that was not seen to read because this process did not run is not silent: however
/// long that took, it is one of them.
const SILENCES: u32 = 20;
const SILENCE: Duration = Duration::from_millis(50);

/// How long conmon may take to accept a client.
const CONNECT: Duration = Duration::from_secs(5);

/// conmon's names for the streams.
const STDOUT: u8 = 2;
const STDERR: u8 = 3;

/// The refusal of a size where there is no terminal.
#[must_use]
pub fn no_terminal() -> Error {
    let message = "the program has no terminal that could have a size".to_owned();
    Error::new(ErrorKind::Rejected { class: Rejection::Other, message })
}

/// Why a client is not served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It pressed the detach keys.
    Detached,
    /// The monitor closed the socket.
    Closed,
}

/// Changes the size of a terminal.
pub trait Terminal: Sync {
    /// Returns once the terminal has this size, or a newer one that somebody asked for.
    fn resize(&self, size: WindowSize) -> impl Future<Output = Result<()>> + Send;
}

/// Serves a client at a socket that speaks as conmon's does.
///
/// # Errors
/// `PeerLost` (nobody serves the socket), `TimedOut`, `Lagged` (the client read nothing), those of the first resize.
pub async fn serve(
    socket: &Path,
    terminal: &impl Terminal,
    request: AttachRequest,
    streams: Streams,
) -> Result<Served> {
    if let Some(size) = request.initial_size {
        // Before the socket is there, which conmon fills and then waits for: it would not come to the fifo.
        terminal.resize(size).await?;
    }
    let socket = connect(socket).await?;
    if let Some(attached) = request.attached {
        // The caller may have stopped listening; it is attached all the same.
        let _ = attached.send(());
    }
    let keys = request.detach_keys.as_ref().map(DetachKeys::bytes).unwrap_or_default();
    let output = pump_output(&socket, streams.stdout, streams.stderr);
    let input = pump_input(&socket, streams.stdin, keys);
    let sizes = pump_sizes(terminal, streams.resize, request.initial_size);
    let (mut output, mut sizes) = (std::pin::pin!(output), std::pin::pin!(sizes));
    let (mut input, mut reads) = (std::pin::pin!(input), true);
    loop {
        tokio::select! {
            ended = &mut output => return ended.map(|()| Served::Closed),
            detached = &mut input, if reads => {
                if detached {
                    return Ok(Served::Detached);
                }
                reads = false;
            }
            never = &mut sizes => match never {},
        }
    }
}

/// Passes on the sizes that the client wants, the newest only. That one cannot be passed on ends nothing.
async fn pump_sizes(
    terminal: &impl Terminal,
    sizes: Option<watch::Receiver<Option<WindowSize>>>,
    mut has: Option<WindowSize>,
) -> Infallible {
    if let Some(mut sizes) = sizes {
        loop {
            let newest = *sizes.borrow_and_update();
            if let Some(size) = newest.filter(|newest| has != Some(*newest)) {
                match terminal.resize(size).await {
                    Ok(()) => has = Some(size),
                    Err(error) => tracing::warn!(error = error.report(), "a size was not passed on"),
                }
            }
            if sizes.changed().await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
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
    let mut silences = 0;
    while open || !out.is_idle() || !err.is_idle() {
        let full = out.queue.len() + err.queue.len() >= BACKLOG;
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
                silences = 0;
            }
            () = out.work(), if !out.is_idle() => silences = 0,
            () = err.work(), if !err.is_idle() => silences = 0,
            () = tokio::time::sleep(SILENCE), if full => {
                silences += 1;
                if silences < SILENCES {
                    continue;
                }
                let left = out.queue.len() + err.queue.len();
                return Err(Error::new(ErrorKind::Lagged(u64::try_from(left).unwrap_or(u64::MAX)))
                    .hint("the client read nothing for a second; attach again to go on"));
            }
        }
    }
    Ok(())
}

/// One of the client's streams, with what it has not taken yet. Without a stream, output is read and dropped.
struct Sink {
    to: Option<BoxWrite>,
    queue: VecDeque<u8>,
    /// Whether something was written and not flushed.
    written: bool,
}

impl Sink {
    fn new(to: Option<BoxWrite>) -> Self {
        Self { to, queue: VecDeque::new(), written: false }
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.written
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.to.is_some() {
            self.queue.extend(bytes);
        }
    }

    /// Writes once, or flushes when all is written. Cancel safe: what the client took is removed in the same step.
    async fn work(&mut self) {
        let Some(to) = &mut self.to else { return };
        let done = if self.queue.is_empty() {
            to.flush().await.map(|()| self.written = false)
        } else {
            match to.write(self.queue.as_slices().0).await {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.queue.drain(..n);
                    self.written = true;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        // The client closed this stream; the other one may go on.
        if done.is_err() {
            *self = Self::new(None);
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
        let begun = Instant::now();
        let error = pump_output(&ours, Some(Box::new(stdout)), None).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Lagged(_)), "{error:?}");
        // Whoever prints is held up no longer than that.
        let patience = SILENCE * SILENCES;
        assert_eq!(patience, Duration::from_secs(1));
        assert!((patience..patience * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
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
