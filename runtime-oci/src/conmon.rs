//! conmon, the monitor: its command line, and the two pipes on which it waits and reports.
//!
//! The order of a create: we start conmon; it waits for one byte on the start pipe; its first process forks the daemon,
//! writes the daemon's pid to a file and exits 0; the daemon runs the runtime and reports on the sync pipe, as one line
//! of JSON: the container's pid, or -1 and a message. End of file without a line means that the runtime failed and said
//! nothing, or that the daemon died.
//!
//! An exec session (`conmon/session.rs`) has a step more.

mod session;

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::timeout;

use runtime_api::{ContainerId, Error, ErrorKind, LogConfig, LogDriver, Peer, Result, StdinMode};
use runtime_host::process::{self, Identity};

use crate::command::{CommandLine, Kept};
use crate::config::OciConfig;
use crate::layout::{ContainerDir, Layout};
use crate::lifecycle::RestoreSource;
use crate::spawn::Spawned;

pub(crate) use session::{SessionArgs, SessionMonitor};

/// The most that conmon reports: it cuts the runtime's message at 8 KiB, and escaping may multiply that by six.
const REPORT_LIMIT: u64 = 64 * 1024;

/// Everything that a create's command line is made of.
#[derive(Debug)]
pub(crate) struct MonitorArgs<'a> {
    pub(crate) conmon: &'a Path,
    pub(crate) runtime: &'a Path,
    /// The runtime's arguments before the verb.
    pub(crate) runtime_args: &'a [String],
    pub(crate) config: &'a OciConfig,
    pub(crate) layout: &'a Layout,
    pub(crate) id: &'a ContainerId,
    pub(crate) dir: &'a ContainerDir,
    pub(crate) log: &'a LogConfig,
    pub(crate) stdin: StdinMode,
    pub(crate) terminal: bool,
    pub(crate) notify_socket: Option<&'a Path>,
    /// The image that the container continues from, if it does.
    pub(crate) restore: Option<&'a RestoreSource>,
    /// How many descriptors the program gets besides the standard ones.
    pub(crate) descriptors: usize,
}

impl MonitorArgs<'_> {
    /// The command line of a create.
    pub(crate) fn command_line(&self) -> CommandLine {
        let exits = self.layout.exits();
        let mut line = begin(self.conmon, self.runtime, [self.id.as_str(); 2], self.dir, Some(&exits));
        line = line.arg("-l").arg(log_argument(self.log));
        if let Some(max) = self.log.max_size {
            line = line.arg("--log-size-max").arg(max.to_string());
        }
        let flags = [
            (self.config.no_sync_log, "--no-sync-log"),
            (self.config.systemd_cgroup, "-s"),
            (self.config.no_pivot, "--no-pivot"),
            (self.config.no_new_keyring, "--no-new-keyring"),
        ];
        line = line.args(flags.iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| flag));
        line = line.args(input_flags(self.terminal, self.stdin));
        if let Some(socket) = self.notify_socket {
            line = line.arg("--sdnotify-socket").arg(socket);
        }
        line = end(line, self.runtime_args, self.config, self.dir, pipe_numbers(self.descriptors));
        if let Some(source) = self.restore {
            line = line.arg("--restore").arg(&source.image);
            line = line.args(source.options.iter().map(|option| format!("--runtime-opt={option}")));
        }
        if self.descriptors > 0 {
            line = line.arg(format!("--runtime-opt=--preserve-fds={}", self.descriptors));
        }
        line
    }
}

/// How every command line begins: whose it is (the container, and the unique id), and where conmon's files are.
fn begin(
    conmon: &Path,
    runtime: &Path,
    [container, unique]: [&str; 2],
    dir: &ContainerDir,
    exits: Option<&Path>,
) -> CommandLine {
    let mut line = CommandLine::new(conmon).arg("--api-version").arg("1");
    line = line.args(["-c", container, "-n", container, "-u", unique]).arg("-r").arg(runtime);
    line = line.arg("-b").arg(dir.path());
    line = line.arg("-p").arg(dir.pidfile()).arg("-P").arg(dir.monitor_pidfile());
    if let Some(exits) = exits {
        line = line.arg("--exit-dir").arg(exits);
    }
    // With the full path the socket needs no symbolic link in a second directory, which nobody would remove.
    line.arg("--persist-dir").arg(dir.path()).arg("--full-attach")
}

