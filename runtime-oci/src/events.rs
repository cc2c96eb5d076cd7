//! What happens to the containers of a state directory, told to subscribers, whichever process makes it happen.
//!
//! Nothing is watched until somebody subscribes, and nothing any more once nobody listens. Then one inotify queue sees
//! the records, exit files and `oom` files that come and go, and a pid file descriptor for each monitor sees it die. Every
//! notice has the same effect: the container is looked at again, and what is new about it is told, once.

mod notices;

use std::collections::{HashMap, HashSet};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use runtime_api::{
    ContainerEvent, ContainerId, ContainerStatus, EventKind, EventStream, ExitCause, ExitStatus, Operation,
    Result,
};
use runtime_host::lock::Witness;
use runtime_host::process::Identity;
use runtime_host::stats;
use runtime_host::tasks::Tasks;

use crate::backend::Backend;
use crate::layout::ContainerDir;
use crate::observe::{self, Sight};
use crate::record::{Phase, Record};
use notices::{Notices, Seen};

/// How soon a container is looked at again that somebody was at work on. The end of that work makes no notice.
const AGAIN: Duration = Duration::from_millis(20);
/// How often the kernel's counter is read of a container that once ran out of memory. What its monitor is told comes
/// before the kernel kills and counts, and several kills may come as one.
const RECOUNT: Duration = Duration::from_millis(250);

/// The subscribers of one value.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Option<broadcast::Sender<ContainerEvent>>>);

impl Events {
    /// Adds a subscriber. The first one starts the watch, which knows how everything stands when this returns.
    pub(crate) fn subscribe(self: &Arc<Self>, backend: &Arc<Backend>, tasks: &Tasks) -> Result<EventStream> {
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
    pub(crate) fn close(&self) {
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

struct Watcher {
    backend: Arc<Backend>,
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

impl Watcher {
    /// Watches, then takes stock: what is so already is not told.
    fn begin(backend: Arc<Backend>, sender: broadcast::Sender<ContainerEvent>) -> Result<Self> {
        let notices = Notices::of(&backend.layout)?;
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
            stats::oom_kills(&self.backend.hierarchies, cgroup).is_some_and(|counted| counted > told)
        };
        self.starved.iter().filter(|(id, cgroup)| has_more(id, cgroup)).map(|(id, _)| id.clone()).collect()
    }

    /// Looks at what has this id now, and tells what is new.
    fn look(&mut self, id: &ContainerId, tell: bool) {
        let dir = self.backend.layout.container(id);
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
        let record = match Record::read(&dir) {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%id, error = %error.report(), "nothing is told of a container with a damaged record");
                return;
            }
        };
        let Some(news) = self.known.get(id).and_then(|known| news(&self.backend, known, &record, &dir))
        else {
            return;
        };
        self.take_in(id, &record, news, tell);
    }

    /// A container that is not known yet; `None` if it is gone already.
    fn meet(&mut self, id: &ContainerId, dir: &ContainerDir) -> Option<Known> {
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
    fn take_in(&mut self, id: &ContainerId, record: &Record, news: News, tell: bool) {
        let Some(known) = self.known.get_mut(id) else { return };
        known.started |= news.started;
        known.exited |= news.exited.is_some();
        known.monitor_lost |= news.monitor_lost;
        known.oom_kills += news.oom_kills;
        let awaited: Vec<_> = [record.monitor, record.init.filter(|_| known.monitor_lost)]
            .into_iter()
            .flatten()
            .filter(|process| !known.exited && !known.awaited.contains(process))
            .collect();
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
        match &record.own_cgroup {
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
            let settled = match backend.lock(&id).await {
                Ok(Some(mut locked)) => backend.settle(&mut locked).await.map(drop),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = settled {
                tracing::warn!(%id, error = %error.report(), "the lost end of a container is not written down");
            }
        });
    }
}

/// What is new about a container compared with what is known; `None` if it cannot be looked at.
fn news(backend: &Backend, known: &Known, record: &Record, dir: &ContainerDir) -> Option<News> {
    let look = || observe::look(record, dir, &backend.hierarchies).ok();
    let mut sight = look()?;
    let mut monitor_lost = false;
    if matches!(sight, Sight::Alive(_)) && record.monitor.is_some_and(|monitor| !monitor.lives()) {
        // Both may have ended since the look, the monitor last, as it should.
        sight = look()?;
        monitor_lost = matches!(sight, Sight::Alive(_));
    }
    // Whoever is at work on it knows better and will write it down.
    let free = known.witness.is_free();
    let begun = match &sight {
        Sight::Creating | Sight::Alive(ContainerStatus::Created) => false,
        Sight::Alive(_) => true,
        Sight::Ending | Sight::Lost | Sight::Stopped(_) => record.started_at.is_some(),
    };
    let begun_for_sure = record.phase != Phase::Starting || free;
    // A short program may be over before its start is: what follows the start is told after it.
    let oom_kills = oom_kills(backend, record, dir).saturating_sub(known.oom_kills);
    let held_back = !begun_for_sure && (begun || oom_kills > 0);
    let ended = matches!(sight, Sight::Lost | Sight::Stopped(_));
    let ended_for_sure = record.exit.is_some() || free;
    let mut news = News {
        started: begun && begun_for_sure && !known.started,
        monitor_lost: monitor_lost && !known.monitor_lost,
        oom_kills: if begun_for_sure { oom_kills } else { 0 },
        unsettled: held_back || (ended && !ended_for_sure && !known.exited),
        lost: sight == Sight::Lost && ended_for_sure,
        exited: None,
    };
    if let Sight::Stopped(status) = sight
        && ended_for_sure
        && !known.exited
    {
        news.exited = Some(status);
    }
    Some(news)
}

/// How many processes of a container were killed for want of memory, as far as its monitor noticed. The monitor's file
/// tells that there was one, the kernel's counter how many.
fn oom_kills(backend: &Backend, record: &Record, dir: &ContainerDir) -> u64 {
    if !dir.oom().exists() {
        return 0;
    }
    let counted =
        record.own_cgroup.as_deref().and_then(|cgroup| stats::oom_kills(&backend.hierarchies, cgroup));
    counted.unwrap_or_default().max(1)
}
