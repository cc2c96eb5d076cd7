//! What can go wrong, as a value: a small kind that callers match, and everything a person needs at 3 a.m.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Capability, ContainerStatus, Operation};

/// The result of every operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation that failed: what, on which thing, why, and whether to try again.
///
/// `Display` tells this level only; the cause is in [`source`](StdError::source).
pub struct Error(Box<Repr>);

struct Repr {
    kind: ErrorKind,
    operation: Option<Cow<'static, str>>,
    subject: Option<String>,
    hint: Option<String>,
    retry: Retry,
    command: Option<CommandDetail>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The kind of a failure. Match on this, never on message text.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// No such container, session, handler or file.
    #[error("not found")]
    NotFound,
    /// The id is taken.
    #[error("already exists")]
    AlreadyExists,
    /// The request itself is wrong; nothing was looked up.
    #[error("{0}")]
    InvalidArgument(String),
    /// The container exists, and the operation is not legal in its state.
    #[error("wrong state: it is {is}{}; allowed is {}", if *.stopping { " and being stopped" } else { "" }, list(.allowed))]
    WrongState {
        /// The state at the moment of the refusal.
        is: ContainerStatus,
        /// Whether a stop is under way.
        stopping: bool,
        /// Where the operation would be legal.
        allowed: &'static [ContainerStatus],
    },
    /// This runtime cannot do it, will not do it later, and changed nothing.
    #[error("not supported ({capability}): {why}")]
    Unsupported {
        /// What is missing.
        capability: Capability,
        /// Why it is missing.
        why: String,
    },
    /// A file, a bundle, an image or an option does not say what it must.
    #[error("{0}")]
    ConfigInvalid(String),
    /// The host does not let us.
    #[error("permission denied")]
    PermissionDenied,
    /// A limit of the host or of this library is reached.
    #[error("resources exhausted: {0}")]
    Exhausted(String),
    /// It took too long. What was begun is described by the operation's documentation.
    #[error("timed out after {}", seconds(.0))]
    TimedOut(Duration),
    /// Somebody else holds the container's lock.
    #[error("busy: {holder} holds it")]
    Busy {
        /// Who.
        holder: String,
    },
    /// A process that the operation depends on is gone.
    #[error("lost {0}")]
    PeerLost(Peer),
    /// The runtime said no; [`Error::command`] has what it said.
    #[error("the runtime refused: {message}")]
    Rejected {
        /// What kind of no.
        class: Rejection,
        /// The runtime's own words, on one line.
        message: String,
    },
    /// Something that must be installed or running is missing now. Unlike `Unsupported`, that can change.
    #[error("not available: {0}")]
    Unavailable(String),
    /// The reader was too slow and lost this many items, or its connection.
    #[error("too slow: {0} lost")]
    Lagged(u64),
    /// A defect of this library or its backend, or an answer that makes no sense.
    #[error("internal error: {0}")]
    Internal(String),
}

impl ErrorKind {
    /// A word for the kind, for metrics and logs. It stays the same when messages change.
    #[must_use]
    pub const fn id(&self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::InvalidArgument(_) => "invalid-argument",
            Self::WrongState { .. } => "wrong-state",
            Self::Unsupported { .. } => "unsupported",
            Self::ConfigInvalid(_) => "config-invalid",
            Self::PermissionDenied => "permission-denied",
            Self::Exhausted(_) => "exhausted",
            Self::TimedOut(_) => "timed-out",
            Self::Busy { .. } => "busy",
            Self::PeerLost(_) => "peer-lost",
            Self::Rejected { .. } => "rejected",
            Self::Unavailable(_) => "unavailable",
            Self::Lagged(_) => "lagged",
            Self::Internal(_) => "internal",
        }
    }
}

/// Why a runtime refused.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The program to run does not exist in the container.
    ExecNotFound,
    /// The program to run may not be run.
    ExecPermission,
    /// A security label could not be set.
    SecurityAttribute,
    /// The cgroup is already in use.
    CgroupBusy,
    /// Anything else.
    Other,
}

