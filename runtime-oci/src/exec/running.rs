//! An exec at work: how it begins, how its end is met, and how it is killed.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use runtime_api::{ContainerId, Error, ErrorKind, ProcessRequest, Result, WindowSize};
use runtime_host::document::cannot_write;
use runtime_host::exec::{Course, Input};
use runtime_host::process::{Identity, kill_tree};

use crate::backend::{Backend, Locked};
use crate::command::CommandLine;
use crate::conmon::pid_in;
use crate::dialect::Reach;

use super::LOST;
use super::inside::Inside;
use super::streams::Ends;
use super::terminal::Console;

/// How long a killed tree may take to be gone.
const NOTICE: Duration = Duration::from_secs(2);

/// What a command is given.
pub(super) struct Given<'a> {
    process: &'a ProcessRequest,
    input: bool,
    size: Option<WindowSize>,
    descriptors: Vec<Arc<OwnedFd>>,
}

impl<'a> Given<'a> {
    /// A command without input.
    pub(super) fn nothing(process: &'a ProcessRequest) -> Self {
        Self { process, input: false, size: None, descriptors: Vec::new() }
    }

    /// A command with a caller's input and open files.
    pub(super) fn new(process: &'a ProcessRequest, input: &Input, descriptors: Vec<Arc<OwnedFd>>) -> Self {
        let size = input.sizes.as_ref().and_then(|sizes| *sizes.borrow());
        Self { process, input: input.from.is_some(), size, descriptors }
    }
}

impl Backend {
    /// Starts the runtime for an exec in a container that is locked.
    pub(super) fn spawn_exec(
        &self,
        locked: &Locked,
        id: &ContainerId,
        given: &Given<'_>,
    ) -> Result<(Running, Ends)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // The owner is in the name, so that there is no moment at which it cannot be told.
        let path = locked.dir.execs().join(format!("{}.{}.{number}", self.own.pid, self.own.start));
        std::fs::create_dir_all(&path).map_err(|error| cannot_write(&path, error))?;
        let place = Place(path.clone());
        let write = |name: &str, content: &Value| {
            let file = path.join(name);
            std::fs::write(&file, content.to_string()).map_err(|error| cannot_write(&file, error))
        };
        write("process.json", &self.process_of(&locked.dir, given.process, given.size)?)?;
        let pid_file = path.join("pid");
        let inside = match locked.record.reach {
            Reach::Host => None,
            Reach::Runtime => Some(Inside::of(self, &locked.record, &path)?),
        };
        // A runtime with a sandbox leaves when its command does, whoever holds the command's pipes. Told to detach, one that
        // looks for the pid file in the moment in which a short command comes and goes takes the command for lost.
        let detached = inside.is_none() || given.process.terminal;
        let mut line = self.command(id, &place.log())?.arg("exec");
        if detached {
            line = line.arg("--detach");
        }
        line = line.arg("--pid-file").arg(&pid_file);
        if let Some(inside) = &inside {
            line = line.arg("--internal-pid-file").arg(inside.pid_file());
        }
        line = line.arg("--process").arg(path.join("process.json"));
        let console = if given.process.terminal { Some(Console::open(&path)?) } else { None };
        if let Some(console) = &console {
            line = line.arg("--console-socket").arg(console.address());
        }
        if !given.descriptors.is_empty() {
            line = line.arg(format!("--preserve-fds={}", given.descriptors.len()));
        }
        let line = line.arg(id.as_str());
        let reaped = detached.then_some(pid_file.as_path());
        let mut child = line.spawn_exec(reaped, given.input && console.is_none(), &given.descriptors)?;
        let ends = Ends::of(&mut child, console);
        let reaper = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Identity::of);
        let running = Running {
            line,
            child,
            reaper,
            over: false,
            start_limit: self.config.exec_timeout,
            course: course_of(pid_file.clone()),
            pid_file,
            inside,
            place: Some(place),
        };
        Ok((running, ends?))
    }
}

/// A command runs, or ran, once the runtime has written its pid.
fn course_of(pid_file: PathBuf) -> Course {
    Course::new(move || pid_in(&pid_file).is_some())
}

/// An exec's directory, removed when the exec is over.
#[derive(Debug)]
struct Place(PathBuf);