/// How every command line ends: what the runtime is told, and the descriptors that [`Monitor::start`] hands over.
fn end(
    line: CommandLine,
    runtime_args: &[String],
    config: &OciConfig,
    dir: &ContainerDir,
    [sync, start]: [i32; 2],
) -> CommandLine {
    // With an equals sign: conmon would take the value of a bare `--runtime-arg --x` for an option of its own.
    let line = line.args(runtime_args.iter().map(|arg| format!("--runtime-arg={arg}")));
    let line = config.env.iter().fold(line, |line, (name, value)| line.env(name, value));
    line.env("_OCI_SYNCPIPE", sync.to_string()).env("_OCI_STARTPIPE", start.to_string()).cwd(dir.path())
}

/// The numbers of conmon's two pipes, after the descriptors that are for the program.
fn pipe_numbers(descriptors: usize) -> [i32; 2] {
    let first = i32::try_from(descriptors).unwrap_or(i32::MAX - 4).saturating_add(3);
    [first, first + 1]
}

/// A terminal's input is always open.
fn input_flags(terminal: bool, stdin: StdinMode) -> impl Iterator<Item = &'static str> {
    let flags = [
        (terminal, "-t"),
        (!terminal && stdin != StdinMode::Closed, "-i"),
        (!terminal && stdin == StdinMode::KeepOpen, "--leave-stdin-open"),
    ];
    flags.into_iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| flag)
}

fn log_argument(log: &LogConfig) -> PathBuf {
    match (log.driver, &log.path) {
        (LogDriver::CriFile, Some(path)) => {
            let mut argument = std::ffi::OsString::from("k8s-file:");
            argument.push(path);
            argument.into()
        }
        (LogDriver::Journald, _) => "journald:".into(),
        _ => "none".into(),
    }
}

/// conmon at work on a create.
#[derive(Debug)]
pub(crate) struct Monitor {
    line: CommandLine,
    child: Spawned,
    sync: UnixStream,
    /// Where it waits for a byte before it does anything.
    start: Option<StdStream>,
}

/// What conmon reported.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The container's process exists.
    Pid(i32),
    /// The runtime failed with this message.
    Failed(String),
    /// conmon went away without a word.
    Silent,
}

impl Monitor {
    /// Starts conmon, which then waits for [`Monitor::begin`].
    pub(crate) fn start(line: CommandLine, descriptors: Vec<OwnedFd>) -> Result<Self> {
        Self::start_with(line, descriptors, None)
    }

    /// [`Monitor::start`] with one descriptor more.
    fn start_with(
        line: CommandLine,
        descriptors: Vec<OwnedFd>,
        more: Option<(i32, OwnedFd)>,
    ) -> Result<Self> {
        let (sync, sync_peer) = pair()?;
        let (start, start_peer) = pair()?;
        let sync = stream(sync)?;
        // After the start nothing here waits, so nobody can be cut off between a conmon that runs and the value that knows
        // of it.
        let [sync_number, start_number] = pipe_numbers(descriptors.len());
        let mut mappings: Vec<_> = (3..).zip(descriptors).collect();
        mappings.extend([(sync_number, sync_peer), (start_number, start_peer)].into_iter().chain(more));
        let child = line.spawn_with(&mappings)?;
        Ok(Self { line, child, sync, start: Some(start) })
    }

    /// Has conmon put in its place, and lets it go on.
    pub(crate) fn begin(&mut self, place: impl FnOnce(i32) -> Result<()>) -> Result<()> {
        self.let_go_on(place).map(|_| ())
    }

