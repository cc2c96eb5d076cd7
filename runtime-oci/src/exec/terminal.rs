//! The terminal of an exec: the runtime makes it in the container, and sends the master over a socket of ours.

use std::io;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use runtime_api::{Error, ErrorKind, Result, WindowSize};
use runtime_host::exec::Course;

/// The longest path that fits a socket address, its end included.
const SUN_PATH: usize = 107;
/// How long what was sent before the runtime ended may take to be seen.
const MOMENT: Duration = Duration::from_millis(100);

/// The socket over which the runtime sends the terminal.
#[derive(Debug)]
pub(super) struct Console {
    listener: UnixListener,
    path: PathBuf,
    directory: OwnedFd,
}

impl Console {
    const NAME: &str = "console";

    /// Listens in this directory.
    pub(super) fn open(place: &Path) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(place, flags, Mode::empty())?;
            // The path may be longer than a socket address holds; that of our descriptor is not.
            let short = format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), Self::NAME);
            Ok(Self { listener: UnixListener::bind(short)?, path: place.join(Self::NAME), directory })
        };
        open().map_err(|error| {
            Error::new(ErrorKind::Exhausted("no socket for the terminal can be made".into()))
                .on(place.display())
                .caused_by(error)
        })
    }

    /// Where the runtime finds it.
    pub(super) fn address(&self) -> PathBuf {
        if self.path.as_os_str().len() <= SUN_PATH {
            return self.path.clone();
        }
        let ours = format!("/proc/{}/fd/{}", std::process::id(), self.directory.as_raw_fd());
        Path::new(&ours).join(Self::NAME)
    }

    /// Waits for the terminal; nothing if the runtime ends without sending one.
    pub(super) async fn master(self, course: &Course) -> Option<Master> {
        let mut received = pin!(self.receive());
        tokio::select! {
            master = &mut received => return master.ok(),
            _ = course.ended() => {}
        }
        timeout(MOMENT, received).await.ok()?.ok()
    }

    async fn receive(&self) -> io::Result<Master> {
        let (stream, _) = self.listener.accept().await?;
        loop {
            stream.readable().await?;
            match stream.try_io(Interest::READABLE, || descriptor_from(&stream)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(Some(master)) => return Master::new(master),
                Ok(None) => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// Reads one message and takes the first descriptor that came with it.
fn descriptor_from(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut name)];
    rustix::net::recvmsg(stream.as_fd(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut found = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            // Any others are closed here.
            for descriptor in descriptors {
                found.get_or_insert(descriptor);
            }
        }
    }
    Ok(found)
}

/// Our side of a terminal.
#[derive(Debug)]
pub(super) struct Master(AsyncFd<OwnedFd>);

impl Master {
    fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        runtime_host::descriptor::watch_both(master).map(Self)
    }

    /// Reads what was printed. Cancel safe.
    pub(super) async fn read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(read) = ready.try_io(|master| Ok(rustix::io::read(master, &mut *chunk)?)) {
                return read;
            }
        }
    }

    pub(super) fn try_read(&self, chunk: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0.get_ref(), chunk)?)
    }

    /// Types.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|master| Ok(rustix::io::write(master, bytes)?)) {
                Ok(written) => bytes = &bytes[written?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Types what means the end of input where the terminal works by lines; twice if a line was begun, which the first
    /// one only hands over. A program that reads single keys has no end of input.
    pub(super) async fn end_input(&self, at_line_start: bool) {
        let Ok(modes) = rustix::termios::tcgetattr(self.0.get_ref()) else { return };
        if modes.local_modes.contains(LocalModes::ICANON) {
            let end = modes.special_codes[SpecialCodeIndex::VEOF];
            let keys: &[u8] = if at_line_start { &[end] } else { &[end, end] };
            // A terminal that is gone needs no end.
            let _ = self.write_all(keys).await;
        }
    }

    pub(super) fn resize(&self, size: WindowSize) {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        // A terminal that is gone has no size.
        let _ = rustix::termios::tcsetwinsize(self.0.get_ref(), size);
    }
}
