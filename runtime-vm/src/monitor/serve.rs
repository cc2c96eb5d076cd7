//! A monitor at work: it takes requests, and carries what its programs read and print.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use runtime_api::{Error, ErrorKind, Result};

use super::program::{Program, ProgramOrder, Remote};
use super::request::{Answer, MonitorState, Request};
use super::socket::{Placed, place};
use super::{Key, Tasks, control, end};

/// How many requests are served at once.
const REQUESTS: usize = 32;
/// How often is looked whether the monitor's directory is still there.
const LOOK: Duration = Duration::from_secs(2);
/// How long clients have, when the monitor leaves, to take what is queued for them.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a shim told by itself, as far as a monitor cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A process of a container was killed for want of memory.
    OutOfMemory {
        /// The container.
        container: String,
    },
    /// A program ended.
    Exited(Key),
    /// Something else. It shows that this shim tells things.
    Other,
}

/// A monitor that can be reached.
#[derive(Debug)]
pub struct Monitor {
    dir: PathBuf,
    identity: (u64, u64),
    listener: UnixListener,
    _socket: Placed,
}

impl Monitor {
    /// Makes the control socket in the monitor's directory. Requests wait there until they are served.
    ///
    /// # Errors
    /// `Unavailable` when there can be no socket.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn bind(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let path = dir.join("control");
        let bound = place(&path, 0o600, |path| UnixListener::bind(path));
        let bound = bound.and_then(|bound| Ok((bound, identity(&dir)?)));
        let ((listener, socket), identity) = bound.map_err(|error| {
            Error::new(ErrorKind::Unavailable("it cannot be served".into()))
                .on(format_args!("socket {}", path.display()))
                .caused_by(error)
        })?;
        Ok(Self { dir, identity, listener, _socket: socket })
    }

    /// Works until it is told to end, or until nobody can ask it anything any more and there is nothing left to do.
    /// Dropped, it leaves nothing but what it wrote down.
    ///
    /// It ends in an orderly way, too, when `until` does.
    pub async fn serve(
        self,
        tasks: Arc<dyn Tasks>,
        mut told: mpsc::Receiver<Told>,
        until: impl Future<Output = ()>,
    ) {
        let state = Arc::new(State {
            tasks,
            programs: Mutex::default(),
            at_work: Mutex::default(),
            tells: watch::Sender::new(false),
            gone: watch::Sender::new(false),
            leave: Notify::new(),
        });
        let mut requests = JoinSet::new();
        let gone = Arc::clone(&state);
        requests.spawn(async move {
            gone.tasks.gone().await;
            tracing::info!("the shim is gone");
            gone.gone.send_replace(true);
        });
        let mut tells = true;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut until = std::pin::pin!(until);
        loop {
            while requests.try_join_next().is_some() {}
            tokio::select! {
                stream = accept(&self.listener), if requests.len() <= REQUESTS => {
                    let state = Arc::clone(&state);
                    requests.spawn(async move { answer(state, stream).await });
                }
                _ = requests.join_next(), if requests.len() > REQUESTS => {}
                what = told.recv(), if tells => match what {
                    Some(what) => state.hear(what),
                    None => tells = false,
                },
                () = state.leave.notified() => break,
                () = &mut until => break,
                _ = looks.tick() => if self.is_forgotten() && state.is_idle() {
                    tracing::info!("the directory of this monitor is gone, and nothing is left to do");
                    break;
                }
            }
        }
        requests.shutdown().await;
        state.end().await;
    }

    /// Whether nobody can find this monitor any more.
    fn is_forgotten(&self) -> bool {
        identity(&self.dir).map_or(true, |there| there != self.identity)
    }
}

/// The directory, told from another one of its name.
fn identity(dir: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::metadata(dir).map(|dir| (dir.dev(), dir.ino()))
}

async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "a request cannot be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(state: Arc<State>, stream: UnixStream) {
    let ends = AtomicBool::new(false);
    control::serve(stream, async |request| {
        ends.store(request == Request::End, Ordering::Relaxed);
        state.answer(request).await
    })
    .await;
    if ends.into_inner() {
        state.leave.notify_one();
    }
}

/// What the requests share.
#[derive(Debug)]
struct State {
    tasks: Arc<dyn Tasks>,
    programs: Mutex<BTreeMap<Key, Kept>>,
    /// The tasks of the programs. They outlive the programs for as long as clients take what is queued for them.
    at_work: Mutex<JoinSet<()>>,
    /// Whether this shim tells anything at all.
    tells: watch::Sender<bool>,
    gone: watch::Sender<bool>,
    leave: Notify,
}

#[derive(Debug)]
struct Kept {
    program: Program,
    heard: Arc<Heard>,
    /// Waits for the end. It ends with this value.
    watcher: JoinSet<()>,
}