impl Place {
    fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How the wait for an exec ended.
pub(super) enum Met {
    /// The process that collects the code left with this status; and what the runtime itself said.
    Ended(ExitStatus, Vec<u8>),
    /// The time limit passed.
    TimedOut,
    /// The runtime did not run the command in time.
    NeverBegan,
}

/// Whether the process that collects the code was itself killed.
pub(super) fn by_signal(status: ExitStatus) -> bool {
    status.signal().is_some()
}

/// An exec at work. Dropped before its end it takes its command and all descendants with it.
#[derive(Debug)]
pub(super) struct Running {
    line: CommandLine,
    child: Child,
    /// The parent of the runtime, and of the command once the runtime has left.
    reaper: Option<Identity>,
    over: bool,
    start_limit: Duration,
    course: Course,
    /// Where the runtime writes the command's pid once it runs.
    pid_file: PathBuf,
    /// How the command is reached, where the host does not see it.
    inside: Option<Inside>,
    place: Option<Place>,
}

impl Running {
    pub(super) fn line(&self) -> &CommandLine {
        &self.line
    }

    pub(super) fn log(&self) -> PathBuf {
        self.place.as_ref().map(Place::log).unwrap_or_default()
    }

    /// Whether a code may be that of a waiter whose sandbox went away under it, and not the command's.
    pub(super) fn may_have_lost(&self, code: i32) -> bool {
        self.inside.is_some() && code == LOST
    }

    pub(super) fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    pub(super) fn course(&self) -> Course {
        self.course.clone()
    }

    /// Waits for the command, for at most `limit`, while its streams are carried. The command must run in time.
    pub(super) async fn attend(
        &mut self,
        carrying: impl Future<Output = Vec<u8>>,
        limit: Option<Duration>,
    ) -> Result<Met> {
        let mut carrying = pin!(carrying);
        let mut late = pin!(after(limit));
        let mut starting = pin!(sleep(self.start_limit));
        let (mut said, mut watching) = (None, true);
        loop {
            tokio::select! {
                all = &mut carrying, if said.is_none() => said = Some(all),
                status = self.child.wait() => {
                    self.over = status.is_ok();
                    let status = status.map_err(|error| {
                        let lost = ErrorKind::Internal("the end of an exec cannot be read".into());
                        Error::new(lost).caused_by(error)
                    })?;
                    self.course.tell_end();
                    let said = match said {
                        Some(said) => said,
                        None => carrying.await,
                    };
                    return Ok(Met::Ended(status, said));
                }
                () = &mut late => return Ok(Met::TimedOut),
                () = &mut starting, if watching => {
                    watching = false;
                    if !self.course.has_begun() {
                        return Ok(Met::NeverBegan);
                    }
                }
            }
        }
    }

    /// Whether the runtime failed before it ran the command: it writes the pid file once the command runs.
    pub(super) fn never_ran(&self, code: i32) -> bool {
        code != 0 && !self.course.has_begun()
    }

    /// Kills the command with its descendants, and waits a moment for their parent to notice.
    pub(super) async fn kill(&mut self) {
        if let Some(inside) = &self.inside {
            inside.end(self.reaper.as_slice()).await;
        }
        self.kill_now();
        let _ = timeout(NOTICE, self.child.wait()).await;
        self.over = true;
    }

    /// Kills a command that a runtime which failed had begun. On the host the reaper has done so.
    pub(super) async fn end_what_began(&self) {
        if let Some(inside) = &self.inside {
            inside.end(&[]).await;
        }
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
        if self.over {
            return;
        }
        let Some(inside) = self.inside.take() else {
            // The directory goes with the fields, after this: a reaper that finds no pid there takes the runtime for one
            // that began nothing.
            return self.kill_now();
        };
        let place = self.place.take();
        // The runtime is needed, and a drop cannot wait for it. A thread of its own goes on when the caller's tasks are
        // ended; when the whole process is, the next open finds the directory and ends the command.
        let reaper = self.reaper;
        std::thread::spawn(move || {
            let reaper = reaper.as_slice();
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(alone) => alone.block_on(inside.end(reaper)),
                Err(_) => reaper.iter().for_each(|each| drop(kill_tree(*each))),
            }
            drop(place);
        });
    }
}

/// Passes when the limit has; never without one.
async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}
