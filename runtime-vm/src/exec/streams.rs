//! The streams of an exec: fifos between the shim and us.
//!
//! Our ends are open before the shim is told of the command: a shim waits for a reader, and what is typed before the shim
//! reads must not be lost.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::termios::{LocalModes, SpecialCodeIndex};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

use runtime_api::{Error, ErrorKind, Result};
use runtime_host::exec::{Course, Input, Room, Sink, Source, alongside, feed, pump};
use runtime_host::process::Identity;

use super::command::Command;
use crate::monitor::Fifos;
use crate::monitor::fifo::{make, open_input};
use crate::monitor::input::end;
use crate::monitor::socket::Placed;
use crate::task::{TaskClient, TaskIo};

/// Where the streams of an exec come from and go to.
pub(super) struct Client<'a> {
    pub(super) input: Input,
    pub(super) stdout: Sink<'a>,
    pub(super) stderr: Sink<'a>,
}

impl<'a> Client<'a> {
    /// No input, and the output is collected.
    pub(super) fn collects(room: &'a Room) -> Self {
        Self { input: Input::none(), stdout: Sink::kept(room), stderr: Sink::kept(room) }
    }
}

/// Our ends of a command's streams.
#[derive(Debug)]
pub(super) struct Ends {
    stdin: Option<Sender>,
    stdout: Outlet,
    /// Not there with a terminal.
    stderr: Option<Outlet>,
    _placed: Vec<Placed>,
}

impl Ends {
    /// Makes the fifos in a directory, and opens our ends; what the shim is told of them.
    pub(super) fn make(place: &Path, terminal: bool, has_input: bool) -> Result<(Self, TaskIo)> {
        let mut placed = vec![];
        let mut fifo = |name: &str| {
            let made = make(place.join(name))?;
            let path = made.path().to_owned();
            placed.push(made);
            Ok::<_, Error>(path)
        };
        let mut fifos = Fifos { stdout: Some(fifo("stdout")?), ..Fifos::default() };
        if !terminal {
            fifos.stderr = Some(fifo("stderr")?);
        }
        if has_input {
            fifos.stdin = Some(fifo("stdin")?);
        }
        let ends = Self {
            stdin: fifos.stdin.as_deref().map(open_input).transpose()?,
            stdout: Outlet::open(place.join("stdout"))?,
            stderr: fifos.stderr.clone().map(Outlet::open).transpose()?,
            _placed: placed,
        };
        Ok((ends, fifos.task_io(terminal)))
    }
}

/// A fifo that a shim writes to. It may open it more than once: once nobody writes it is looked at anew, until the
/// command has ended.
#[derive(Debug)]
struct Outlet {
    path: PathBuf,
    end: Receiver,
    /// Whether the last writer has left, and nobody has come since.
    vacant: bool,
}

impl Outlet {
    fn open(path: PathBuf) -> Result<Self> {
        let end = OpenOptions::new().open_receiver(&path).map_err(|error| {
            Error::new(ErrorKind::Unavailable("it cannot be opened".into()))
                .on(format_args!("fifo {}", path.display()))
                .caused_by(error)
        })?;
        Ok(Self { path, end, vacant: false })
    }

    /// An end that has seen its last writer leave says so for ever. The old one is closed last, so that a writer who comes
    /// meanwhile finds a reader.
    fn open_anew(&mut self) {
        self.vacant = true;
        if let Ok(end) = OpenOptions::new().open_receiver(&self.path) {
            self.end = end;
        }
    }
}

impl Source for Outlet {
    async fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        if self.vacant {
            match self.try_read(chunk) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.vacant = false,
                found => {
                    self.vacant = matches!(found, Ok(0));
                    return found;
                }
            }
        }
        loop {
            self.end.readable().await?;
            match self.end.try_read(chunk) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) => {
                    self.open_anew();
                    return Ok(0);
                }
                read => return read,
            }
        }
    }

    fn try_read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        // Not by what tokio has heard of it: nobody tells that nobody is there.
        Ok(rustix::io::read(&self.end, chunk)?)
    }

    fn may_go_on(&self) -> bool {
        true
    }
}

/// Carries everything until the command has ended and its output was taken.
pub(super) async fn carry(
    ends: Ends,
    to: &mut Client<'_>,
    course: &Course,
    command: &Command,
    client: TaskClient,
) {
    let Ends { stdin, stdout, stderr, _placed } = ends;
    let terminal = stderr.is_none();
    let Client { input, stdout: out, stderr: err } = to;
    let mut sizes = input.sizes.take().filter(|_| terminal);
    let output = async {
        match stderr {
            Some(stderr) => {
                tokio::join!(pump(stdout, out, course), pump(stderr, err, course));
            }
            None => {
                pump(stdout, out, course).await;
                err.close().await;
            }
        }
    };
    let entering = async {
        let Some(mut fifo) = stdin else { return };
        let Some(last) = feed(input, &mut fifo, course).await else { return };
        if terminal {
            type_end(&mut fifo, command.process(), last == b'\n').await;
            // For as long as the command runs, for the shim may not have read it yet.
            course.ended().await;
        } else if let Err(error) = end(fifo, command.close_stdin(&client)).await {
            tracing::warn!(error = error.report(), exec = command.name(), "the shim did not close the input");
        }
    };
    let sizing = async {
        while let Some(changes) = &mut sizes {
            let wanted = *changes.borrow_and_update();
            if let Some(size) = wanted
                && let Err(error) = command.resize(&client, size).await
                && !course.has_ended()
            {
                tracing::warn!(error = error.report(), exec = command.name(), "a size was not passed on");
            }
            if changes.changed().await.is_err() {
                sizes = None;
            }
        }
    };
    let inward = async {
        tokio::join!(entering, sizing);
    };
    // Four pumps, each with what it carries: too much for the stack of whoever waits.
    Box::pin(alongside(output, inward, course)).await;
}

/// The key that ends input, where it cannot be asked for.
const END: u8 = 4;

/// Types what means the end of input where the terminal works by lines; twice if a line was begun, which the first one
/// only hands over. A program that reads single keys has no end of input. The terminal is the shim's: what it is like is
/// seen where its program is a process of the host, and elsewhere it is taken to be as terminals are made.
async fn type_end(fifo: &mut Sender, process: Option<Identity>, at_line_start: bool) {
    let end = match process.map(terminal_of) {
        Some(Some(terminal)) => match rustix::termios::tcgetattr(terminal) {
            Ok(modes) if modes.local_modes.contains(LocalModes::ICANON) => {
                modes.special_codes[SpecialCodeIndex::VEOF]
            }
            _ => return,
        },
        // Its input is something else by now.
        Some(None) => return,
        None => END,
    };
    let keys: &[u8] = if at_line_start { &[end] } else { &[end, end] };
    // A terminal that is gone needs no end.
    let _ = fifo.write_all(keys).await;
}

/// The terminal that a process has for its standard input. Nothing else is opened.
fn terminal_of(process: Identity) -> Option<File> {
    /// The device numbers of pseudo-terminals.
    const PTS: std::ops::RangeInclusive<u32> = 136..=143;
    let path = format!("/proc/{}/fd/0", process.pid);
    let looked = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let device = rustix::fs::fstat(&looked).ok()?.st_rdev;
    if !PTS.contains(&rustix::fs::major(device)) {
        return None;
    }
    let itself = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&looked));
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(itself, flags, Mode::empty()).ok()?;
    process.lives().then(|| File::from(terminal))
}
