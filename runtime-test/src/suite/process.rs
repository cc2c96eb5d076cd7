//! Runs one clause in a process of its own: this same binary, called with a hidden sub-command.

use std::fs::{self, File};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio::time::timeout;

use super::here::{BUSY, put_away, tokio_runtime};
use super::{Outcome, SelfCall, cleanup, interruption};
use crate::{Clause, Harness, Scratch, Verdict};

/// What the process gets beyond the deadline of the clause: for opening, cleaning up and looking for leftovers.
const MARGIN: Duration = Duration::from_secs(120);

/// How much of what the process wrote to standard error is shown.
const STDERR_SHOWN: usize = 2000;

/// Starts the process, waits for it, and cleans up after it where it could not do so itself.
pub(super) fn run(
    clause: &'static Clause,
    harness: &Arc<dyn Harness>,
    call: &SelfCall,
    keep: bool,
) -> Outcome {
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => return Outcome::new(Verdict::NotRun, error.report()),
    };
    let tokio = match tokio_runtime(false) {
        Ok(tokio) => tokio,
        Err(error) => return Outcome::new(Verdict::NotRun, format!("cannot start tokio: {error}")),
    };
    let outcome = tokio.block_on(async {
        match run_over(clause, &harness.reference(), call, &scratch).await {
            Ok(outcome) => outcome,
            Err(broken) => {
                let mut leaks = cleanup::clear_afresh(harness, &scratch).await;
                leaks.extend(cleanup::leftovers(&**harness, &scratch).await);
                broken.with_leaks(&leaks)
            }
        }
    });
    put_away(outcome, scratch, keep)
}

/// The outcome that the process reports, or as an error the outcome of a process that could not report any.
async fn run_over(
    clause: &Clause,
    reference: &str,
    call: &SelfCall,
    scratch: &Scratch,
) -> Result<Outcome, Outcome> {
    // Files, not pipes: a monitor that inherits a pipe would hold it open beyond the end of the process.
    let (stdout, stderr) = (scratch.root().join("clause.out"), scratch.root().join("clause.err"));
    let not_run =
        |what: &str, error: std::io::Error| Outcome::new(Verdict::NotRun, format!("{what}: {error}"));
    let file = |path: &Path| File::create(path).map_err(|error| not_run("cannot make a file", error));
    let mut child = Command::new(&call.program)
        .args(&call.args)
        .args(["run-one", "--runtime", reference, "--scratch"])
        .arg(scratch.root())
        .arg(clause.id)
        .stdin(Stdio::null())
        .stdout(file(&stdout)?)
        .stderr(file(&stderr)?)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| not_run("cannot start the process of the clause", error))?;
    let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
    let ended = tokio::select! {
        ended = timeout(2 * (clause.deadline + BUSY) + MARGIN, child.wait()) => ended,
        () = interruption::came() => {
            // It has not been waited for, so its number cannot have gone to another group.
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = child.wait().await;
            return Err(interruption::outcome());
        }
    };
    let shown = || tail(&fs::read(&stderr).unwrap_or_default());
    match ended {
        Ok(Ok(status)) => reported(&stdout).ok_or_else(|| unreported(status, shown())),
        Ok(Err(error)) => Err(not_run("cannot wait for the process of the clause", error)),
        Err(_) => {
            // It has not been waited for, so its number cannot have gone to another group.
            let killed = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = child.wait().await;
            let mut outcome =
                Outcome::new(Verdict::TimedOut, "the process of the clause had to be killed".to_owned());
            outcome.evidence.extend([format!("kill: {killed:?}"), shown()]);
            Err(outcome)
        }
    }
}

/// The last line of standard output; a backend may have printed before it.
fn reported(stdout: &Path) -> Option<Outcome> {
    let text = fs::read_to_string(stdout).ok()?;
    serde_json::from_str(text.lines().next_back()?).ok()
}

fn unreported(status: ExitStatus, stderr: String) -> Outcome {
    let reason = format!("the process of the clause ended ({status}) and reported nothing");
    let mut outcome = Outcome::new(Verdict::Failed, reason);
    outcome.evidence.push(stderr);
    outcome
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let skipped = text.chars().count().saturating_sub(STDERR_SHOWN);
    format!("standard error: {}", text.chars().skip(skipped).collect::<String>().trim())
}
