//! Carries the streams between a command and those who gave or want them. Nothing is kept here but one chunk for each
//! stream: a client that does not read holds up its own command, and nobody else.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;

use runtime_api::{BoxRead, BoxWrite, WindowSize};

use super::course::Course;
use super::output::{Kept, Room};

/// How much is carried at once.
const CHUNK: usize = 64 * 1024;
/// The most that a pipe can hold. What a command wrote before its end is carried however slow the client is; what
/// others write after it is not waited for, and no more of it than this is taken along.
const PIPE: usize = 1024 * 1024;

/// Something that a command writes to.
pub trait Source: Send {
    /// Reads what was written, 0 at the end. Cancel safe.
    fn read(&mut self, chunk: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;

    /// Reads what is there now.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing, and there may be later.
    fn try_read(&mut self, chunk: &mut [u8]) -> io::Result<usize>;

    /// Whether an end before the command's may not be the last word: nobody has opened it yet, or will open it again.
    fn may_go_on(&self) -> bool;
}

/// What a caller has for a command.
#[derive(Default)]
pub struct Input {
    /// What it reads.
    pub from: Option<BoxRead>,
    /// The sizes that its terminal is to have.
    pub sizes: Option<watch::Receiver<Option<WindowSize>>>,
    /// Whether it is left alone until the command has begun, for a runtime that may have to be asked again.
    pub waits: bool,
}

impl Input {
    /// Nothing at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input").field("from", &self.from.is_some()).finish_non_exhaustive()
    }
}

/// Where a stream of a command goes.
pub enum Sink<'a> {
    /// It is collected.
    Kept(Kept<'a>),
    /// It is a caller's, until that takes no more.
    Client(Option<BoxWrite>),
}

impl fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept(_) => "Kept",
            Self::Client(_) => "Client",
        })
    }
}

impl<'a> Sink<'a> {
    /// It is collected as far as there is room.
    #[must_use]
    pub fn kept(room: &'a Room) -> Self {
        Self::Kept(Kept::new(room))
    }

    /// It is a caller's; without one it is dropped.
    #[must_use]
    pub fn client(to: Option<BoxWrite>) -> Self {
        Self::Client(to)
    }

    /// What was collected.
    #[must_use]
    pub fn into_kept(self) -> Vec<u8> {
        match self {
            Self::Kept(kept) => kept.bytes,
            Self::Client(_) => Vec::new(),
        }
    }

    /// Takes what was written, for as long as the caller takes.
    pub async fn take(&mut self, chunk: &[u8]) {
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
    pub async fn close(&mut self) {
        if let Self::Client(client) = self
            && let Some(mut client) = client.take()
        {
            let _ = client.shutdown().await;
        }
    }
}

/// Carries output, and input until the command has ended: one that closed its output may still read.
pub async fn alongside<T>(
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
pub async fn pump(mut from: impl Source, to: &mut Sink<'_>, course: &Course) {
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
            // What nobody has open looks ended. It is, once the command is.
            Ok(0) | Err(_) if from.may_go_on() && !course.has_ended() => {
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

/// How long to wait before what nobody has open is looked at again: at first, and at most.
const PAUSE: Duration = Duration::from_millis(2);
const LONG_PAUSE: Duration = Duration::from_millis(100);

/// Passes a caller's input on. Gives the last byte of it at its end, and nothing where there is none or the command takes
/// no more.
pub async fn feed(input: &mut Input, to: &mut (impl AsyncWrite + Unpin), course: &Course) -> Option<u8> {
    if input.waits && !course.settled().await {
        return None;
    }
    let mut from = input.from.take()?;
    let mut chunk = vec![0; CHUNK];
    let mut last = b'\n';
    // A caller whose input cannot be read any more has none.
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        last = chunk[n - 1];
        to.write_all(&chunk[..n]).await.ok()?;
    }
    Some(last)
}
