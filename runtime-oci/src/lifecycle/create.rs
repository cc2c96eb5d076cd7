//! Create: a directory is filled out of sight, the id is reserved by giving the directory its name, then conmon runs
//! the runtime. Whatever goes wrong, and whenever the caller goes away, what was made so far is undone.
//!
//! conmon takes a while to come to the point at which it waits for our word. Meanwhile the cgroup is claimed, and the
//! config written: a runtime that finds no config makes nothing, so whoever finds the directory without one knows that
//! nobody has been in the cgroup for this container.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use runtime_api::{
    Capability, ContainerId, ContainerState, ContainerStatus, CreateRequest, Error, ErrorKind, LogConfig,
    LogDriver, Result, Signal,
};
use runtime_host::cgroup::Claim;
use runtime_host::document::{cannot_write, replace, write_first};
use runtime_host::exits::Entry;
use runtime_host::lock::Held;
use runtime_host::process::{Identity, end_all, end_whatever};
use runtime_host::reserve::reserve;
use runtime_host::spec::{Additions, SpecDocument};
use runtime_host::tasks::Work;

use crate::backend::Backend;
use crate::complaint;
use crate::conmon::{self, Monitor, MonitorArgs, Report};
use crate::dialect::Reach;
use crate::layout::ContainerDir;
use crate::observe::{self, Sight};
use crate::record::{Phase, Record};

use super::restore::{RESTORE_LIMIT, RestoreSource};

/// How long conmon's first process gets to fork its daemon when a create is undone.
const FORK_PATIENCE: Duration = Duration::from_secs(1);

/// The monitor of a container, and the cgroup that it is in.
struct Watcher {
    process: Identity,
    cgroup: Option<String>,
}

/// A container in the making.
#[derive(Debug)]
pub(crate) struct Making {
    backend: Arc<Backend>,
    request: CreateRequest,
    source: Option<RestoreSource>,
    record: Record,
    dir: ContainerDir,
    /// What the private copy of the spec will say.
    spec: SpecDocument,
    additions: Additions,
    monitor: Option<Monitor>,
    entry: Arc<Entry>,
    claim: Option<Claim>,
    // The last field, so that the lock is let go of last.
    held: Held,
}

impl Making {
    /// Checks the request and reserves the id. When this fails nothing is left.
    pub(crate) async fn begin(
        backend: Arc<Backend>,
        request: CreateRequest,
        source: Option<RestoreSource>,
    ) -> Result<Self> {
        backend.binary()?;
        backend.monitor()?;
        if request.stop_signal.is_some_and(Signal::is_real_time) {
            backend.capabilities.require(Capability::KillRealTime)?;
        }
        let spec = SpecDocument::read(&request.bundle)?;
        check_log(&request.log, &request.id)?;
        let placement = backend.place(&request, &spec)?;
        let mut record = Record::new(request.id.clone(), spec.bundle.clone(), backend.boot_id.clone());
        record.cgroup = Some(placement.container.clone());
        record.chose_cgroup = placement.chosen;
        record.monitor_cgroup.clone_from(&placement.monitor);
        record.root = spec.root();
        record.terminal = spec.terminal();
        record.stop_signal = request.stop_signal;
        record.annotations = spec.annotations();
        record.binary = backend.platform_binary(&record.annotations).await?;
        record.labels.clone_from(&request.labels);
        record.log = request.log.path.clone().filter(|_| request.log.driver == LogDriver::CriFile);
        record.reach = backend.dialect.reach;
        if spec.has_empty_network() {
            let argument = backend.dialect.network_argument(&backend.config.args);
            record.runtime_args.extend(argument.map(str::to_owned));
        }
        record.made_log = record.log.clone().filter(|path| !path.exists());

        let dir = backend.layout.container(&request.id);
        if dir.path().exists() && !backend.reclaim(&request.id).await? {
            return Err(Error::new(ErrorKind::AlreadyExists));
        }
        backend.check_root(&request.id)?;
        let entry = backend.entries.of(&request.id);
        let additions = placement.additions(&request, &dir);
        let held = reserve(dir.path(), &entry.queue, |at| {
            let at = &ContainerDir::at(at.to_owned());
            write_first(&at.record(), &record)
        })
        .await?;
        Ok(Self {
            backend,
            request,
            source,
            record,
            dir,
            spec,
            additions,
            monitor: None,
            entry,
            claim: None,
            held,
        })
    }
}