    /// [`Monitor::begin`]; gives our end of the start pipe.
    fn let_go_on(&mut self, place: impl FnOnce(i32) -> Result<()>) -> Result<Option<StdStream>> {
        let pid = self.child.id().unwrap_or_default();
        let Some(mut start) = self.start.take() else { return Ok(None) };
        if let Err(error) = place(pid) {
            // It must not take the end of the pipe for the byte. It has forked nobody yet.
            let _ = self.child.start_kill();
            return Err(error);
        }
        // One that is gone already cannot be told; what it complained of is in its report.
        let _ = start.write_all(b"x");
        Ok(Some(start))
    }

    /// Waits for the report, and for the first process, so that it is reaped. In between, while the runtime is at work
    /// below the daemon, `meanwhile` is done.
    pub(crate) async fn report(&mut self, limit: Duration, meanwhile: impl FnOnce()) -> Result<Report> {
        let read = read_line(&mut self.sync);
        let first = async {
            let status = self.child.wait().await;
            meanwhile();
            status
        };
        let late = |_| Error::new(ErrorKind::TimedOut(limit)).with_command(self.line.detail(None, ""));
        let (line, status) = timeout(limit, async { tokio::join!(read, first) }).await.map_err(late)?;
        let code = status.ok().map(crate::command::code_of);
        match parse(&line) {
            Report::Silent if code != Some(0) => {
                let said = self.complaint().await;
                Err(lost(&self.line, &said).with_command(self.line.detail(code, said.clone())))
            }
            report => Ok(report),
        }
    }

    /// What conmon's first process complained of, once it is gone. The daemon may hold the pipe.
    async fn complaint(&mut self) -> String {
        let mut stderr = Kept::last(8 * 1024);
        let _ = timeout(Duration::from_millis(200), stderr.fill(self.child.stderr.take())).await;
        String::from_utf8_lossy(&stderr.bytes).into_owned()
    }

    pub(crate) fn line(&self) -> &CommandLine {
        &self.line
    }

    /// Waits until the first process has forked the daemon and left, or kills it.
    pub(crate) async fn abandon(&mut self, limit: Duration) {
        if self.start.is_some() {
            // It waits for a byte, would take the end of the pipe for it, and has forked nobody.
            let _ = self.child.start_kill();
        }
        if timeout(limit, self.child.wait()).await.is_err() {
            let _ = timeout(limit, self.child.kill()).await;
        }
    }
}

/// Reads a line of a report, or what there is of it.
async fn read_line(from: &mut UnixStream) -> Vec<u8> {
    let mut line = Vec::new();
    let mut from = from.take(REPORT_LIMIT);
    let mut chunk = [0; 512];
    while !line.contains(&b'\n') {
        match from.read(&mut chunk).await {
            Ok(n @ 1..) => line.extend_from_slice(&chunk[..n]),
            Ok(0) | Err(_) => break,
        }
    }
    line
}

/// conmon's daemon, from the file in which its first process left the pid; if it still is the one of this container.
pub(crate) fn daemon(dir: &ContainerDir) -> Option<Identity> {
    let daemon = Identity::of(pid_in(&dir.monitor_pidfile())?)?;
    daemon.has_arguments(|arguments| works_on(arguments, dir)).then_some(daemon)
}

/// Every process that conmon and the runtime run for a container. Its own are not among them, but for a sandbox to which
/// the runtime hands on what it was told itself: whoever ends what is found here ends the container too.
pub(crate) async fn at_work_on(dir: &ContainerDir) -> Vec<Identity> {
    let dir = dir.clone();
    process::with_arguments(move |arguments| works_on(arguments, &dir)).await
}

/// Every verb of the runtime that runs on a container, but for execs, for what conmon runs, and for a sandbox, which has
/// the arguments of the create that made it.
pub(crate) async fn verbs_on(dir: &ContainerDir) -> Vec<Identity> {
    let log = log_option(dir);
    process::with_arguments(move |arguments| arguments.contains(&log.as_slice()) && !is_create(arguments))
        .await
}

/// Whether it is the runtime's create, which conmon runs, or a process of the sandbox that it made.
fn is_create(arguments: &[&[u8]]) -> bool {
    let names_bundle = |one: &[u8]| {
        matches!(one, b"-b" | b"--bundle") || one.starts_with(b"--bundle=") || one.starts_with(b"-bundle=")
    };
    arguments.iter().any(|argument| names_bundle(argument))
}

