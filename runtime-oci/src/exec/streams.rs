//! Carries the streams between a command and those who gave or want them. Nothing is kept here but one chunk for each
//! stream: a client that does not read holds up its own command, and nobody else.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::watch;

use runtime_api::{BoxRead, BoxWrite, Error, ErrorKind, Result, WindowSize};

use super::course::Course;
use super::output::{Kept, Room};
use super::terminal::{Console, Master};

/// How much is carried at once.
const CHUNK: usize = 64 * 1024;
/// The most that a pipe can hold. What a command wrote before its end is carried however slow the client is; what
/// others write after it is not waited for, and no more of it than this is taken along.
const PIPE: usize = 1024 * 1024;
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

/// What a caller has for a command.
pub(super) struct Input {
    pub(super) from: Option<BoxRead>,
    pub(super) sizes: Option<watch::Receiver<Option<WindowSize>>>,
    /// Whether it is left alone until the command has begun, for a runtime that may have to be asked again.
    pub(super) waits: bool,
}

impl Input {
    pub(super) fn none() -> Self {
        Self { from: None, sizes: None, waits: false }
    }
}

/// Where a stream of a command goes.
pub(super) enum Sink<'a> {
    Kept(Kept<'a>),
    Client(Option<BoxWrite>),
}

impl<'a> Sink<'a> {
    pub(super) fn kept(room: &'a Room) -> Self {
        Self::Kept(Kept::new(room))
    }

    pub(super) fn client(to: Option<BoxWrite>) -> Self {
        Self::Client(to)
    }

    pub(super) fn into_kept(self) -> Vec<u8> {
        match self {
            Self::Kept(kept) => kept.bytes,
            Self::Client(_) => Vec::new(),
        }
    }

    async fn take(&mut self, chunk: &[u8]) {
        match self {
            Self::Kept(kept) => kept.add(chunk),
            Self::Client(to) => {
                let Some(client) = to else { return };
                let written = async {
                    client.write_all(chunk).await?;
                    client.flush().await
                };
                // A client that is gone misses the rest; the command and its other stream go on.
                if written.await.is_err() {
                    *to = None;
                }
            }
        }
    }

    /// Tells the client that nothing more will come.
    pub(super) async fn close(&mut self) {
        if let Self::Client(client) = self
            && let Some(mut client) = client.take()
        {
            let _ = client.shutdown().await;
        }
    }
}

/// Something that a command writes to.
enum Source {
    Pipe(pipe::Receiver),
    Terminal(Arc<Master>),
}

impl Source {
    async fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.read(chunk).await,
            Self::Terminal(master) => master.read(chunk).await,
        }
    }

    fn try_read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.try_read(chunk),
            Self::Terminal(master) => master.try_read(chunk),
        }
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
                    pump(Source::Pipe(ends.stdout), stdout, course),
                    errors(ends.stderr, stderr, course)
                );
                said
            };
            alongside(output, feed(input, ends.stdin, course), course).await
        }
    }
}

/// Carries output, and input until the command has ended: one that closed its output may still read.
async fn alongside<T>(
    output: impl Future<Output = T>,
    input: impl Future<Output = ()>,
    course: &Course,
) -> T {
    let (mut output, mut input) = (pin!(output), pin!(input));
    let mut fed = false;
    let done = loop {
        tokio::select! {
            done = &mut output => break done,
            () = &mut input, if !fed => fed = true,
        }
    };
    if !fed {
        tokio::select! {
            _ = course.ended() => {}
            () = input => {}
        }
    }
    done
}

/// Carries one stream to its end. After the end of the command nothing is waited for but the client.
async fn pump(mut from: Source, to: &mut Sink<'_>, course: &Course) {
    let mut chunk = vec![0; CHUNK];
    let mut late = 0;
    let mut pause = PAUSE;
    loop {
        let read = if course.is_over() {
            let read = if late < PIPE { from.try_read(&mut chunk).unwrap_or(0) } else { 0 };
            late += read;
            Ok(read)
        } else {
            tokio::select! {
                biased;
                read = from.read(&mut chunk) => read,
                () = course.over() => continue,
            }
        };
        match read {
            Ok(n @ 1..) => to.take(&chunk[..n]).await,
            // A terminal that nobody has open looks ended. It is, once the command is: until then the command may not
            // have opened it yet, or open it again.
            Err(_) if matches!(from, Source::Terminal(_)) && !course.has_ended() => {
                tokio::select! {
                    _ = course.ended() => {}
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONG_PAUSE),
                }
            }
            // A broken pipe ends a stream like its end does.
            Ok(0) | Err(_) => break,
        }
    }
    if course.settled().await {
        to.close().await;
    }
}

/// How long to wait before a terminal that nobody has open is looked at again: at first, and at most.
const PAUSE: Duration = Duration::from_millis(2);
const LONG_PAUSE: Duration = Duration::from_millis(100);

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
    pump(Source::Pipe(from), to, course).await;
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

/// Passes a caller's input on; its end is the command's end of input.
async fn feed(input: &mut Input, to: Option<pipe::Sender>, course: &Course) {
    if input.waits && !course.settled().await {
        return;
    }
    let (Some(mut from), Some(mut to)) = (input.from.take(), to) else { return };
    let mut chunk = vec![0; CHUNK];
    // A caller whose input cannot be read any more has none, and a command that closed its own takes no more.
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        if to.write_all(&chunk[..n]).await.is_err() {
            return;
        }
    }
}

/// Carries a terminal both ways, once the runtime has made it.
async fn with_terminal(console: Console, input: &mut Input, stdout: &mut Sink<'_>, course: &Course) {
    let Some(master) = console.master(course).await else { return };
    let master = Arc::new(master);
    let output = pump(Source::Terminal(Arc::clone(&master)), stdout, course);
    let entering = async {
        tokio::join!(type_in(input.from.take(), &master), resize(input.sizes.take(), &master));
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

/// Gives a terminal the size that is wanted now, and the next ones as they come.
async fn resize(sizes: Option<watch::Receiver<Option<WindowSize>>>, master: &Master) {
    let Some(mut sizes) = sizes else { return };
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