impl Work for Making {
    type Output = ContainerState;

    /// Runs conmon and the runtime.
    async fn finish(&mut self) -> Result<ContainerState> {
        let backend = Arc::clone(&self.backend);
        let mut runtime_args = backend.global_args(&self.request.id, &self.dir.oci_log());
        runtime_args.extend(self.record.runtime_args.iter().cloned());
        let runtime = self.record.binary.as_ref().map_or_else(|| backend.binary(), Ok)?.clone();
        let args = MonitorArgs {
            conmon: backend.monitor()?,
            runtime: &runtime,
            runtime_args: &runtime_args,
            config: &backend.config,
            layout: &backend.layout,
            id: &self.request.id,
            dir: &self.dir,
            log: &self.request.log,
            stdin: self.request.stdin,
            terminal: self.record.terminal,
            notify_socket: self.request.notify_socket.as_deref(),
            restore: self.source.as_ref(),
            descriptors: self.request.descriptors.len(),
        };
        let (limit, phase, status) = match &self.source {
            None => (backend.config.create_timeout, Phase::Created, ContainerStatus::Created),
            Some(_) => (RESTORE_LIMIT, Phase::Started, ContainerStatus::Running),
        };
        let begun = SystemTime::now();
        let descriptors = copies(&self.request.descriptors)?;
        let gate = backend.hierarchies.hold_open().await;
        let monitor = self.monitor.insert(Monitor::start(args.command_line(), descriptors)?);
        if self.additions.notify.is_some() {
            std::fs::create_dir(self.dir.notify())
                .map_err(|error| cannot_write(&self.dir.notify(), error))?;
        }
        // Only now, when the id is ours: what another container of this id has in its cgroup is not in our way. Held until all
        // that was made is undone, if it is.
        self.claim = backend.claim(self.record.cgroup.as_deref().unwrap_or_default()).await?;
        // Only then, and whole: see the head of this file.
        replace(&self.dir.config(), &self.spec.private_copy(&self.additions))
            .map_err(|error| cannot_write(&self.dir.config(), error))?;
        monitor.begin(|pid| backend.place_monitor(&self.record, pid))?;
        let mut watcher = None;
        let report = monitor.report(limit, || watcher = backend.watcher_of(&self.dir)).await?;
        drop(gate);
        let pid = match report {
            Report::Pid(pid) => pid,
            Report::Failed(_) | Report::Silent => {
                let said = if let Report::Failed(message) = report { message } else { String::new() };
                let message = complaint::account(Some(&self.dir.oci_log()), &said);
                if let Some(source) = &self.source
                    && !backend.dialect.says_untouched(&message)
                {
                    return Err(source.refused(&backend, &self.dir, &said, monitor.line()));
                }
                return Err(backend.rejected(message).with_command(monitor.line().detail(None, "")));
            }
        };
        self.record.init = Identity::of(pid);
        if self.record.reach == Reach::Host {
            self.record.init_program = self.record.init.and_then(Identity::program);
        }
        let watcher = watcher.or_else(|| backend.watcher_of(&self.dir));
        self.record.monitor = watcher.as_ref().map(|watcher| watcher.process);
        self.record.own_cgroup = backend.own_cgroup(&self.record, watcher.as_ref());
        // What is continued runs from the moment at which it exists, and may be over by now.
        self.record.started_at = self.source.is_some().then_some(begun);
        self.record.phase = phase;
        self.record.write(&self.dir)?;
        self.entry.touch();
        Ok(observe::state(&self.record, &Sight::Alive(status)))
    }

