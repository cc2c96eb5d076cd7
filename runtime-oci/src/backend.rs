//! What every operation of one runtime value shares. It holds no task and no container.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use runtime_api::{
    Capabilities, ContainerId, ContainerStatus, Error, ErrorKind, ExitCause, ExitStatus, Operation,
    Rejection, Result, RuntimeInfo,
};
use runtime_host::cgroup::Hierarchies;
use runtime_host::exits::{Entries, Entry};
use runtime_host::lock::Held;
use runtime_host::owner::Life;
use runtime_host::process::{self, Identity};

use crate::command::{CommandLine, Finished};
use crate::complaint;
use crate::config::OciConfig;
use crate::dialect::{Dialect, StateFiles};
use crate::evidence::Found;
use crate::known::Shelf;
use crate::layout::{ContainerDir, Layout};
use crate::leftover;
use crate::observe::{self, Sight};
use crate::record::{Frozen, Phase, Record};

/// How long a container may be between its end and its exit file before that is told as it is.
pub(crate) const ENDING: Duration = Duration::from_secs(5);
/// Our own word for what is not there.
const GONE: &str = "the runtime knows no such container";
/// How long the runtime may take to tell how a container stands.
const STATE_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) config: OciConfig,
    pub(crate) layout: Layout,
    /// The cgroup below which containers go whose spec names none.
    pub(crate) cgroup_parent: String,
    pub(crate) info: RuntimeInfo,
    pub(crate) capabilities: Capabilities,
    pub(crate) dialect: &'static Dialect,
    pub(crate) binary: Found,
    pub(crate) monitor: Found,
    pub(crate) json_errors: bool,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) entries: Arc<Entries>,
    pub(crate) shelf: Shelf,
    pub(crate) boot_id: String,
    pub(crate) own: Identity,
    pub(crate) life: Life,
}

/// A container whose lock is held: nobody else changes it.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) held: Held,
    pub(crate) record: Record,
    pub(crate) dir: ContainerDir,
    pub(crate) entry: Arc<Entry>,
}

impl Locked {
    /// Writes the record and tells those who wait in this process.
    pub(crate) fn save(&self) -> Result<()> {
        self.record.write(&self.dir)?;
        self.entry.touch();
        Ok(())
    }
}

impl Backend {
    /// Locks a container and reads its record; `None` when it is unknown.
    pub(crate) async fn lock(&self, id: &ContainerId) -> Result<Option<Locked>> {
        let dir = self.layout.container(id);
        let entry = self.entries.of(id);
        let Some(held) = Held::acquire(&dir, &entry.queue).await? else { return Ok(None) };
        leftover::wait_for(&dir).await?;
        let Some(record) = Record::read(&dir)? else { return Ok(None) };
        Ok(Some(Locked { held, record, dir, entry }))
    }

    /// [`Backend::lock`] for an operation: an unknown id is `NotFound`, a state in which it is not legal is `WrongState`.
    pub(crate) async fn admit(&self, operation: Operation, id: &ContainerId) -> Result<(Locked, Sight)> {
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let Some(locked) = self.lock(id).await.map_err(named)? else {
            return Err(Error::not_found(operation, id));
        };
        self.admit_locked(operation, id, locked).await
    }

    /// [`Backend::admit`] for a container that is locked.
    pub(crate) async fn admit_locked(
        &self,
        operation: Operation,
        id: &ContainerId,
        mut locked: Locked,
    ) -> Result<(Locked, Sight)> {
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let patience = Instant::now() + ENDING;
        loop {
            let sight = self.settle(&mut locked).await.map_err(named)?;
            if sight == Sight::Ending && Instant::now() < patience {
                // Its monitor may hang: the others, who may want to end that, are not held up by our wait.
                let Locked { held, record, dir, entry } = locked;
                drop(held);
                self.look_until_settled(&record, &dir, &entry, patience).await.map_err(named)?;
                let again = self.lock(id).await.map_err(named)?;
                locked = again.ok_or_else(|| Error::not_found(operation, id))?;
                continue;
            }
            let state = observe::state(&locked.record, &sight);
            operation.admit(id, state.status, state.stopping)?;
            return Ok((locked, sight));
        }
    }

