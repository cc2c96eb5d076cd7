//! Exec: the runtime is run directly, detached and with pipes of ours. No monitor is in between, only the small process
//! of `reaper.rs` that collects the command's code.
//!
//! Each exec has a directory below its container, with its owner and the pid of its command. When the caller goes away,
//! at the time limit, or at the next open after the owner died, the command itself is killed with its descendants.
//! Killing the runtime's process alone would leave the command running.

mod settings;

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::time::{Instant, timeout};

use runtime_api::{
    ContainerId, ContainerStatus, Error, ErrorKind, ExecEnd, ExecOutcome, ExecSyncRequest, Operation,
    ProcessRequest, Result,
};

use crate::backend::{Backend, Locked};
use crate::command::{CommandLine, code_of};
use crate::complaint;
use crate::conmon::pid_in;
use crate::layout::ContainerDir;
use crate::observe;
use crate::process::{Identity, kill_tree};
use crate::record::cannot_write;
use settings::{check, merged, read_process};

/// How long output may still come after the command has ended, from children that hold its pipes.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a killed tree may take to be gone.
const NOTICE: Duration = Duration::from_secs(2);

impl Backend {
    pub(crate) async fn exec_sync(&self, id: &ContainerId, request: ExecSyncRequest) -> Result<ExecOutcome> {
        let named = |error: Error| error.during(Operation::ExecSync).on(format_args!("container \"{id}\""));
        check(&request.process, request.timeout).map_err(named)?;
        let begun = Instant::now();
        // Begun under the lock: a stop that turns to KILL either sees this exec or has refused it.
        let (locked, _) = self.admit(Operation::ExecSync, id).await?;
        if observe::is_being_killed(&locked.record) {
            let allowed = &[ContainerStatus::Running];
            return Err(named(Error::new(ErrorKind::WrongState {
                is: ContainerStatus::Running,
                stopping: true,
                allowed,
            })));
        }
        let mut running = self.begin_exec(&locked, id, &request.process).map_err(named)?;
        let dir = locked.dir.clone();
        drop(locked);
        let mut output = Output::new(request.output_limit);
        let left = request.timeout.map(|limit| limit.saturating_sub(begun.elapsed()));
        let status =
            match running.collect(&mut output, left, self.config.exec_timeout).await.map_err(named)? {
                Collected::Ended(status) => status,
                Collected::TimedOut => {
                    running.kill().await;
                    return Ok(output.outcome(ExecEnd::TimedOut));
                }
                Collected::NeverBegan => {
                    running.kill().await;
                    let late = Error::new(ErrorKind::TimedOut(self.config.exec_timeout));
                    return Err(named(late.with_command(running.line.detail(None, ""))));
                }
            };
        if status.signal().is_some() {
            // Somebody killed the process that collects the code, so the command has no one to tell it to.
            self.kill_command(&dir, &running);
            let gone = ErrorKind::Internal("the process that waits for the exec was killed".into());
            return Err(named(Error::new(gone)));
        }
        let code = code_of(status);
        if running.never_ran(code) {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            let message = complaint::account(Some(&running.log()), &stderr);
            let detail = running.line.detail(Some(code), stderr);
            return Err(named(self.why_not_run(id, &dir, message).await.with_command(detail)));
        }
        Ok(output.outcome(ExecEnd::Exited(code)))
    }