    async fn undo(mut self) {
        if let Some(monitor) = &mut self.monitor {
            // The first process leaves within milliseconds; then it is reaped here and nowhere else.
            monitor.abandon(FORK_PATIENCE).await;
        }
        self.backend.demolish(&self.record, &self.dir, &mut self.held).await;
        self.entry.touch();
    }
}

impl Backend {
    /// Removes what a create made, in whatever state it is: the monitor, the container, the cgroup, the log that the
    /// create made, the directory. Each part may be missing.
    pub(crate) async fn demolish(&self, record: &Record, dir: &ContainerDir, held: &mut Held) {
        // conmon, the runtime below it and what that has made so far. All of them must be gone before anything is looked
        // for: a runtime that still runs would make it a moment later. They are found by their arguments, for a conmon
        // that was started a moment ago has not written its pid yet; and again, for it may just have forked.
        end_whatever(|| conmon::at_work_on(dir)).await;
        end_all(self.init_from_pidfile(record, dir)).await;
        self.remove_half_made(record, dir).await;
        // Without a config nothing was made, and what is in the cgroup is somebody else's.
        if dir.config().exists() {
            let ours = self.chosen_cgroup(record);
            if let Some(cgroup) = ours.filter(|cgroup| *cgroup == self.default_cgroup(&record.id)) {
                // It is ours alone, and it was empty before: what is in it now is a half-made init. Below a parent of the
                // caller's it may be somebody else's.
                end_all(self.hierarchies.processes_in(cgroup).into_iter().filter_map(Identity::of)).await;
            }
            self.remove_cgroups_of(record).await;
        }
        if let Some(log) = &record.made_log {
            let _ = std::fs::remove_file(log);
        }
        self.forget(record, dir, held, None);
    }

    /// Removes what the runtime knows of a container that was not made. Its root may be shared with others: what does not
    /// name our directory as its bundle is somebody else's container of the same name.
    async fn remove_half_made(&self, record: &Record, dir: &ContainerDir) {
        if self.runtime_state(&record.id).is_empty() {
            return;
        }
        let id = record.id.as_str();
        let ours = self.runtime_says_ours(id, dir, DELETE_LIMIT).await;
        let is_ours = ours == Some(true) || (ours.is_none() && self.config.root.is_none());
        // One that was killed in a restore has the container's own root mounted in its directory, and the delete of some
        // runtimes would remove what is in there.
        if is_ours && let Err(error) = self.unmount_runtime_state(&record.id) {
            tracing::warn!(%id, %error, "what a runtime knew of a failed create is left");
            return;
        }
        if ours == Some(true)
            && let Err(error) = self.run_verb(dir, &["delete", "--force", id], DELETE_LIMIT).await
        {
            tracing::warn!(%id, error = %error.report(), "the runtime cannot remove a failed create");
        }
        // A runtime that was cut off early does not know its own directory, and says that there is no such container.
        if is_ours {
            self.remove_runtime_state(&record.id);
        }
    }

    /// Whether what the runtime knows under an id is the container of this directory; `None` if it does not know it.
    pub(super) async fn runtime_says_ours(
        &self,
        id: &str,
        dir: &ContainerDir,
        limit: Duration,
    ) -> Option<bool> {
        let said = self.ask_state(dir, id, limit).await.ok()?;
        let state: serde_json::Value = serde_json::from_slice(&said.stdout).ok()?;
        Some(Path::new(state["bundle"].as_str()?) == dir.path())
    }

    /// Claims the cgroup of a new container, in which nobody may be; nothing where systemd makes it.
    async fn claim(&self, cgroup: &str) -> Result<Option<Claim>> {
        if self.config.systemd_cgroup {
            return Ok(None);
        }
        let claim = Claim::take(cgroup).await?;
        self.hierarchies.check_unused(cgroup)?;
        Ok(Some(claim))
    }

    /// Refuses an id that is taken in a root that others use too. In a root of our own it can only be a leftover.
    fn check_root(&self, id: &ContainerId) -> Result<()> {
        if self.config.root.is_none() {
            return Ok(());
        }
        let state = self.runtime_state(id);
        let Some(state) = state.first() else { return Ok(()) };
        Err(Error::new(ErrorKind::AlreadyExists)
            .hint(format!("the runtime has a container of this id that is not ours: {}", state.display())))
    }