/// A process that an operation depends on.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Peer {
    /// The process that watches a container.
    #[error("the monitor")]
    Monitor,
    /// The containerd shim.
    #[error("the shim")]
    Shim,
    /// The agent inside a virtual machine.
    #[error("the agent")]
    Agent,
    /// The client at the other end of a stream.
    #[error("the client")]
    Client,
}

/// Whether the same call may help later.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again.
    Never,
    /// It may be repeated at once.
    Safe,
    /// It may be repeated after a while.
    Later,
}

/// What a command did that was run on the caller's behalf.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandDetail {
    /// The command line.
    pub argv: Vec<String>,
    /// Its exit code, 128 + n for a signal; `None` if it never ran or was abandoned.
    pub code: Option<i32>,
    /// The last 8 KiB of what it wrote to standard error.
    pub stderr: String,
}

impl CommandDetail {
    /// A command line, its exit code and the tail of its standard error.
    pub fn new(argv: Vec<String>, code: Option<i32>, stderr: impl Into<String>) -> Self {
        Self { argv, code, stderr: stderr.into() }
    }
}

impl fmt::Display for CommandDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command {:?}", self.argv.join(" "))?;
        if let Some(code) = self.code {
            write!(f, ", exit code {code}")?;
        }
        if !self.stderr.trim().is_empty() {
            write!(f, ", stderr {:?}", self.stderr.trim())?;
        }
        Ok(())
    }
}

/// The status code that a CRI server should answer with (the gRPC codes that the CRI uses).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names and numbers are gRPC's own")]
pub enum CriCode {
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

impl Error {
    /// A failure of this kind, with the retry advice that fits the kind.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        let retry = match kind {
            ErrorKind::TimedOut(_) | ErrorKind::Exhausted(_) | ErrorKind::Unavailable(_) => Retry::Later,
            ErrorKind::Busy { .. } => Retry::Safe,
            _ => Retry::Never,
        };
        Self(Box::new(Repr {
            kind,
            operation: None,
            subject: None,
            hint: None,
            retry,
            command: None,
            source: None,
        }))
    }

    /// The refusal of an unknown container.
    #[must_use]
    pub fn not_found(operation: Operation, id: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound).during(operation).on(format_args!("container \"{id}\""))
    }

    /// Names the operation, unless an inner layer already did.
    #[must_use]
    pub fn during(self, operation: Operation) -> Self {
        self.during_step(operation.id())
    }

    /// Names a step that is no operation of the trait ("open handler"), unless an inner layer already did.
    #[must_use]
    pub fn during_step(mut self, step: impl Into<Cow<'static, str>>) -> Self {
        self.0.operation.get_or_insert(step.into());
        self
    }

    /// Names the thing concerned, unless an inner layer already did.
    #[must_use]
    pub fn on(mut self, subject: impl fmt::Display) -> Self {
        self.0.subject.get_or_insert_with(|| subject.to_string());
        self
    }

    /// Says what the reader can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Overrides the retry advice.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Attaches the command that failed.
    #[must_use]
    pub fn with_command(mut self, command: CommandDetail) -> Self {
        self.0.command = Some(command);
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The operation or step, if one was named.
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.0.operation.as_deref()
    }

    /// The thing concerned, if one was named.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// What the reader can do, if anything is known.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Whether the same call may help later.
    #[must_use]
    pub fn retry_advice(&self) -> Retry {
        self.0.retry
    }

    /// The command that failed, where one was run.
    #[must_use]
    pub fn command(&self) -> Option<&CommandDetail> {
        self.0.command.as_ref()
    }

    /// Whether the kind is [`ErrorKind::NotFound`].
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.0.kind, ErrorKind::NotFound)
    }

    /// Whether the kind is [`ErrorKind::Unsupported`].
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unsupported { .. })
    }

    /// Whether the kind is [`ErrorKind::WrongState`].
    #[must_use]
    pub fn is_wrong_state(&self) -> bool {
        matches!(self.0.kind, ErrorKind::WrongState { .. })
    }

    /// The whole story on one line: this level, the causes, the command and the advice.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        if let Some(command) = self.command() {
            text.push_str("; ");
            text.push_str(&command.to_string());
        }
        if let Some(advice) = self.advice() {
            text.push_str("; ");
            text.push_str(advice);
        }
        text
    }

    /// The code for a CRI server.
    #[must_use]
    pub fn cri_code(&self) -> CriCode {
        match &self.0.kind {
            ErrorKind::NotFound => CriCode::NotFound,
            ErrorKind::AlreadyExists => CriCode::AlreadyExists,
            ErrorKind::InvalidArgument(_) | ErrorKind::ConfigInvalid(_) => CriCode::InvalidArgument,
            ErrorKind::WrongState { .. } => CriCode::FailedPrecondition,
            ErrorKind::Unsupported { .. } => CriCode::Unimplemented,
            ErrorKind::PermissionDenied => CriCode::PermissionDenied,
            ErrorKind::Exhausted(_) | ErrorKind::Lagged(_) => CriCode::ResourceExhausted,
            ErrorKind::TimedOut(_) => CriCode::DeadlineExceeded,
            ErrorKind::Busy { .. } | ErrorKind::PeerLost(_) | ErrorKind::Unavailable(_) => {
                CriCode::Unavailable
            }
            ErrorKind::Rejected { .. } => CriCode::Unknown,
            ErrorKind::Internal(_) => CriCode::Internal,
        }
    }

    /// The exit code of a command line that runs containers: 127 and 126 for a program that is not found or may
    /// not be run, 125 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match &self.0.kind {
            ErrorKind::Rejected { class: Rejection::ExecNotFound, .. } => 127,
            ErrorKind::Rejected { class: Rejection::ExecPermission, .. } => 126,
            _ => 125,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.operation, &self.0.subject) {
            (Some(operation), Some(subject)) => write!(f, "{operation} {subject}: ")?,
            (Some(one), None) => write!(f, "{one}: ")?,
            (None, Some(one)) => write!(f, "{one}: ")?,
            (None, None) => {}
        }
        write!(f, "{}", self.0.kind)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("operation", &self.0.operation)
            .field("subject", &self.0.subject)
            .field("retry", &self.0.retry)
            .field("command", &self.0.command)
            .field("hint", &self.0.hint)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