    fn begin_exec(&self, locked: &Locked, id: &ContainerId, process: &ProcessRequest) -> Result<Running> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // The owner is in the name, so that there is no moment at which it cannot be told.
        let place = locked.dir.execs().join(format!("{}.{}.{number}", self.own.pid, self.own.start));
        std::fs::create_dir_all(&place).map_err(|error| cannot_write(&place, error))?;
        let guard = Place(place.clone());
        let write = |name: &str, content: &Value| {
            let path = place.join(name);
            std::fs::write(&path, content.to_string()).map_err(|error| cannot_write(&path, error))
        };
        let own = read_process(&locked.dir)?;
        write("process.json", &merged(own, process))?;
        let line = self
            .command(&place.join("log"))?
            .args(["exec", "--detach", "--pid-file"])
            .arg(place.join("pid"))
            .arg("--process")
            .arg(place.join("process.json"))
            .arg(id.as_str());
        let child = line.spawn_reaped(&place.join("pid"))?;
        let reaper = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Identity::of);
        Ok(Running { line, child, reaper, over: false, place: guard })
    }

    /// Kills a command that has lost its parent: by its pid file, if that process is still the container's.
    fn kill_command(&self, dir: &ContainerDir, running: &Running) {
        let Ok(Some(record)) = crate::record::Record::read(dir) else { return };
        kill_member(&running.pid_file(), &self.members(&record), record.init);
    }

    /// The command did not run: either the container is no longer running, or the runtime has a reason of its own.
    async fn why_not_run(&self, id: &ContainerId, dir: &ContainerDir, message: String) -> Error {
        let refusal = self.rejected(message);
        match self.state(id).await {
            Ok(state) if state.status == ContainerStatus::Running => refusal,
            Ok(state) => match Operation::ExecSync.admit(id, state.status, state.stopping) {
                Err(wrong_state) => wrong_state,
                Ok(()) => refusal,
            },
            Err(gone) if gone.is_not_found() && !dir.path().exists() => {
                Error::not_found(Operation::ExecSync, id)
            }
            Err(_) => refusal,
        }
    }

    /// Ends the execs whose owner is dead. Nobody reads their output any more, and nobody would ever end them.
    pub(crate) fn end_orphaned_execs(&self, dir: &ContainerDir) {
        let Ok(execs) = std::fs::read_dir(dir.execs()) else { return };
        let Ok(Some(record)) = crate::record::Record::read(dir) else { return };
        let ours = self.members(&record);
        for entry in execs.flatten() {
            let owner = entry.file_name().to_str().and_then(owner_of);
            if owner.is_some_and(Identity::lives) {
                continue;
            }
            kill_member(&entry.path().join("pid"), &ours, record.init);
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Kills the command that a pid file names. The pid may be somebody else's by now: only a process of the container is
/// meant, and never its init.
fn kill_member(pid_file: &Path, members: &[Identity], init: Option<Identity>) {
    let command = pid_in(pid_file).and_then(Identity::of);
    if let Some(command) = command.filter(|one| members.contains(one) && Some(*one) != init) {
        kill_tree(command);
    }
}

/// Whose exec it is, from the name of its directory.
fn owner_of(name: &str) -> Option<Identity> {
    let mut parts = name.split('.');
    Some(Identity { pid: parts.next()?.parse().ok()?, start: parts.next()?.parse().ok()? })
}

/// An exec's directory, removed when the exec is over.
#[derive(Debug)]
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How the wait for an exec ended.
enum Collected {
    Ended(ExitStatus),
    TimedOut,
    NeverBegan,
}

/// An exec at work. Dropped before its end it takes its command and all descendants with it.
#[derive(Debug)]
struct Running {
    line: CommandLine,
    child: Child,
    /// The parent of the runtime, and of the command once the runtime has left.
    reaper: Option<Identity>,
    over: bool,
    place: Place,
}

impl Running {
    fn log(&self) -> PathBuf {
        self.place.0.join("log")
    }

    fn pid_file(&self) -> PathBuf {
        self.place.0.join("pid")
    }

    /// Reads both streams until the command has ended, for at most `limit`; the command must run within `start_limit`.
    async fn collect(
        &mut self,
        output: &mut Output,
        limit: Option<Duration>,
        start_limit: Duration,
    ) -> Result<Collected> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let pid_file = self.pid_file();
        let child = &mut self.child;
        let all = async {
            let mut reading = std::pin::pin!(output.read(stdout, stderr));
            let mut begun = std::pin::pin!(tokio::time::sleep(start_limit));
            let (mut open, mut watching) = (true, true);
            loop {
                tokio::select! {
                    () = &mut reading, if open => open = false,
                    status = child.wait() => {
                        if open {
                            let _ = timeout(DRAIN, &mut reading).await;
                        }
                        return status.map(Collected::Ended);
                    }
                    () = &mut begun, if watching => {
                        watching = false;
                        if pid_in(&pid_file).is_none() {
                            return Ok(Collected::NeverBegan);
                        }
                    }
                }
            }
        };
        let ended = match limit {
            None => all.await,
            Some(limit) => timeout(limit, all).await.unwrap_or(Ok(Collected::TimedOut)),
        };
        self.over = matches!(ended, Ok(Collected::Ended(_)));
        ended.map_err(|error| {
            Error::new(ErrorKind::Internal("the end of an exec cannot be read".into())).caused_by(error)
        })
    }

    /// Whether the runtime failed before it ran the command: it writes the pid file once the command runs.
    fn never_ran(&self, code: i32) -> bool {
        code != 0 && pid_in(&self.pid_file()).is_none()
    }

    /// Kills the command with its descendants, and waits a moment for their parent to notice.
    async fn kill(&mut self) {
        self.kill_now();
        let _ = timeout(NOTICE, self.child.wait()).await;
        self.over = true;
    }

    /// The reaper is our child and not yet reaped, so its pid is its own; the command is in its tree.
    fn kill_now(&self) {
        if let Some(reaper) = self.reaper {
            kill_tree(reaper);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.over {
            self.kill_now();
        }
    }
}

/// What an exec wrote, up to a limit for both streams together.
#[derive(Debug)]
struct Output {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    limit: usize,
    truncated: bool,
}

impl Output {
    fn new(limit: usize) -> Self {
        Self { stdout: Vec::new(), stderr: Vec::new(), limit, truncated: false }
    }

    fn outcome(self, end: ExecEnd) -> ExecOutcome {
        let mut outcome = ExecOutcome::new(end);
        outcome.stdout = self.stdout;
        outcome.stderr = self.stderr;
        outcome.truncated = self.truncated;
        outcome
    }

    async fn read(&mut self, stdout: Option<impl AsyncRead + Unpin>, stderr: Option<impl AsyncRead + Unpin>) {
        let (Some(mut stdout), Some(mut stderr)) = (stdout, stderr) else { return };
        let (mut out_open, mut err_open) = (true, true);
        let (mut out, mut err) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
        while out_open || err_open {
            let (stream, read, chunk) = tokio::select! {
                read = stdout.read(&mut out), if out_open => (&mut out_open, read, (&out, true)),
                read = stderr.read(&mut err), if err_open => (&mut err_open, read, (&err, false)),
            };
            match read {
                Ok(n @ 1..) => self.add(&chunk.0[..n], chunk.1),
                // A broken pipe ends a stream like its end does.
                Ok(0) | Err(_) => *stream = false,
            }
        }
    }

    fn add(&mut self, chunk: &[u8], is_stdout: bool) {
        let room = self.limit - (self.stdout.len() + self.stderr.len());
        let kept = &chunk[..chunk.len().min(room)];
        self.truncated |= kept.len() < chunk.len();
        if is_stdout { self.stdout.extend_from_slice(kept) } else { self.stderr.extend_from_slice(kept) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_beyond_the_limit_is_counted_as_truncated() {
        let mut output = Output::new(5);
        output.add(b"abc", true);
        output.add(b"de", false);
        assert!(!output.truncated);
        output.add(b"f", true);
        assert!(output.truncated);
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"abc"[..], &b"de"[..]));
    }
}
