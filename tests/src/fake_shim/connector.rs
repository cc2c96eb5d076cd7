//! The connector: shims are threads of this process.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use runtime_api::{ContainerId, ContainerStatus, Error, ErrorKind, Result};
use runtime_vm::connector::{Connector, NoSaver, Starting};
use runtime_vm::monitor::{StartOrder, Started, live};
use runtime_vm::task::TaskApi;
use runtime_vm::task::answer::{Deleted, TaskExit};
use runtime_vm::task::any::Payload;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::oneshot;

use super::launch::FakeLaunch;
use super::misdeeds::Misdeeds;
use super::world::World;

/// The code of what died with its shim.
const KILLED: i32 = 137;

/// Starts shims in this process, and reaches them.
#[derive(Debug)]
pub struct FakeShims {
    shared: Arc<Shared>,
}

/// What the shims of one connector share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) api: TaskApi,
    pub(super) misdeeds: Arc<Misdeeds>,
    worlds: Mutex<Vec<Weak<World>>>,
    threads: AtomicUsize,
}

impl Shared {
    pub(super) fn add(&self, world: &Arc<World>) {
        let mut worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
        worlds.retain(|world| world.strong_count() > 0);
        worlds.push(Arc::downgrade(world));
    }

    fn worlds(&self) -> Vec<Arc<World>> {
        let worlds = self.worlds.lock().unwrap_or_else(PoisonError::into_inner);
        worlds.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Default for FakeShims {
    fn default() -> Self {
        Self::serving(TaskApi::V3)
    }
}

impl FakeShims {
    /// Shims that serve this version of the Task service.
    #[must_use]
    pub fn serving(api: TaskApi) -> Self {
        let shared =
            Shared { api, misdeeds: Arc::default(), worlds: Mutex::default(), threads: AtomicUsize::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// What they are to do wrong.
    #[must_use]
    pub fn misdeeds(&self) -> &Misdeeds {
        &self.shared.misdeeds
    }

    /// How a container stands in truth, if any shim has it.
    #[must_use]
    pub fn truth(&self, id: &ContainerId) -> Option<ContainerStatus> {
        self.shared.worlds().iter().find_map(|world| world.truth(id))
    }

    /// The options that a container was created with, as they came to its shim.
    #[must_use]
    pub fn options_of(&self, id: &ContainerId) -> Option<Payload> {
        self.shared.worlds().iter().find_map(|world| world.options_of(id))
    }

    /// Has them forget a container, as if they had never had it.
    pub fn lose(&self, id: &ContainerId) {
        for world in self.shared.worlds() {
            world.lose(id.as_str());
        }
    }

    /// What is left of them, one line each: shims that run, and what is in them.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = self.shared.worlds().iter().flat_map(|world| world.leftovers()).collect();
        match self.shared.threads.load(Ordering::SeqCst) {
            0 => {}
            count => left.push(format!("{count} fake shims, or their monitors, still run")),
        }
        left
    }
}

#[async_trait]
impl Connector for FakeShims {
    async fn start(&self, dir: &Path, order: StartOrder) -> Result<Box<dyn Starting>> {
        let (report, theirs) = tokio::io::duplex(64 * 1024);
        let (go_on, word) = tokio::io::duplex(64);
        order.write(dir)?;
        let mut starting = FakeStarting { started: None, go_on: Some(go_on), thread: None, ended: None };
        let (tell, ended) = oneshot::channel();
        let (shared, place) = (Arc::clone(&self.shared), dir.to_owned());
        shared.threads.fetch_add(1, Ordering::SeqCst);
        let thread = std::thread::Builder::new().name("fake-shim".to_owned()).spawn(move || {
            let lived = run(&place, &shared, theirs, word);
            shared.threads.fetch_sub(1, Ordering::SeqCst);
            // Whoever ordered it may not care any more.
            let _ = tell.send(lived);
        });
        starting.ended = Some(ended);
        starting.thread = Some(thread.map_err(|error| {
            self.shared.threads.fetch_sub(1, Ordering::SeqCst);
            Error::new(ErrorKind::Exhausted("threads".to_owned())).caused_by(error)
        })?);
        // From here on a drop undoes it.
        let mut line = String::new();
        let _ = BufReader::new(report).read_line(&mut line).await;
        match Started::read(dir) {
            Ok(started) => {
                starting.started = Some(started);
                Ok(Box::new(starting))
            }
            Err(_) => Err(starting.why().await),
        }
    }

    async fn version(&self, _shim: &Path) -> Option<String> {
        Some(env!("CARGO_PKG_VERSION").to_owned())
    }

    async fn saver(&self, _shim: &Path, _below: &str) -> std::result::Result<String, NoSaver> {
        Ok("the model saves by itself".to_owned())
    }

    async fn clean_up(
        &self,
        _shim: &Path,
        namespace: &str,
        id: &str,
        _bundle: &Path,
        _limit: Duration,
    ) -> Result<Deleted> {
        for world in self.shared.worlds().into_iter().filter(|world| world.namespace() == namespace) {
            world.remove_by_force(id);
        }
        Ok(Deleted { pid: 0, exit: TaskExit { code: KILLED, at: None } })
    }
}

/// The whole life of a shim and its monitor.
fn run(dir: &Path, shared: &Arc<Shared>, report: DuplexStream, go_on: DuplexStream) -> Result<()> {
    let alone = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Error::new(ErrorKind::Internal("there is no runtime for a fake shim".to_owned())).caused_by(error)
    })?;
    let launch = FakeLaunch::new(Arc::clone(shared));
    let lived = alone.block_on(live(dir, &launch, report, go_on, std::future::pending()));
    alone.shutdown_background();
    lived
}

/// A shim that goes when its starter does.
#[derive(Debug)]
struct FakeStarting {
    started: Option<Started>,
    go_on: Option<DuplexStream>,
    thread: Option<JoinHandle<()>>,
    ended: Option<oneshot::Receiver<Result<()>>>,
}

impl FakeStarting {
    /// Why it did not start.
    async fn why(&mut self) -> Error {
        self.go_on = None;
        let ended = match self.ended.take() {
            Some(ended) => ended.await.ok(),
            None => None,
        };
        match ended {
            Some(Err(error)) => error,
            _ => Error::new(ErrorKind::Internal("a fake shim ended without a word".to_owned())),
        }
    }
}

#[async_trait]
impl Starting for FakeStarting {
    fn started(&self) -> &Started {
        let Some(started) = &self.started else { unreachable!("it is given out after the report") };
        started
    }

    async fn keep(mut self: Box<Self>) -> Result<()> {
        let told = match &mut self.go_on {
            Some(go_on) => go_on.write_all(b"\n").await,
            None => Ok(()),
        };
        told.map_err(|error| {
            Error::new(ErrorKind::PeerLost(runtime_api::Peer::Monitor)).during_step("start").caused_by(error)
        })?;
        // It is nobody's from now on.
        self.thread = None;
        Ok(())
    }

    async fn undo(mut self: Box<Self>) {
        self.go_on = None;
        if let Some(ended) = self.ended.take() {
            let _ = ended.await;
        }
    }
}

impl Drop for FakeStarting {
    fn drop(&mut self) {
        self.go_on = None;
        // It waits for nobody in this thread, so this takes a moment only.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