fn log_option(dir: &ContainerDir) -> Vec<u8> {
    [b"--log=".as_slice(), dir.oci_log().as_os_str().as_bytes()].concat()
}

/// The commands that save a container.
pub(crate) async fn saving(dir: &ContainerDir) -> Vec<Identity> {
    let dir = dir.clone();
    process::with_arguments(move |arguments| arguments.windows(2).any(|pair| saves(pair, &dir))).await
}

fn saves(pair: &[&[u8]], dir: &ContainerDir) -> bool {
    pair[0] == b"--work-path" && pair[1] == dir.criu().as_os_str().as_bytes()
}

/// Every process that conmon and the runtime run for any exec session of a container, the sessions' own not included.
pub(crate) async fn at_work_on_sessions(dir: &ContainerDir) -> Vec<Identity> {
    let sessions = dir.sessions();
    let inside = move |path: &[u8]| Path::new(OsStr::from_bytes(path)).starts_with(&sessions);
    process::with_arguments(move |arguments| {
        arguments.windows(2).any(|pair| is_place(pair[0]) && inside(pair[1]))
            || arguments.iter().filter_map(|each| each.strip_prefix(b"--log=")).any(&inside)
    })
    .await
}

/// Whether an option says in which directory conmon or the runtime works.
fn is_place(option: &[u8]) -> bool {
    matches!(option, b"-b" | b"--bundle" | b"--persist-dir")
}

/// Whether a command line is one of those that we make, or that conmon makes from ours. Only whole options count: an
/// editor or a `tail` that has a file of the container open is none of ours.
fn works_on(arguments: &[&[u8]], dir: &ContainerDir) -> bool {
    let path = dir.path().as_os_str().as_bytes();
    let log = log_option(dir);
    let named = |pair: &[&[u8]]| is_place(pair[0]) && pair[1] == path;
    arguments.windows(2).any(|pair| named(pair) || saves(pair, dir)) || arguments.contains(&log.as_slice())
}

/// The pid in a pid file; `None` if there is no such file or it is empty.
pub(crate) fn pid_in(file: &Path) -> Option<i32> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn pair() -> Result<(StdStream, OwnedFd)> {
    let (ours, theirs) = StdStream::pair()
        .map_err(|error| Error::new(ErrorKind::Exhausted("no socket pair".into())).caused_by(error))?;
    Ok((ours, theirs.into()))
}

/// Our end does not block. Theirs does: conmon reads it with a plain read, and the flag belongs to each end alone.
fn stream(ours: StdStream) -> Result<UnixStream> {
    let made = ours.set_nonblocking(true).and_then(|()| UnixStream::from_std(ours));
    made.map_err(|error| {
        Error::new(ErrorKind::Internal("a socket cannot be watched".into())).caused_by(error)
    })
}

fn lost(line: &CommandLine, stderr: &str) -> Error {
    Error::new(ErrorKind::PeerLost(Peer::Monitor)).with_command(line.detail(None, stderr))
}