fn list(allowed: &[ContainerStatus]) -> String {
    allowed.iter().map(|status| status.as_str()).collect::<Vec<_>>().join(", ")
}

fn seconds(duration: &Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn the_innermost_name_is_kept() {
        let error = Error::not_found(Operation::Kill, "a").during(Operation::Stop).on("container \"b\"");
        assert_eq!(error.to_string(), "kill container \"a\": not found");
    }

    #[test]
    fn the_report_tells_cause_command_and_advice() {
        let error = Error::new(ErrorKind::Unavailable("crun".into()))
            .during(Operation::Create)
            .caused_by(std::io::Error::other("no such file"))
            .with_command(CommandDetail::new(vec!["crun".into(), "create".into()], Some(1), "oh\n"))
            .hint("install crun");
        assert_eq!(
            error.report(),
            "create: not available: crun: no such file; command \"crun create\", exit code 1, stderr \"oh\"; install crun"
        );
        assert_eq!(error.retry_advice(), Retry::Later);
    }

    #[test]
    fn codes_for_the_shell_and_the_cri() {
        let refused = |class| Error::new(ErrorKind::Rejected { class, message: String::new() });
        assert_eq!(refused(Rejection::ExecNotFound).exit_code(), 127);
        assert_eq!(refused(Rejection::ExecPermission).exit_code(), 126);
        assert_eq!(refused(Rejection::Other).exit_code(), 125);
        assert_eq!(Error::new(ErrorKind::NotFound).cri_code() as i32, 5);
    }
}