    /// Admits an operation that only looks: without the lock, so that it is not held up by a start that hangs.
    pub(crate) async fn admit_unlocked(&self, operation: Operation, id: &ContainerId) -> Result<Record> {
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let dir = self.layout.container(id);
        let Some(record) = Record::read(&dir).map_err(named)? else {
            return Err(Error::not_found(operation, id));
        };
        let entry = self.entries.of(id);
        let patience = Instant::now() + ENDING;
        let sight = self.look_until_settled(&record, &dir, &entry, patience).await.map_err(named)?;
        if sight == Sight::Lost {
            return Ok(self.admit(operation, id).await?.0.record);
        }
        let state = observe::state(&record, &sight);
        operation.admit(id, state.status, state.stopping)?;
        Ok(record)
    }

    /// Looks at a locked container and writes down what nobody else will write: that an end was lost.
    pub(crate) async fn settle(&self, locked: &mut Locked) -> Result<Sight> {
        self.settle_within(locked, Duration::ZERO).await
    }

    /// [`Backend::settle`], after a wait for the exit file of a container that is just ending. Whoever wants the lock is
    /// held up by it.
    pub(crate) async fn settle_within(&self, locked: &mut Locked, patience: Duration) -> Result<Sight> {
        self.resolve_checkpoint(locked, false).await?;
        let deadline = Instant::now() + patience;
        let mut sight = self.look_until_settled(&locked.record, &locked.dir, &locked.entry, deadline).await?;
        if locked.record.is_in_doubt() && matches!(sight, Sight::Alive(_)) {
            sight = self.resolve(locked).await?;
        } else if locked.record.phase == Phase::Starting && sight != Sight::Alive(ContainerStatus::Created) {
            // We hold the lock, so whoever asked for the start is done or dead. One that is found Created may have been
            // told to go on all the same, and be about to: what it becomes decides, and the time stays on record for that.
            locked.record.phase = Phase::Started;
            locked.save()?;
        }
        if sight != Sight::Lost {
            return Ok(sight);
        }
        let exit = ExitStatus::new(None, ExitCause::MonitorLost, std::time::SystemTime::now());
        locked.record.exit = Some(exit.clone());
        locked.save()?;
        Ok(Sight::Stopped(exit))
    }

    /// Asks the runtime how a container stands whose init lives and that the host cannot see into, and writes it down. If nobody answers, the
    /// program is taken to run: then nothing is removed that may be at work.
    pub(crate) async fn resolve(&self, locked: &mut Locked) -> Result<Sight> {
        let Some(status) = self.ask_status(locked).await else {
            return Ok(Sight::Alive(ContainerStatus::Running));
        };
        let record = &mut locked.record;
        record.frozen = if status == ContainerStatus::Paused { Frozen::Yes } else { Frozen::No };
        match status {
            ContainerStatus::Created => (record.phase, record.started_at) = (Phase::Created, None),
            _ if record.phase == Phase::Starting => record.phase = Phase::Started,
            _ => {}
        }
        locked.save()?;
        Ok(Sight::Alive(status))
    }

    /// Asks the runtime how a container stands whose init lives; `None` if it does not tell.
    pub(crate) async fn ask_status(&self, locked: &Locked) -> Option<ContainerStatus> {
        let id = &locked.record.id;
        let said = match self.ask_state(&locked.dir, id.as_str(), STATE_LIMIT).await {
            Ok(said) => said,
            Err(error) => {
                tracing::warn!(%id, error = %error.report(), "the runtime does not tell how a container stands");
                return None;
            }
        };
        let state: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        Some(match state["status"].as_str() {
            Some("created") => ContainerStatus::Created,
            Some("paused") => ContainerStatus::Paused,
            _ => ContainerStatus::Running,
        })
    }

    /// Looks until the container is not between its end and its exit file, which takes conmon a few milliseconds. A
    /// monitor that does not get there is no reason to hold up the caller for long.
    pub(crate) async fn look_until_settled(
        &self,
        record: &Record,
        dir: &ContainerDir,
        entry: &Entry,
        deadline: Instant,
    ) -> Result<Sight> {
        let mut changes = entry.changes();
        loop {
            let sight = observe::look(record, dir, &self.hierarchies)?;
            if sight != Sight::Ending || Instant::now() >= deadline {
                return Ok(sight);
            }
            let _ = tokio::time::timeout(Duration::from_millis(5), changes.changed()).await;
        }
    }

    /// Every process of a container that can be found: those of its own cgroup, else those below its init.
    pub(crate) fn members(&self, record: &Record) -> Vec<Identity> {
        let Some(init) = record.init.filter(|init| init.lives()) else { return Vec::new() };
        match &record.own_cgroup {
            Some(cgroup) => self.hierarchies.members(cgroup).into_iter().filter_map(Identity::of).collect(),
            None => process::tree(init),
        }
    }

