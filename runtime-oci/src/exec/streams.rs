//! Where the streams of a command come from: pipes, or a terminal; and what the runtime says beside the command.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::watch;

use runtime_api::{BoxRead, Error, ErrorKind, Result, WindowSize};
use runtime_host::exec::{Course, Input, Sink, Source, alongside, feed, pump};

use super::terminal::{Console, Master};

/// How much is carried at once.
const CHUNK: usize = 64 * 1024;
/// How much of the runtime's own words is kept.
const WORDS: usize = 8 * 1024;

/// Our ends of a command's streams.
pub(super) struct Ends {
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    console: Option<Console>,
}

impl Ends {
    /// Takes the pipes of a child.
    pub(super) fn of(child: &mut Child, console: Option<Console>) -> Result<Self> {
        let take = |child: &mut Child| -> io::Result<Self> {
            let none = || io::Error::other("a stream is not a pipe");
            let stdin = child.stdin.take().map(|end| pipe::Sender::from_owned_fd(end.into_owned_fd()?));
            let stdout = child.stdout.take().ok_or_else(none)?.into_owned_fd()?;
            let stderr = child.stderr.take().ok_or_else(none)?.into_owned_fd()?;
            Ok(Self {
                stdin: stdin.transpose()?,
                stdout: pipe::Receiver::from_owned_fd(stdout)?,
                stderr: pipe::Receiver::from_owned_fd(stderr)?,
                console,
            })
        };
        take(child).map_err(|error| {
            Error::new(ErrorKind::Exhausted("the streams of an exec cannot be watched".into()))
                .caused_by(error)
        })
    }
}

/// A pipe that a command writes to.
struct Pipe(pipe::Receiver);

impl Source for Pipe {
    async fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        self.0.read(chunk).await
    }

    fn try_read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(chunk)
    }

    fn may_go_on(&self) -> bool {
        false
    }
}

/// A terminal that a command writes to.
struct Screen(Arc<Master>);

impl Source for Screen {
    async fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        self.0.read(chunk).await
    }

    fn try_read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(chunk)
    }

    /// The command may not have opened it yet, or open it again.
    fn may_go_on(&self) -> bool {
        true
    }
}

/// Carries everything until the command has ended and its output was taken. Gives what the runtime itself said, as far as
/// that can be told from what the command said. Where no command was run the streams stay as they were.
pub(super) async fn carry(
    ends: Ends,
    input: &mut Input,
    stdout: &mut Sink<'_>,
    stderr: &mut Sink<'_>,
    course: &Course,
) -> Vec<u8> {
    match ends.console {
        Some(console) => {
            let mut words = (Vec::new(), Vec::new());
            let (out, err) = (ends.stdout, ends.stderr);
            tokio::join!(
                with_terminal(console, input, stdout, course),
                listen(out, &mut words.0, course),
                listen(err, &mut words.1, course)
            );
            if course.has_begun() {
                stderr.close().await;
            }
            [words.0, words.1].concat()
        }
        None => {
            let output = async {
                let (_, said) = tokio::join!(
                    pump(Pipe(ends.stdout), stdout, course),
                    errors(ends.stderr, stderr, course)
                );
                said
            };
            let input = async {
                if let Some(mut to) = ends.stdin {
                    feed(input, &mut to, course).await;
                }
            };
            alongside(output, input, course).await
        }
    }
}

/// Carries standard error, which the runtime has too until it has run the command. What comes before that is held back
/// from a client and given, for only the command's own words are for the client; what is held is bounded by the pipe.
async fn errors(mut from: pipe::Receiver, to: &mut Sink<'_>, course: &Course) -> Vec<u8> {
    if matches!(to, Sink::Client(_)) {
        let mut held = vec![0; WORDS];
        let first = tokio::select! {
            read = from.read(&mut held) => read.unwrap_or(0),
            () = course.over() => 0,
        };
        held.truncate(first);
        if first > 0 && !course.settled().await {
            listen(from, &mut held, course).await;
            return held;
        }
        to.take(&held).await;
    }
    pump(Pipe(from), to, course).await;
    Vec::new()
}

/// Reads what the runtime says, and keeps a bounded part of it.
async fn listen(mut from: pipe::Receiver, words: &mut Vec<u8>, course: &Course) {
    let mut chunk = vec![0; WORDS];
    loop {
        let read = tokio::select! {
            read = from.read(&mut chunk) => read.unwrap_or(0),
            _ = course.ended() => from.try_read(&mut chunk).unwrap_or(0),
        };
        if read == 0 {
            return;
        }
        let room = WORDS.saturating_sub(words.len());
        words.extend_from_slice(&chunk[..read.min(room)]);
    }
}

/// Carries a terminal both ways, once the runtime has made it.
async fn with_terminal(console: Console, input: &mut Input, stdout: &mut Sink<'_>, course: &Course) {
    let Some(master) = console.master(course).await else { return };
    let master = Arc::new(master);
    let output = pump(Screen(Arc::clone(&master)), stdout, course);
    let entering = async {
        tokio::join!(type_in(input.from.take(), &master), resize(input.sizes.take(), &master, course));
    };
    alongside(output, entering, course).await;
}

/// Types a caller's input into a terminal, and its end.
async fn type_in(from: Option<BoxRead>, master: &Master) {
    let Some(mut from) = from else { return };
    let mut chunk = vec![0; CHUNK];
    let mut last = b'\n';
    loop {
        match from.read(&mut chunk).await {
            Ok(n @ 1..) => {
                last = chunk[n - 1];
                if master.write_all(&chunk[..n]).await.is_err() {
                    return;
                }
            }
            Ok(0) | Err(_) => return master.end_input(last == b'\n').await,
        }
    }
}

/// Gives a terminal the size that is wanted now, and the next ones as they come, once the command has begun: a process that
/// waits for a command in a sandbox passes on that there is another size, and does not before.
async fn resize(sizes: Option<watch::Receiver<Option<WindowSize>>>, master: &Master, course: &Course) {
    let Some(mut sizes) = sizes else { return };
    let first = *sizes.borrow_and_update();
    if let Some(size) = first {
        master.resize(size);
    }
    course.settled().await;
    loop {
        let wanted = *sizes.borrow_and_update();
        if let Some(size) = wanted {
            master.resize(size);
        }
        if sizes.changed().await.is_err() {
            return;
        }
    }
}
