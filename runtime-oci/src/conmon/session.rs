//! conmon for an exec session.
//!
//! It differs from a create in the middle: the daemon says on a third pipe, the attach pipe, when its socket and its
//! fifos are there, and then waits for a second byte on the start pipe before it runs the runtime. So a session has a
//! monitor on record before its program can run, and one that is given up before that never runs.

use std::io::Write as _;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use runtime_api::{ContainerId, Error, ErrorKind, ExecId, Result, StdinMode};

use super::{Monitor, Report, begin, end, input_flags, lost, pair, pipe_numbers, read_line, stream};
use crate::command::{CommandLine, code_of};
use crate::config::OciConfig;
use crate::layout::ContainerDir;

/// Everything that a session's command line is made of.
#[derive(Debug)]
pub(crate) struct SessionArgs<'a> {
    pub(crate) conmon: &'a Path,
    pub(crate) runtime: &'a Path,
    /// The runtime's arguments before the verb.
    pub(crate) runtime_args: &'a [String],
    pub(crate) config: &'a OciConfig,
    pub(crate) id: &'a ContainerId,
    pub(crate) session: &'a ExecId,
    /// The session's directory.
    pub(crate) dir: &'a ContainerDir,
    pub(crate) stdin: StdinMode,
    pub(crate) terminal: bool,
    /// Whether the runtime's exec takes the option that conmon gives it for a terminal.
    pub(crate) takes_tty: bool,
    /// Where the runtime writes the program's pid in a sandbox.
    pub(crate) inner_pid: Option<&'a Path>,
}

impl SessionArgs<'_> {
    /// There is no exit directory: its files are named by the container's id, and are the container's.
    pub(crate) fn command_line(&self) -> CommandLine {
        let names = [self.id.as_str(), self.session.as_str()];
        let (runtime, runtime_args) = self.runtime_line();
        let line = begin(self.conmon, &runtime, names, self.dir, None).args(["-l", "none"]);
        let line = line.args(["-e", "--exec-attach", "--exec-process-spec"]).arg(self.dir.process());
        let line = line.args(input_flags(self.terminal, self.stdin));
        let line = end(line, &runtime_args, self.config, self.dir, pipe_numbers(0));
        let inner =
            self.inner_pid.map(|file| format!("--runtime-opt=--internal-pid-file={}", file.display()));
        line.args(inner).env("_OCI_ATTACHPIPE", "5")
    }
}

/// Becomes the runtime, without an option that this does not know. That there is to be a terminal it is told twice: by the
/// socket for it, and in the description of the process.
const WITHOUT_TTY: &str =
    r#"for each; do shift; [ "$each" = --tty ] || set -- "$@" "$each"; done; exec "$0" "$@""#;

impl SessionArgs<'_> {
    /// The runtime for conmon, and its arguments before the verb.
    fn runtime_line(&self) -> (PathBuf, Vec<String>) {
        let args = self.runtime_args.iter().cloned();
        if !self.terminal || self.takes_tty {
            return (self.runtime.to_owned(), args.collect());
        }
        let runtime = self.runtime.to_string_lossy().into_owned();
        let shell = ["-c".to_owned(), WITHOUT_TTY.to_owned(), runtime];
        ("/bin/sh".into(), shell.into_iter().chain(args).collect())
    }
}

/// conmon at work on the start of a session.
#[derive(Debug)]
pub(crate) struct SessionMonitor {
    monitor: Monitor,
    /// Where conmon says that it can be attached to.
    ready: UnixStream,
    /// Held open until the program may run: conmon takes its end for the byte that it waits for.
    gate: Option<StdStream>,
}

impl SessionMonitor {
    /// Starts conmon, has it put in its place, and lets it come to the point where the program could run. When this fails
    /// it has forked nobody.
    pub(crate) fn start(line: CommandLine, place: impl FnOnce(i32) -> Result<()>) -> Result<Self> {
        let (ready, ready_peer) = pair()?;
        let ready = stream(ready)?;
        let mut monitor = Monitor::start_with(line, Vec::new(), Some((5, ready_peer)))?;
        let gate = monitor.let_go_on(place)?;
        Ok(Self { monitor, ready, gate })
    }

