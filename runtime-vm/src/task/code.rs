//! What a status code and its message mean, and which code says a failure of ours.
//!
//! Shims wrap the same failure in different codes, and many use `UNKNOWN` for all that the runtime below them says. So the
//! tables here look at the code, and at the message where the code says nothing.

use runtime_api::{Error, ErrorKind, Rejection};

/// The status codes of gRPC, which ttrpc shares.
#[expect(missing_docs, reason = "the names and numbers are gRPC's own")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusCode {
    Ok,
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
    Other(i32),
}

const NUMBERED: [StatusCode; 17] = [
    StatusCode::Ok,
    StatusCode::Cancelled,
    StatusCode::Unknown,
    StatusCode::InvalidArgument,
    StatusCode::DeadlineExceeded,
    StatusCode::NotFound,
    StatusCode::AlreadyExists,
    StatusCode::PermissionDenied,
    StatusCode::ResourceExhausted,
    StatusCode::FailedPrecondition,
    StatusCode::Aborted,
    StatusCode::OutOfRange,
    StatusCode::Unimplemented,
    StatusCode::Internal,
    StatusCode::Unavailable,
    StatusCode::DataLoss,
    StatusCode::Unauthenticated,
];

impl StatusCode {
    /// The code with this number.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        let known = usize::try_from(number).ok().and_then(|at| NUMBERED.get(at).copied());
        known.unwrap_or(Self::Other(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Other(number) => number,
            known => NUMBERED.iter().zip(0..).find(|(code, _)| **code == known).map_or(2, |(_, at)| at),
        }
    }
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// There is no such container or exec.
    NotFound,
    /// It is there, and its program has ended.
    Ended,
    /// The id is taken.
    AlreadyExists,
    /// It is there, and not in a state for this.
    WrongState,
    /// The shim has no such method, or will not do this.
    Unimplemented,
    /// The shim does not serve this service at all.
    UnknownService,
    /// The request is wrong.
    InvalidArgument,
    /// The host does not let the shim.
    PermissionDenied,
    /// A limit is reached.
    Exhausted,
    /// The shim gave up waiting for something.
    Late,
    /// The shim cannot do it now.
    Unavailable,
    /// The runtime below the shim refused.
    Runtime(Rejection),
}

use Meaning as M;
use StatusCode as S;

/// Fragments of a message, in this order and in any letter case, and what a message with them means whatever its code is.
const BY_MESSAGE: &[(&[&str], Meaning)] = &[
    (&["process already finished"], M::Ended),
    (&["/proc/", "/attr/"], M::Runtime(Rejection::SecurityAttribute)),
    (&["executable file", "not found"], M::Runtime(Rejection::ExecNotFound)),
    (&["exec: \"", "no such file or directory"], M::Runtime(Rejection::ExecNotFound)),
    (&["open executable", "no such file or directory"], M::Runtime(Rejection::ExecNotFound)),
    (&["executable '", "not found in $path"], M::Runtime(Rejection::ExecNotFound)),
    (&["exec: \"", "permission denied"], M::Runtime(Rejection::ExecPermission)),
    (&["exec: \"", "is a directory"], M::Runtime(Rejection::ExecPermission)),
    (&["open executable", "permission denied"], M::Runtime(Rejection::ExecPermission)),
    (&["open executable", "operation not permitted"], M::Runtime(Rejection::ExecPermission)),
    (&["executable '", "does not have correct permissions"], M::Runtime(Rejection::ExecPermission)),
];

/// The same for messages whose code says nothing.
const BY_MESSAGE_ALONE: &[(&[&str], Meaning)] = &[
    (&["container does not exist"], M::NotFound),
    (&["no such process"], M::Ended),
    (&["container not running"], M::WrongState),
    (&["container not paused"], M::WrongState),
    (&["cannot start an already running container"], M::WrongState),
    (&["container with given id already exists"], M::AlreadyExists),
    (&["container `", "` already exists"], M::AlreadyExists),
    (&["container with id ", " already exists"], M::AlreadyExists),
];

/// And for those that are the shim's own words. The same words of a runtime are about something else: a file that was not
/// found, a mount that is not supported.
const BY_WORDS_OF_THE_SHIM: &[(&[&str], Meaning)] = &[
    // "cannot start a running process", "cannot exec in a stopped state"
    (&["cannot ", " process"], M::WrongState),
    (&["cannot ", " in ", " state"], M::WrongState),
    (&["not implemented"], M::Unimplemented),
    (&["not supported"], M::Unimplemented),
    (&["already exists"], M::AlreadyExists),
    (&["not found"], M::NotFound),
];

