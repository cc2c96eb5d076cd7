//! The end of a shim: the orderly one, when the last of its containers is gone, and the other one.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use runtime_api::{ErrorKind, ExitCause, ExitStatus, Operation, Result, Signal};
use runtime_host::mounts::{remove_all, unmount_all};
use runtime_host::process::{Identity, end_all, end_whatever, kill_tree, with_arguments};

use crate::backend::{Backend, Locked, reach_of};
use crate::layout::ContainerDir;
use crate::monitor::{Key, MonitorClient, StartOrder, remove_leftovers, spawned_in};
use crate::observe::{self, Sight};
use crate::record::{Reach, Record, ShimRef};
use crate::saving;
use crate::shim::{Address, dial};
use crate::shims::Members;
use crate::task::{Fault, Target};

/// How long a shim may take to remove a task.
const DELETE_LIMIT: Duration = Duration::from_secs(5);
/// How long its command may take to clean up.
const CLEAN_LIMIT: Duration = Duration::from_secs(30);
/// How long a monitor may take to undo what it began.
const UNDO_LIMIT: Duration = Duration::from_secs(60);
/// How long a shim or a monitor may take to leave.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);
/// The code of a program that died with its machine.
const KILLED: i32 = 137;

impl Backend {
    /// A container whose shim is gone, or does not do what it is asked: the shim's own command cleans up, and what it leaves is
    /// killed.
    pub(crate) async fn bury(&self, locked: &mut Locked) -> Result<Sight> {
        let record = &locked.record;
        tracing::warn!(id = %record.id, "a container is cleaned up without its shim");
        let lived = record.reach == Reach::Guest || record.init.is_some_and(Identity::lives);
        let cleaned = self.clean_up(record).await;
        // What KILL does not end, as in uninterruptible sleep, has not ended, and nobody may be told that it has.
        if record.reach == Reach::Host && record.init.is_some_and(Identity::lives) {
            return Ok(Sight::Alive(observe::status_of(record, &self.hierarchies)));
        }
        let exit = match observe::exit_file(record, &locked.dir, &self.hierarchies)? {
            // It ended before its shim did, and the monitor wrote down how.
            Some(exit) => exit,
            // It was killed with its machine, or by us; one that was gone before had a code that nobody knows.
            None => ExitStatus::new(lived.then_some(KILLED), ExitCause::MonitorLost, SystemTime::now()),
        };
        locked.record.exit = Some(exit.clone());
        locked.record.cleaned_up = cleaned.is_ok();
        locked.save()?;
        Ok(Sight::Stopped(exit))
    }

