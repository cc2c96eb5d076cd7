//! Runs one clause in this process.

use std::any::Any;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::{Outcome, cleanup, refusal_of};
use crate::{Bench, Clause, Harness, Scratch, Verdict, known};

/// What a clause gets beyond its deadline in real time: that is the time of a machine that may have much else to do.
pub(super) const BUSY: Duration = Duration::from_secs(90);
/// What real time a clause gets beyond its deadline, for opening and cleaning up.
const MARGIN: Duration = Duration::from_secs(90);

/// Runs one clause as a test: panics unless the runtime keeps it. What [`conformance_tests!`](crate::conformance_tests)
/// calls.
///
/// A host that lacks something makes it return with a line on standard error, or panic where the environment variable
/// `MANYRUN_TEST_STRICT` is set.
///
/// # Panics
/// When the clause does not hold, or holds although it is listed as a known failure.
pub fn keeps(harness: impl Harness, clause: &'static Clause) {
    let id = clause.id;
    if let Some(missing) = harness.unmet() {
        let strict = std::env::var_os("MANYRUN_TEST_STRICT").is_some();
        assert!(!strict, "{id} was skipped: {missing}");
        eprintln!("{id}: skipped: {missing}");
        return;
    }
    let known = known::parse(harness.known_failures()).unwrap_or_else(|error| panic!("{}", error.report()));
    let expected = known.iter().find(|failure| failure.clause == id);
    let outcome = run_here(clause, &(Arc::new(harness) as Arc<dyn Harness>), false);
    let kept = outcome.kept.as_ref().map(|dir| format!("; kept {}", dir.display())).unwrap_or_default();
    let reason = outcome.reason.unwrap_or_default();
    match (expected, outcome.verdict.is_failure()) {
        (None, true) => panic!("{id}: {}: {reason}{kept}\n{}", outcome.verdict, outcome.evidence.join("\n")),
        (Some(failure), true) => eprintln!("{id}: known failure ({}): {reason}", failure.link),
        (Some(failure), false) => panic!("{id} passed, and is listed as a known failure: {}", failure.link),
        (None, false) => {}
    }
}

/// Runs one clause over a fresh scratch, which is removed unless the clause fails or is to be kept.
pub(crate) fn run_here(clause: &'static Clause, harness: &Arc<dyn Harness>, keep: bool) -> Outcome {
    let scratch = if harness.virtual_time() { Scratch::new_in_memory() } else { Scratch::new() };
    match scratch {
        Ok(scratch) => {
            let outcome = run_over(clause, harness, &scratch);
            put_away(outcome, scratch, keep)
        }
        Err(error) => Outcome::new(Verdict::NotRun, error.report()),
    }
}

/// Removes the scratch of a success and keeps that of a failure.
pub(super) fn put_away(mut outcome: Outcome, scratch: Scratch, keep: bool) -> Outcome {
    if keep || outcome.verdict.is_failure() {
        outcome.kept = Some(scratch.root().to_owned());
        return outcome;
    }
    match scratch.remove() {
        Ok(()) => outcome,
        Err(error) => outcome.with_leaks(&[error.report()]),
    }
}

/// Runs one clause, its clean-up and its audit. It gets a thread of its own, so that neither a caller's tokio runtime
/// nor a body that never yields can hold the suite up.
pub(crate) fn run_over(clause: &'static Clause, harness: &Arc<dyn Harness>, scratch: &Scratch) -> Outcome {
    let (tell, told) = mpsc::channel();
    let (thread_harness, thread_scratch) = (Arc::clone(harness), scratch.clone());
    let thread = std::thread::Builder::new().name(clause.id.to_owned()).spawn(move || {
        let started = Instant::now();
        let outcome = match tokio_runtime(thread_harness.virtual_time()) {
            Ok(tokio) => {
                let outcome = tokio.block_on(live(clause, thread_harness, thread_scratch));
                tokio.shutdown_timeout(Duration::from_secs(5));
                outcome
            }
            Err(error) => Outcome::new(Verdict::NotRun, format!("cannot start tokio: {error}")),
        };
        // Nobody listens any more once the suite gave up.
        let _ = tell.send(Outcome { duration: started.elapsed(), ..outcome });
    });
    if let Err(error) = thread {
        return Outcome::new(Verdict::NotRun, format!("cannot start a thread: {error}"));
    }
    told.recv_timeout(2 * deadline_of(clause, &**harness) + MARGIN).unwrap_or_else(|_| {
        Outcome::new(Verdict::TimedOut, "neither the clause nor its clean-up came to an end".to_owned())
    })
}

