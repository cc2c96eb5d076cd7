//! What a fake shim answers where it does not do what it is asked, in the words of the shims that there are.

use runtime_api::{Error, ErrorKind, Rejection};
use ttrpc::Code;

/// A status of gRPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    code: Code,
    message: String,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(Code::NOT_FOUND, format!("{what}: not found"))
    }

    pub(super) fn wrong_state(what: &str, state: &str) -> Self {
        Self::new(Code::FAILED_PRECONDITION, format!("cannot {what} a {state} process"))
    }

    /// What the model refuses. `program` is what was to be run.
    pub(super) fn of(error: &Error, program: Option<&str>) -> Self {
        let program = program.unwrap_or_default();
        match error.kind() {
            ErrorKind::NotFound => Self::not_found(&error.to_string()),
            ErrorKind::AlreadyExists => Self::new(Code::ALREADY_EXISTS, error.to_string()),
            ErrorKind::WrongState { .. } => Self::new(Code::FAILED_PRECONDITION, error.to_string()),
            ErrorKind::ConfigInvalid(_) | ErrorKind::InvalidArgument(_) => {
                Self::new(Code::INVALID_ARGUMENT, error.report())
            }
            ErrorKind::Rejected { class: Rejection::ExecNotFound, .. } => {
                let why =
                    format!("OCI runtime failed: exec: \"{program}\": executable file not found in $PATH");
                Self::new(Code::UNKNOWN, why)
            }
            ErrorKind::Rejected { class: Rejection::ExecPermission, .. } => Self::new(
                Code::UNKNOWN,
                format!("OCI runtime failed: exec: \"{program}\": permission denied"),
            ),
            ErrorKind::Rejected { message, .. } => {
                Self::new(Code::UNKNOWN, format!("OCI runtime failed: {message}"))
            }
            _ => Self::new(Code::UNKNOWN, error.report()),
        }
    }

    pub(super) fn into_status(self) -> ttrpc::Status {
        let mut status = ttrpc::Status::new();
        status.set_code(self.code);
        status.message = self.message;
        status
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::of(&error, None)
    }
}
