//! What happens to the containers of a state directory, told to subscribers, whichever process makes it happen.
//!
//! Nothing is watched until somebody subscribes, and nothing any more once nobody listens. Then one inotify queue sees
//! the records, exit files and `oom` files that come and go, and a pid file descriptor for each monitor sees it die. Every
//! notice has the same effect: the container is looked at again, and what is new about it is told, once.

mod notices;

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use runtime_api::{
    ContainerEvent, ContainerId, EventKind, EventStream, ExitCause, ExitStatus, Operation, Result,
};

use crate::cgroup::Hierarchies;
use crate::lock::Witness;
use crate::process::Identity;
use crate::stats;
use crate::tasks::Tasks;
use notices::{Notices, Seen};

/// How soon a container is looked at again that somebody was at work on. The end of that work makes no notice.
const AGAIN: Duration = Duration::from_millis(20);
/// How often the kernel's counter is read of a container that once ran out of memory. What its monitor is told comes
/// before the kernel kills and counts, and several kills may come as one.
const RECOUNT: Duration = Duration::from_millis(250);

/// How far a container has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is being made, or its program was not started.
    Unbegun,
    /// Its program lives.
    Begun,
    /// Its program is gone, and how it ended is about to be written down.
    Ending,
    /// Its program is gone, and nobody will write down how it ended.
    Lost,
    /// It ended.
    Ended(ExitStatus),
}

/// One look at a container.
#[derive(Clone, Debug)]
pub struct Glimpse {
    /// How far it has come.
    pub stage: Stage,
    /// Whether its program was ever told to start.
    pub was_started: bool,
    /// Whether a start is under way: then whoever is at work on it knows better what came of it.
    pub is_starting: bool,
    /// Whether its end is on record, so that it is final.
    pub end_is_on_record: bool,
    /// The process that watches it.
    pub monitor: Option<Identity>,
    /// Other processes whose end says something about it.
    pub peers: Vec<Identity>,
    /// Its init, where the end of that is the end of the container. It is watched once the monitor is gone.
    pub init: Option<Identity>,
    /// How many of its processes were killed for want of memory, as far as that was noticed.
    pub oom_kills: u64,
    /// The cgroup in which the kernel counts these.
    pub cgroup: Option<String>,
}

/// A backend whose containers are watched.
pub trait Watched: Send + Sync + 'static {
    /// The directory in which containers have theirs.
    fn containers(&self) -> PathBuf;

    /// The ids that have a directory.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn ids(&self) -> Result<Vec<ContainerId>>;

    /// Looks at a container; `None` if it has no record.
    ///
    /// # Errors
    /// When its record or its exit file is damaged.
    fn glimpse(&self, id: &ContainerId) -> Result<Option<Glimpse>>;

    /// The cgroups of the host.
    fn hierarchies(&self) -> &Hierarchies;

    /// Writes down how a container ended that nobody watched to its end.
    fn settle_lost(&self, id: &ContainerId) -> impl Future<Output = Result<()>> + Send;
}

/// How many processes of a container were killed for want of memory, as far as its monitor noticed. The monitor's file
/// tells that there was one, the kernel's counter how many.
#[must_use]
pub fn oom_kills(notice: &Path, host: &Hierarchies, cgroup: Option<&str>) -> u64 {
    if !notice.exists() {
        return 0;
    }
    cgroup.and_then(|cgroup| stats::oom_kills(host, cgroup)).unwrap_or_default().max(1)
}

/// The subscribers of one value.
#[derive(Debug, Default)]
pub struct Events(Mutex<Option<broadcast::Sender<ContainerEvent>>>);

impl Events {
    /// Adds a subscriber. The first one starts the watch, which knows how everything stands when this returns.
    ///
    /// # Errors
    /// `Exhausted` when the host gives no more watches.
    pub fn subscribe<W: Watched>(self: &Arc<Self>, backend: &Arc<W>, tasks: &Tasks) -> Result<EventStream> {
        let mut current = self.current();
        if let Some(sender) = &*current {
            return Ok(EventStream::new(sender.subscribe()));
        }
        let (sender, receiver) = broadcast::channel(EventStream::CAPACITY);
        let watcher = Watcher::begin(Arc::clone(backend), sender.clone())
            .map_err(|error| error.during(Operation::Events))?;
        *current = Some(sender);
        drop(current);
        tasks.spawn(watcher.run(Arc::clone(self)));
        Ok(EventStream::new(receiver))
    }

    /// Ends every subscription.
    pub fn close(&self) {
        *self.current() = None;
    }

    /// Ends the watch if nobody listens; whether it did.
    fn close_if_unheard(&self) -> bool {
        let mut current = self.current();
        let unheard = current.as_ref().is_none_or(|sender| sender.receiver_count() == 0);
        if unheard {
            *current = None;
        }
        unheard
    }

