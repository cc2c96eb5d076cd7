//! The only place that starts a process.
//!
//! Nothing is inherited but what is named: the environment is cleared, standard streams are pipes or null, every other
//! descriptor is close-on-exec. Every run has a deadline and keeps a bounded part of what the command says.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping, FdMappingCollision};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use runtime_api::{CommandDetail, Error, ErrorKind, Result};
use runtime_host::apart::in_own_session;
use runtime_host::process::{Identity, kill_tree};

use crate::dialect::Dialect;
use crate::spawn::{Spawned, Start, spawn};
use crate::tries::Tries;

/// How much of standard error is kept.
const STDERR_TAIL: usize = 8 * 1024;
/// How much of standard output is kept: state and features documents are far smaller.
const STDOUT_LIMIT: usize = 1024 * 1024;
/// How long output may still come after a command has ended, from children that hold its pipes.
const DRAIN: Duration = Duration::from_secs(1);

/// The variables of ours that every command gets.
pub(crate) const PASSED: &[&str] = &["PATH", "XDG_RUNTIME_DIR"];

/// A command line with its environment.
#[derive(Clone, Debug)]
pub(crate) struct CommandLine {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    input: Option<Vec<u8>>,
    output: bool,
    dialects: &'static [&'static Dialect],
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Finished {
    /// 128 + n for signal n.
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl CommandLine {
    /// A program with the two variables that every command gets: `PATH`, by which runtimes find their helpers, and
    /// `XDG_RUNTIME_DIR`.
    pub(crate) fn new(program: impl Into<PathBuf>) -> Self {
        let env =
            PASSED.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?))).collect();
        Self {
            program: program.into(),
            args: Vec::new(),
            env,
            cwd: None,
            input: None,
            output: true,
            dialects: &[],
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable; the last one of a name counts.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.retain(|(known, _)| known != name.as_ref());
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub(crate) fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// What [`CommandLine::run`] writes to its standard input, which is empty otherwise.
    pub(crate) fn input(mut self, text: Vec<u8>) -> Self {
        self.input = Some(text);
        self
    }

    /// Standard output is of no interest to [`CommandLine::run`].
    pub(crate) fn without_output(mut self) -> Self {
        self.output = false;
        self
    }

    /// The dialects of which the program may speak one: [`CommandLine::run`] repeats it when it says that it did nothing.
    pub(crate) fn speaks(mut self, dialects: &'static [&'static Dialect]) -> Self {
        self.dialects = dialects;
        self
    }

    /// The command line as a person would type it.
    pub(crate) fn argv(&self) -> Vec<String> {
        let program = self.program.as_os_str();
        std::iter::once(program).chain(self.args.iter().map(OsString::as_os_str)).map(lossy).collect()
    }

    /// For errors.
    pub(crate) fn detail(&self, code: Option<i32>, stderr: impl Into<String>) -> CommandDetail {
        CommandDetail::new(self.argv(), code, stderr)
    }

    fn command(&self) -> Command {
        let mut command = self.lasting_command();
        // A group of its own: a Ctrl-C at our terminal is for us to pass on, not for the kernel.
        command.process_group(0).kill_on_drop(true);
        command
    }

    /// One that is in no group yet, and is not killed when it is dropped.
    fn lasting_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(k, v)| (k, v)));
        if let Some(cwd) = &self.cwd {
            command.current_dir(cwd);
        }
        command
    }

    fn start(&self, command: &mut Command) -> Result<Child> {
        command.spawn().map_err(|error| self.not_started(error))
    }

    fn not_started(&self, error: std::io::Error) -> Error {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::Unavailable("the binary does not exist".into()),
            std::io::ErrorKind::PermissionDenied => {
                ErrorKind::Unavailable("the binary cannot be executed".into())
            }
            _ => ErrorKind::Exhausted("a process cannot be started".into()),
        };
        Error::new(kind).with_command(self.detail(None, "")).caused_by(error)
    }

    /// Runs it to its end, again if it failed before it did anything. Dropping the future kills it.
    ///
    /// # Errors
    /// `Unavailable` when there is no such binary, `TimedOut` at the deadline (it is killed). A code that is not zero
    /// is no error here.
    pub(crate) async fn run(&self, limit: Duration) -> Result<Finished> {
        let mut tries = Tries::of(self.dialects);
        loop {
            let done = self.run_once(limit).await?;
            if done.code == 0 || !tries.again_after(&done.stderr).await {
                return Ok(done);
            }
        }
    }

    async fn run_once(&self, limit: Duration) -> Result<Finished> {
        let mut command = self.command();
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        let stdout = if self.output { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        let mut running = Foreground { child: self.start(&mut command)?, over: false };
        let child = &mut running.child;
        let mut stdout = Kept::first(STDOUT_LIMIT);
        let mut stderr = Kept::last(STDERR_TAIL);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let stdin = child.stdin.take();
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, &self.input) {
                // A command that does not read to the end tells by its code whether it was content.
                let _ = stdin.write_all(input).await;
            }
        };
        let ended = {
            let mut reading =
                std::pin::pin!(async { tokio::join!(feed, stdout.fill(out), stderr.fill(err)) });
            let all = async {
                tokio::select! {
                    _ = &mut reading => child.wait().await,
                    status = child.wait() => {
                        // A grandchild may hold the pipes for ever; the command itself has said what it had to say.
                        let _ = timeout(DRAIN, &mut reading).await;
                        status
                    }
                }
            };
            timeout(limit, all).await
        };
        let stderr = String::from_utf8_lossy(&stderr.bytes).into_owned();
        match ended {
            Ok(Ok(status)) => {
                running.over = true;
                Ok(Finished { code: code_of(status), stdout: stdout.bytes, stderr })
            }
            Ok(Err(error)) => Err(Error::new(ErrorKind::Internal("a command's end cannot be read".into()))
                .with_command(self.detail(None, stderr))
                .caused_by(error)),
            Err(_late) => {
                running.end().await;
                Err(Error::new(ErrorKind::TimedOut(limit)).with_command(self.detail(None, stderr)))
            }
        }
    }

    /// Runs it to its end, and lets it go on where nobody may cut it short: when the future is dropped, and when this
    /// process dies. What it says goes into a file, for a pipe would break with us.
    ///
    /// # Errors
    /// As [`CommandLine::run`].
    pub(crate) async fn run_lasting(&self, said: &Path, limit: Duration) -> Result<Finished> {
        let file =
            std::fs::File::create(said).map_err(|error| runtime_host::document::cannot_write(said, error))?;
        let mut command = self.lasting_command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        // While criu works something stands still in the command's group: our end must not make it hang up.
        in_own_session(command.as_std_mut());
        let mut child = self.start(&mut command)?;
        let identity = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Identity::of);
        let ended = timeout(limit, child.wait()).await;
        let stderr = std::fs::read(said).unwrap_or_default();
        let tail = &stderr[stderr.len().saturating_sub(STDERR_TAIL)..];
        let stderr = String::from_utf8_lossy(tail).into_owned();
        match ended {
            Ok(Ok(status)) => Ok(Finished { code: code_of(status), stdout: Vec::new(), stderr }),
            Ok(Err(error)) => Err(Error::new(ErrorKind::Internal("a command's end cannot be read".into()))
                .with_command(self.detail(None, stderr))
                .caused_by(error)),
            Err(_late) => {
                if let Some(identity) = identity {
                    kill_tree(identity);
                }
                let _ = timeout(DRAIN, child.wait()).await;
                Err(Error::new(ErrorKind::TimedOut(limit)).with_command(self.detail(None, stderr)))
            }
        }
    }

    /// Starts it with extra descriptors, as `(number in the child, descriptor)`, and standard error piped. It is not
    /// killed on drop: what it becomes shall outlive us.
    pub(crate) fn spawn_with(&self, descriptors: &[(i32, OwnedFd)]) -> Result<Spawned> {
        let text = |bytes: Vec<u8>| {
            CString::new(bytes).map_err(|error| {
                Error::new(ErrorKind::InvalidArgument("an argument or variable holds a NUL byte".into()))
                    .caused_by(error)
            })
        };
        let program = text(self.program.as_os_str().as_bytes().to_vec())?;
        let cwd = self.cwd.as_deref().unwrap_or(Path::new("."));
        let cwd = text(cwd.as_os_str().as_bytes().to_vec())?;
        let args = self.args.iter().map(|arg| text(arg.as_bytes().to_vec()));
        let args = std::iter::once(Ok(program.clone())).chain(args).collect::<Result<Vec<_>>>()?;
        let env =
            self.env.iter().map(|(name, value)| text([name.as_bytes(), b"=", value.as_bytes()].concat()));
        let env = env.collect::<Result<Vec<_>>>()?;
        let start = Start { program: &program, args: &args, env: &env, cwd: &cwd, descriptors };
        spawn(&start).map_err(|error| self.not_started(error))
    }

    /// Starts a runtime's exec with its output piped, and its input if there is one. The child leaves with the code of the
    /// command. Where the runtime itself leaves at once, the pid file to which it writes the command's pid is given, and the
    /// child waits for both. The runtime has the descriptors from number 3 on. Whoever drops the child has to end what is
    /// below it.
    pub(crate) fn spawn_exec(
        &self,
        detached: Option<&Path>,
        input: bool,
        descriptors: &[Arc<OwnedFd>],
    ) -> Result<Child> {
        let pid_file = detached.map(|pid_file| CString::new(pid_file.as_os_str().as_bytes())).transpose();
        let pid_file = pid_file.map_err(|error| {
            Error::new(ErrorKind::Internal("a path holds a NUL byte".into())).caused_by(error)
        })?;
        let mut command = self.command();
        command.stdin(if input { Stdio::piped() } else { Stdio::null() });
        // A drop of the child alone would kill the parent of the runtime, which then goes on below somebody else.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(false);
        map(&mut command, from_three(descriptors)?)?;
        if let Some(pid_file) = pid_file {
            crate::reaper::stay_until_the_command_ends(&mut command, pid_file);
        }
        self.start(&mut command)
    }
}

