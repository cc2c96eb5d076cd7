//! The streams of one program of a fake shim: real fifos on one side, the model on the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use runtime_test::fake::model::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::world::World;

/// How much of a program's input waits for it: what a pipe holds.
const PIPE: usize = 64 * 1024;
/// How long a program that was killed has for what it wrote before: it may be on its way.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Where the streams of a program lead, as the shim was told. An empty path is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Io {
    pub(super) terminal: bool,
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// The shim's ends of the fifos.
#[derive(Debug)]
pub(super) struct Outlets {
    stdout: Option<mpsc::UnboundedSender<Vec<u8>>>,
    stderr: Option<mpsc::UnboundedSender<Vec<u8>>>,
    /// How many bytes were not taken yet: a program waits until they are.
    unwritten: watch::Sender<usize>,
    /// A writer of the input besides those who write to it. While it is open the input has no end.
    keeper: Option<Sender>,
    pumps: JoinSet<()>,
}

impl Outlets {
    /// Opens the fifos, whose other ends must be open. What comes back is the input.
    pub(super) fn open(io: &Io) -> io::Result<(Self, Option<Receiver>)> {
        let unwritten = watch::Sender::new(0);
        let mut pumps = JoinSet::new();
        let mut outlet = |path: &str| {
            if path.is_empty() {
                return Ok::<_, io::Error>(None);
            }
            let fifo = OpenOptions::new().open_sender(path)?;
            let (sender, receiver) = mpsc::unbounded_channel();
            pumps.spawn(pump(fifo, receiver, unwritten.clone()));
            Ok(Some(sender))
        };
        let (stdout, stderr) = (outlet(&io.stdout)?, outlet(&io.stderr)?);
        let (mut keeper, mut input) = (None, None);
        if !io.stdin.is_empty() {
            input = Some(OpenOptions::new().open_receiver(&io.stdin)?);
            keeper = Some(OpenOptions::new().open_sender(&io.stdin)?);
        }
        Ok((Self { stdout, stderr, unwritten, keeper, pumps }, input))
    }

    pub(super) fn write(&self, stream: Stream, bytes: Vec<u8>) {
        let to = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        let Some(to) = to else { return };
        let count = bytes.len();
        self.unwritten.send_modify(|unwritten| *unwritten += count);
        // One that was cut takes nothing more.
        if to.send(bytes).is_err() {
            self.unwritten.send_modify(|unwritten| *unwritten = unwritten.saturating_sub(count));
        }
    }

    /// Nothing will be written any more: the fifos close when everything was taken.
    pub(super) fn end(&mut self) {
        (self.stdout, self.stderr, self.keeper) = (None, None, None);
    }

    /// The input ends with its other writers.
    pub(super) fn close_input(&mut self) {
        self.keeper = None;
    }

    /// Comes back when everything was taken, or will never be.
    pub(super) fn flushed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut unwritten = self.unwritten.subscribe();
        async move {
            // A pump that is gone writes nothing any more.
            let _ = unwritten.wait_for(|unwritten| *unwritten == 0).await;
        }
    }

    /// The program was killed: what nobody takes now is lost.
    pub(super) fn cut(&mut self) {
        self.pumps.abort_all();
        self.unwritten.send_replace(0);
    }

    /// What is to become of the output of a program that was killed: it is cut soon.
    pub(super) fn last_words(&self) -> impl Future<Output = bool> + Send + use<> {
        let flushed = self.flushed();
        async move { timeout(LAST_WORDS, flushed).await.is_ok() }
    }
}

async fn pump(mut fifo: Sender, mut from: mpsc::UnboundedReceiver<Vec<u8>>, unwritten: watch::Sender<usize>) {
    let mut lost = false;
    while let Some(bytes) = from.recv().await {
        // Without a reader everything goes nowhere, and a program that is killed by that is not what is played.
        lost = lost || fifo.write_all(&bytes).await.is_err();
        unwritten.send_modify(|unwritten| *unwritten = unwritten.saturating_sub(bytes.len()));
    }
}

/// Whose input it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reader {
    Init(runtime_test::fake::model::Key),
    Exec(runtime_test::fake::model::ExecKey),
}

/// Carries input to a program until its end.
pub(super) async fn feed(world: Arc<World>, mut from: Receiver, reader: Reader) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        // Input that cannot be read any more is at its end.
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            world.act(|parts| match reader {
                Reader::Init(key) => parts.model.end_input(key),
                Reader::Exec(key) => parts.model.end_exec_input(key),
            });
            return;
        }
        world
            .until(|parts| {
                let unread = match reader {
                    Reader::Init(key) if parts.model.is_over(key) => 0,
                    Reader::Init(key) => parts.model.unread_input(key),
                    Reader::Exec(key) => parts.model.unread_exec_input(key).unwrap_or(0),
                };
                (unread < PIPE).then_some(())
            })
            .await;
        world.act(|parts| match reader {
            Reader::Init(key) => parts.model.write_input(key, &buffer[..count]),
            Reader::Exec(key) => parts.model.write_exec_input(key, &buffer[..count]),
        });
    }
}