/// What a code means by itself.
const BY_CODE: &[(StatusCode, Meaning)] = &[
    (S::InvalidArgument, M::InvalidArgument),
    (S::OutOfRange, M::InvalidArgument),
    (S::DeadlineExceeded, M::Late),
    (S::NotFound, M::NotFound),
    (S::AlreadyExists, M::AlreadyExists),
    (S::PermissionDenied, M::PermissionDenied),
    (S::Unauthenticated, M::PermissionDenied),
    (S::ResourceExhausted, M::Exhausted),
    (S::FailedPrecondition, M::WrongState),
    (S::Unimplemented, M::Unimplemented),
    (S::Unavailable, M::Unavailable),
];

/// What a code with its message means.
#[must_use]
pub fn meaning(code: StatusCode, message: &str) -> Meaning {
    let lower = message.to_lowercase();
    if let Some(meaning) = dispatch(code, &lower) {
        return meaning;
    }
    if let Some(meaning) = first(BY_MESSAGE, &lower) {
        return meaning;
    }
    if let Some((_, meaning)) = BY_CODE.iter().find(|(known, _)| *known == code) {
        return *meaning;
    }
    let own_words = || first(BY_WORDS_OF_THE_SHIM, &lower).filter(|_| !lower.contains("oci runtime "));
    first(BY_MESSAGE_ALONE, &lower).or_else(own_words).unwrap_or(M::Runtime(Rejection::Other))
}

/// What the servers say themselves, without asking the service: in Go and in Rust.
fn dispatch(code: StatusCode, lower: &str) -> Option<Meaning> {
    let service = match code {
        S::Unimplemented => lower.starts_with("service "),
        S::InvalidArgument => lower.ends_with(" service does not exist"),
        _ => false,
    };
    if service {
        return Some(M::UnknownService);
    }
    let method = code == S::NotFound && lower.starts_with('/') && lower.ends_with(" is not supported");
    method.then_some(M::Unimplemented)
}

