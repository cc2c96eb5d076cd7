//! One program: what it prints goes to its log and to its clients, what they send goes to it.
//!
//! A task of its own does the work and owns everything; others ask it through a channel. When the channel is closed, the
//! clients get what is queued for them, and the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_seqpacket::UnixSeqpacket;

use runtime_api::{Error, ErrorKind, Result, StdinMode};

use super::clients::Clients;
use super::door::Door;
use super::fifo::{self, Fifos, Found, Output};
use super::input::{self, Input};
use super::log::{Log, LogOrder};
use super::socket::Placed;
use super::{Channel, Key, Tasks};

/// How long output may take that is still under way when the program has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// What the monitor is to do for one program, the init of a container or an exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramOrder {
    /// Which program.
    pub key: Key,
    /// Where the socket `attach`, the files `exit`, `exit-time` and `oom` go. It must be there.
    pub dir: PathBuf,
    /// Where the fifos go. It is made if it is not there.
    pub fifos_dir: PathBuf,
    /// What becomes of its input.
    #[serde(default)]
    pub stdin: StdinMode,
    /// Whether it has a terminal: then there is no standard error.
    #[serde(default)]
    pub terminal: bool,
    /// Its log, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogOrder>,
    /// A directory and a name: a second exit file, for those who watch many containers through one directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Notice>,
}

impl ProgramOrder {
    /// A program without input, terminal, log and notice.
    pub fn new(key: Key, dir: impl Into<PathBuf>, fifos_dir: impl Into<PathBuf>) -> Self {
        let (dir, fifos_dir) = (dir.into(), fifos_dir.into());
        Self { key, dir, fifos_dir, stdin: StdinMode::Closed, terminal: false, log: None, notice: None }
    }
}

/// Where the second exit file goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// The directory.
    pub dir: PathBuf,
    /// The name of the file.
    pub name: String,
}

impl Notice {
    /// The file of this name in this directory.
    pub fn new(dir: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self { dir: dir.into(), name: name.into() }
    }
}

/// How one program stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramState {
    /// How many clients are attached.
    pub clients: usize,
    /// How many bytes wait for them.
    pub waiting: usize,
    /// How many bytes of output came.
    pub carried: u64,
    /// How many times the log could not be written.
    pub log_failures: u64,
    /// Whether the end is known, or that nobody will know it.
    pub over: bool,
}

/// What others want of the task.
#[derive(Debug)]
enum Ask {
    ReopenLog(oneshot::Sender<Result<()>>),
    State(oneshot::Sender<ProgramState>),
    /// Tells when everything that was printed has come, or that it takes too long.
    Drain(oneshot::Sender<bool>),
    /// The clients get what is queued for them and the end, and nobody else is let in. Tells when the socket is gone.
    Leave(oneshot::Sender<()>),
}

/// The way to a program's task. When it is dropped, the task comes to its end.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) order: ProgramOrder,
    pub(super) fifos: Fifos,
    asks: mpsc::Sender<Ask>,
    input: mpsc::Sender<Input>,
    made: watch::Sender<bool>,
    _placed: Vec<Placed>,
    _place_of_fifos: Directory,
    /// Those who carry input. They end with this value.
    _carriers: JoinSet<()>,
}

