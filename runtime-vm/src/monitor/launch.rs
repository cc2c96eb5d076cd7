//! The start of a real shim by a monitor, and the removal of what came of it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;
use tokio::time::timeout;

use runtime_api::{CommandDetail, Error, ErrorKind, Operation, Result};
use runtime_host::process::{Identity, end_whatever, tree};

use super::life::{Launch, Launched};
use super::order::{StartOrder, Started};
use super::reap::Reaper;
use super::shim_tasks::ShimTasks;
use super::{EventSocket, Tasks as _, shim_log};
use crate::shim::{Address, LogPipe, ShimCommand, StartReply, dial};
use crate::task::answer::Connected;
use crate::task::{TaskApi, TaskClient};

/// How long a shim that is not wanted may take to leave when it is asked.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long its command `delete` may take.
const DELETE: Duration = Duration::from_secs(20);

/// Starts shims from the process of a monitor, which must have no other children.
#[derive(Debug)]
pub struct ShimLaunch {
    reaper: Reaper,
    /// What is known of the shim that was started.
    known: Mutex<Shim>,
}

#[derive(Clone, Debug, Default)]
struct Shim {
    /// Whether its command `start` has been run and did not say no.
    begun: bool,
    address: Option<Address>,
    client: Option<TaskClient>,
}

impl ShimLaunch {
    /// Makes this process the one that adopts the shim. Every end of a child is taken from now on.
    ///
    /// # Errors
    /// `Internal` when the system does not let it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn in_this_process() -> Result<Self> {
        Ok(Self { reaper: Reaper::begin()?, known: Mutex::default() })
    }

    fn know(&self, change: impl FnOnce(&mut Shim)) {
        change(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[async_trait]
impl Launch for ShimLaunch {
    async fn launch(&self, dir: &Path, order: &StartOrder) -> Result<Launched> {
        let mut helpers = JoinSet::new();
        let (events, tells) = EventSocket::serve(dir).await?;
        let log = LogPipe::open(&order.bundle)?.into_reader()?;
        helpers.spawn(shim_log::keep(log, dir.to_owned()));
        let command = command(order, Some(events.address()));
        self.know(|known| known.begun = true);
        let reply = {
            let _quiet = self.reaper.hold().await;
            command.start(order.start_limit).await
        };
        if reply.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::Rejected { .. })) {
            self.know(|known| known.begun = false);
        }
        let reply = reply?;
        self.know(|known| known.address = Some(reply.address.clone()));
        let (client, connected) = connect(order, &reply).await.map_err(|error| {
            // A shim that died says why in its log, and nowhere else.
            let words = vec![order.shim.display().to_string(), "start".to_owned()];
            error.with_command(CommandDetail::new(words, Some(0), shim_log::tail(dir)))
        })?;
        let told = connected.and_then(|connected| i32::try_from(connected.shim).ok()).filter(|pid| *pid > 0);
        let shim = own_shim(told);
        let Some(shim) = shim else {
            // It belongs to somebody else, and so do its containers.
            self.know(|known| *known = Shim::default());
            return Err(Error::new(ErrorKind::AlreadyExists).on(format_args!("shim \"{}\"", order.id)).hint(
                "a shim was started with this id before, and still runs; every shim needs an id of its own",
            ));
        };
        self.know(|known| known.client = Some(client.clone()));
        prefer_to_live();
        let api = match client.api() {
            TaskApi::V2 => 2,
            TaskApi::V3 => 3,
        };
        let started = Started::by_this_process(Some(shim), reply.address.to_string(), api);
        let tasks = Arc::new(ShimTasks::new(reply.address.clone(), client, Some(shim)));
        let ended = Arc::clone(&tasks);
        helpers.spawn(async move {
            ended.gone().await;
            // A shim that is killed leaves it.
            dial::remove_dead(&reply.address).await;
        });
        Ok(Launched { tasks, told: tells, started, kept: Box::new((events, helpers)) })
    }

    async fn undo(&self, _dir: &Path, order: &StartOrder) {
        let known = std::mem::take(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(client) = known.client {
            // It has no container yet and may leave by itself, which removes more than a kill would.
            let _ = client.shutdown(&order.id, true, FAREWELL).await;
            let _ = timeout(FAREWELL, client.closed()).await;
        }
        end_whatever(|| std::future::ready(below())).await;
        // Whoever still answers there is somebody else's, and so are the containers of this id.
        let others = match &known.address {
            Some(address) => !dial::remove_dead(address).await,
            None => false,
        };
        // One that never began has nothing to clean.
        if known.begun && !others && order.bundle.is_dir() {
            let _quiet = self.reaper.hold().await;
            if let Err(error) = command(order, None).delete(DELETE).await {
                // Some shims have nothing to delete before the first container, and say so by failing.
                tracing::info!(error = error.report(), "the shim's delete failed");
            }
        }
        end_whatever(|| std::future::ready(below())).await;
        dial::remove_dead(&Address::usual(&order.namespace, &order.id)).await;
        let _ = std::fs::remove_file(order.bundle.join(LogPipe::NAME));
    }
}

/// Connects to a shim that said where it listens, and hears which version it speaks.
async fn connect(order: &StartOrder, reply: &StartReply) -> Result<(TaskClient, Option<Connected>)> {
    // Whatever the command `start` left came to this process; when nothing is left of it nobody will ever listen.
    let lives = || !below().is_empty();
    let stream = dial::while_it_lives(&reply.address, order.dial_limit, lives).await?;
    let opened = TaskClient::open(stream, reply.api, &order.namespace, &order.id, order.dial_limit).await;
    opened.map_err(|fault| fault.into_error(Operation::Create).on(format_args!("shim \"{}\"", order.id)))
}

/// The shim that is ordered, as a command.
pub(super) fn command(order: &StartOrder, events: Option<&Path>) -> ShimCommand {
    let mut command = ShimCommand::new(&order.shim, &order.id, &order.bundle);
    command.namespace.clone_from(&order.namespace);
    command.publisher.clone_from(&order.publisher);
    command.events = events.map(Path::to_owned);
    command.debug = order.debug;
    command
}

/// Everything below this process.
fn below() -> Vec<Identity> {
    let own = Identity::own();
    tree(own).into_iter().filter(|each| *each != own).collect()
}

/// The shim's process: the one that it tells, if that is below this one, else the one that was left to this one where it
/// tells none. A shim that was there before is below somebody else.
fn own_shim(told: Option<i32>) -> Option<Identity> {
    let Some(told) = told else {
        // Parents come before their children.
        return below().first().copied();
    };
    // As a rule it is a child by now, and one look is enough.
    let shim = Identity::of(told)?;
    if shim.parent() == Some(Identity::own().pid) {
        return Some(shim);
    }
    below().into_iter().find(|each| *each == shim)
}

/// Once the shim runs, this process takes what helps it to live on; the shim and its programs are not to inherit that.
fn prefer_to_live() {
    // Whoever may not do it is not better than others.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
    // Each program takes five descriptors.
    let resource = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(resource);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(resource, limit);
}