/// What the shim told about a program.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// How many kills for want of memory.
    pub(super) kills: watch::Sender<u64>,
    pub(super) exited: watch::Sender<bool>,
}

impl State {
    fn programs(&self) -> MutexGuard<'_, BTreeMap<Key, Kept>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_work(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: &Arc<Self>, request: Request) -> Result<Answer> {
        match request {
            Request::Add(order) => self.add(order),
            Request::Watch(key) => self.watch(&key),
            Request::ReopenLog(key) => {
                self.remote(&key)?.reopen_log().await?;
                Ok(Answer::Done)
            }
            Request::CloseStdin(key) => {
                self.remote(&key)?.close_input().await?;
                Ok(Answer::Done)
            }
            Request::Remove(key) => {
                self.remove(&key).await;
                Ok(Answer::Done)
            }
            Request::Status => Ok(Answer::Status(self.status().await)),
            Request::End => Ok(Answer::Done),
        }
    }

    fn add(&self, order: ProgramOrder) -> Result<Answer> {
        let mut programs = self.programs();
        if programs.contains_key(&order.key) {
            return Err(Error::new(ErrorKind::AlreadyExists).on(&order.key));
        }
        let key = order.key.clone();
        let (program, work) = Program::prepare(order, Arc::clone(&self.tasks))
            .map_err(|error| if error.subject().is_some() { error } else { error.on(&key) })?;
        let fifos = program.fifos.clone();
        let mut at_work = self.at_work();
        while at_work.try_join_next().is_some() {}
        at_work.spawn(work);
        programs.insert(key, Kept { program, heard: Arc::default(), watcher: JoinSet::new() });
        Ok(Answer::Added(fifos))
    }

    fn watch(&self, key: &Key) -> Result<Answer> {
        let mut programs = self.programs();
        let kept = programs.get_mut(key).ok_or_else(|| unknown(key))?;
        kept.program.is_made();
        if kept.watcher.is_empty() {
            let watch = end::Watch {
                order: kept.program.order.clone(),
                remote: kept.program.remote(),
                heard: Arc::clone(&kept.heard),
                tasks: Arc::clone(&self.tasks),
                gone: self.gone.subscribe(),
                tells: self.tells.subscribe(),
            };
            kept.watcher.spawn(watch.until_the_end());
        }
        Ok(Answer::Done)
    }

    fn remote(&self, key: &Key) -> Result<Remote> {
        self.programs().get(key).map(|kept| kept.program.remote()).ok_or_else(|| unknown(key))
    }

    async fn remove(&self, key: &Key) {
        // The socket goes before another program may have its place.
        if let Ok(remote) = self.remote(key) {
            remote.leave().await;
        }
        let kept = self.programs().remove(key);
        drop(kept);
    }

    async fn status(&self) -> MonitorState {
        let remotes: Vec<_> =
            self.programs().iter().map(|(key, kept)| (key.clone(), kept.program.remote())).collect();
        let mut state = MonitorState { shim: !*self.gone.borrow(), programs: Vec::new() };
        for (key, remote) in remotes {
            state.programs.push((key, remote.state().await));
        }
        state
    }

    /// Takes note of what the shim told.
    fn hear(&self, what: Told) {
        self.tells.send_if_modified(|tells| !std::mem::replace(tells, true));
        let programs = self.programs();
        match what {
            Told::OutOfMemory { container } => {
                let Some(kept) = programs.get(&Key::init(container)) else { return };
                kept.heard.kills.send_modify(|kills| *kills += 1);
                let path = kept.program.order.dir.join("oom");
                // Appended to, so that each kill is a notice to whoever watches the file.
                let written = File::options().append(true).create(true).open(&path);
                if let Err(error) = written.and_then(|mut file| file.write_all(b"1")) {
                    tracing::warn!(%error, file = %path.display(), "a kill for want of memory cannot be written down");
                }
            }
            Told::Exited(key) => {
                if let Some(kept) = programs.get(&key) {
                    kept.heard.exited.send_replace(true);
                }
            }
            Told::Other => {}
        }
    }

    /// Whether nothing will happen any more that somebody might want to know.
    fn is_idle(&self) -> bool {
        *self.gone.borrow() || self.programs().is_empty()
    }

    async fn end(&self) {
        let keys: Vec<_> = self.programs().keys().cloned().collect();
        for key in keys {
            self.remove(&key).await;
        }
        let mut at_work = std::mem::take(&mut *self.at_work());
        let farewell = timeout(FAREWELL, async { while at_work.join_next().await.is_some() {} });
        if farewell.await.is_err() {
            tracing::warn!("a client has not taken everything; the monitor leaves all the same");
        }
    }
}

fn unknown(key: &Key) -> Error {
    Error::new(ErrorKind::NotFound).on(key)
}