fn first(rows: &[(&[&str], Meaning)], lower: &str) -> Option<Meaning> {
    let fits = |fragments: &[&str]| {
        let mut rest = lower;
        fragments.iter().all(|fragment| match rest.split_once(fragment) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    };
    rows.iter().find(|(fragments, _)| fits(fragments)).map(|(_, meaning)| *meaning)
}

/// The code and the message with which a shim says a failure, so that [`meaning`] finds it again.
#[must_use]
pub fn status_of(error: &Error) -> (StatusCode, String) {
    let code = match error.kind() {
        ErrorKind::NotFound => S::NotFound,
        ErrorKind::AlreadyExists => S::AlreadyExists,
        ErrorKind::InvalidArgument(_) | ErrorKind::ConfigInvalid(_) => S::InvalidArgument,
        ErrorKind::WrongState { .. } => S::FailedPrecondition,
        ErrorKind::Unsupported { .. } => S::Unimplemented,
        ErrorKind::PermissionDenied => S::PermissionDenied,
        ErrorKind::Exhausted(_) | ErrorKind::Lagged(_) => S::ResourceExhausted,
        ErrorKind::TimedOut(_) => S::DeadlineExceeded,
        ErrorKind::Busy { .. } | ErrorKind::PeerLost(_) | ErrorKind::Unavailable(_) => S::Unavailable,
        ErrorKind::Internal(_) => S::Internal,
        _ => S::Unknown,
    };
    let ErrorKind::Rejected { class, message } = error.kind() else { return (code, error.to_string()) };
    // In the words of runc, if its own do not tell the class.
    let told = meaning(code, message) == M::Runtime(*class);
    let words = match class {
        _ if told => "",
        Rejection::ExecNotFound => ": exec: \"\": executable file not found in $PATH",
        Rejection::ExecPermission => ": exec: \"\": permission denied",
        Rejection::SecurityAttribute => ": write /proc/self/attr/exec",
        _ => "",
    };
    (code, format!("{message}{words}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::{Capability, ContainerStatus, Peer};
    use std::time::Duration;

    #[test]
    fn a_code_and_its_number_belong_together() {
        for number in -1..20 {
            assert_eq!(StatusCode::from_number(number).number(), number);
        }
        assert_eq!(StatusCode::from_number(5), S::NotFound);
        assert_eq!(StatusCode::from_number(16), S::Unauthenticated);
        assert_eq!(StatusCode::from_number(17), S::Other(17));
    }

    #[test]
    fn codes_and_messages_have_one_meaning() {
        let not_found = M::Runtime(Rejection::ExecNotFound);
        let rows: &[(StatusCode, &str, Meaning)] = &[
            (S::NotFound, "container not created: not found", M::NotFound),
            (S::NotFound, "process already finished: not found", M::Ended),
            (S::NotFound, "task a not found", M::NotFound),
            (S::NotFound, "/containerd.task.v3.Task/Stats is not supported", M::Unimplemented),
            (S::AlreadyExists, "id a: already exists", M::AlreadyExists),
            (S::FailedPrecondition, "cannot delete a running process", M::WrongState),
            (S::Unimplemented, "method Checkpoint", M::Unimplemented),
            (S::Unimplemented, "service containerd.task.v3.Task", M::UnknownService),
            (S::InvalidArgument, "containerd.task.v2.Task service does not exist", M::UnknownService),
            (S::InvalidArgument, "no such signal", M::InvalidArgument),
            (S::PermissionDenied, "", M::PermissionDenied),
            (S::ResourceExhausted, "message length 5000000 exceeds", M::Exhausted),
            (S::DeadlineExceeded, "context deadline exceeded", M::Late),
            (S::Unavailable, "ttrpc: closed", M::Unavailable),
            (S::Unknown, "container does not exist", M::NotFound),
            (S::Unknown, "cannot start a running process", M::WrongState),
            (S::Unknown, "cannot pause task in created state", M::WrongState),
            (S::Unknown, "something else went wrong", M::Runtime(Rejection::Other)),
            (S::Internal, "something else went wrong", M::Runtime(Rejection::Other)),
            (S::Other(99), "", M::Runtime(Rejection::Other)),
            (
                S::Unknown,
                "OCI runtime create failed: runc create failed: unable to start container process: exec: \"nope\": executable file not found in $PATH: unknown",
                not_found,
            ),
            (
                S::Unknown,
                "OCI runtime create failed: runc create failed: unable to start container process: exec: \"/nope\": stat /nope: no such file or directory: unknown",
                not_found,
            ),
            (S::NotFound, "executable file `/nope` not found in $PATH: No such file or directory", not_found),
            (
                S::Unknown,
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/tmp\": permission denied: unknown",
                M::Runtime(Rejection::ExecPermission),
            ),
            (
                S::Unknown,
                "OCI runtime create failed: runc create failed: container with given ID already exists",
                M::AlreadyExists,
            ),
            (S::Unknown, "OCI runtime create failed: container `a` already exists", M::AlreadyExists),
            (
                S::Unknown,
                "OCI runtime create failed: error mounting \"x\": operation not supported",
                M::Runtime(Rejection::Other),
            ),
            (
                S::Unknown,
                "OCI runtime exec failed: unable to find user x: not found",
                M::Runtime(Rejection::Other),
            ),
            (S::Unknown, "exec one not found", M::NotFound),
            (S::Internal, "checkpoint is not implemented", M::Unimplemented),
            (
                S::Unknown,
                "OCI runtime create failed: invalid rootfs: stat /x/rootfs: no such file or directory",
                M::Runtime(Rejection::Other),
            ),
        ];
        for (code, message, expected) in rows {
            assert_eq!(meaning(*code, message), *expected, "{code:?} {message:?}");
        }
    }

    #[test]
    fn what_a_shim_of_ours_says_is_understood() {
        let rejected = |class| ErrorKind::Rejected { class, message: "it would not".into() };
        let rows = [
            (ErrorKind::NotFound, M::NotFound),
            (ErrorKind::AlreadyExists, M::AlreadyExists),
            (ErrorKind::InvalidArgument("x".into()), M::InvalidArgument),
            (ErrorKind::ConfigInvalid("x".into()), M::InvalidArgument),
            (
                ErrorKind::WrongState { is: ContainerStatus::Stopped, stopping: false, allowed: &[] },
                M::WrongState,
            ),
            (ErrorKind::Unsupported { capability: Capability::Stats, why: "x".into() }, M::Unimplemented),
            (ErrorKind::PermissionDenied, M::PermissionDenied),
            (ErrorKind::Exhausted("x".into()), M::Exhausted),
            (ErrorKind::TimedOut(Duration::from_secs(1)), M::Late),
            (ErrorKind::Busy { holder: "x".into() }, M::Unavailable),
            (ErrorKind::PeerLost(Peer::Agent), M::Unavailable),
            (ErrorKind::Unavailable("x".into()), M::Unavailable),
            (rejected(Rejection::ExecNotFound), M::Runtime(Rejection::ExecNotFound)),
            (rejected(Rejection::ExecPermission), M::Runtime(Rejection::ExecPermission)),
            (rejected(Rejection::SecurityAttribute), M::Runtime(Rejection::SecurityAttribute)),
            (rejected(Rejection::Other), M::Runtime(Rejection::Other)),
            (ErrorKind::Internal("x".into()), M::Runtime(Rejection::Other)),
        ];
        for (kind, expected) in rows {
            let (code, message) = status_of(&Error::new(kind.clone()));
            assert_eq!(meaning(code, &message), expected, "{kind:?} was said as {code:?} {message:?}");
        }
    }
}