    /// Removes what a dead shim left of a container.
    ///
    /// # Errors
    /// What the shim's command says, where only that can tell. What is on the host is gone even so.
    pub(super) async fn clean_up(&self, record: &Record) -> Result<()> {
        let dir = self.layout.container(&record.id);
        let cleaned = match self.binary() {
            Ok(binary) => {
                let connector = self.shims.connector();
                connector
                    .clean_up(binary, &self.layout.namespace(), record.id.as_str(), dir.path(), CLEAN_LIMIT)
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = &cleaned {
            tracing::warn!(id = %record.id, error = %error.report(), "the shim cannot clean up after itself");
        }
        if record.reach == Reach::Guest {
            return cleaned.map(drop);
        }
        let cgroup = self.cgroup_of(record);
        let members = cgroup.iter().flat_map(|cgroup| self.hierarchies.members(cgroup));
        let mut left: Vec<Identity> = members.filter_map(Identity::of).collect();
        if let Some(init) = record.init.filter(|init| init.lives()) {
            left.extend(kill_tree(init));
        }
        for process in &left {
            let _ = process.signal(Signal::KILL);
        }
        // What stands still dies when it goes on.
        if let Some(cgroup) = cgroup {
            let _ = self.hierarchies.thaw(cgroup);
        }
        end_all(left).await;
        Ok(())
    }

    /// Ends what the runtime below a shim still does for a create that did not come to its end. It goes on when its shim dies,
    /// and when the shim has lost its caller and knows nothing of it any more.
    pub(super) async fn end_half_made(&self, record: &Record, dir: &ContainerDir) {
        let bundle: Arc<[u8]> = dir.path().as_os_str().as_bytes().into();
        end_whatever(|| {
            let bundle = Arc::clone(&bundle);
            with_arguments(move |words| {
                words
                    .windows(2)
                    .any(|pair| [&b"--bundle"[..], b"-b"].contains(&pair[0]) && *pair[1] == *bundle)
            })
        })
        .await;
        self.end_half_restored(record, dir).await;
    }

    /// Ends what criu still does for a restore that did not come to its end, and removes what its runtime had mounted for it.
    /// criu goes on without its runtime, and what it has made by then is nobody's child.
    pub(super) async fn end_half_restored(&self, record: &Record, dir: &ContainerDir) {
        let work = dir.criu();
        if !work.exists() {
            return;
        }
        end_whatever(|| saving::at_work(&work, None)).await;
        // A cgroup that the bundle names may be in use by somebody else by now, over the same root.
        if let Some(cgroup) = record.cgroup.as_deref().filter(|_| record.chose_cgroup) {
            // A process that is being restored is in the root of the container, or still writes to criu's log.
            let is_made = |each: &Identity| {
                reach_of(*each, record.root.as_deref()) == Reach::Host || saving::has_open(*each, &work)
            };
            let made = || {
                let members = self.hierarchies.members(cgroup).into_iter().filter_map(Identity::of);
                members.filter(is_made).collect::<Vec<_>>()
            };
            for process in made() {
                let _ = process.signal(Signal::KILL);
            }
            // What was saved while it stood still dies when it goes on.
            let _ = self.hierarchies.thaw(cgroup);
            end_whatever(|| std::future::ready(made())).await;
        }
        // A runtime that was cut off early does not know its own directory, and does not remove it.
        let known = self.root().join(self.layout.namespace()).join(record.id.as_str());
        // Among that is the container's own root, and runc's delete would remove what is in there.
        if let Err(error) = unmount_all(&known) {
            tracing::warn!(id = %record.id, %error, "what a runtime had mounted for a container is left");
        }
        if !known.join("state.json").exists()
            && let Err(error) = remove_all(&known)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(id = %record.id, %error, "what a runtime knew of a container is left");
        }
    }

    /// Lets the shim forget a container, whatever it does, and the monitor its streams.
    ///
    /// # Errors
    /// Why a shim that goes on serving others does not; unless it is forced, why nobody could clean up after a dead one. The
    /// container is to be deleted again.
    pub(super) async fn remove_task(&self, record: &Record, force: bool) -> Result<()> {
        let Some(shim) = &record.shim else { return Ok(()) };
        let id = record.id.as_str();
        if observe::shim_lives(shim) {
            if let Err(error) = self.delete_task(record).await {
                // One that is dying is waited for. It is not killed here: it may serve others, and be out of reach for us alone.
                if let (ErrorKind::PeerLost(_), Some(process)) = (error.kind(), shim.process) {
                    is_gone_within(process, LEAVE_LIMIT).await;
                }
                tracing::warn!(%id, error = %error.report(), "the shim does not remove a container; it is cleaned up");
                let _ = self.clean_up(record).await;
                // With its last container a shim goes, and what it has not forgotten by then goes with it.
                if self.serves_others(shim, record) && !self.has_forgotten(record).await {
                    return Err(error.hint(format!(
                        "the shim \"{}\" serves other containers and does not forget this one; delete it again",
                        shim.id
                    )));
                }
            }
        } else if !record.cleaned_up
            && let Err(error) = self.clean_up(record).await
            && !force
        {
            return Err(error.hint(
                "the container's shim is dead and what it left may still run; delete it again, or with force if that does not matter",
            ));
        }
        self.forget_streams(record).await;
        Ok(())
    }

    fn serves_others(&self, shim: &ShimRef, record: &Record) -> bool {
        let members = std::fs::read_dir(self.layout.shim(&shim.id).members()).into_iter().flatten().flatten();
        let others = members.into_iter().any(|entry| entry.file_name() != record.id.as_str());
        others && observe::shim_lives(shim)
    }

    /// Whether a shim knows nothing of a container, now that it was cleaned up.
    async fn has_forgotten(&self, record: &Record) -> bool {
        let Ok(client) = self.client(record).await else { return false };
        match client.delete(Target::init(record.id.as_str()), DELETE_LIMIT).await {
            Ok(_) => true,
            Err(fault) => fault.is_not_found(),
        }
    }

    async fn delete_task(&self, record: &Record) -> Result<()> {
        let id = record.id.as_str();
        let client = self.client(record).await?;
        let begun = Instant::now();
        loop {
            match client.delete(Target::init(id), DELETE_LIMIT).await {
                Ok(_) => return Ok(()),
                Err(fault) if fault.is_not_found() => return Ok(()),
                // It died meanwhile or hangs, and whether it had done it nobody knows.
                Err(fault @ (Fault::Closed(_) | Fault::Late(_))) => {
                    return Err(fault.into_error(Operation::Delete));
                }
                Err(fault) if begun.elapsed() > DELETE_LIMIT => {
                    return Err(fault.into_error(Operation::Delete));
                }
                // One that was just killed may take a moment.
                Err(_) => {}
            }
            self.signal(record, Signal::KILL, false).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) async fn forget_streams(&self, record: &Record) {
        let Some(shim) = &record.shim else { return };
        let monitor = MonitorClient::at(self.layout.shim(&shim.id).path());
        match monitor.remove(&Key::init(record.id.as_str())).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::PeerLost(_)) => {}
            Err(error) => {
                tracing::warn!(id = %record.id, error = %error.report(), "the monitor keeps a container's streams");
            }
        }
    }