/// Gives a command descriptors, as `(number in the child, descriptor)`.
fn map(command: &mut Command, descriptors: Vec<(i32, OwnedFd)>) -> Result<()> {
    let mappings = descriptors.into_iter().map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).map_err(|FdMappingCollision| {
        Error::new(ErrorKind::Internal("two descriptors with one number".into()))
    })?;
    Ok(())
}

/// Copies of descriptors, numbered from 3.
fn from_three(descriptors: &[Arc<OwnedFd>]) -> Result<Vec<(i32, OwnedFd)>> {
    let copied = descriptors.iter().zip(3..).map(|(each, number)| Ok((number, each.try_clone()?)));
    copied.collect::<std::io::Result<_>>().map_err(|error| {
        Error::new(ErrorKind::Exhausted("a descriptor cannot be copied".into())).caused_by(error)
    })
}

/// A command at work. Dropped before its end it takes everything below it along: a hook of a runtime must not go on when
/// the runtime was killed.
#[derive(Debug)]
struct Foreground {
    child: Child,
    over: bool,
}

impl Foreground {
    /// Kills it, and waits a moment for the kernel to be done with it.
    async fn end(&mut self) {
        self.kill();
        let _ = timeout(DRAIN, self.child.wait()).await;
    }

    fn kill(&mut self) {
        // As long as the child has a pid it was not reaped, so that nobody else has that pid.
        let pid = self.child.id().filter(|_| !self.over).and_then(|pid| i32::try_from(pid).ok());
        if let Some(identity) = pid.and_then(Identity::of) {
            kill_tree(identity);
        }
        self.over = true;
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a command writes: read to its end, kept in part.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) bytes: Vec<u8>,
    limit: usize,
    tail: bool,
}

