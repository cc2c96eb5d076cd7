//! What is said on the control socket: one line of JSON for the request, one for the answer, and that is all of one
//! connection.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use runtime_api::{CommandDetail, Error, ErrorKind, Peer, Rejection};

use super::{Fifos, Key, ProgramOrder, ProgramState};

/// The longest request.
pub(super) const REQUEST: usize = 64 * 1024;
/// The longest answer. It tells of every program that the monitor has.
pub(super) const ANSWER: usize = 4 * 1024 * 1024;

/// What a monitor can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// Make everything that a program's streams need.
    Add(ProgramOrder),
    /// The shim knows the program now: wait for its end, and write it down.
    Watch(Key),
    /// Open the log's path anew.
    ReopenLog(Key),
    /// End the input.
    CloseStdin(Key),
    /// Let go of a program, whatever it does.
    Remove(Key),
    /// Tell how everything stands.
    Status,
    /// Leave.
    End,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Done,
    Added(Fifos),
    Status(MonitorState),
    Refused(Refusal),
}

/// How a monitor stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorState {
    /// Whether the shim is there.
    pub shim: bool,
    /// The programs that it was given and that were not taken back.
    pub programs: Vec<(Key, ProgramState)>,
}

impl MonitorState {
    /// How one program stands.
    #[must_use]
    pub fn program(&self, key: &Key) -> Option<&ProgramState> {
        self.programs.iter().find(|(each, _)| each == key).map(|(_, state)| state)
    }
}

/// An error on its way to another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    kind: RefusalKind,
    /// What was being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    /// What it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// What caused it, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
    /// The command that failed: its words, its exit code, and what it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<(Vec<String>, Option<i32>, String)>,
}

/// The kinds of errors that matter to who asks; any other is internal, with its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefusalKind {
    NotFound,
    AlreadyExists,
    InvalidArgument(String),
    ConfigInvalid(String),
    PermissionDenied,
    Exhausted(String),
    TimedOut(Duration),
    Unavailable(String),
    Rejected(Rejection, String),
    ShimLost,
    Internal(String),
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound => RefusalKind::NotFound,
            ErrorKind::AlreadyExists => RefusalKind::AlreadyExists,
            ErrorKind::InvalidArgument(what) => RefusalKind::InvalidArgument(what.clone()),
            ErrorKind::ConfigInvalid(what) => RefusalKind::ConfigInvalid(what.clone()),
            ErrorKind::PermissionDenied => RefusalKind::PermissionDenied,
            ErrorKind::Exhausted(what) => RefusalKind::Exhausted(what.clone()),
            ErrorKind::TimedOut(limit) => RefusalKind::TimedOut(*limit),
            ErrorKind::Unavailable(what) => RefusalKind::Unavailable(what.clone()),
            ErrorKind::Rejected { class, message } => RefusalKind::Rejected(*class, message.clone()),
            ErrorKind::PeerLost(Peer::Shim) => RefusalKind::ShimLost,
            ErrorKind::Internal(what) => RefusalKind::Internal(what.clone()),
            other => RefusalKind::Internal(other.to_string()),
        };
        let mut causes = Vec::new();
        let mut next = std::error::Error::source(error);
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        let (step, subject) = (error.operation().map(str::to_owned), error.subject().map(str::to_owned));
        let command = error.command().map(|did| (did.argv.clone(), did.code, did.stderr.clone()));
        Self { kind, step, subject, hint: error.advice().map(str::to_owned), causes, command }
    }
}

impl Refusal {
    // No `From`: a second conversion to the error of every crate would make `?` ambiguous there.
    pub(super) fn into_error(self) -> Error {
        let kind = match self.kind {
            RefusalKind::NotFound => ErrorKind::NotFound,
            RefusalKind::AlreadyExists => ErrorKind::AlreadyExists,
            RefusalKind::InvalidArgument(what) => ErrorKind::InvalidArgument(what),
            RefusalKind::ConfigInvalid(what) => ErrorKind::ConfigInvalid(what),
            RefusalKind::PermissionDenied => ErrorKind::PermissionDenied,
            RefusalKind::Exhausted(what) => ErrorKind::Exhausted(what),
            RefusalKind::TimedOut(limit) => ErrorKind::TimedOut(limit),
            RefusalKind::Unavailable(what) => ErrorKind::Unavailable(what),
            RefusalKind::Rejected(class, message) => ErrorKind::Rejected { class, message },
            RefusalKind::ShimLost => ErrorKind::PeerLost(Peer::Shim),
            RefusalKind::Internal(what) => ErrorKind::Internal(what),
        };
        let mut error = Error::new(kind);
        if let Some(step) = self.step {
            error = error.during_step(step);
        }
        if let Some(subject) = self.subject {
            error = error.on(subject);
        }
        if let Some(hint) = self.hint {
            error = error.hint(hint);
        }
        if !self.causes.is_empty() {
            error = error.caused_by(self.causes.join(": "));
        }
        if let Some((argv, code, stderr)) = self.command {
            error = error.with_command(CommandDetail::new(argv, code, stderr));
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_the_same_on_both_sides() {
        for kind in [
            ErrorKind::NotFound,
            ErrorKind::AlreadyExists,
            ErrorKind::InvalidArgument("a".into()),
            ErrorKind::ConfigInvalid("b".into()),
            ErrorKind::PermissionDenied,
            ErrorKind::Exhausted("c".into()),
            ErrorKind::TimedOut(Duration::from_millis(1500)),
            ErrorKind::Unavailable("d".into()),
            ErrorKind::Rejected { class: Rejection::Other, message: "e".into() },
            ErrorKind::PeerLost(Peer::Shim),
            ErrorKind::Internal("f".into()),
        ] {
            let error = Error::new(kind)
                .during_step("open")
                .on("log /l")
                .hint("do it")
                .with_command(CommandDetail::new(vec!["shim".into(), "start".into()], Some(1), "no"))
                .caused_by(std::io::Error::other("the disk"));
            let text = serde_json::to_string(&Refusal::from(&error)).unwrap();
            let there = serde_json::from_str::<Refusal>(&text).unwrap().into_error();
            assert_eq!(there.kind(), error.kind());
            assert_eq!(there.report(), error.report());
        }
        // What nobody acts on keeps its words.
        let lost = Refusal::from(&Error::new(ErrorKind::Lagged(7))).into_error();
        assert!(lost.to_string().contains("7 lost"), "{lost}");
    }
}
