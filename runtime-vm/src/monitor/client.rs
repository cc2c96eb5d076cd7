//! The caller's side: starting a monitor, and asking it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use runtime_api::{Error, ErrorKind, Peer, Result};
use runtime_host::process::Identity;

use super::control::{LINE_LIMIT, line};
use super::leftover::remove_leftovers;
use super::order::{Report, StartOrder, Started};
use super::request::{self, Answer, MonitorState, Request};
use super::socket::Short;
use super::{Fifos, Key, ProgramOrder};

/// How long the monitor may take to answer; longer than it gives itself.
const ANSWER: Duration = Duration::from_secs(20);
/// How much longer than its order's limits a monitor may take to report: it undoes what it began.
const SLACK: Duration = Duration::from_secs(60);
/// How long a monitor that was given up may take to undo everything.
const UNDOING: Duration = Duration::from_secs(60);
/// How much of a monitor's complaints is shown.
const COMPLAINTS: usize = 4096;

/// Which process the monitor is, from its first moment on.
const SPAWNED: &str = "monitor.json";

/// The monitor that was started in a directory, whether or not it came to a report.
pub(crate) fn spawned_in(dir: &Path) -> Option<Identity> {
    runtime_host::document::read(&dir.join(SPAWNED), 0, |_: &Identity| 0).ok().flatten()
}

/// A way to the monitor that has a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorClient {
    dir: PathBuf,
}