    /// Who monitors a container, once the daemon was forked.
    fn watcher_of(&self, dir: &ContainerDir) -> Option<Watcher> {
        let process = conmon::daemon(dir)?;
        Some(Watcher { process, cgroup: self.hierarchies.path_of(process.pid) })
    }

    /// The cgroup of a new init, unless it is the one that it has from its monitor, as where cgroups are off. Where the monitor
    /// is gone already, it must be the one that was asked for.
    fn own_cgroup(&self, record: &Record, watcher: Option<&Watcher>) -> Option<String> {
        let cgroup = self.hierarchies.path_of(record.init?.pid)?;
        let own = match watcher {
            Some(watcher) => watcher.cgroup.as_ref() != Some(&cgroup),
            None => record.cgroup.as_ref() == Some(&cgroup),
        };
        own.then_some(cgroup)
    }

    /// The init from its pid file, if it is in the cgroup that the record names: the pid may be somebody else's by now.
    pub(super) fn init_from_pidfile(&self, record: &Record, dir: &ContainerDir) -> Option<Identity> {
        let pid = conmon::pid_in(&dir.pidfile())?;
        let ours = self.hierarchies.processes_in(record.cgroup.as_deref()?);
        ours.contains(&pid).then(|| Identity::of(pid)).flatten()
    }
}

/// conmon reads this much at once and writes it as one record.
const SMALLEST_LOG: u64 = 8192;
/// conmon writes this much of an id to the journal, and stops where there is less.
const SHORT_ID: usize = 12;
/// How long the runtime gets to remove a container.
pub(crate) const DELETE_LIMIT: Duration = Duration::from_secs(30);

/// Descriptors for conmon, which gets its own copies: the caller's request may be used again.
fn copies(descriptors: &[Arc<OwnedFd>]) -> Result<Vec<OwnedFd>> {
    descriptors.iter().map(|each| each.try_clone()).collect::<std::io::Result<_>>().map_err(|error| {
        Error::new(ErrorKind::Exhausted("a descriptor cannot be copied".into())).caused_by(error)
    })
}

fn check_log(log: &LogConfig, id: &ContainerId) -> Result<()> {
    if log.driver == LogDriver::Journald && id.as_str().len() <= SHORT_ID {
        let what = format!("conmon logs to the journal only under ids of more than {SHORT_ID} characters");
        return Err(Error::new(ErrorKind::InvalidArgument(what))
            .hint("give the container a longer id, or a log file"));
    }
    if log.driver != LogDriver::CriFile {
        return Ok(());
    }
    let Some(path) = &log.path else {
        return Err(Error::new(ErrorKind::InvalidArgument("a log file needs a path".into())));
    };
    let invalid = |what: &str, path: &Path| {
        Error::new(ErrorKind::ConfigInvalid(what.to_owned())).on(format_args!("log {}", path.display()))
    };
    if log.max_size.is_some_and(|max| max < SMALLEST_LOG) {
        let what = format!(
            "a log of at most {} bytes; the least is {SMALLEST_LOG}",
            log.max_size.unwrap_or_default()
        );
        return Err(Error::new(ErrorKind::InvalidArgument(what)));
    }
    if !path.is_absolute() {
        return Err(invalid("the path is not absolute", path));
    }
    // conmon takes what stands before a colon for the name of a driver, wherever the colon is.
    if path.to_string_lossy().contains(':') {
        return Err(invalid("conmon cannot write to a path with a colon", path));
    }
    if !path.parent().is_some_and(Path::is_dir) {
        return Err(invalid("its directory does not exist", path).hint("make the directory first"));
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() => Err(invalid("it is a symbolic link, which is not followed", path)),
        Ok(there) if there.is_dir() => Err(invalid("it is a directory", path)),
        _ => Ok(()),
    }
}
