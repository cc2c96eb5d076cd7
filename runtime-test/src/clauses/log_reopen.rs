//! The log across a rename by its owner.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_api::{ContainerStatus, ErrorKind};

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, Checked, Step, Subject, Trap, Violation, Workload};

clause! {
    /// After a reopen output goes to a new file at the old path, and the renamed one stays as it is.
    goes_on_in_a_new_file = "log.reopen.goes-on-in-a-new-file", ReopenLog, needs [LogReopen]
}
async fn goes_on_in_a_new_file(bench: &Bench) -> Checked {
    let container = ticking(bench).await?;
    let log = bench.log_path(container.id());
    let old = rotated(&log, 1)?;
    bench.runtime().reopen_log(container.id()).await?;
    ensure!(log.exists(), "there is no file at the log's path after the reopen");
    let before = fs::read(&old).map_err(|error| Violation::host("the renamed log", &error))?;
    until_ticks(&[&log], 3).await?;
    let after = fs::read(&old).map_err(|error| Violation::host("the renamed log", &error))?;
    ensure!(before == after, "the renamed log has changed after the reopen");
    Ok(())
}

clause! {
    /// Nothing that the program prints while its log is rotated is lost or there twice.
    loses_nothing = "log.reopen.loses-nothing", ReopenLog, needs [LogReopen], deadline 60
}
async fn loses_nothing(bench: &Bench) -> Checked {
    let container = bench.running(&Workload::ticks(Duration::from_millis(3))).await?;
    let log = bench.log_path(container.id());
    let mut files = Vec::new();
    for number in 1..=5 {
        until_ticks(&[&log], 5).await?;
        files.push(rotated(&log, number)?);
        bench.runtime().reopen_log(container.id()).await?;
    }
    files.push(log);
    ends_unbroken(&container, &files).await
}

clause! {
    /// A reopen while the path still is the open file does nothing.
    changes_nothing_without_a_rename = "log.reopen.changes-nothing-without-a-rename", ReopenLog, needs [LogReopen]
}
async fn changes_nothing_without_a_rename(bench: &Bench) -> Checked {
    let container = ticking(bench).await?;
    let log = bench.log_path(container.id());
    let inode = || fs::metadata(&log).map(|log| log.ino()).map_err(|error| Violation::host("the log", &error));
    let before = inode()?;
    for _ in 0..3 {
        bench.runtime().reopen_log(container.id()).await?;
        ensure_eq!(inode()?, before, "the inode of the log");
        let ticks = ticks(&[&log])?.len();
        until_ticks(&[&log], ticks + 2).await?;
    }
    ends_unbroken(&container, &[log]).await
}

clause! {
    /// Any number of callers may reopen a log at once.
    at_once_is_safe = "log.reopen.at-once-is-safe", ReopenLog, needs [LogReopen], deadline 60
}
async fn at_once_is_safe(bench: &Bench) -> Checked {
    let container = bench.running(&Workload::ticks(Duration::from_millis(3))).await?;
    let log = bench.log_path(container.id());
    let mut files = Vec::new();
    for number in 1..=3 {
        until_ticks(&[&log], 5).await?;
        files.push(rotated(&log, number)?);
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (runtime, id) = (bench.runtime(), container.id().clone());
                tokio::spawn(async move { runtime.reopen_log(&id).await })
            })
            .collect();
        for caller in callers {
            caller.await.map_err(|error| Violation::new(format!("a reopen panicked: {error}")))??;
        }
    }
    files.push(log);
    ends_unbroken(&container, &files).await
}

clause! {
    /// A reopen works while a stop grants its grace, and does not wait for the end.
    works_during_the_grace = "log.reopen.works-during-the-grace", ReopenLog, needs [LogReopen], deadline 60
}
async fn works_during_the_grace(bench: &Bench) -> Checked {
    let period = Duration::from_millis(20);
    let program = Workload::new([Step::Trap(15, Trap::Ignore), Step::Tick(period)]);
    let container = bench.running(&program).await?;
    let log = bench.log_path(container.id());
    until_ticks(&[&log], 1).await?;
    let stop = container.stopping(Duration::from_secs(600));
    while !container.state().await?.stopping {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rotated(&log, 1)?;
    let runtime = bench.runtime();
    let reopened = tokio::time::timeout(Duration::from_secs(20), runtime.reopen_log(container.id()));
    let Ok(reopened) = reopened.await else { return Err(Violation::new("the reopen waits for the stop")) };
    reopened?;
    container.must_be(ContainerStatus::Running).await?;
    until_ticks(&[&log], 2).await?;
    container.stop(Duration::ZERO).await?;
    stop.await.map_err(|error| Violation::new(format!("the stop panicked: {error}")))??;
    Ok(())
}

clause! {
    /// A reopen of the log of a stopped container is refused with `WrongState`.
    stopped_is_refused = "log.reopen.stopped-is-refused", ReopenLog, needs [LogReopen]
}
async fn stopped_is_refused(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(7)).await?;
    let reopened = bench.runtime().reopen_log(container.id()).await;
    refused!(reopened, ErrorKind::WrongState { is: ContainerStatus::Stopped, .. }, "a reopen after the end");
    Ok(())
}

/// A container that prints `tick N` all the time, and has begun to.
async fn ticking(bench: &Bench) -> Checked<Subject<'_>> {
    let container = bench.running(&Workload::ticks(Duration::from_millis(20))).await?;
    until_ticks(&[&bench.log_path(container.id())], 3).await?;
    Ok(container)
}

/// Renames a log, as its owner does before a reopen.
fn rotated(log: &Path, number: u32) -> Checked<PathBuf> {
    let old = log.with_extension(format!("log.{number}"));
    fs::rename(log, &old).map_err(|error| Violation::host("the rename of the log", &error))?;
    Ok(old)
}

/// Ends the program and breaks the clause unless these files, the oldest first, have every tick once and in order.
async fn ends_unbroken(container: &Subject<'_>, files: &[PathBuf]) -> Checked {
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    if let Some(newest) = files.last() {
        until_ticks(&[newest], 5).await?;
    }
    container.stop(Duration::ZERO).await?;
    for (at, tick) in ticks(&files)?.into_iter().enumerate() {
        ensure_eq!(tick, at + 1, "the next tick in the logs");
    }
    Ok(())
}

async fn until_ticks(files: &[&Path], count: usize) -> Checked {
    for _ in 0..4000 {
        if ticks(files)?.len() >= count {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(Violation::new(format!("there are {} of {count} ticks in the log", ticks(files)?.len())))
}

/// The numbers of the ticks in these logs. A record that is being written does not count, nor does a line of which a part
/// is still to come: a log is written as it was read, which need not be by lines.
fn ticks(files: &[&Path]) -> Checked<Vec<usize>> {
    let mut printed = String::new();
    for file in files {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.map_err(|error| Violation::host(file.display(), &error))?,
        };
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line = line.trim_end_matches('\n');
            let (piece, end) = match (line.split_once(" stdout F "), line.split_once(" stdout P ")) {
                (Some((_, piece)), _) => (piece, "\n"),
                (None, Some((_, piece))) => (piece, ""),
                (None, None) => return Err(Violation::new(format!("this is no record: {line:?}"))),
            };
            printed.extend([piece, end]);
        }
    }
    let whole = printed.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let number = |line: &str| line.strip_prefix("tick ").and_then(|number| number.parse().ok());
    whole.map(|line| number(line).ok_or_else(|| Violation::new(format!("this is no tick: {line:?}")))).collect()
}