impl Kept {
    /// Keeps the first `limit` bytes.
    fn first(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, tail: false }
    }

    /// Keeps the last `limit` bytes.
    pub(crate) fn last(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, tail: true }
    }

    pub(crate) async fn fill(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            self.add(&chunk[..n]);
        }
    }

    fn add(&mut self, chunk: &[u8]) {
        if self.tail {
            self.bytes.extend_from_slice(chunk);
            let excess = self.bytes.len().saturating_sub(self.limit);
            self.bytes.drain(..excess);
        } else {
            let room = self.limit - self.bytes.len();
            self.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
    }
}

/// The code as a shell counts it.
pub(crate) fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

fn lossy(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn streams_and_code_come_apart() {
        let line = CommandLine::new("/bin/sh").args(["-c", "echo out; echo err >&2; exit 7"]);
        let done = line.run(LIMIT).await.unwrap();
        assert_eq!((done.code, done.stdout.as_slice(), done.stderr.as_str()), (7, &b"out\n"[..], "err\n"));
    }

    #[tokio::test]
    async fn input_is_written_and_then_at_its_end() {
        let text = vec![b'x'; 1 << 20];
        let done = CommandLine::new("/usr/bin/wc").arg("-c").input(text).run(LIMIT).await.unwrap();
        assert_eq!(String::from_utf8(done.stdout).unwrap().trim(), "1048576");
        let done = CommandLine::new("/bin/true").input(vec![b'x'; 1 << 20]).run(LIMIT).await.unwrap();
        assert_eq!(done.code, 0);
        let done = CommandLine::new("/bin/cat").run(LIMIT).await.unwrap();
        assert!(done.stdout.is_empty());
    }

    #[tokio::test]
    async fn only_named_variables_are_passed() {
        let line = CommandLine::new("/usr/bin/env").env("ONE", "1").env("ONE", "2");
        let done = line.run(LIMIT).await.unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(text.contains("ONE=2") && !text.contains("CARGO") && !text.contains("ONE=1"), "{text}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_and_named() {
        let line = CommandLine::new("/bin/sleep").arg("1000");
        let error = line.run(Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(_)));
        assert_eq!(error.command().unwrap().argv, ["/bin/sleep", "1000"]);
    }

    #[tokio::test]
    async fn what_a_command_started_is_killed_with_it_at_the_deadline() {
        let at = tempfile::tempdir().unwrap();
        let file = at.path().join("pid");
        let script = format!("setsid sleep 600 & echo $! >{0}.new; mv {0}.new {0}; wait", file.display());
        let line = CommandLine::new("/bin/sh").args(["-c", &script]);
        // On a busy host the command has done nothing yet at the first of them.
        for limit in [300, 3_000, 30_000] {
            line.run(Duration::from_millis(limit)).await.unwrap_err();
            if file.exists() {
                break;
            }
        }
        let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let deadline = tokio::time::Instant::now() + LIMIT;
        while Identity::of(pid).is_some() {
            assert!(tokio::time::Instant::now() < deadline, "process {pid} is still there");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn a_command_that_is_to_outlive_us_is_in_a_session_of_its_own() {
        let at = tempfile::tempdir().unwrap();
        // In the table of processes a group and a session bear the number of the process that began them.
        let script = "cut -d ' ' -f 1,5,6 /proc/$$/stat >&2";
        let line = CommandLine::new("/bin/sh").env("PATH", "/usr/bin:/bin").args(["-c", script]);
        let done = line.run_lasting(&at.path().join("said"), LIMIT).await.unwrap();
        let numbers: Vec<&str> = done.stderr.split_whitespace().collect();
        assert_eq!(numbers, [numbers[0]; 3], "{}", done.stderr);
    }

    #[tokio::test]
    async fn an_endless_deadline_is_none() {
        CommandLine::new("/bin/true").run(Duration::MAX).await.unwrap();
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_the_pipe_is_not_waited_for() {
        let line = CommandLine::new("/bin/sh").args(["-c", "sleep 60 & echo $!"]);
        let begun = tokio::time::Instant::now();
        let done = line.run(LIMIT).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(15));
        let pid: i32 = String::from_utf8(done.stdout).unwrap().trim().parse().unwrap();
        Identity::of(pid).unwrap().signal(runtime_api::Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_missing_binary_is_unavailable() {
        let error = CommandLine::new("/nonexistent/runtime").run(LIMIT).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
    }

    #[test]
    fn the_end_of_a_long_story_is_kept() {
        let mut tail = Kept::last(4);
        tail.add(b"abc");
        tail.add(b"defg");
        assert_eq!(tail.bytes, b"defg");
        let mut head = Kept::first(4);
        head.add(b"abc");
        head.add(b"defg");
        assert_eq!(head.bytes, b"abcd");
    }
}
