//! How a container stands: from its record, its exit file and its processes. No command is run.
//!
//! The exit file and the pid decide, not what the runtime believes: after a SIGKILL of the init, runtimes may go on
//! saying "created" or "running" for a while.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use runtime_api::{ContainerState, ContainerStatus, Error, ErrorKind, ExitCause, ExitStatus, Result};
use runtime_host::cgroup::Hierarchies;
use runtime_host::document::contents;
use runtime_host::process::Identity;

use crate::dialect::Reach;
use crate::known::Known;
use crate::layout::ContainerDir;
use crate::record::{Frozen, Phase, Record, StopStage};

/// What can be seen of a container right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// A create is under way, or was when its maker died.
    Creating,
    /// The init lives.
    Alive(ContainerStatus),
    /// The init is gone and the monitor is about to write the exit file.
    Ending,
    /// The init and the monitor are gone, and nobody wrote how it ended. Not final until it is written down.
    Lost,
    /// It ended.
    Stopped(ExitStatus),
}

/// Looks at a container.
pub(crate) fn look(record: &Record, dir: &ContainerDir, host: &Hierarchies) -> Result<Sight> {
    let exit = if may_have_ended(record) { exit_file(record, dir)? } else { None };
    look_from(record, exit, dir, host, Identity::lives)
}

/// Looks at a container whose files have been read.
pub(crate) fn look_at_known(known: &Known, dir: &ContainerDir, host: &Hierarchies) -> Result<Sight> {
    look_from(&known.record, known.exit.clone(), dir, host, |init| known.init_lives(init))
}

/// Whether the exit file decides.
pub(crate) fn may_have_ended(record: &Record) -> bool {
    record.exit.is_none() && record.phase != Phase::Creating
}

fn look_from(
    record: &Record,
    exit: Option<ExitStatus>,
    dir: &ContainerDir,
    host: &Hierarchies,
    lives: impl Fn(Identity) -> bool,
) -> Result<Sight> {
    if let Some(exit) = &record.exit {
        return Ok(Sight::Stopped(exit.clone()));
    }
    if record.phase == Phase::Creating {
        return Ok(Sight::Creating);
    }
    if let Some(sight) = being_saved(record, dir) {
        return Ok(sight);
    }
    if let Some(exit) = exit {
        return Ok(Sight::Stopped(exit));
    }
    if let Some(init) = record.init.filter(|init| lives(*init)) {
        // Reading the name of the cgroup takes longer than reading its state.
        let is_paused = || match (record.reach, &record.own_cgroup) {
            // A pause that may or may not have happened counts as none, until the runtime is asked.
            (Reach::Runtime, _) => record.frozen == Frozen::Yes,
            (Reach::Host, Some(cgroup)) => host.is_frozen_at(cgroup),
            (Reach::Host, None) => host.is_frozen(init.pid),
        };
        return Ok(Sight::Alive(if !has_started(record, init) {
            ContainerStatus::Created
        } else if is_paused() {
            ContainerStatus::Paused
        } else {
            ContainerStatus::Running
        }));
    }
    if record.monitor.is_some_and(Identity::lives) {
        return Ok(Sight::Ending);
    }
    // The monitor may have written the file and gone between the two looks above.
    Ok(exit_file(record, dir)?.map_or(Sight::Lost, Sight::Stopped))
}

/// What is seen of a container that is being checkpointed: it is frozen for a moment, and when it ends with it, the
/// monitor's file tells of a kill. Neither is true of the container.
fn being_saved(record: &Record, dir: &ContainerDir) -> Option<Sight> {
    let phase = record.checkpoint.as_ref()?;
    let lives = record.init.is_some_and(Identity::lives) && !dir.exit().exists();
    match (lives, phase.owner.lives()) {
        (true, true) if phase.was_paused => Some(Sight::Alive(ContainerStatus::Paused)),
        (true, true) => Some(Sight::Alive(ContainerStatus::Running)),
        // Nobody is left to tell whether it was saved: whoever looks takes the lock and finds out.
        (false, false) if phase.ends => Some(Sight::Lost),
        (false, true) if phase.ends => Some(Sight::Ending),
        _ => None,
    }
}

/// Whether the init has become the program. What it runs decides before what was written down: whoever asked for the
/// start may have died, or been told too late.
fn has_started(record: &Record, init: Identity) -> bool {
    match record.phase {
        Phase::Started => true,
        Phase::Deleting => record.started_at.is_some(),
        Phase::Creating | Phase::Created | Phase::Starting => match (record.init_program, init.program()) {
            (Some(waiting), Some(now)) => now != waiting,
            _ => false,
        },
    }
}

/// The code in an exit file, if there is one. conmon writes it whole, by a rename.
pub(crate) fn exit_code(dir: &ContainerDir) -> Result<Option<i32>> {
    Ok(read_exit(dir)?.map(|(code, _)| code))
}

/// The code in an exit file, and what is known of the file.
fn read_exit(dir: &ContainerDir) -> Result<Option<(i32, Metadata)>> {
    let path = dir.exit();
    let read = File::open(&path).and_then(|file| Ok((file.metadata()?, contents(file)?)));
    let (meta, text) = match read {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path).caused_by(error)),
    };
    let text = String::from_utf8_lossy(&text);
    let code = text.trim().parse().map_err(|error| unreadable(&path).caused_by(error))?;
    Ok(Some((code, meta)))
}