impl Program {
    /// Makes everything that a shim needs before the program is made. The task that comes back does the work.
    pub(super) fn prepare(
        order: ProgramOrder,
        tasks: Arc<dyn Tasks>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static)> {
        if !order.dir.is_dir() {
            return Err(Error::new(ErrorKind::ConfigInvalid("it is no directory".into()))
                .on(format_args!("directory {}", order.dir.display())));
        }
        // First what can be refused.
        let log = order.log.clone().map(Log::open).transpose()?;
        let place_of_fifos = Directory::make(&order.fifos_dir)?;
        let mut placed = vec![];
        let mut fifos = Fifos::default();
        let mut fifo = |name: &str| {
            let made = fifo::make(order.fifos_dir.join(name))?;
            let path = made.path().to_owned();
            placed.push(made);
            Ok::<_, Error>(path)
        };
        let stdout = fifo("stdout")?;
        let mut outputs = vec![(Channel::Stdout, Output::open(stdout.clone())?)];
        fifos.stdout = Some(stdout);
        if !order.terminal {
            let stderr = fifo("stderr")?;
            outputs.push((Channel::Stderr, Output::open(stderr.clone())?));
            fifos.stderr = Some(stderr);
        }
        let mut stdin = None;
        if order.stdin != StdinMode::Closed {
            let path = fifo("stdin")?;
            stdin = Some(fifo::open_input(&path)?);
            fifos.stdin = Some(path);
        }
        let path = order.dir.join("attach");
        let door = Door::open(&path).map_err(|error| {
            Error::new(ErrorKind::Unavailable("it cannot be served".into()))
                .on(format_args!("socket {}", path.display()))
                .caused_by(error)
        })?;
        let (asks, asked) = mpsc::channel(8);
        let (input, given) = mpsc::channel(1);
        let (made, is_made) = watch::channel(false);
        let mut carriers = JoinSet::new();
        let (over, is_over) = watch::channel(false);
        carriers.spawn(input::write(stdin, given, order.key.clone(), tasks, is_made, is_over));
        let work = Work {
            outputs,
            log,
            clients: Clients::default(),
            door: Some(door),
            input: input.clone(),
            over,
            stdin: order.stdin,
            readers: JoinSet::new(),
            leaving: JoinSet::new(),
            carried: 0,
            discards: false,
        };
        let program = Self {
            order,
            fifos,
            asks,
            input,
            made,
            _placed: placed,
            _place_of_fifos: place_of_fifos,
            _carriers: carriers,
        };
        Ok((program, work.run(asked)))
    }

    /// The shim knows the program now.
    pub(super) fn is_made(&self) {
        self.made.send_replace(true);
    }

    pub(super) fn remote(&self) -> Remote {
        Remote { asks: self.asks.clone(), input: self.input.clone() }
    }
}

/// A directory that goes with this value, unless something else is in it.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn make(path: &Path) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map(|()| Self(path.to_owned())).map_err(|error| {
            Error::new(ErrorKind::Unavailable("it cannot be made".into()))
                .on(format_args!("directory {}", path.display()))
                .caused_by(error)
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What can be asked of a program's task without holding on to the program.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    asks: mpsc::Sender<Ask>,
    input: mpsc::Sender<Input>,
}

impl Remote {
    pub(super) async fn reopen_log(&self) -> Result<()> {
        self.ask(Ask::ReopenLog).await.unwrap_or_else(|| Err(over()))
    }

    pub(super) async fn state(&self) -> ProgramState {
        self.ask(Ask::State).await.unwrap_or_default()
    }

    /// Waits until everything that was printed has come, but not for long. What comes later is thrown away.
    pub(super) async fn drain(&self) -> bool {
        self.ask(Ask::Drain).await.unwrap_or_default()
    }

    /// Lets the clients go.
    pub(super) async fn leave(&self) {
        self.ask(Ask::Leave).await;
    }

    /// Ends the input, and waits until the shim knows.
    pub(super) async fn close_input(&self) -> Result<()> {
        let (told, tells) = oneshot::channel();
        let _ = self.input.send(Input::End(Some(told))).await;
        tells.await.unwrap_or_else(|_| Err(over()))
    }

    async fn ask<T>(&self, what: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (told, tells) = oneshot::channel();
        self.asks.send(what(told)).await.ok()?;
        tells.await.ok()
    }
}

fn over() -> Error {
    Error::new(ErrorKind::NotFound)
}

