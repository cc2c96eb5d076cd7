//! The model with a clock, log files and clients; and the registry that lets a new value find an old one's containers.

use std::collections::BTreeMap;
use std::fs;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use runtime_api::{Capability, ContainerEvent, Error, ErrorKind, ExitStatus, Result};
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep_until};

use crate::Defect;

use super::Profile;
use super::clients::Clients;
use super::log::LogFile;
use super::model::{Ending, Key, Model, Moment};

/// All containers of one state directory, shared by the values that are open over it.
#[derive(Debug)]
pub(super) struct World {
    parts: Mutex<Parts>,
    changed: Notify,
}

/// What the lock of a world guards.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) model: Model,
    pub(super) clients: Clients,
    pub(super) logs: BTreeMap<Key, LogFile>,
    /// The values that tell their subscribers.
    tellers: Vec<broadcast::WeakSender<ContainerEvent>>,
    /// What was told, where a defect tells it again.
    told: Vec<ContainerEvent>,
    began: Instant,
    defect: Option<Defect>,
}

impl World {
    fn new(defect: Option<Defect>) -> Self {
        let parts = Parts {
            model: Model::new(SystemTime::now(), defect),
            clients: Clients::default(),
            logs: BTreeMap::new(),
            tellers: Vec::new(),
            told: Vec::new(),
            began: Instant::now(),
            defect,
        };
        Self { parts: Mutex::new(parts), changed: Notify::new() }
    }

    /// Changes something, at the present moment, and tells everybody who waits for a change.
    pub(super) fn act<T>(&self, change: impl FnOnce(&mut Parts) -> T) -> T {
        let mut parts = locked(&self.parts);
        parts.catch_up();
        let result = change(&mut parts);
        parts.hand_out();
        drop(parts);
        self.changed.notify_waiters();
        result
    }

    /// Looks, and changes nothing that others wait for.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut Parts) -> T) -> T {
        look(&mut locked(&self.parts))
    }

    /// Waits until `look` finds what it looks for.
    pub(super) async fn until<T>(&self, mut look: impl FnMut(&mut Parts) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // A change between the look and the wait must not be missed.
            changed.as_mut().enable();
            if let Some(found) = self.look(&mut look) {
                return found;
            }
            changed.await;
        }
    }

    /// Waits for the end of a container.
    pub(super) async fn end_of(&self, ending: &Ending) -> ExitStatus {
        self.until(|_| ending.get().cloned()).await
    }

    /// Lets things happen when they are due, for ever.
    pub(super) async fn drive(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let (happened, wake) = self.look(|parts| {
                let happened = parts.catch_up();
                parts.hand_out();
                (happened, parts.model.next_wake().and_then(|wake| parts.began.checked_add(wake)))
            });
            if happened {
                self.changed.notify_waiters();
                continue;
            }
            let due = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = due => {}
            }
        }
    }
}

impl Parts {
    /// Brings the model to the present moment. Tells whether anything happened.
    fn catch_up(&mut self) -> bool {
        let now = self.present();
        self.model.advance(now)
    }

    fn present(&self) -> Moment {
        Instant::now().saturating_duration_since(self.began)
    }

    /// Gives what was written to the logs and the clients.
    fn hand_out(&mut self) {
        for chunk in self.model.take_output() {
            let at_start = self.model.started_at(chunk.container) == Some(chunk.at);
            if let Some(log) = self.logs.get_mut(&chunk.container) {
                // A log that cannot be written must not stop the program, and there is nobody to tell.
                let _ = log.write(self.model.time_of(chunk.at), chunk.stream, &chunk.bytes);
            }
            self.clients.deliver(&chunk, at_start, self.defect);
        }
        for event in self.model.take_events() {
            self.tell(event);
        }
        let model = &self.model;
        self.clients.end(|key| model.is_over(key));
    }