    /// The runtime's binary.
    pub(crate) fn binary(&self) -> Result<&PathBuf> {
        self.binary.as_ref().map_err(|why| {
            Error::new(ErrorKind::Unavailable(why.clone()))
                .hint(format!("install it, or correct the paths of handler \"{}\"", self.config.handler))
        })
    }

    /// The runtime's binary for a container, which may be one for another platform.
    pub(crate) fn binary_of(&self, id: &ContainerId) -> Result<PathBuf> {
        if !self.config.platform_paths.is_empty()
            && let Ok(Some(Record { binary: Some(binary), .. })) = Record::read(&self.layout.container(id))
        {
            return Ok(binary);
        }
        self.binary().cloned()
    }

    /// The monitor's binary.
    pub(crate) fn monitor(&self) -> Result<&PathBuf> {
        self.monitor.as_ref().map_err(|why| {
            Error::new(ErrorKind::Unavailable(why.clone()))
                .hint("install conmon (the package is called conmon)")
        })
    }

    /// The runtime's own `--root`.
    pub(crate) fn root(&self) -> PathBuf {
        self.config.root.clone().unwrap_or_else(|| self.layout.root())
    }

    /// The runtime's own `--root` for a container. Where verbs take the beginning of an id, a container whose id others
    /// begin with could not be told from them; so each has a root of its own there, unless the handler sets one.
    pub(crate) fn root_of(&self, id: &ContainerId) -> PathBuf {
        match (self.dialect.state, &self.config.root) {
            (StateFiles::Files { .. }, None) => self.layout.root().join(id.as_str()),
            _ => self.root(),
        }
    }

    /// What the runtime keeps of a container in its root.
    pub(crate) fn runtime_state(&self, id: &ContainerId) -> Vec<PathBuf> {
        let root = self.root();
        if self.dialect.state == StateFiles::Directory || self.config.root.is_none() {
            let state = root.join(id.as_str());
            return if state.exists() { vec![state] } else { Vec::new() };
        }
        self.state_files(id)
    }

