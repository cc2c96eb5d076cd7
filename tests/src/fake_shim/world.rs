//! What a fake shim knows: the model with its clock, and the tasks with their streams.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use runtime_api::{ContainerId, ContainerStatus, EventKind};
use runtime_test::fake::model::{Ending, ExecKey, Key, Model, Program, Saved, Stream};
use runtime_vm::task::TaskApi;
use runtime_vm::task::any::Payload;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::events::Event;
use super::misdeeds::Misdeeds;
use super::streams::{Io, Outlets};

/// The code of an init whose container was removed.
const KILLED: i32 = 137;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) code: i32,
    pub(super) at: SystemTime,
}

/// One program: its streams, and its end once that is told.
#[derive(Debug)]
pub(super) struct Player {
    pub(super) io: Io,
    pub(super) outlets: Option<Outlets>,
    /// Those who wait hold it, so that it outlives the task.
    pub(super) exit: watch::Sender<Option<Exit>>,
}

impl Player {
    pub(super) fn new(io: Io) -> Self {
        Self { io, outlets: None, exit: watch::Sender::new(None) }
    }

    pub(super) fn ended(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    fn finish(&mut self, exit: Exit) {
        if let Some(outlets) = &mut self.outlets {
            outlets.end();
        }
        self.exit.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(exit);
            first
        });
    }
}

/// A container.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: ContainerId,
    pub(super) key: Key,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) init: Player,
    pub(super) execs: BTreeMap<String, Exec>,
    /// The options that it was created with.
    pub(super) options: Payload,
    /// What it continues from when it is started.
    pub(super) saved: Option<Saved>,
}

/// An exec, which may be waiting for its start.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) player: Player,
    pub(super) program: Program,
    /// Of its terminal: rows and columns.
    pub(super) size: (u16, u16),
    pub(super) key: Option<ExecKey>,
}

/// What the lock of a world guards.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) model: Model,
    pub(super) tasks: BTreeMap<String, Task>,
    began: Instant,
}

/// A fake shim.
#[derive(Debug)]
pub(super) struct World {
    namespace: String,
    api: TaskApi,
    misdeeds: Arc<Misdeeds>,
    parts: Mutex<Parts>,
    changed: Notify,
    leaving: watch::Sender<bool>,
    events: mpsc::UnboundedSender<Event>,
    /// How many events nobody has taken yet.
    untold: watch::Sender<usize>,
    told: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    at_work: Mutex<JoinSet<()>>,
}

impl World {
    pub(super) fn new(namespace: &str, api: TaskApi, misdeeds: Arc<Misdeeds>) -> Arc<Self> {
        let (events, told) = mpsc::unbounded_channel();
        let model = Model::new(SystemTime::now(), None);
        Arc::new(Self {
            namespace: namespace.to_owned(),
            api,
            misdeeds,
            parts: Mutex::new(Parts { model, tasks: BTreeMap::new(), began: Instant::now() }),
            changed: Notify::new(),
            leaving: watch::Sender::new(false),
            events,
            untold: watch::Sender::new(0),
            told: Mutex::new(Some(told)),
            at_work: Mutex::default(),
        })
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn api(&self) -> TaskApi {
        self.api
    }

    pub(super) fn misdeeds(&self) -> &Misdeeds {
        &self.misdeeds
    }

    pub(super) fn take_events(&self) -> Option<mpsc::UnboundedReceiver<Event>> {
        locked(&self.told).take()
    }

    /// Has an event forwarded.
    pub(super) fn tell(&self, event: Event) {
        self.untold.send_modify(|untold| *untold += 1);
        // Nobody listens to a shim that ends.
        if self.events.send(event).is_err() {
            self.was_told();
        }
    }

    /// An event was taken, or will not be.
    pub(super) fn was_told(&self) {
        self.untold.send_modify(|untold| *untold = untold.saturating_sub(1));
    }

    /// Has something done for as long as the shim lives.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut at_work = locked(&self.at_work);
        while at_work.try_join_next().is_some() {}
        at_work.spawn(work);
    }

    /// Lets the shim leave, as soon as it comes to it.
    pub(super) fn leave(&self) {
        self.leaving.send_replace(true);
    }

    pub(super) fn is_leaving(&self) -> bool {
        *self.leaving.borrow()
    }

    pub(super) async fn left(&self) {
        let mut leaving = self.leaving.subscribe();
        let _ = leaving.wait_for(|leaving| *leaving).await;
    }

    /// The shim is gone with everything that it knew.
    pub(super) fn end(&self) {
        locked(&self.at_work).abort_all();
        let mut parts = locked(&self.parts);
        parts.tasks.clear();
        parts.model = Model::new(SystemTime::now(), None);
    }

    /// Changes something, at the present moment, and tells everybody who waits for a change.
    pub(super) fn act<T>(&self, change: impl FnOnce(&mut Parts) -> T) -> T {
        let mut parts = locked(&self.parts);
        parts.catch_up();
        let result = change(&mut parts);
        self.hand_out(&mut parts);
        drop(parts);
        self.changed.notify_waiters();
        result
    }