    fn current(&self) -> MutexGuard<'_, Option<broadcast::Sender<ContainerEvent>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was told of one container.
#[derive(Debug)]
struct Known {
    /// Tells whether the id still means this container, whether somebody is at work on it, and how it ended once it is
    /// deleted.
    witness: Witness,
    started: bool,
    exited: bool,
    monitor_lost: bool,
    oom_kills: u64,
    /// The processes whose ends somebody waits for.
    awaited: Vec<Identity>,
}

/// What is new about a container.
#[derive(Debug, Default)]
struct News {
    started: bool,
    exited: Option<ExitStatus>,
    monitor_lost: bool,
    oom_kills: u64,
    /// Somebody is at work on it, so part of the truth is still to come.
    unsettled: bool,
    /// Nobody will write down how it ended unless we do.
    lost: bool,
}

struct Watcher<W> {
    backend: Arc<W>,
    sender: broadcast::Sender<ContainerEvent>,
    notices: Notices,
    known: HashMap<ContainerId, Known>,
    unsettled: HashSet<ContainerId>,
    /// Those that ran out of memory and go on, each with the cgroup in which the kernel counts.
    starved: HashMap<ContainerId, String>,
    ended: mpsc::UnboundedReceiver<ContainerId>,
    tell_end: mpsc::UnboundedSender<ContainerId>,
    waits: JoinSet<()>,
}

impl<W: Watched> Watcher<W> {
    /// Watches, then takes stock: what is so already is not told.
    fn begin(backend: Arc<W>, sender: broadcast::Sender<ContainerEvent>) -> Result<Self> {
        let notices = Notices::of(&backend.containers())?;
        let (tell_end, ended) = mpsc::unbounded_channel();
        let mut watcher = Self {
            backend,
            sender,
            notices,
            known: HashMap::new(),
            unsettled: HashSet::new(),
            starved: HashMap::new(),
            ended,
            tell_end,
            waits: JoinSet::new(),
        };
        for id in watcher.backend.ids()? {
            watcher.look(&id, false);
        }
        Ok(watcher)
    }

    async fn run(mut self, events: Arc<Events>) {
        let sender = self.sender.clone();
        let mut recount = tokio::time::interval(RECOUNT);
        recount.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again = async {
                if self.unsettled.is_empty() { pending().await } else { tokio::time::sleep(AGAIN).await }
            };
            let touched: Vec<ContainerId> = tokio::select! {
                seen = self.notices.next() => match seen {
                    Ok(Seen::Some(ids)) => ids,
                    Ok(Seen::Overflow) => self.everything(),
                    Err(error) => {
                        tracing::warn!(%error, "the watch on containers failed; subscriptions end");
                        return events.close();
                    }
                },
                Some(id) = self.ended.recv() => vec![id],
                () = again => self.unsettled.drain().collect(),
                _ = recount.tick(), if !self.starved.is_empty() => self.starved_again(),
                () = sender.closed() => {
                    if events.close_if_unheard() {
                        return;
                    }
                    Vec::new()
                }
            };
            while self.waits.try_join_next().is_some() {}
            for id in touched {
                self.look(&id, true);
            }
        }
    }

    /// Every container that there is or was.
    fn everything(&self) -> Vec<ContainerId> {
        let mut ids: HashSet<_> = self.known.keys().cloned().collect();
        ids.extend(self.backend.ids().unwrap_or_default());
        ids.into_iter().collect()
    }

    /// Those in which more was killed for want of memory than was told.
    fn starved_again(&self) -> Vec<ContainerId> {
        let has_more = |id: &ContainerId, cgroup: &str| {
            let told = self.known.get(id).map_or(0, |known| known.oom_kills);
            stats::oom_kills(self.backend.hierarchies(), cgroup).is_some_and(|counted| counted > told)
        };
        self.starved.iter().filter(|(id, cgroup)| has_more(id, cgroup)).map(|(id, _)| id.clone()).collect()
    }