/// A paused clock jumps ahead whenever everybody waits; that needs a single thread.
pub(crate) fn tokio_runtime(virtual_time: bool) -> std::io::Result<Runtime> {
    if virtual_time {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
    }
}

/// How long a clause may take.
fn deadline_of(clause: &Clause, harness: &dyn Harness) -> Duration {
    if harness.virtual_time() { clause.deadline } else { clause.deadline + BUSY }
}

async fn live(clause: &'static Clause, harness: Arc<dyn Harness>, scratch: Scratch) -> Outcome {
    let deadline = deadline_of(clause, &*harness);
    let opened = timeout(deadline, Bench::open(clause, Arc::clone(&harness), scratch.clone()));
    let bench = match opened.await {
        Ok(Ok(bench)) => Arc::new(bench),
        Ok(Err(error)) => return Outcome::new(Verdict::Failed, format!("cannot open: {}", error.report())),
        Err(_) => return Outcome::new(Verdict::TimedOut, "the runtime cannot be opened in time".to_owned()),
    };
    let outcome = judge(&bench, deadline).await;
    let mut leaks = cleanup::clear(&bench).await;
    drop(bench);
    leaks.extend(cleanup::leftovers(&*harness, &scratch).await);
    outcome.with_leaks(&leaks)
}

/// Runs the body, or the refusal twin where the runtime does not declare what the clause is about.
async fn judge(bench: &Arc<Bench>, deadline: Duration) -> Outcome {
    let clause = bench.clause();
    let undeclared = clause.needs.iter().copied().find(|capability| !bench.has(*capability));
    let body = Arc::clone(bench);
    let mut task = tokio::spawn(async move {
        match undeclared {
            Some(capability) => refusal_of(&body, capability).await,
            None => (clause.run)(&body).await,
        }
    });
    let Ok(ended) = timeout(deadline, &mut task).await else {
        task.abort();
        return Outcome::new(Verdict::TimedOut, format!("not at its end after {} s", deadline.as_secs()));
    };
    match ended {
        Ok(Ok(())) => match undeclared {
            Some(capability) => {
                let why = bench.runtime().capabilities().why_not(capability).unwrap_or_default().to_owned();
                Outcome::new(Verdict::Refused, format!("{capability} is not declared: {why}"))
            }
            None => Outcome::new(Verdict::Passed, None),
        },
        Ok(Err(violation)) => Outcome::new(Verdict::Failed, violation.to_string()),
        Err(error) => Outcome::new(Verdict::Failed, format!("panicked: {}", panic_text(error))),
    }
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => text_of(&*payload),
        Err(error) => error.to_string(),
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "with no message".to_owned())
}

/// Runs one clause in a process that does nothing else, so that every descriptor and child can be attributed to it.
#[expect(clippy::disallowed_methods, reason = "nothing else runs in this process")]
pub(crate) fn run_alone(clause: &'static Clause, harness: &Arc<dyn Harness>, scratch: &Scratch) -> Outcome {
    // What tokio opens once per process must not count.
    drop(tokio_runtime(false));
    let before = crate::audit::descriptors();
    let outcome = run_over(clause, harness, scratch);
    let look = || [crate::audit::new_descriptors(&before), crate::audit::children()].concat();
    // A thread that outlives its runtime value may have one more child to reap.
    let give_up = Instant::now() + Duration::from_secs(10);
    let mut leaks = look();
    while !leaks.is_empty() && Instant::now() < give_up {
        std::thread::sleep(Duration::from_millis(20));
        leaks = look();
    }
    outcome.with_leaks(&leaks)
}