    /// Waits until the daemon's socket is there, and for the first process, so that it is reaped.
    pub(crate) async fn ready(&mut self, limit: Duration) -> Result<()> {
        let both = async { tokio::join!(read_line(&mut self.ready), self.monitor.child.wait()) };
        let (line, status) = timeout(limit, both).await.map_err(|_| {
            Error::new(ErrorKind::TimedOut(limit)).with_command(self.monitor.line.detail(None, ""))
        })?;
        if is_ready(&line) {
            return Ok(());
        }
        let said = self.monitor.complaint().await;
        Err(lost(&self.monitor.line, &said)
            .with_command(self.monitor.line.detail(status.ok().map(code_of), said)))
    }

    /// Lets the program run, and waits for conmon's report of it.
    pub(crate) async fn report(&mut self, limit: Duration) -> Result<Report> {
        // A conmon that is gone cannot be told; its silence is the report.
        if let Some(mut gate) = self.gate.take() {
            let _ = gate.write_all(b"x");
        }
        self.monitor.report(limit, || ()).await
    }

    pub(crate) fn line(&self) -> &CommandLine {
        self.monitor.line()
    }

    /// Waits until the first process has forked the daemon and left, or kills it.
    pub(crate) async fn abandon(&mut self, limit: Duration) {
        self.monitor.abandon(limit).await;
    }
}

/// `{"data": 0}`.
fn is_ready(line: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|said| said["data"] == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    #[test]
    fn only_a_zero_says_that_the_socket_is_there() {
        assert!(is_ready(b"{\"data\": 0}\n"));
        assert!(!is_ready(b"{\"data\": -1}\n") && !is_ready(b"") && !is_ready(b"0"));
    }

    #[test]
    fn a_runtime_is_not_told_of_a_terminal_by_an_option_that_it_lacks() {
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", WITHOUT_TTY, "/usr/bin/printf", "%s|", "exec", "--tty", "a b", "", "--tty", "$x"]);
        assert_eq!(String::from_utf8(shell.output().unwrap().stdout).unwrap(), "exec|a b||$x|");
    }

    #[test]
    fn the_command_line_of_a_session() {
        let handler = runtime_api::HandlerName::new("crun").unwrap();
        let kind = runtime_api::RuntimeKind::new("oci").unwrap();
        let handler = runtime_api::HandlerConfig::new(handler, kind, runtime_api::Origin::other("test"));
        let config = OciConfig::from_handler(&handler).unwrap();
        let (id, session) = (ContainerId::new("web").unwrap(), ExecId::new("s1").unwrap());
        let mut args = SessionArgs {
            conmon: Path::new("/bin/conmon"),
            runtime: Path::new("/bin/crun"),
            runtime_args: &["--root=/s/root".to_owned()],
            config: &config,
            id: &id,
            session: &session,
            dir: &Layout::new("/s").container(&id).session(&session),
            stdin: StdinMode::Once,
            terminal: false,
            takes_tty: true,
            inner_pid: None,
        };
        let expected = "/bin/conmon --api-version 1 -c web -n web -u s1 -r /bin/crun \
            -b /s/containers/web/sessions/s1 -p /s/containers/web/sessions/s1/pidfile \
            -P /s/containers/web/sessions/s1/conmon-pidfile --persist-dir /s/containers/web/sessions/s1 \
            --full-attach -l none -e --exec-attach --exec-process-spec /s/containers/web/sessions/s1/process.json \
            -i --runtime-arg=--root=/s/root";
        assert_eq!(args.command_line().argv().join(" "), expected);
        args.terminal = true;
        assert_eq!(args.command_line().argv().join(" "), expected.replace(" -i ", " -t "));
        (args.terminal, args.inner_pid) = (false, Some(Path::new("/s/inner-pid")));
        let told = format!("{expected} --runtime-opt=--internal-pid-file=/s/inner-pid");
        assert_eq!(args.command_line().argv().join(" "), told);
    }
}