/// How a container ended, from its exit file.
pub(crate) fn exit_file(record: &Record, dir: &ContainerDir) -> Result<Option<ExitStatus>> {
    let Some((code, written)) = read_exit(dir)? else { return Ok(None) };
    let since = Duration::new(
        u64::try_from(written.mtime()).unwrap_or_default(),
        u32::try_from(written.mtime_nsec()).unwrap_or_default(),
    );
    // The file `oom` appears for any process of the container; only a KILL that was not ours ties it to the end of the init.
    let killed_by_us = record.stop.is_some_and(|stop| stop.stage == StopStage::Killing);
    let cause = if code == 137 && !killed_by_us && dir.oom().exists() {
        ExitCause::OomKilled
    } else {
        ExitCause::Exited
    };
    // The file system's clock ticks in milliseconds, and a short program starts and ends within one tick.
    let not_before = record.started_at.unwrap_or(record.created_at);
    let finished_at = (SystemTime::UNIX_EPOCH + since).max(not_before);
    Ok(Some(ExitStatus::new(Some(code), cause, finished_at)))
}

fn unreadable(path: &std::path::Path) -> Error {
    Error::new(ErrorKind::ConfigInvalid("the exit file does not hold a number".into()))
        .on(format_args!("file {}", path.display()))
        .hint("delete the container with force")
}

/// The state for callers.
pub(crate) fn state(record: &Record, sight: &Sight) -> ContainerState {
    let status = match sight {
        Sight::Creating => ContainerStatus::Creating,
        Sight::Alive(status) => *status,
        // Until the code is known the end has not been seen.
        Sight::Ending | Sight::Lost if record.started_at.is_none() => ContainerStatus::Created,
        Sight::Ending | Sight::Lost => ContainerStatus::Running,
        Sight::Stopped(_) => ContainerStatus::Stopped,
    };
    let mut state = ContainerState::new(record.id.clone(), status, &record.bundle, record.created_at);
    state.stopping = status != ContainerStatus::Stopped && is_stopping(record);
    state.pid = match sight {
        Sight::Alive(_) => record.init.and_then(|init| u32::try_from(init.pid).ok()),
        _ => None,
    };
    // On record it is the time at which the start was asked for.
    state.started_at = record.started_at.filter(|_| status != ContainerStatus::Created);
    state.exit = match sight {
        Sight::Stopped(exit) => Some(exit.clone()),
        _ => None,
    };
    state.annotations.clone_from(&record.annotations);
    state.labels.clone_from(&record.labels);
    state
}

/// Whether somebody who still lives is stopping it.
pub(crate) fn is_stopping(record: &Record) -> bool {
    record.stop.is_some_and(|stop| stop.owner.lives())
}

/// Whether a stop has come to KILL, by somebody who still lives.
pub(crate) fn is_being_killed(record: &Record) -> bool {
    record.stop.is_some_and(|stop| stop.stage == StopStage::Killing && stop.owner.lives())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::StopPhase;
    use runtime_api::ContainerId;

    fn container() -> (tempfile::TempDir, ContainerDir, Record) {
        let at = tempfile::tempdir().unwrap();
        let dir = ContainerDir::at(at.path().to_owned());
        let mut record = Record::new(ContainerId::new("a").unwrap(), "/b".into(), "boot".into());
        record.phase = Phase::Started;
        record.started_at = Some(SystemTime::now());
        (at, dir, record)
    }

    fn dead() -> Identity {
        Identity { start: 1, ..Identity::own() }
    }

    #[test]
    fn a_recycled_pid_is_not_the_container() {
        let (_at, dir, mut record) = container();
        let host = Hierarchies::default();
        record.init = Some(Identity::own());
        assert_eq!(look(&record, &dir, &host).unwrap(), Sight::Alive(ContainerStatus::Running));
        record.init = Some(dead());
        record.monitor = Some(Identity::own());
        assert_eq!(look(&record, &dir, &host).unwrap(), Sight::Ending);
        record.monitor = Some(dead());
        assert_eq!(look(&record, &dir, &host).unwrap(), Sight::Lost);
    }

    #[test]
    fn the_exit_file_wins_over_the_pid() {
        let (_at, dir, mut record) = container();
        let host = Hierarchies::default();
        record.init = Some(Identity::own());
        std::fs::write(dir.exit(), "137").unwrap();
        let Sight::Stopped(exit) = look(&record, &dir, &host).unwrap() else { panic!("it ended") };
        assert_eq!((exit.code, exit.cause), (Some(137), ExitCause::Exited));
        std::fs::write(dir.oom(), "").unwrap();
        let Sight::Stopped(exit) = look(&record, &dir, &host).unwrap() else { panic!("it ended") };
        assert_eq!(exit.cause, ExitCause::OomKilled);
        record.stop =
            Some(StopPhase { stage: StopStage::Killing, owner: runtime_host::owner::Life::begin().owner() });
        let Sight::Stopped(exit) = look(&record, &dir, &host).unwrap() else { panic!("it ended") };
        assert_eq!(exit.cause, ExitCause::Exited, "a stop killed it");
        std::fs::write(dir.exit(), "soon").unwrap();
        assert!(matches!(look(&record, &dir, &host).unwrap_err().kind(), ErrorKind::ConfigInvalid(_)));
    }
}
