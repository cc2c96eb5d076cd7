//! The command line of a shim.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use runtime_api::{CommandDetail, Error, ErrorKind, Rejection, Result};
use runtime_host::apart::in_own_session;
use runtime_host::process::{Identity, kill_tree};

use crate::task::NAMESPACE;
use crate::text::last_line;

/// How much of standard error is kept: its end.
const STDERR_TAIL: usize = 8 * 1024;
/// How much of standard output is kept: its beginning. A reply is far smaller.
const STDOUT_LIMIT: usize = 64 * 1024;
/// How long output may still come once the command has ended, from what it left running.
const DRAIN: Duration = Duration::from_millis(500);

/// A shim for one container: what all its commands have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShimCommand {
    /// Its binary.
    pub binary: PathBuf,
    /// Whose containers are kept apart from those of others.
    pub namespace: String,
    /// The container.
    pub id: String,
    /// The container's bundle, in which the shim runs and leaves its files. The runc shim wants it named by the id.
    pub bundle: PathBuf,
    /// The program that a shim runs to publish events without a socket. Those that are driven here have a socket.
    pub publisher: PathBuf,
    /// The socket of an [`EventServer`](crate::task::events::EventServer). Some shims do without, others do not start.
    pub events: Option<PathBuf>,
    /// Whether the shim is to say more in its log.
    pub debug: bool,
}

/// What a command did.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl ShimCommand {
    /// A shim without a publisher and events, that says little.
    pub fn new(binary: impl Into<PathBuf>, id: impl Into<String>, bundle: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            namespace: NAMESPACE.to_owned(),
            id: id.into(),
            bundle: bundle.into(),
            publisher: PathBuf::from("/bin/true"),
            events: None,
            debug: false,
        }
    }

    fn arguments(&self, action: &str, bundle: Option<&Path>) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["-namespace", &self.namespace, "-address", "", "-publish-binary"].map(Into::into).into();
        arguments.push(self.publisher.clone().into());
        arguments.extend(["-id".into(), self.id.clone().into()]);
        if let Some(bundle) = bundle {
            arguments.extend(["-bundle".into(), bundle.to_owned().into()]);
        }
        if self.debug {
            arguments.push("-debug".into());
        }
        arguments.push(action.into());
        arguments
    }

    /// The command line, for errors.
    pub(super) fn detail(&self, action: &str, bundle: Option<&Path>) -> CommandDetail {
        let arguments = self.arguments(action, bundle);
        let words = std::iter::once(self.binary.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
        CommandDetail::new(words.map(|word| word.to_string_lossy().into_owned()).collect(), None, "")
    }

    /// Runs it to its end, in the bundle, in a session and a process group of its own. At the limit, and when the future is dropped, it
    /// is killed with everything below it.
    ///
    /// # Errors
    /// `Unavailable` without such a binary, `TimedOut` at the limit, `Rejected` when it says no.
    pub(super) async fn run(
        &self,
        action: &'static str,
        bundle: Option<&Path>,
        limit: Duration,
    ) -> Result<Said> {
        let mut detail = self.detail(action, bundle);
        let mut command = Command::new(&self.binary);
        command
            .args(self.arguments(action, bundle))
            .current_dir(&self.bundle)
            .env("GOMAXPROCS", "2")
            .env("MAX_SHIM_VERSION", "2")
            .env("NAMESPACE", &self.namespace)
            .env("GRPC_ADDRESS", "")
            .env("TTRPC_ADDRESS", self.events.as_deref().unwrap_or(Path::new("")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        in_own_session(command.as_std_mut());
        let failed = |error: Error| error.during_step(format!("{action} the shim")).on(self.subject());
        let child =
            command.spawn().map_err(|error| failed(self.not_started(error).with_command(detail.clone())))?;
        let mut running = Running::new(child);
        let mut stdout = Kept { bytes: Vec::new(), first: STDOUT_LIMIT, last: 0 };
        let mut stderr = Kept { bytes: Vec::new(), first: 0, last: STDERR_TAIL };
        let ended = timeout(limit, running.finish(&mut stdout, &mut stderr)).await;
        detail.stderr = String::from_utf8_lossy(&stderr.bytes).into_owned();
        let status = match ended {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => {
                let kind = ErrorKind::Internal("its end cannot be seen".to_owned());
                return Err(failed(Error::new(kind).with_command(detail).caused_by(error)));
            }
            Err(_late) => {
                running.kill();
                let _ = timeout(DRAIN, running.child.wait()).await;
                return Err(failed(Error::new(ErrorKind::TimedOut(limit)).with_command(detail)));
            }
        };
        let code = code_of(status);
        detail.code = Some(code);
        if code != 0 {
            let told =
                last_line(&detail.stderr).or_else(|| last_line(&String::from_utf8_lossy(&stdout.bytes)));
            let message = told.unwrap_or_else(|| "it said nothing".to_owned());
            let kind = ErrorKind::Rejected { class: Rejection::Other, message };
            return Err(failed(Error::new(kind).with_command(detail)));
        }
        Ok(Said { stdout: stdout.bytes, stderr: detail.stderr })
    }

    /// For errors.
    pub(super) fn subject(&self) -> String {
        format!("\"{}\"", self.id)
    }

    fn not_started(&self, error: std::io::Error) -> Error {
        let kind = match error.kind() {
            // The system says the same of a directory that is not there.
            std::io::ErrorKind::NotFound if !self.bundle.is_dir() => {
                ErrorKind::ConfigInvalid(format!("there is no bundle {}", self.bundle.display()))
            }
            std::io::ErrorKind::NotFound => {
                ErrorKind::Unavailable(format!("there is no shim {}", self.binary.display()))
            }
            std::io::ErrorKind::PermissionDenied => {
                ErrorKind::Unavailable(format!("the shim {} cannot be executed", self.binary.display()))
            }
            _ => ErrorKind::Exhausted("a process cannot be started".to_owned()),
        };
        Error::new(kind).caused_by(error)
    }
}

/// A command at work, that is killed with all that is below it unless it ended by itself.
#[derive(Debug)]
struct Running {
    child: Child,
    identity: Option<Identity>,
}

impl Running {
    fn new(child: Child) -> Self {
        let identity = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Identity::of);
        Self { child, identity }
    }

    async fn finish(&mut self, stdout: &mut Kept, stderr: &mut Kept) -> std::io::Result<ExitStatus> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let mut reading = std::pin::pin!(async { tokio::join!(stdout.fill(out), stderr.fill(err)) });
        let status = tokio::select! {
            _ = &mut reading => self.child.wait().await?,
            status = self.child.wait() => {
                // What it left running may hold the pipes for ever.
                let _ = timeout(DRAIN, &mut reading).await;
                status?
            }
        };
        self.identity = None;
        Ok(status)
    }

    fn kill(&mut self) {
        if let Some(identity) = self.identity.take() {
            kill_tree(identity);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What is kept of a stream: its first bytes, or its last ones.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    first: usize,
    last: usize,
}

impl Kept {
    async fn fill(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut chunk = vec![0; 4096];
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            if self.first > 0 {
                let room = self.first - self.bytes.len();
                self.bytes.extend_from_slice(&chunk[..n.min(room)]);
            } else {
                self.bytes.extend_from_slice(&chunk[..n]);
                let excess = self.bytes.len().saturating_sub(self.last);
                self.bytes.drain(..excess);
            }
        }
    }
}

/// The code as a shell counts it.
fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

#[cfg(test)]
#[path = "command/tests.rs"]
mod tests;
