//! Port-forward: one connection, made inside the network namespace of a container, and a copy in each direction.
//!
//! A thread enters a namespace for good, so the connection is made by one that exists for it alone; the socket stays in
//! the namespace where it was made and can be used from anywhere.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use runtime_api::{BoxRead, BoxWrite, Error, ErrorKind, Rejection, Result};

use crate::process::Identity;

/// How long a connection may take to be made, over both families.
const DIAL: Duration = Duration::from_secs(10);
/// How much of each direction is held at once.
const BUFFER: usize = 64 * 1024;
/// How long what a container sent before its end may take to be read.
const DRAIN: Duration = Duration::from_secs(1);

/// Connects to a port on the loopback of a process's network namespace.
///
/// # Errors
/// `Rejected` (nobody listens, or the process has ended), `TimedOut`, `PermissionDenied`, `Exhausted`.
pub async fn dial(init: Identity, port: u16) -> Result<TcpStream> {
    // The namespace first and the start time second: if the process is still the same, so is what was opened.
    let namespace = File::open(format!("/proc/{}/ns/net", init.pid));
    if !init.lives() {
        return Err(refused("the container has just ended".into()));
    }
    let namespace = namespace.map_err(|error| cannot_enter(init, &error).caused_by(error))?;
    let (done, dialed) = oneshot::channel();
    let thread = std::thread::Builder::new().name("manyrun-dial".into());
    // It ends by itself at the deadline of its connects, whether or not anybody waits for it.
    let started = thread.spawn(move || drop(done.send(enter_and_connect(init, &namespace, port))));
    started.map_err(|error| Error::new(ErrorKind::Exhausted("no thread".into())).caused_by(error))?;
    let socket = dialed
        .await
        .map_err(|_| Error::new(ErrorKind::Internal("the thread that connects went away".into())))??;
    let made = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket));
    made.map_err(|error| {
        Error::new(ErrorKind::Exhausted("a socket cannot be watched".into())).caused_by(error)
    })
}

fn enter_and_connect(init: Identity, namespace: &File, port: u16) -> Result<StdStream> {
    // A container that shares the host's network is reached from here, which takes no privilege.
    if !is_ours(namespace) {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(io::Error::from)
            .map_err(|error| cannot_enter(init, &error).caused_by(error))?;
    }
    let deadline = Instant::now() + DIAL;
    let families =
        [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    let mut said = Vec::new();
    for address in families {
        // A time-out of zero is an error of its own kind.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match StdStream::connect_timeout(&address, left) {
            Ok(socket) => return Ok(socket),
            Err(error) => said.push(format!("{address}: {error}")),
        }
    }
    if Instant::now() >= deadline {
        return Err(Error::new(ErrorKind::TimedOut(DIAL)).hint("whoever listens takes no connections"));
    }
    Err(refused(format!("nobody listens on port {port} inside: {}", said.join("; "))))
}

fn is_ours(namespace: &File) -> bool {
    let own = std::fs::metadata("/proc/self/ns/net");
    match (own, namespace.metadata()) {
        (Ok(own), Ok(theirs)) => (own.dev(), own.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Rejected { class: Rejection::Other, message })
}

fn cannot_enter(init: Identity, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Internal(format!("the network of process {} cannot be entered", init.pid)),
    };
    Error::new(kind).hint("only root may enter a container's network")
}

/// Carries both directions until both have ended, or the container has.
pub async fn carry(socket: TcpStream, from: BoxRead, to: BoxWrite, init: Identity) {
    let (read, write) = socket.into_split();
    let container_end = async {
        // A descriptor that cannot be watched leaves the connection to its two ends.
        if let Some(process) = init.open()
            && process.ended().await.is_err()
        {
            std::future::pending::<()>().await;
        }
    };
    let mut up = std::pin::pin!(send(from, write));
    let mut down = std::pin::pin!(receive(read, to));
    let mut container_end = std::pin::pin!(container_end);
    let (mut up_over, mut down_over) = (false, false);
    while !(up_over && down_over) {
        tokio::select! {
            () = &mut up, if !up_over => up_over = true,
            () = &mut down, if !down_over => down_over = true,
            () = &mut container_end => {
                // What it sent may still be on its way; what it would have read, nobody reads.
                if !down_over {
                    let _ = tokio::time::timeout(DRAIN, down).await;
                }
                return;
            }
        }
    }
}

/// Sends what the client says; its end is passed on, and whoever listens may go on answering.
async fn send(from: BoxRead, mut write: OwnedWriteHalf) {
    let mut from = BufReader::with_capacity(BUFFER, from);
    // An error on either side ends this direction and says nothing about the other.
    let _ = copy(&mut from, &mut write).await;
    let _ = write.shutdown().await;
}

/// Receives what whoever listens says. A client that does not want it is no reason to stop the other direction, nor to
/// let the peer wait for ever for somebody to read.
async fn receive(read: OwnedReadHalf, mut to: BoxWrite) {
    let mut read = BufReader::with_capacity(BUFFER, read);
    if copy(&mut read, &mut to).await.is_err() {
        let _ = copy(&mut read, &mut tokio::io::sink()).await;
    }
    let _ = to.shutdown().await;
}

async fn copy<R: tokio::io::AsyncRead + Unpin>(
    from: &mut BufReader<R>,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    loop {
        let chunk = from.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(());
        }
        let count = chunk.len();
        to.write_all(chunk).await?;
        to.flush().await?;
        from.consume(count);
    }
}