    /// Looks at what has this id now, and tells what is new.
    fn look(&mut self, id: &ContainerId, tell: bool) {
        let dir = self.backend.containers().join(id.as_str());
        if let Some(known) = self.known.remove(id) {
            if known.witness.is_current(&dir) {
                self.known.insert(id.clone(), known);
            } else {
                self.bury(id, known);
            }
        }
        if !self.known.contains_key(id) {
            let Some(known) = self.meet(id, &dir) else { return };
            self.known.insert(id.clone(), known);
        }
        let Some(known) = self.known.get(id) else { return };
        match news(&*self.backend, known, id) {
            Ok(Some((glimpse, news))) => self.take_in(id, &glimpse, news, tell),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%id, error = %error.report(), "nothing is told of a container with a damaged record");
            }
        }
    }

    /// A container that is not known yet; `None` if it is gone already.
    fn meet(&mut self, id: &ContainerId, dir: &Path) -> Option<Known> {
        // First the watch and then the look, so that nothing falls in between.
        self.notices.add(id, dir);
        let witness = Witness::open(dir).ok().flatten()?;
        Some(Known {
            witness,
            started: false,
            exited: false,
            monitor_lost: false,
            oom_kills: 0,
            awaited: Vec::new(),
        })
    }

    /// Tells what is new, in the order in which it happened.
    fn take_in(&mut self, id: &ContainerId, glimpse: &Glimpse, news: News, tell: bool) {
        let Some(known) = self.known.get_mut(id) else { return };
        known.started |= news.started;
        known.exited |= news.exited.is_some();
        known.monitor_lost |= news.monitor_lost;
        known.oom_kills += news.oom_kills;
        let init = glimpse.init.filter(|_| known.monitor_lost);
        let processes = glimpse.monitor.into_iter().chain(glimpse.peers.iter().copied()).chain(init);
        let awaited: Vec<_> =
            processes.filter(|process| !known.exited && !known.awaited.contains(process)).collect();
        known.awaited.extend(&awaited);
        let ended = known.exited;
        if news.unsettled {
            self.unsettled.insert(id.clone());
        }
        for process in awaited {
            self.wait_for(id, process);
        }
        if news.lost {
            self.settle(id);
        }
        match &glimpse.cgroup {
            _ if ended => drop(self.starved.remove(id)),
            Some(cgroup) if news.oom_kills > 0 => drop(self.starved.insert(id.clone(), cgroup.clone())),
            _ => {}
        }
        if tell {
            self.tell(id, news);
        }
    }

    fn tell(&self, id: &ContainerId, news: News) {
        // Nobody listens any more if it cannot be sent, and the watch ends a moment later.
        let send = |kind| drop(self.sender.send(ContainerEvent::new(id.clone(), kind)));
        if news.started {
            send(EventKind::Started);
        }
        for _ in 0..news.oom_kills {
            send(EventKind::OutOfMemory);
        }
        if news.monitor_lost {
            send(EventKind::MonitorLost);
        }
        if let Some(status) = news.exited {
            send(EventKind::Exited(status));
        }
    }

    /// A container is gone: what was not told yet is told from what its delete left.
    fn bury(&mut self, id: &ContainerId, mut known: Known) {
        self.unsettled.remove(id);
        self.starved.remove(id);
        let Some(last) = known.witness.last().filter(|_| !known.exited) else { return };
        let killed = last.status.cause == ExitCause::OomKilled && known.oom_kills == 0;
        let news = News {
            started: last.started && !known.started,
            oom_kills: u64::from(killed),
            exited: Some(last.status),
            ..News::default()
        };
        self.tell(id, news);
    }

    /// Looks again when a process has ended.
    fn wait_for(&mut self, id: &ContainerId, process: Identity) {
        let (id, tell_end) = (id.clone(), self.tell_end.clone());
        self.waits.spawn(async move {
            if let Some(process) = process.open() {
                // A descriptor that cannot be watched is as good as an end: the look finds out.
                let _ = process.ended().await;
            }
            let _ = tell_end.send(id);
        });
    }

    /// Writes down that an end was lost, which changes the record and so makes a notice.
    fn settle(&mut self, id: &ContainerId) {
        let (id, backend) = (id.clone(), Arc::clone(&self.backend));
        self.waits.spawn(async move {
            let settled = backend.settle_lost(&id).await;
            if let Err(error) = settled {
                tracing::warn!(%id, error = %error.report(), "the lost end of a container is not written down");
            }
        });
    }
}

/// What is new about a container compared with what is known; `None` if it has no record.
fn news(backend: &impl Watched, known: &Known, id: &ContainerId) -> Result<Option<(Glimpse, News)>> {
    let Some(mut seen) = backend.glimpse(id)? else { return Ok(None) };
    let lives = |stage: &Stage| matches!(stage, Stage::Unbegun | Stage::Begun);
    let mut monitor_lost = false;
    if lives(&seen.stage) && seen.monitor.is_some_and(|monitor| !monitor.lives()) {
        // Both may have ended since the look, the monitor last, as it should.
        let Some(again) = backend.glimpse(id)? else { return Ok(None) };
        seen = again;
        monitor_lost = lives(&seen.stage);
    }
    // Whoever is at work on it knows better and will write it down.
    let free = known.witness.is_free();
    let begun = match &seen.stage {
        Stage::Unbegun => false,
        Stage::Begun => true,
        Stage::Ending | Stage::Lost | Stage::Ended(_) => seen.was_started,
    };
    let begun_for_sure = !seen.is_starting || free;
    // A short program may be over before its start is: what follows the start is told after it.
    let oom_kills = seen.oom_kills.saturating_sub(known.oom_kills);
    // The kill may have come between the look at the record and the look at the kills.
    let early = seen.stage == Stage::Unbegun && !known.started;
    let kills_for_sure = begun_for_sure && !early;
    let held_back = (begun && !begun_for_sure) || (oom_kills > 0 && !kills_for_sure);
    let ended = matches!(seen.stage, Stage::Lost | Stage::Ended(_));
    let ended_for_sure = seen.end_is_on_record || free;
    let mut news = News {
        started: begun && begun_for_sure && !known.started,
        monitor_lost: monitor_lost && !known.monitor_lost,
        oom_kills: if kills_for_sure { oom_kills } else { 0 },
        unsettled: held_back || (ended && !ended_for_sure && !known.exited),
        lost: seen.stage == Stage::Lost && ended_for_sure,
        exited: None,
    };
    if let Stage::Ended(status) = &seen.stage
        && ended_for_sure
        && !known.exited
    {
        news.exited = Some(status.clone());
    }
    Ok(Some((seen, news)))
}
