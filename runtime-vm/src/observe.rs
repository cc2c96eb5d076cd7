//! How a container stands: from its record, its exit file and the processes of the host. No shim is asked.
//!
//! The exit file decides, then the processes, or what the monitor wrote down of a container in a machine of its own when it
//! gave it up. Where these cannot tell, as when the monitor of such a one is gone, the look says so ([`Sight::Unseen`]), and
//! whoever holds the lock asks the shim.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use runtime_api::{ContainerState, ContainerStatus, Error, ErrorKind, ExitCause, ExitStatus, Result};
use runtime_host::cgroup::Hierarchies;
use runtime_host::process::Identity;

use crate::layout::ContainerDir;
use crate::monitor::Untold;
use crate::record::{Frozen, Phase, Reach, Record, StopStage};

/// What can be seen of a container right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// A create is under way, or was when its maker died.
    Creating,
    /// The program lives, or waits to be started.
    Alive(ContainerStatus),
    /// The init is gone and the monitor is about to write the exit file.
    Ending,
    /// Only the shim can tell. What it looked like last stands beside it.
    Unseen(ContainerStatus),
    /// The shim is gone, and nobody wrote how it ended. Not final until it is written down.
    Lost,
    /// It ended.
    Stopped(ExitStatus),
}

/// Looks at a container.
pub(crate) fn look(record: &Record, dir: &ContainerDir, host: &Hierarchies) -> Result<Sight> {
    if let Some(exit) = &record.exit {
        return Ok(Sight::Stopped(exit.clone()));
    }
    if record.phase == Phase::Creating {
        return Ok(Sight::Creating);
    }
    if let Some(sight) = being_saved(record, dir) {
        return Ok(sight);
    }
    if let Some(exit) = exit_file(record, dir, host)? {
        return Ok(Sight::Stopped(exit));
    }
    let status = status_of(record, host);
    // The host sees the processes of the others.
    let untold = if record.reach == Reach::Guest { Untold::read(dir.path()) } else { None };
    let shim_lives = record.shim.as_ref().is_some_and(shim_lives);
    if !shim_lives || untold == Some(Untold::Shim) {
        // Its monitor may have written the file and gone between the two looks.
        return Ok(exit_file(record, dir, host)?.map_or(Sight::Lost, Sight::Stopped));
    }
    let watched = record.shim.as_ref().is_some_and(|shim| shim.monitor.lives());
    let init_lives = record.init.is_some_and(Identity::lives);
    Ok(match (record.reach, init_lives, watched) {
        _ if record.is_in_doubt() || untold.is_some() => Sight::Unseen(status),
        (Reach::Host, true, _) | (Reach::Guest, _, true) => Sight::Alive(status),
        (Reach::Host, false, true) => Sight::Ending,
        (_, _, false) => Sight::Unseen(status),
    })
}

/// What is seen of a container that is being checkpointed: it is frozen for a moment, and when it ends with it, the
/// monitor's file tells of a kill. Neither is true of the container.
fn being_saved(record: &Record, dir: &ContainerDir) -> Option<Sight> {
    let phase = record.checkpoint.as_ref()?;
    let init_lives = record.reach == Reach::Guest || record.init.is_some_and(Identity::lives);
    let lives = init_lives && record.shim.as_ref().is_some_and(shim_lives) && !dir.exit().exists();
    match (lives, phase.owner.lives()) {
        (true, true) if phase.was_paused => Some(Sight::Alive(ContainerStatus::Paused)),
        (true, true) => Some(Sight::Alive(ContainerStatus::Running)),
        // Nobody is left to tell whether it was saved: whoever looks takes the lock and finds out.
        (false, false) if phase.ends => Some(Sight::Lost),
        (false, true) if phase.ends => Some(Sight::Ending),
        _ => None,
    }
}

/// Whether a shim lives, as far as the host can tell.
pub(crate) fn shim_lives(shim: &crate::record::ShimRef) -> bool {
    shim.process.is_none_or(Identity::lives)
}

