//! A command as its shim knows it: how it is asked after, killed and forgotten.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use runtime_api::{Error, ErrorKind, Operation, Result, Signal, WindowSize};
use runtime_host::cgroup::Hierarchies;
use runtime_host::process::{Identity, end_whatever, kill_tree, with_arguments};

use crate::backend::{Backend, reach_of, shim_of};
use crate::connector::{Connector, Dialled};
use crate::layout::ContainerDir;
use crate::observe;
use crate::record::{Reach, Record, ShimRef};
use crate::shims::DIAL;
use crate::task::answer::TaskStatus;
use crate::task::{Target, TaskClient};

/// How long a shim may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// How long it gets to forget a command whose output somebody may hold open: it waits for that.
const FORGET: Duration = Duration::from_millis(200);
/// How long the end of a command is tried for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a shim must not know a command that was ordered a moment ago.
const DENIALS: usize = 3;

/// One exec of a container.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    connector: Arc<dyn Connector>,
    shim: ShimRef,
    namespace: String,
    container: String,
    name: String,
    reach: Reach,
    root: Option<PathBuf>,
    process: Option<Identity>,
    /// Whether the shim has said that it knows it.
    known: bool,
    /// Whether the shim has said what came of its start.
    answered: bool,
    dir: ContainerDir,
    init: Option<Identity>,
    /// The cgroup of the container's processes, by its path and by what tells it from a later one of that path.
    cgroup: Option<(String, (u64, u64))>,
    hierarchies: Hierarchies,
    /// Where it was written down.
    place: Option<PathBuf>,
}

impl Command {
    /// The exec of this name in a container.
    pub(crate) fn new(backend: &Backend, record: &Record, name: &str) -> Result<Self> {
        Ok(Self {
            connector: Arc::clone(backend.shims.connector()),
            shim: shim_of(record)?.clone(),
            namespace: backend.layout.namespace(),
            container: record.id.to_string(),
            name: name.to_owned(),
            reach: record.reach,
            root: record.root.clone(),
            process: None,
            known: false,
            answered: false,
            dir: backend.layout.container(&record.id),
            init: record.init,
            cgroup: backend.cgroup_of(record).map(str::to_owned).zip(record.own_cgroup_identity),
            hierarchies: backend.hierarchies.clone(),
            place: None,
        })
    }

    /// It was written down there: what the shim may have lost sight of can be found.
    pub(crate) fn written_at(mut self, place: &Path) -> Self {
        self.place = Some(place.to_owned());
        self
    }

    pub(super) fn container(&self) -> &str {
        &self.container
    }

    pub(super) fn container_dir(&self) -> &ContainerDir {
        &self.dir
    }

    pub(super) fn shim_process(&self) -> Option<Identity> {
        self.shim.process
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn target(&self) -> Target<'_> {
        Target::exec(&self.container, &self.name)
    }

    pub(crate) fn shim_lives(&self) -> bool {
        observe::shim_lives(&self.shim)
    }

    /// The shim knows it: from here on one that does not has forgotten it.
    pub(crate) fn is_known(&mut self) {
        self.known = true;
    }

    /// The shim has said what came of its start.
    pub(crate) fn is_answered(&mut self) {
        self.answered = true;
    }

    /// It runs, and this is its pid for the shim.
    pub(super) fn has_begun(&mut self, pid: u32) {
        self.answered = true;
        self.process = self.process_of(pid);
    }

    /// The process that a shim means, where that is one of the container's. A pid may be somebody else's by now.
    pub(crate) fn process_of(&self, pid: u32) -> Option<Identity> {
        i32::try_from(pid).ok().and_then(Identity::of).filter(|process| self.is_ours(*process))
    }

    /// Whether this is a process of the container, other than its init.
    pub(super) fn is_ours(&self, process: Identity) -> bool {
        let on_host = self.reach == Reach::Host && self.init != Some(process);
        on_host && reach_of(process, self.root.as_deref()) == Reach::Host
    }

    /// The processes in the container's own cgroup, other than its init. There are none where that has no cgroup of its own.
    pub(super) fn members(&self) -> Vec<Identity> {
        let Some((cgroup, identity)) = &self.cgroup else { return Vec::new() };
        let members = self.hierarchies.members(cgroup).into_iter().filter_map(Identity::of);
        let found: Vec<_> = members.filter(|each| self.is_ours(*each)).collect();
        // After the look: then it was this one that was looked at.
        if self.hierarchies.identity(cgroup) == Some(*identity) { found } else { Vec::new() }
    }

    /// Ends the runtime that still runs it, whoever began that, with the command below it. Shims have it write the pid to a
    /// file of the exec's name, and that is one that no other exec of this host has.
    pub(super) async fn end_its_runtime(&self) {
        if self.reach != Reach::Host {
            return;
        }
        let file: Arc<[u8]> = format!("/{}.pid", self.name).into_bytes().into();
        end_whatever(|| {
            let file = Arc::clone(&file);
            with_arguments(move |words| words.iter().any(|word| word.ends_with(&file)))
        })
        .await;
    }

    /// It runs as this process, as was written down.
    pub(crate) fn is_process(&mut self, process: Option<Identity>) {
        self.process = process;
    }

