//! How a call to a shim fails.

use std::time::Duration;

use runtime_api::{Error, ErrorKind, Operation, Peer, Rejection};

use super::TaskApi;
use super::code::{Meaning, StatusCode, meaning};
use crate::text::{one_line, unwrapped};

/// The result of a call.
pub type Answer<T> = Result<T, Fault>;

/// The answer of a shim that is no answer to what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The shim says no.
    #[error("{message} ({code:?})")]
    Refused {
        /// With this code.
        code: StatusCode,
        /// And this message.
        message: String,
    },
    /// The connection is closed: the shim ended, or is being ended. Whether it did what it was asked is not known.
    #[error("the connection is closed: {0}")]
    Closed(String),
    /// There was no answer in time. Whether the shim did what it was asked, or will, is not known.
    #[error("there was no answer within {0:?}")]
    Late(Duration),
    /// The answer makes no sense.
    #[error("the answer makes no sense: {0}")]
    Malformed(String),
    /// The request could not be sent, and nothing was done.
    #[error("the request cannot be sent: {0}")]
    Unsent(String),
}

impl Fault {
    /// What a refusal means; `None` where the shim did not refuse.
    #[must_use]
    pub fn meaning(&self) -> Option<Meaning> {
        match self {
            Self::Refused { code, message } => Some(meaning(*code, message)),
            _ => None,
        }
    }

    /// Whether the shim does not know the container or the exec.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.meaning() == Some(Meaning::NotFound)
    }

    /// Whether there is nothing left to act on: the program ended, the container is unknown, or the shim is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Closed(_)) || matches!(self.meaning(), Some(Meaning::NotFound | Meaning::Ended))
    }

    /// Whether the other side serves no such service.
    pub(super) fn is_unknown_service(&self, api: TaskApi) -> bool {
        let Self::Refused { message, .. } = self else { return false };
        self.meaning() == Some(Meaning::UnknownService) && message.contains(api.service())
    }

    /// The error of an operation that failed by this. A wrong state is [`ErrorKind::Rejected`], for the shim does not say
    /// which state it is: ask for the state, and refuse by the table of operations.
    #[must_use]
    pub fn into_error(self, operation: Operation) -> Error {
        let kind = match &self {
            Self::Refused { message, .. } => {
                refusal(self.meaning().unwrap_or(Meaning::Runtime(Rejection::Other)), operation, message)
            }
            Self::Closed(_) => ErrorKind::PeerLost(Peer::Shim),
            Self::Late(limit) => ErrorKind::TimedOut(*limit),
            Self::Malformed(_) => ErrorKind::Internal("the shim's answer makes no sense".to_owned()),
            Self::Unsent(why) => ErrorKind::InvalidArgument(format!("the request cannot be sent: {why}")),
        };
        Error::new(kind).during(operation).caused_by(self)
    }

    /// As `From`, for a call that had a limit.
    pub(super) fn within(error: ttrpc::Error, limit: Duration) -> Self {
        match Self::from(error) {
            // The library's own clock may be the first of the two.
            Self::Closed(text) if text.contains("deadline elapsed") => Self::Late(limit),
            other => other,
        }
    }
}

fn refusal(meaning: Meaning, operation: Operation, message: &str) -> ErrorKind {
    let rejected = |class| ErrorKind::Rejected { class, message: one_line(message) };
    match meaning {
        Meaning::NotFound => ErrorKind::NotFound,
        // There is nothing to act on. Where something was to be begun it is said of a process that was on the way to it.
        Meaning::Ended if matches!(operation, Operation::Kill | Operation::Stop | Operation::Delete) => {
            ErrorKind::NotFound
        }
        Meaning::Ended => rejected(Rejection::Other),
        Meaning::AlreadyExists => ErrorKind::AlreadyExists,
        Meaning::WrongState => rejected(Rejection::Other),
        Meaning::Unimplemented | Meaning::UnknownService => match operation.row().needs {
            Some(capability) => {
                let why = format!("the shim does not implement it: {}", one_line(message));
                ErrorKind::Unsupported { capability, why }
            }
            None => rejected(Rejection::Other),
        },
        Meaning::InvalidArgument => ErrorKind::InvalidArgument(one_line(message)),
        Meaning::PermissionDenied => ErrorKind::PermissionDenied,
        Meaning::Exhausted => ErrorKind::Exhausted(one_line(message)),
        Meaning::Late | Meaning::Unavailable => {
            ErrorKind::Unavailable(format!("the shim cannot do it now: {}", one_line(message)))
        }
        Meaning::Runtime(class) => rejected(class),
    }
}

impl From<ttrpc::Error> for Fault {
    fn from(error: ttrpc::Error) -> Self {
        match error {
            ttrpc::Error::RpcStatus(status) => Self::Refused {
                code: StatusCode::from_number(status.code.value()),
                message: unwrapped(status.message),
            },
            // Others are told as a socket's, too, and what stopped a request before it was sent is not told apart.
            other => Self::Closed(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: StatusCode, message: &str) -> Fault {
        Fault::Refused { code, message: message.to_owned() }
    }

    #[test]
    fn refusals_become_the_errors_that_callers_match_on() {
        let kind = |fault: Fault, operation| fault.into_error(operation).kind().clone();
        assert_eq!(kind(refused(StatusCode::NotFound, "x"), Operation::State), ErrorKind::NotFound);
        let ended = refused(StatusCode::NotFound, "process already finished: not found");
        assert!(ended.is_gone() && !ended.is_not_found());
        assert_eq!(kind(ended.clone(), Operation::Kill), ErrorKind::NotFound);
        assert!(matches!(kind(ended, Operation::Create), ErrorKind::Rejected { .. }));
        let missing = refused(StatusCode::Unimplemented, "method Checkpoint");
        let error = missing.into_error(Operation::Checkpoint);
        assert!(error.is_unsupported(), "{error:?}");
        // What every runtime must do cannot be unsupported.
        let error = refused(StatusCode::Unimplemented, "method Kill").into_error(Operation::Kill);
        assert!(matches!(error.kind(), ErrorKind::Rejected { class: Rejection::Other, .. }), "{error:?}");
        let lost = kind(Fault::Closed("x".into()), Operation::Wait);
        assert_eq!(lost, ErrorKind::PeerLost(Peer::Shim));
        let limit = Duration::from_secs(3);
        assert_eq!(kind(Fault::Late(limit), Operation::Start), ErrorKind::TimedOut(limit));
    }

    #[test]
    fn the_runtime_below_is_quoted_on_one_line_and_without_backtrace() {
        let fault = refused(StatusCode::Unknown, "it\n  failed\n\nStack backtrace:\n   0: x");
        let error = fault.into_error(Operation::Create);
        assert_eq!(error.to_string(), "create: the runtime refused: it failed");
    }

    #[test]
    fn the_librarys_clock_and_ours_say_the_same() {
        let elapsed = ttrpc::Error::Others("Request deadline elapsed".into());
        let limit = Duration::from_millis(7);
        assert_eq!(Fault::within(elapsed, limit), Fault::Late(limit));
        let closed = Fault::within(ttrpc::Error::RemoteClosed, limit);
        assert!(matches!(closed, Fault::Closed(_)) && closed.is_gone());
    }
}
