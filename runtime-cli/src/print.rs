//! What this command prints passes here, so that no lost output ends with code 0; the suite has a sink of its own
//! (`runtime_test::cli`).

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// The code of a command whose output was lost.
pub(crate) const LOST: u8 = 125;

/// The first error of standard output that is no reader's leave-taking.
static FAILED: Mutex<Option<String>> = Mutex::new(None);

/// Writes to standard output. An error is kept for [`closed`].
pub(crate) fn out(bytes: &[u8]) {
    let _ = try_out(bytes);
}

/// [`out`] for what has no end: the error tells that more need not be written.
pub(crate) fn try_out(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).inspect_err(keep)
}

/// Writes to standard error. That nobody reads it must not keep the command from its work.
pub(crate) fn err(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Keeps an error of standard output. A reader that has left, as `head` does, has seen what it wanted.
pub(crate) fn keep(error: &io::Error) {
    if error.kind() != ErrorKind::BrokenPipe {
        let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert_with(|| cause(error));
    }
}

/// What a command that ends with this code ends with, when its output was lost.
pub(crate) fn closed(code: ExitCode) -> ExitCode {
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map_or(code, |cause| {
        crate::tell(&format!("write standard output: {cause}"));
        ExitCode::from(LOST)
    })
}

/// The words of an error, without its number.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