    /// The files of a container in its runtime's root.
    fn state_files(&self, id: &ContainerId) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root_of(id)).into_iter().flatten().flatten();
        let ours = |name: &str| self.dialect.is_state_of(id.as_str(), name);
        entries.filter(|each| each.file_name().to_str().is_some_and(ours)).map(|each| each.path()).collect()
    }

    /// The document that the runtime keeps of a container, where it keeps one among files; `None` if it has none.
    fn runtime_document(&self, id: &ContainerId) -> Option<PathBuf> {
        let StateFiles::Files { document, .. } = self.dialect.state else { return None };
        let is_document = |path: &PathBuf| path.to_string_lossy().ends_with(document);
        self.state_files(id).into_iter().find(is_document)
    }

    /// Whether the runtime has no such container, as far as its files tell. Some take the beginning of an id for it: a
    /// verb for a container that is gone would hit another.
    fn is_unknown_to_runtime(&self, id: &ContainerId) -> bool {
        matches!(self.dialect.state, StateFiles::Files { .. }) && self.runtime_document(id).is_none()
    }

    /// Corrects the runtime's note of a pause, after the end of the container: some cannot remove what they believe to be
    /// paused. Where the note is not as we know it, it stays.
    pub(crate) fn mend_runtime_note(&self, id: &ContainerId) {
        let Some(path) = self.runtime_document(id) else { return };
        let text = std::fs::read(&path).unwrap_or_default();
        let Ok(mut note) = serde_json::from_slice::<serde_json::Value>(&text) else { return };
        if note["status"] != "paused" {
            return;
        }
        note["status"] = "running".into();
        if let Err(error) = runtime_host::document::replace(&path, note.to_string().as_bytes()) {
            tracing::warn!(%id, %error, "the runtime's note of a pause cannot be corrected");
        }
    }

    /// Unmounts what a runtime that was killed left mounted in what it keeps of a container.
    pub(crate) fn unmount_runtime_state(&self, id: &ContainerId) -> std::io::Result<()> {
        self.runtime_state(id).iter().try_for_each(|path| runtime_host::mounts::unmount_all(path))
    }

    /// Removes what the runtime keeps of a container, where it does not do so itself.
    pub(crate) fn remove_runtime_state(&self, id: &ContainerId) {
        for path in self.runtime_state(id) {
            // A directory or a file, as the runtime has it. One that was killed in a restore leaves the container's own
            // root mounted there.
            if let Err(error) = runtime_host::mounts::remove_all(&path) {
                tracing::warn!(%id, %error, path = %path.display(), "what a runtime knew of a container is left");
            }
        }
    }

    /// The runtime's arguments before the verb.
    pub(crate) fn global_args(&self, id: &ContainerId, log: &Path) -> Vec<String> {
        let mut args = self.config.args.clone();
        args.push(format!("--root={}", self.root_of(id).display()));
        if self.json_errors {
            args.push(format!("--log={}", log.display()));
            args.push("--log-format=json".to_owned());
        }
        args
    }

    /// A command line of the runtime, which logs its complaints to `log`.
    pub(crate) fn command(&self, id: &ContainerId, log: &Path) -> Result<CommandLine> {
        let line = CommandLine::new(self.binary_of(id)?).speaks(self.dialect.alone());
        let line = line.args(self.global_args(id, log));
        let line = if self.config.systemd_cgroup { line.arg("--systemd-cgroup") } else { line };
        Ok(self.config.env.iter().fold(line, |line, (name, value)| line.env(name, value)))
    }

    /// Runs a verb on one container; a code that is not zero is `Rejected` with the runtime's own words.
    pub(crate) async fn run_verb(
        &self,
        dir: &ContainerDir,
        verb: &[&str],
        limit: Duration,
    ) -> Result<Finished> {
        self.run_verb_with(dir, &[], verb, limit).await
    }

    /// Asks the runtime for its own document of a container, which is then in the output.
    pub(crate) async fn ask_state(&self, dir: &ContainerDir, id: &str, limit: Duration) -> Result<Finished> {
        let line = self.command(&dir.id()?, &dir.oci_log())?.args(["state", id]);
        self.run_line(dir, line, limit).await
    }

    /// [`Backend::run_verb`] for a verb that reads its standard input.
    pub(crate) async fn run_verb_with_input(
        &self,
        dir: &ContainerDir,
        verb: &[&str],
        input: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Finished> {
        let mut line = self.command(&dir.id()?, &dir.oci_log())?.args(verb).without_output();
        if let Some(input) = input {
            line = line.input(input);
        }
        self.run_line(dir, line, limit).await
    }

    /// [`Backend::run_verb`] with more arguments before the verb.
    pub(crate) async fn run_verb_with(
        &self,
        dir: &ContainerDir,
        before: &[String],
        verb: &[&str],
        limit: Duration,
    ) -> Result<Finished> {
        let line = self.command(&dir.id()?, &dir.oci_log())?.args(before).args(verb).without_output();
        self.run_line(dir, line, limit).await
    }

    async fn run_line(&self, dir: &ContainerDir, line: CommandLine, limit: Duration) -> Result<Finished> {
        let id = dir.id()?;
        if self.is_unknown_to_runtime(&id) {
            return Err(self.rejected(format!("{GONE}: it has no file of container \"{id}\"")));
        }
        let log = dir.oci_log();
        leftover::mark(dir);
        let done = line.run(limit).await;
        leftover::unmark(dir);
        let done = done?;
        if done.code == 0 {
            return Ok(done);
        }
        let message = complaint::account(Some(&log), &done.stderr);
        Err(self.rejected(message).with_command(line.detail(Some(done.code), done.stderr)))
    }

    /// The runtime's refusal, in its own words.
    pub(crate) fn rejected(&self, message: String) -> Error {
        let class = self.dialect.refusal(&message);
        Error::new(ErrorKind::Rejected { class, message })
    }

    /// Whether an error is the runtime's word that there is nothing to act on.
    pub(crate) fn is_gone(&self, error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::Rejected { class: Rejection::Other, message }
            if message.starts_with(GONE) || self.dialect.says_gone(message))
    }

    /// Removes the cgroups that only a value's containers needed; false if somebody was in the way for a moment.
    pub(crate) fn prune_cgroups(&self) -> bool {
        let idle = self.ids().is_ok_and(|ids| ids.is_empty());
        !idle || self.hierarchies.prune(&self.cgroup_parent)
    }

    /// Where a container goes whose spec names no cgroup.
    pub(crate) fn default_cgroup(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.cgroup_parent.trim_end_matches('/'))
    }
}
