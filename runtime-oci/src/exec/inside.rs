//! Commands in a sandbox. The host sees only a process that waits for such a command; the command and what it started
//! are found and killed through the runtime.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use runtime_api::{Result, Signal};
use runtime_host::process::{Identity, kill_tree};

use crate::backend::Backend;
use crate::command::CommandLine;
use crate::conmon::pid_in;
use crate::record::Record;

/// How long one question or signal may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the runtime may take to tell the pid of a command that it began.
const BEGINNING: Duration = Duration::from_secs(2);
/// How often a tree is looked at for what it started meanwhile.
const ROUNDS: usize = 16;

/// How the command of one exec, or of one session, is reached.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    /// The runtime's command line before the verb.
    runtime: CommandLine,
    id: String,
    /// The process that is the container, for the host. Once it is gone so is all that was in it.
    sandbox: Option<Identity>,
    /// Where the runtime writes the command's pid inside.
    pid_file: PathBuf,
}

impl Inside {
    /// The command of an exec whose directory is `place`.
    pub(crate) fn of(backend: &Backend, record: &Record, place: &Path) -> Result<Self> {
        Ok(Self {
            runtime: backend.command(&record.id, &place.join("kill-log"))?,
            id: record.id.to_string(),
            sandbox: record.init,
            pid_file: pid_file(place),
        })
    }

    pub(super) fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    /// Sends the command a signal. One that is gone by now needs none.
    pub(crate) async fn tell(&self, signal: Signal) {
        if let Some(command) = pid_in(&self.pid_file) {
            self.signal(command, signal.number()).await;
        }
    }

    /// Ends the command with all its descendants, and the processes that begin it: while one of them lives the pid of the
    /// command may still come, so they are ended after it.
    pub(crate) async fn end(&self, beginning: &[Identity]) {
        let told = self.told_pid(beginning).await;
        if let Some(command) = told {
            self.kill_tree(command).await;
        }
        for each in beginning {
            kill_tree(*each);
        }
        // Told at the last moment.
        if told.is_none()
            && let Some(command) = pid_in(&self.pid_file)
        {
            self.kill_tree(command).await;
        }
    }

    /// Each process is stopped first, so that a program that forks all the time cannot outrun the walk.
    async fn kill_tree(&self, root: i32) {
        let mut stopped: Vec<i32> = Vec::new();
        for _ in 0..ROUNDS {
            let found = below(&self.processes().await, root);
            let fresh: Vec<_> = found.into_iter().filter(|pid| !stopped.contains(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            for pid in fresh {
                self.signal(pid, STOP).await;
                stopped.push(pid);
            }
        }
        for pid in stopped {
            self.signal(pid, Signal::KILL.number()).await;
        }
    }

    /// The command's pid inside, once it is known.
    async fn told_pid(&self, beginning: &[Identity]) -> Option<i32> {
        let deadline = Instant::now() + BEGINNING;
        loop {
            let begins = beginning.iter().any(|each| each.lives()) && Instant::now() < deadline;
            match pid_in(&self.pid_file) {
                None if begins => sleep(Duration::from_millis(10)).await,
                known => return known,
            }
        }
    }

    /// The table of processes; empty once the sandbox is gone.
    async fn processes(&self) -> String {
        if !self.sandbox.is_some_and(Identity::lives) {
            return String::new();
        }
        let done = self.runtime.clone().args(["ps", &self.id]).run(LIMIT).await;
        done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default()
    }

    /// A process that is gone by now needs no signal.
    async fn signal(&self, pid: i32, signal: i32) {
        if !self.sandbox.is_some_and(Identity::lives) {
            return;
        }
        let (pid, signal) = (pid.to_string(), signal.to_string());
        let line = self.runtime.clone().args(["kill", "--pid", &pid, &self.id, &signal]);
        if let Err(error) = line.run(LIMIT).await {
            tracing::warn!(id = %self.id, %pid, error = %error.report(), "a process of an exec gets no signal");
        }
    }
}

/// Where the runtime writes the pid inside of the command whose directory is `place`.
pub(crate) fn pid_file(place: &Path) -> PathBuf {
    place.join("inner-pid")
}

const STOP: i32 = 19;

/// A process and everything below it, from a table whose first line names its columns.
fn below(table: &str, root: i32) -> Vec<i32> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let heading = lines.next().unwrap_or_default();
    let column = |name: &str| heading.iter().position(|word| *word == name);
    let (Some(pid), Some(parent)) = (column("PID"), column("PPID")) else { return Vec::new() };
    let number = |row: &Vec<&str>, at: usize| row.get(at)?.parse::<i32>().ok();
    let all: Vec<_> = lines.filter_map(|row| Some((number(&row, pid)?, number(&row, parent)?))).collect();
    let mut found: Vec<_> = all.iter().filter(|(pid, _)| *pid == root).map(|(pid, _)| *pid).collect();
    let mut next = 0;
    while let Some(of) = found.get(next).copied() {
        next += 1;
        found.extend(all.iter().filter(|(pid, parent)| *parent == of && *pid != root).map(|(pid, _)| *pid));
    }
    found
}

impl Backend {
    /// Ends an exec whose owner is dead. `runtimes` are the processes that begin it.
    pub(crate) async fn end_orphan_inside(&self, record: &Record, place: &Path, runtimes: &[Identity]) {
        match Inside::of(self, record, place) {
            Ok(inside) => inside.end(runtimes).await,
            Err(error) => {
                tracing::warn!(id = %record.id, error = %error.report(), "an exec goes on, and nobody waits for it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_from_the_table() {
        let table = "UID       PID       PPID      C         TTY       STIME     TIME      CMD\n\
                     0         1         0         0         ?         15:24     0s        init\n\
                     0         2         0         0         ?         15:25     0s        sh\n\
                     0         3         2         0         ?         15:25     0s        a b\n\
                     0         4         3         0         ?         15:25     0s        c\n\
                     0         5         1         0         ?         15:25     0s        other\n";
        assert_eq!(below(table, 2), [2, 3, 4]);
        assert_eq!(below(table, 9), [] as [i32; 0]);
        assert_eq!(below("", 2), [] as [i32; 0]);
        assert_eq!(below("no columns that we know\n1 2 3\n", 2), [] as [i32; 0]);
    }
}