    pub(crate) fn process(&self) -> Option<Identity> {
        self.process
    }

    /// The connection of this value.
    pub(crate) async fn client(&self, backend: &Backend) -> Result<TaskClient> {
        let id = runtime_api::ContainerId::new(&self.container)?;
        backend.shims.client(&self.shim, &self.namespace, &id).await
    }

    /// A connection of its own, for those who are at work where the value's tasks are not.
    pub(super) async fn dial(&self) -> Result<TaskClient> {
        let target = Dialled { api: self.shim.api, namespace: &self.namespace, id: &self.container };
        self.connector.dial(&self.shim.address, &target, DIAL).await
    }

    /// Changes the size of its terminal.
    pub(super) async fn resize(&self, client: &TaskClient, size: WindowSize) -> Result<()> {
        let (width, height) = (u32::from(size.columns), u32::from(size.rows));
        let resized = client.resize_pty(self.target(), width, height, ANSWER).await;
        resized.map_err(|fault| fault.into_error(Operation::ExecResize))
    }

    /// Lets it read the end of its input.
    pub(super) async fn close_stdin(&self, client: &TaskClient) -> Result<()> {
        let closed = client.close_stdin(self.target(), ANSWER).await;
        // One that has ended reads no more.
        closed.or_else(|fault| if fault.is_gone() { Ok(()) } else { Err(fault.into_error(Operation::Exec)) })
    }

    /// Sends a signal to the command. What is gone needs none. A shim that hangs is not needed where the host sees it.
    pub(crate) async fn signal(&self, backend: &Backend, signal: Signal) -> Result<()> {
        match self.process {
            Some(process) => process.signal(signal).map(drop).map_err(|error| {
                let what = format!("signal {} cannot be sent to process {}", signal.number(), process.pid);
                Error::new(ErrorKind::Internal(what)).caused_by(error)
            }),
            None => self.signal_by(&self.client(backend).await?, signal).await,
        }
    }

    async fn signal_by(&self, client: &TaskClient, signal: Signal) -> Result<()> {
        let number = u32::try_from(signal.number()).unwrap_or_default();
        let sent = client.kill(self.target(), number, false, ANSWER).await;
        sent.or_else(|fault| if fault.is_gone() { Ok(()) } else { Err(fault.into_error(Operation::Kill)) })
    }

    /// Kills it with its descendants, as far as the host sees them.
    pub(crate) fn kill_now(&self) {
        if let Some(process) = self.process {
            kill_tree(process);
        }
    }

    /// Kills it with its descendants.
    pub(super) async fn kill_by(&self, client: &TaskClient) -> Result<()> {
        self.kill_now();
        if self.process.is_some() { Ok(()) } else { self.signal_by(client, Signal::KILL).await }
    }

    /// Lets the shim forget a command that has ended. A shim waits for the last of the output, at most as long as it is
    /// given; `held` tells that somebody may hold that open.
    pub(crate) async fn forget(&self, client: &TaskClient, held: bool) {
        let limit = if held { FORGET } else { ANSWER };
        let mut forgotten = client.delete(self.target(), limit).await;
        if let Err(crate::task::Fault::Late(_)) = forgotten {
            forgotten = client.delete(self.target(), ANSWER).await;
        }
        if let Err(fault) = forgotten
            && !fault.is_gone()
        {
            tracing::warn!(container = self.container, exec = self.name, %fault, "the shim does not forget an exec");
        }
    }

    /// Ends it in whatever state it is, and lets the shim forget it; whether the shim has, or is dead. It may have been ordered
    /// a moment ago.
    pub(crate) async fn end(&self, client: &TaskClient) -> bool {
        let (seen, forgotten) = self.end_what_is_known(client).await;
        if !seen
            && !self.answered
            && let Some(place) = &self.place
        {
            self.end_its_runtime().await;
            self.end_stray(client, place).await;
        }
        forgotten || !self.shim_lives()
    }

    /// Ends it as far as the shim knows it; whether the shim has seen it run, and whether it knows it no more.
    async fn end_what_is_known(&self, client: &TaskClient) -> (bool, bool) {
        let give_up = Instant::now() + PATIENCE;
        let (mut denials, mut pause, mut seen) = (0, Duration::from_millis(5), self.process.is_some());
        while Instant::now() < give_up && !client.is_closed() {
            self.kill_now();
            match client.state(self.target(), ANSWER).await {
                Ok(state) if state.status != TaskStatus::Stopped => {
                    seen |= state.status != TaskStatus::Created;
                    match self.process_of(state.pid) {
                        Some(process) => drop(kill_tree(process)),
                        // One that is not started cannot be killed, and need not.
                        None => drop(client.kill(self.target(), 9, false, ANSWER).await),
                    }
                }
                // One that failed to start is stopped as well, and has no pid.
                Ok(state) => seen |= state.pid != 0,
                Err(_) => {}
            }
            match client.delete(self.target(), FORGET).await {
                Ok(_) => return (seen, true),
                Err(fault) if fault.is_not_found() => {
                    denials += 1;
                    if self.known || denials == DENIALS {
                        return (seen, true);
                    }
                }
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
        (seen, false)
    }
}