    /// Tells the subscribers of every value.
    fn tell(&mut self, event: ContainerEvent) {
        self.tellers.retain(|teller| teller.strong_count() > 0);
        let unheard = self.defect == Some(Defect::OthersAreUnheard);
        let skipped = if unheard { self.tellers.len().saturating_sub(1) } else { 0 };
        for teller in self.tellers.iter().skip(skipped).filter_map(broadcast::WeakSender::upgrade) {
            // Whether anybody listens is the listener's affair.
            let _ = teller.send(event.clone());
        }
        if self.defect == Some(Defect::EventsAreReplayed) {
            self.told.push(event);
        }
    }

    /// Adds a value that wants to tell what happens from now on.
    pub(super) fn add_teller(&mut self, teller: &broadcast::Sender<ContainerEvent>) {
        self.tellers.push(teller.downgrade());
    }

    /// What was told up to now, where a defect wants it told again.
    pub(super) fn told(&self) -> &[ContainerEvent] {
        &self.told
    }

    fn is_done(&self) -> bool {
        self.model.leftovers().is_empty()
    }
}

struct Entry {
    world: Arc<World>,
    openers: usize,
}

static WORLDS: Mutex<BTreeMap<PathBuf, Entry>> = Mutex::new(BTreeMap::new());

/// Opens the world of a state directory, which is made if it is missing. The newest opener's defect counts.
///
/// # Errors
/// `PermissionDenied` and `Internal` when the directory cannot be used.
pub(super) fn open(state_dir: &Path, profile: &Profile) -> Result<(PathBuf, Arc<World>)> {
    let dir = fs::create_dir_all(state_dir).and_then(|()| fs::canonicalize(state_dir)).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Internal("the state directory cannot be used".to_owned()),
        };
        Error::new(kind).during_step("open the fake runtime").on(state_dir.display()).caused_by(error)
    })?;
    let defect = profile.defect();
    if !profile.capabilities().has(Capability::Reopen) {
        return Ok((dir, Arc::new(World::new(defect))));
    }
    let mut worlds = locked(&WORLDS);
    let entry = worlds
        .entry(dir.clone())
        .or_insert_with(|| Entry { world: Arc::new(World::new(defect)), openers: 0 });
    let alone = entry.openers == 0;
    entry.openers += 1;
    let world = Arc::clone(&entry.world);
    drop(worlds);
    world.look(|parts| {
        parts.defect = defect;
        parts.model.set_defect(defect);
        // Under a paused clock each test has a clock of its own, which may be behind the last one that was seen here.
        if parts.present() < parts.model.now() {
            parts.began = Instant::now().checked_sub(parts.model.now()).unwrap_or(parts.began);
        }
        parts.model.set_watched(!alone);
        if alone && defect == Some(Defect::ReopenForgetsCheckpoints) {
            parts.model.forget_checkpoints();
        }
    });
    world.act(|_| ());
    world.look(|parts| parts.model.set_watched(true));
    Ok((dir, world))
}

/// A value over this world is gone. The world stays as long as there is something in it.
pub(super) fn close(dir: &Path, world: &Arc<World>) {
    let mut worlds = locked(&WORLDS);
    let Some(entry) = worlds.get_mut(dir).filter(|entry| Arc::ptr_eq(&entry.world, world)) else { return };
    entry.openers -= 1;
    if entry.openers == 0 && world.look(|parts| parts.is_done()) {
        worlds.remove(dir);
    }
}

/// What fake runtimes over this state directory left behind: one line for each container that still exists and for each
/// group of processes without a container. Empty where all is well, or where none was opened.
#[must_use]
pub fn leftovers(state_dir: &Path) -> Vec<String> {
    let Ok(dir) = fs::canonicalize(state_dir) else { return Vec::new() };
    let world = locked(&WORLDS).get(&dir).map(|entry| Arc::clone(&entry.world));
    world.map(|world| world.look(|parts| parts.model.leftovers())).unwrap_or_default()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere is told by the test that had it; the others go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