    /// Waits until `look` finds what it looks for.
    pub(super) async fn until<T>(&self, mut look: impl FnMut(&mut Parts) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            // A change between the look and the wait must not be missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut locked(&self.parts)) {
                return found;
            }
            changed.await;
        }
    }

    /// Lets things happen when they are due, for ever.
    pub(super) async fn drive(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let (happened, wake) = {
                let mut parts = locked(&self.parts);
                let happened = parts.catch_up();
                self.hand_out(&mut parts);
                (happened, parts.model.next_wake().and_then(|wake| parts.began.checked_add(wake)))
            };
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

    /// Waits for the end of an init, until everything that it wrote was taken and why it ended was told, and tells it.
    pub(super) async fn see_init_end(self: Arc<Self>, id: String, key: Key, ending: Ending) {
        let status = self.until(|_| ending.get().cloned()).await;
        let flushed = self.act(|parts| Some(parts.task(&id, key)?.init.outlets.as_ref()?.flushed()));
        if let Some(flushed) = flushed {
            flushed.await;
        }
        let _ = self.untold.subscribe().wait_for(|untold| *untold == 0).await;
        let exit = Exit { code: status.code.unwrap_or(KILLED), at: status.finished_at };
        self.act(|parts| {
            if let Some(task) = parts.task(&id, key) {
                task.init.finish(exit);
            }
        });
        self.tell(Event::exited(&id, None, exit.code, exit.at));
    }

    /// The same of an exec. Its output may go on when its program has ended.
    pub(super) async fn see_exec_end(self: Arc<Self>, id: String, exec: String, key: ExecKey) {
        let code = self.until(|parts| parts.model.exec_code(key)).await;
        let at = SystemTime::now();
        let flushed = self.act(|parts| Some(parts.exec(&id, &exec, key)?.player.outlets.as_ref()?.flushed()));
        if let Some(flushed) = flushed {
            flushed.await;
        }
        self.act(|parts| {
            if let Some(exec) = parts.exec(&id, &exec, key) {
                exec.player.exit.send_replace(Some(Exit { code, at }));
            }
        });
        self.tell(Event::exited(&id, Some(&exec), code, at));
        self.until(|parts| parts.model.exec_is_over(key).then_some(())).await;
        self.act(|parts| {
            if let Some(outlets) = parts.exec(&id, &exec, key).and_then(|exec| exec.player.outlets.as_mut()) {
                outlets.end();
            }
        });
    }

    /// Forgets a container, whatever it does.
    pub(super) fn remove_by_force(&self, id: &str) {
        self.act(|parts| parts.remove(id));
    }

    /// How a container stands.
    pub(super) fn truth(&self, id: &ContainerId) -> Option<ContainerStatus> {
        locked(&self.parts).model.state(id).ok().map(|state| state.status)
    }

    /// The options that a container was created with.
    pub(super) fn options_of(&self, id: &ContainerId) -> Option<Payload> {
        locked(&self.parts).tasks.get(id.as_str()).map(|task| task.options.clone())
    }

    /// Forgets a container, and tells nobody.
    pub(super) fn lose(&self, id: &str) {
        self.act(|parts| {
            if let Some(task) = parts.tasks.remove(id) {
                let _ = parts.model.begin_delete(&task.id, true);
                parts.model.forget(task.key);
            }
        });
    }

    /// What is in it, one line each.
    pub(super) fn leftovers(&self) -> Vec<String> {
        locked(&self.parts).model.leftovers()
    }

    /// Gives what was written to the fifos, and tells what happened.
    fn hand_out(&self, parts: &mut Parts) {
        for chunk in parts.model.take_output() {
            let task = parts.tasks.values().find(|task| task.key == chunk.container);
            if let Some(outlets) = task.and_then(|task| task.init.outlets.as_ref()) {
                outlets.write(chunk.stream, chunk.bytes);
            }
        }
        let Parts { model, tasks, .. } = parts;
        for exec in tasks.values().flat_map(|task| task.execs.values()) {
            let (Some(key), Some(outlets)) = (exec.key, &exec.player.outlets) else { continue };
            for stream in [Stream::Stdout, Stream::Stderr] {
                if let Some(bytes) = model.take_exec_output(key, stream).filter(|bytes| !bytes.is_empty()) {
                    outlets.write(stream, bytes);
                }
            }
        }
        for event in model.take_events() {
            if event.kind == EventKind::OutOfMemory {
                self.tell(Event::out_of_memory(event.id.as_str()));
            }
        }
    }
}

impl Parts {
    fn catch_up(&mut self) -> bool {
        let now = Instant::now().saturating_duration_since(self.began);
        self.model.advance(now)
    }

    /// A task, if it is the one that is meant.
    fn task(&mut self, id: &str, key: Key) -> Option<&mut Task> {
        self.tasks.get_mut(id).filter(|task| task.key == key)
    }

    fn exec(&mut self, id: &str, exec: &str, key: ExecKey) -> Option<&mut Exec> {
        self.tasks.get_mut(id)?.execs.get_mut(exec).filter(|exec| exec.key == Some(key))
    }

    /// Removes a container with its execs. Those who wait learn that it was killed, if it had not ended.
    pub(super) fn remove(&mut self, id: &str) -> Option<Exit> {
        let mut task = self.tasks.remove(id)?;
        for exec in task.execs.values_mut() {
            self.remove_exec(exec);
        }
        let _ = self.model.begin_delete(&task.id, true);
        self.model.forget(task.key);
        task.init.finish(Exit { code: KILLED, at: SystemTime::now() });
        task.init.ended()
    }

    /// Takes an exec out of the model.
    pub(super) fn remove_exec(&mut self, exec: &mut Exec) {
        if let Some(key) = exec.key {
            self.model.drop_exec(key);
        }
        exec.player.finish(Exit { code: KILLED, at: SystemTime::now() });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