/// Reads the report. conmon copies the runtime's message almost as it is: bytes that are no UTF-8 and a few control
/// characters may be in it, which strict JSON forbids. What follows the line is of no interest.
fn parse(bytes: &[u8]) -> Report {
    #[derive(Deserialize)]
    struct Line {
        #[serde(alias = "pid", alias = "exit_code")]
        data: i32,
        #[serde(default)]
        message: String,
    }
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text: String =
        String::from_utf8_lossy(line).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match serde_json::from_str::<Line>(&text) {
        Ok(Line { data, .. }) if data > 0 => Report::Pid(data),
        Ok(Line { message, .. }) => Report::Failed(message),
        Err(_) if text.trim().is_empty() => Report::Silent,
        Err(_) => Report::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_as_conmon_writes_them() {
        assert_eq!(parse(b"{\"data\": 32402}\n"), Report::Pid(32402));
        assert_eq!(parse(b"{\"pid\": 7}\n{\"data\": 0}\n"), Report::Pid(7));
        assert_eq!(parse(b"{\"data\": -1, \"message\": \"no\\n\"}\n"), Report::Failed("no\n".into()));
        assert_eq!(parse(b"{\"data\": -1}"), Report::Failed(String::new()));
        assert_eq!(parse(b""), Report::Silent);
        assert_eq!(parse(b"{\"data\": -1, \"message\": \"\x1f\xff\"}\n"), Report::Failed(" \u{fffd}".into()));
        assert_eq!(parse(b"oops"), Report::Failed("oops".into()));
    }

    #[test]
    fn only_our_own_command_lines_are_taken_for_work_on_a_container() {
        let dir = Layout::new("/s").container(&ContainerId::new("web").unwrap());
        let ours: [&[&[u8]]; 3] = [
            &[b"conmon", b"--persist-dir", b"/s/containers/web"],
            &[b"crun", b"create", b"--bundle", b"/s/containers/web", b"web"],
            &[b"runc", b"--log=/s/containers/web/oci-log", b"start", b"web"],
        ];
        let others: [&[&[u8]]; 4] = [
            &[b"tail", b"-F", b"/s/containers/web/oci-log"],
            &[b"conmon", b"--persist-dir", b"/s/containers/web2"],
            &[b"vi", b"/s/containers/web"],
            &[b""],
        ];
        assert!(ours.iter().all(|arguments| works_on(arguments, &dir)));
        assert!(!others.iter().any(|arguments| works_on(arguments, &dir)));
    }

    #[test]
    fn the_command_line_of_a_create() {
        let handler = runtime_api::HandlerName::new("crun").unwrap();
        let kind = runtime_api::RuntimeKind::new("oci").unwrap();
        let handler = runtime_api::HandlerConfig::new(handler, kind, runtime_api::Origin::other("test"));
        let config = OciConfig::from_handler(&handler).unwrap();
        let layout = Layout::new("/s");
        let id = ContainerId::new("web").unwrap();
        let args = MonitorArgs {
            conmon: Path::new("/bin/conmon"),
            runtime: Path::new("/bin/crun"),
            runtime_args: &["--root=/s/root".to_owned()],
            config: &config,
            layout: &layout,
            id: &id,
            dir: &layout.container(&id),
            log: &LogConfig::cri_file("/l/a:b").max_size(9000),
            stdin: StdinMode::KeepOpen,
            terminal: false,
            notify_socket: Some(Path::new("/run/n")),
            restore: None,
            descriptors: 0,
        };
        let expected = "/bin/conmon --api-version 1 -c web -n web -u web -r /bin/crun -b /s/containers/web \
            -p /s/containers/web/pidfile -P /s/containers/web/conmon-pidfile --exit-dir /s/exits \
            --persist-dir /s/containers/web --full-attach -l k8s-file:/l/a:b --log-size-max 9000 \
            -i --leave-stdin-open --sdnotify-socket /run/n --runtime-arg=--root=/s/root";
        assert_eq!(args.command_line().argv().join(" "), expected);

        let config = OciConfig { systemd_cgroup: true, no_sync_log: true, ..config.clone() };
        let others = MonitorArgs {
            config: &config,
            log: &LogConfig::none(),
            stdin: StdinMode::Closed,
            terminal: true,
            notify_socket: None,
            descriptors: 2,
            ..args
        };
        let expected = "/bin/conmon --api-version 1 -c web -n web -u web -r /bin/crun -b /s/containers/web \
            -p /s/containers/web/pidfile -P /s/containers/web/conmon-pidfile --exit-dir /s/exits \
            --persist-dir /s/containers/web --full-attach -l none --no-sync-log -s -t \
            --runtime-arg=--root=/s/root --runtime-opt=--preserve-fds=2";
        assert_eq!(others.command_line().argv().join(" "), expected);
        assert_eq!((pipe_numbers(0), pipe_numbers(2)), ([3, 4], [5, 6]));
        let mut journal = LogConfig::none();
        journal.driver = LogDriver::Journald;
        let in_journal = expected.replace("-l none", "-l journald:");
        assert_eq!(MonitorArgs { log: &journal, ..others }.command_line().argv().join(" "), in_journal);
    }
}
