//! What the tests share: a monitor at work, and both of its sides.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use runtime_api::{Error, ErrorKind, Peer, Result, StdinMode};
use runtime_vm::monitor::{
    Ended, Fifos, Key, LogOrder, Monitor, MonitorClient, Notice, ProgramOrder, Tasks, Told,
};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_seqpacket::UnixSeqpacket;

/// What anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

/// Waits until something is so.
pub(crate) async fn until(mut so: impl FnMut() -> bool) {
    soon(async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A shim that ends programs when it is told to.
#[derive(Debug, Default)]
pub(crate) struct Shim {
    ends: watch::Sender<BTreeMap<Key, Ended>>,
    gone: watch::Sender<bool>,
    /// Whether `CloseIO` is answered only once this is true.
    pub(crate) closes: watch::Sender<bool>,
    /// Whose input was closed.
    pub(crate) closed: Mutex<Vec<Key>>,
    /// What the next waits say instead of waiting, the last one first.
    pub(crate) refusals: Mutex<Vec<ErrorKind>>,
    /// What it does not know.
    pub(crate) unknown: watch::Sender<Vec<Key>>,
    /// Whether a wait is never answered.
    pub(crate) deaf: watch::Sender<bool>,
}

impl Shim {
    pub(crate) fn new() -> Arc<Self> {
        let shim = Self::default();
        shim.closes.send_replace(true);
        Arc::new(shim)
    }

    pub(crate) fn end(&self, key: &Key, code: i32) {
        self.ends.send_modify(|ends| {
            ends.insert(key.clone(), Ended { code, at: SystemTime::now() });
        });
    }

    pub(crate) fn die(&self) {
        self.gone.send_replace(true);
    }

    pub(crate) fn has_closed(&self, key: &Key) -> bool {
        self.closed.lock().unwrap().contains(key)
    }
}

#[async_trait]
impl Tasks for Shim {
    async fn wait(&self, key: &Key) -> Result<Ended> {
        if let Some(refusal) = self.refusals.lock().unwrap().pop() {
            return Err(Error::new(refusal));
        }
        let _ = self.deaf.subscribe().wait_for(|deaf| !*deaf).await;
        let mut ends = self.ends.subscribe();
        let mut gone = self.gone.subscribe();
        tokio::select! {
            ends = ends.wait_for(|ends| ends.contains_key(key)) => Ok(ends.unwrap()[key]),
            _ = gone.wait_for(|gone| *gone) => Err(Error::new(ErrorKind::PeerLost(Peer::Shim))),
        }
    }

    async fn ended(&self, key: &Key) -> Result<Option<Ended>> {
        match self.unknown.borrow().contains(key) {
            true => Err(Error::new(ErrorKind::NotFound)),
            false => Ok(self.ends.borrow().get(key).copied()),
        }
    }

    async fn close_io(&self, key: &Key) -> Result<()> {
        self.closed.lock().unwrap().push(key.clone());
        let _ = self.closes.subscribe().wait_for(|closes| *closes).await;
        Ok(())
    }

    async fn gone(&self) {
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }
}

/// A monitor at work.
pub(crate) struct Field {
    place: tempfile::TempDir,
    pub(crate) shim: Arc<Shim>,
    pub(crate) told: mpsc::Sender<Told>,
    pub(crate) client: MonitorClient,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) until: oneshot::Sender<()>,
}

impl Field {
    pub(crate) fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        // Longer than the address of a socket can be.
        let dir = place.path().join("d".repeat(120));
        std::fs::create_dir(&dir).unwrap();
        let shim = Shim::new();
        let (told, tells) = mpsc::channel(16);
        let monitor = Monitor::bind(&dir).unwrap();
        let tasks: Arc<dyn Tasks> = Arc::clone(&shim) as _;
        let (until, ends) = oneshot::channel();
        let serving = tokio::spawn(monitor.serve(tasks, tells, async {
            // Dropped, it is no wish.
            if ends.await.is_err() {
                std::future::pending::<()>().await;
            }
        }));
        Self { shim, told, client: MonitorClient::at(dir), serving, until, place }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// An order for a program with a log and without input.
    pub(crate) fn order(&self, key: &Key) -> ProgramOrder {
        let name = key.exec.as_deref().unwrap_or(&key.container);
        let dir = self.path(name);
        std::fs::create_dir_all(&dir).unwrap();
        let exits = self.path("exits");
        std::fs::create_dir_all(&exits).unwrap();
        let mut order = ProgramOrder::new(key.clone(), &dir, dir.join("io"));
        order.log = Some(LogOrder::new(self.path(&format!("{name}.log"))));
        order.notice = Some(Notice::new(exits, name));
        order
    }

    pub(crate) async fn add(&self, order: ProgramOrder) -> Program {
        let fifos = self.client.add(&order).await.unwrap();
        Program { client: self.client.clone(), order, fifos }
    }

    /// A program with a log, and with input if that is wanted.
    pub(crate) async fn program(&self, stdin: StdinMode) -> Program {
        let mut order = self.order(&Key::init("a"));
        order.stdin = stdin;
        self.add(order).await
    }
}

/// A program that the monitor has.
pub(crate) struct Program {
    client: MonitorClient,
    pub(crate) order: ProgramOrder,
    pub(crate) fifos: Fifos,
}

impl Program {
    pub(crate) fn key(&self) -> &Key {
        &self.order.key
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.order.dir.join(name)
    }

    /// The shim's end of standard output.
    pub(crate) fn stdout(&self) -> pipe::Sender {
        writer(self.fifos.stdout.as_ref().unwrap())
    }

    pub(crate) fn stderr(&self) -> pipe::Sender {
        writer(self.fifos.stderr.as_ref().unwrap())
    }

    /// The shim's end of standard input.
    pub(crate) fn stdin(&self) -> pipe::Receiver {
        pipe::OpenOptions::new().open_receiver(self.fifos.stdin.as_ref().unwrap()).unwrap()
    }

    pub(crate) async fn watch(&self) {
        self.client.watch(self.key()).await.unwrap();
    }

    pub(crate) async fn attach(&self) -> Attached {
        Attached(connect(&self.file("attach")).await.unwrap())
    }

    pub(crate) async fn exit(&self) -> String {
        let path = self.file("exit");
        until(|| path.exists()).await;
        std::fs::read_to_string(path).unwrap()
    }

    /// The records of the log, without their times.
    pub(crate) fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.order.log.as_ref().unwrap().path).unwrap();
        text.split_terminator('\n').map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    pub(crate) async fn until_logged(&self, record: &str) {
        until(|| self.log().iter().any(|each| each == record)).await;
    }
}

fn writer(path: &Path) -> pipe::Sender {
    pipe::OpenOptions::new().open_sender(path).unwrap()
}

async fn connect(path: &Path) -> std::io::Result<UnixSeqpacket> {
    UnixSeqpacket::connect(path).await
}

/// A client of an attach socket.
pub(crate) struct Attached(pub(crate) UnixSeqpacket);

impl Attached {
    /// What comes until the end, by stream.
    pub(crate) async fn everything(&self) -> BTreeMap<u8, Vec<u8>> {
        let mut all = BTreeMap::<u8, Vec<u8>>::new();
        let mut packet = vec![0; 9000];
        loop {
            let count = soon(self.0.recv(&mut packet)).await.unwrap().bytes_read();
            if count == 0 {
                return all;
            }
            assert!(count <= 8193, "{count}");
            all.entry(packet[0]).or_default().extend_from_slice(&packet[1..count]);
        }
    }

    pub(crate) async fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0; 9000];
        let count = soon(self.0.recv(&mut packet)).await.unwrap().bytes_read();
        packet.truncate(count);
        packet
    }

    pub(crate) async fn say(&self, text: &[u8]) {
        soon(self.0.send(text)).await.unwrap();
    }

    pub(crate) fn half_close(&self) {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
    }
}