/// What the task owns.
#[derive(Debug)]
struct Work {
    outputs: Vec<(Channel, Output)>,
    log: Option<Log>,
    clients: Clients,
    door: Option<Door>,
    input: mpsc::Sender<Input>,
    /// Says that no input is wanted any more.
    over: watch::Sender<bool>,
    stdin: StdinMode,
    /// Those who read what clients send.
    readers: JoinSet<()>,
    /// Clients that were let go and have not got everything yet.
    leaving: JoinSet<()>,
    carried: u64,
    discards: bool,
}

impl Work {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        loop {
            let room = self.clients.have_room();
            tokio::select! {
                ask = asked.recv() => match ask {
                    Some(ask) => self.answer(ask).await,
                    None => break,
                },
                (channel, found) = next(&mut self.outputs), if room => {
                    if let Found::Text(text) = found {
                        self.take(channel, &text);
                    }
                }
                () = self.clients.room(), if !room => {}
                client = next_client(&mut self.door) => self.welcome(client),
            }
        }
        // Nobody writes to the fifos any more, nor to the log.
        self.outputs.clear();
        self.log = None;
        self.door = None;
        self.clients.end().await;
        while self.leaving.join_next().await.is_some() {}
    }

    fn take(&mut self, channel: Channel, text: &[u8]) {
        if self.discards {
            return;
        }
        self.carried += u64::try_from(text.len()).unwrap_or(0);
        if let Some(log) = &mut self.log {
            log.add(channel, text);
        }
        while let Some(client) = self.door.as_ref().and_then(Door::next_at_once) {
            self.welcome(client);
        }
        self.clients.send(channel, text);
    }

    fn welcome(&mut self, client: UnixSeqpacket) {
        while self.readers.try_join_next().is_some() {}
        if let Some(client) = self.clients.welcome(client) {
            self.readers.spawn(input::read_from(client, self.stdin, self.input.clone()));
        }
    }

    async fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::ReopenLog(told) => {
                let _ = told.send(self.log.as_mut().map_or(Ok(()), Log::reopen));
            }
            Ask::State(told) => {
                let (clients, waiting) = self.clients.count();
                let log_failures = self.log.as_ref().map_or(0, |log| log.failures);
                let over = self.discards || self.door.is_none();
                let _ =
                    told.send(ProgramState { clients, waiting, carried: self.carried, log_failures, over });
            }
            Ask::Drain(told) => {
                let whole = self.drain().await;
                self.discards = true;
                let _ = told.send(whole);
            }
            Ask::Leave(told) => {
                self.over.send_replace(true);
                self.door = None;
                let clients = std::mem::take(&mut self.clients);
                // They have their own time, and output does not wait for them any more.
                self.leaving.spawn(clients.end());
                let _ = told.send(());
            }
        }
    }

    /// Takes what is there until there is no writer; whether it came to that.
    async fn drain(&mut self) -> bool {
        let deadline = Instant::now() + DRAIN;
        while Instant::now() < deadline {
            let mut open = false;
            for at in 0..self.outputs.len() {
                let (channel, output) = &mut self.outputs[at];
                match (*channel, output.look()) {
                    (channel, Found::Text(text)) => {
                        open = true;
                        self.take(channel, &text);
                    }
                    (_, Found::Silence) => open = true,
                    (_, Found::End) => {}
                }
            }
            if !open {
                return true;
            }
            if let Ok((channel, Found::Text(text))) = timeout_at(deadline, next(&mut self.outputs)).await {
                self.take(channel, &text);
            }
        }
        false
    }
}

/// What comes next on any stream.
async fn next(outputs: &mut [(Channel, Output)]) -> (Channel, Found) {
    match outputs {
        [(one, first)] => (*one, first.next().await),
        [(one, first), (two, second)] => tokio::select! {
            found = first.next() => (*one, found),
            found = second.next() => (*two, found),
        },
        _ => std::future::pending().await,
    }
}

/// The next client, if there still is a door.
async fn next_client(door: &mut Option<Door>) -> UnixSeqpacket {
    match door {
        Some(door) => door.next().await,
        None => std::future::pending().await,
    }
}