impl MonitorClient {
    /// The monitor with this directory, whether or not there is one.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The monitor's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts a monitor, which starts its shim. It goes on only once [`Starting::go_on`] was called: until then it undoes
    /// everything when the answer is dropped, or when this process dies. `program` is what [`find`](super::find::find)
    /// gives; `dir` must be there, and be empty.
    ///
    /// # Errors
    /// `Unavailable` when the program cannot be run; `TimedOut` when it does not report; `PeerLost` when it ends without a
    /// report; else what it reports.
    pub async fn spawn(program: &Path, dir: &Path, order: &StartOrder) -> Result<Starting> {
        let named = |error: Error| {
            error.during_step("start the monitor of").on(format_args!(
                "shim {} \"{}\"",
                order.shim.display(),
                order.id
            ))
        };
        order.write(dir).map_err(named)?;
        let mut starting = start(program, dir, order).map_err(named)?;
        let limit = order.start_limit.saturating_add(order.dial_limit).saturating_add(SLACK);
        let said = match &mut starting.child.stdout {
            Some(stdout) => line(stdout, request::REQUEST, limit).await,
            None => Err(Error::new(ErrorKind::Internal("the monitor has no standard output".into()))),
        };
        let report = match said {
            Ok(line) => serde_json::from_slice(&line).map_err(|error| {
                Error::new(ErrorKind::Internal("the monitor's report makes no sense".into())).caused_by(error)
            }),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut(_)) => Err(error),
            Err(_) => Err(starting.ended_early().await),
        };
        match report {
            Ok(Report::Started(started)) => Ok(Starting { started: Some(started), ..starting }),
            Ok(Report::Failed(refusal)) => {
                starting.undo().await;
                Err(named(refusal.into_error()))
            }
            Err(error) => {
                starting.undo().await;
                Err(named(error))
            }
        }
    }

    /// Has everything made that a program's streams need: its fifos, its log, its attach socket. It is asked for before the
    /// shim is told of the program.
    ///
    /// # Errors
    /// `AlreadyExists` when the monitor has such a program; `ConfigInvalid` for a log or a directory that cannot be used;
    /// `PeerLost` when there is no monitor; `TimedOut`.
    pub async fn add(&self, order: &ProgramOrder) -> Result<Fifos> {
        let key = order.key.clone();
        match self.ask("add", Some(&key), Request::Add(order.clone())).await? {
            Answer::Added(fifos) => Ok(fifos),
            other => Err(self.strange("add", &other)),
        }
    }

    /// Has the end of a program waited for and written down. It is asked for as soon as the shim knows the program; asked
    /// again, nothing happens.
    ///
    /// # Errors
    /// `NotFound` when the monitor has no such program; `PeerLost`, `TimedOut`.
    pub async fn watch(&self, key: &Key) -> Result<()> {
        self.tell("watch", key, Request::Watch(key.clone())).await
    }

    /// Has the log's path opened anew. The answer comes once that is done. Where the path still leads to the file that is
    /// open, or there is no log, nothing happens.
    ///
    /// # Errors
    /// `NotFound` when the monitor has no such program; `ConfigInvalid` when there can be no log at its path, and the old
    /// one is written on; `PeerLost`, `TimedOut`.
    pub async fn reopen_log(&self, key: &Key) -> Result<()> {
        self.tell("reopen the log of", key, Request::ReopenLog(key.clone())).await
    }

    /// Ends a program's input once the program has read what was given. The answer comes when the shim has been told.
    ///
    /// # Errors
    /// `NotFound` when the monitor has no such program; what the shim says; `TimedOut` when the program does not read, and
    /// the input is ended when it has; `PeerLost`.
    pub async fn close_stdin(&self, key: &Key) -> Result<()> {
        self.tell("close the input of", key, Request::CloseStdin(key.clone())).await
    }

    /// Has a program let go of, whatever it does. Its fifos and its socket are gone when this comes back; its clients get
    /// what is queued for them. An unknown one is Ok.
    ///
    /// # Errors
    /// `PeerLost`, `TimedOut`.
    pub async fn remove(&self, key: &Key) -> Result<()> {
        self.tell("remove", key, Request::Remove(key.clone())).await
    }

    /// Asks how everything stands.
    ///
    /// # Errors
    /// `PeerLost`, `TimedOut`.
    pub async fn status(&self) -> Result<MonitorState> {
        match self.ask("ask", None, Request::Status).await? {
            Answer::Status(state) => Ok(state),
            other => Err(self.strange("ask", &other)),
        }
    }

    /// Lets the monitor go. It lets go of its programs first, and does nothing to the shim.
    ///
    /// # Errors
    /// `PeerLost` when there is none; `TimedOut`.
    pub async fn end(&self) -> Result<()> {
        match self.ask("end", None, Request::End).await? {
            Answer::Done => Ok(()),
            other => Err(self.strange("end", &other)),
        }
    }

    async fn tell(&self, step: &'static str, key: &Key, request: Request) -> Result<()> {
        match self.ask(step, Some(key), request).await? {
            Answer::Done => Ok(()),
            other => Err(self.strange(step, &other)),
        }
    }

    async fn ask(&self, step: &'static str, key: Option<&Key>, request: Request) -> Result<Answer> {
        let named = |error: Error| match (error.subject(), key) {
            // What the monitor itself complains about is more than which program it was for.
            (Some(_), _) => error.during_step(step.split(' ').next().unwrap_or(step)),
            (None, Some(key)) => error.during_step(step).on(key),
            (None, None) => error.during_step(step).on(self.name()),
        };
        match self.exchange(&request).await {
            Ok(Answer::Refused(refusal)) => Err(named(refusal.into_error())),
            Ok(answer) => Ok(answer),
            Err(error) => Err(named(error)),
        }
    }

    async fn exchange(&self, request: &Request) -> Result<Answer> {
        let lost = |error: std::io::Error| {
            Error::new(ErrorKind::PeerLost(Peer::Monitor)).on(self.name()).caused_by(error).hint(
                "nobody carries the output of its programs any more; they can still be stopped and deleted",
            )
        };
        let mut words = serde_json::to_vec(request).map_err(|error| {
            Error::new(ErrorKind::Internal("a request cannot be written".into())).caused_by(error)
        })?;
        words.push(b'\n');
        let asking = async {
            let short = Short::to(&self.dir.join("control")).map_err(lost)?;
            let mut stream = UnixStream::connect(short.path()).await.map_err(lost)?;
            stream.write_all(&words).await.map_err(lost)?;
            Ok::<_, Error>(stream)
        };
        let Ok(asked) = timeout(LINE_LIMIT, asking).await else {
            return Err(Error::new(ErrorKind::TimedOut(LINE_LIMIT)).on(self.name()));
        };
        let answer =
            line(&mut asked?, request::ANSWER, ANSWER).await.map_err(|error| match error.kind() {
                ErrorKind::TimedOut(_) => error.on(self.name()),
                // It was there, and went away instead of answering.
                _ => lost(std::io::ErrorKind::UnexpectedEof.into()),
            })?;
        serde_json::from_slice(&answer).map_err(|error| {
            Error::new(ErrorKind::Internal("the monitor's answer makes no sense".into()))
                .on(self.name())
                .caused_by(error)
        })
    }

    fn strange(&self, step: &'static str, answer: &Answer) -> Error {
        let what = format!("the monitor gave an answer to another request: {answer:?}");
        Error::new(ErrorKind::Internal(what)).during_step(step).on(self.name())
    }

    fn name(&self) -> String {
        format!("monitor {}", self.dir.display())
    }
}