    /// Takes a container out of its shim. With the last one the shim goes, and its monitor.
    pub(super) async fn leave_shim(&self, record: &Record) -> Result<()> {
        let Some(shim) = &record.shim else { return Ok(()) };
        let Some(members) = Members::of(&self.layout, &shim.id).await? else { return Ok(()) };
        if !members.leave(&record.id) {
            return Ok(());
        }
        if observe::shim_lives(shim)
            && let Ok(client) = self.client(record).await
        {
            // A shim that leaves closes the connection instead of answering.
            let _ = client.shutdown(record.id.as_str(), true, LEAVE_LIMIT).await;
        }
        self.shims.forget(&shim.address);
        gone_or_ended(shim.process).await;
        // One that was killed leaves its socket, and the one in Rust does at times when it leaves by itself.
        if let Ok(address) = Address::parse(&shim.address) {
            dial::remove_dead(&address).await;
        }
        // What a monitor does not answer is made up for by its end.
        let _ = MonitorClient::at(members.dir().path()).end().await;
        gone_or_ended(Some(shim.monitor)).await;
        members.remove();
        Ok(())
    }

    /// Removes the directory of a shim that nobody lives in, unless others are at work on it for so long.
    pub(crate) async fn remove_unused_shim(&self, id: &str, patience: Duration) {
        let Ok(Some(members)) = Members::within(&self.layout, id, patience).await else { return };
        if !members.is_empty() {
            return;
        }
        let dir = members.dir().path();
        if let Some(monitor) = spawned_in(dir) {
            // Nobody told it to go on, so it undoes what it began, which may take the shim a while.
            if !is_gone_within(monitor, UNDO_LIMIT).await {
                end_all([monitor]).await;
            }
            // One that was killed, by us or with its caller, undid nothing, and may not have come to a report.
            if let Ok(order) = StartOrder::read(dir) {
                remove_leftovers(dir, &order).await;
            }
        }
        members.remove();
    }
}

/// Waits for a process to leave; whether it did.
async fn is_gone_within(process: Identity, limit: Duration) -> bool {
    match process.open() {
        Some(open) => tokio::time::timeout(limit, open.ended()).await.is_ok(),
        None => true,
    }
}

/// Waits for a process to leave, and ends one that does not, with what it left below itself.
async fn gone_or_ended(process: Option<Identity>) {
    let Some(process) = process.filter(|process| *process != Identity::own()) else { return };
    if !is_gone_within(process, LEAVE_LIMIT).await {
        end_all(kill_tree(process)).await;
    }
}