/// The status of a container that has not ended.
pub(crate) fn status_of(record: &Record, host: &Hierarchies) -> ContainerStatus {
    let paused = match (record.reach, &record.own_cgroup) {
        (Reach::Host, Some(cgroup)) => host.is_frozen_at(cgroup),
        _ => record.frozen == Frozen::Yes,
    };
    if !has_started(record) {
        ContainerStatus::Created
    } else if paused {
        ContainerStatus::Paused
    } else {
        ContainerStatus::Running
    }
}

/// Whether the init has become the program. What it runs decides before what was written down: whoever asked for the
/// start may have died, or been told too late.
fn has_started(record: &Record) -> bool {
    let replaced = || match (record.init_program, record.init.and_then(Identity::program)) {
        (Some(waiting), Some(now)) => now != waiting,
        _ => false,
    };
    match record.phase {
        Phase::Started => true,
        Phase::Deleting => record.started_at.is_some(),
        Phase::Creating | Phase::Created | Phase::Starting => record.reach == Reach::Host && replaced(),
    }
}

/// The code in an exit file, if there is one. The monitor writes it whole, by a rename.
pub(crate) fn exit_code(dir: &ContainerDir) -> Result<Option<i32>> {
    let path = dir.exit();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path).caused_by(error)),
    };
    text.trim().parse().map(Some).map_err(|error| unreadable(&path).caused_by(error))
}

/// How a container ended, from its exit file.
pub(crate) fn exit_file(
    record: &Record,
    dir: &ContainerDir,
    host: &Hierarchies,
) -> Result<Option<ExitStatus>> {
    let Some(code) = exit_code(dir)? else { return Ok(None) };
    let path = dir.exit();
    let written = std::fs::metadata(&path).map_err(|error| unreadable(&path).caused_by(error))?;
    let since = Duration::new(
        u64::try_from(written.mtime()).unwrap_or_default(),
        u32::try_from(written.mtime_nsec()).unwrap_or_default(),
    );
    Ok(Some(ended(record, dir, host, code, SystemTime::UNIX_EPOCH + since)))
}

/// The status of a program that ended with this code at this time.
pub(crate) fn ended(
    record: &Record,
    dir: &ContainerDir,
    host: &Hierarchies,
    code: i32,
    at: SystemTime,
) -> ExitStatus {
    // A process of the container may have been killed for want of memory; only a KILL that was not ours ties it to the end of the init.
    let killed_by_us = record.stop.is_some_and(|stop| stop.stage == StopStage::Killing);
    let cause = if code == 137 && !killed_by_us && oom_kills(record, dir, host) > 0 {
        ExitCause::OomKilled
    } else {
        ExitCause::Exited
    };
    // Clocks tick in milliseconds, and a short program starts and ends within one tick.
    let not_before = record.started_at.unwrap_or(record.created_at);
    ExitStatus::new(Some(code), cause, at.max(not_before))
}

/// How many processes of a container were killed for want of memory: by the kernel's count where the host sees its cgroup,
/// else as many as the shim told of. Shims begin to look a moment after the program began.
pub(crate) fn oom_kills(record: &Record, dir: &ContainerDir, host: &Hierarchies) -> u64 {
    let counted =
        record.own_cgroup.as_deref().and_then(|cgroup| runtime_host::stats::oom_kills(host, cgroup));
    let told = std::fs::metadata(dir.oom()).map_or(0, |notice| notice.len().max(1));
    counted.unwrap_or_default().max(told)
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
        Sight::Alive(status) | Sight::Unseen(status) => *status,
        // Until the code is known the end has not been seen.
        Sight::Ending | Sight::Lost if record.started_at.is_none() => ContainerStatus::Created,
        Sight::Ending | Sight::Lost => ContainerStatus::Running,
        Sight::Stopped(_) => ContainerStatus::Stopped,
    };
    let mut state = ContainerState::new(record.id.clone(), status, &record.bundle, record.created_at);
    state.stopping = status != ContainerStatus::Stopped && is_stopping(record);
    state.pid = match sight {
        Sight::Alive(_) | Sight::Unseen(_) => record.init.and_then(|init| u32::try_from(init.pid).ok()),
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