fn start(program: &Path, dir: &Path, order: &StartOrder) -> Result<Starting> {
    let log = dir.join("monitor.log");
    let complaints = File::options().append(true).create(true).open(&log);
    let complaints = complaints.map_err(|error| runtime_host::document::cannot_write(&log, error))?;
    let mut command = Command::new(program);
    command.arg(dir).current_dir("/").kill_on_drop(false);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
    let mut child = command.spawn().map_err(|error| {
        Error::new(ErrorKind::Unavailable(format!("the program {} cannot be run", program.display())))
            .caused_by(error)
            .hint("install it, or correct the option monitor.path")
    })?;
    if let Some(monitor) = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Identity::of)
        && let Err(error) = runtime_host::document::write(&dir.join(SPAWNED), &monitor)
    {
        tracing::warn!(error = error.report(), "a monitor is not on file until it reports");
    }
    let stdin = child.stdin.take();
    Ok(Starting { dir: dir.to_owned(), order: order.clone(), child, stdin, started: None })
}

/// A monitor that has started its shim and waits for the word to go on. Dropped, it undoes everything.
#[derive(Debug)]
pub struct Starting {
    dir: PathBuf,
    order: StartOrder,
    child: Child,
    stdin: Option<ChildStdin>,
    started: Option<Started>,
}

impl Starting {
    /// What was started.
    ///
    /// # Panics
    /// Never: nobody has one of these before there was a report.
    #[must_use]
    pub fn started(&self) -> &Started {
        let Some(started) = &self.started else { unreachable!("it is given out after the report") };
        started
    }

    /// Tells the monitor to go on without us. From now on it is nobody's child.
    ///
    /// # Errors
    /// `PeerLost` when it is gone. What it began is undone.
    pub async fn go_on(mut self) -> Result<(MonitorClient, Started)> {
        let started = self.started().clone();
        let told = match &mut self.stdin {
            Some(stdin) => timeout(LINE_LIMIT, stdin.write_all(b"\n")).await,
            None => Ok(Ok(())),
        };
        let error = match told {
            Ok(Ok(())) => return Ok((MonitorClient::at(&self.dir), started)),
            Ok(Err(error)) => error,
            Err(late) => late.into(),
        };
        let error = Error::new(ErrorKind::PeerLost(Peer::Monitor))
            .during_step("start")
            .on(format_args!("monitor {}", self.dir.display()))
            .caused_by(error);
        self.undo().await;
        Err(error)
    }

    /// Has everything undone, and waits until it is.
    pub async fn undo(mut self) {
        self.stdin = None;
        let ended = timeout(UNDOING, self.child.wait()).await;
        let killed = match ended {
            Ok(status) => status.is_ok_and(|status| status.code().is_none()),
            Err(_late) => {
                tracing::warn!(monitor = %self.dir.display(), "a monitor does not undo its start; it is killed");
                let _ = self.child.start_kill();
                let _ = timeout(LINE_LIMIT, self.child.wait()).await;
                true
            }
        };
        if killed {
            // Whatever it had started by then is nobody's now.
            remove_leftovers(&self.dir, &self.order).await;
        }
    }

    /// Why a monitor ended that did not say so.
    async fn ended_early(&mut self) -> Error {
        let status = timeout(LINE_LIMIT, self.child.wait()).await;
        let code = status.ok().and_then(std::io::Result::ok).and_then(|status| status.code());
        let said = std::fs::read(self.dir.join("monitor.log")).unwrap_or_default();
        let tail = String::from_utf8_lossy(&said[said.len().saturating_sub(COMPLAINTS)..]).into_owned();
        let detail = runtime_api::CommandDetail::new(vec![super::find::PROGRAM.to_owned()], code, tail);
        Error::new(ErrorKind::PeerLost(Peer::Monitor)).with_command(detail)
    }
}
