//! Runs many clauses and makes the report.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

use runtime_api::Result;

use super::{Outcome, interruption, process, run_here, select};
use crate::known::{self, KnownFailure};
use crate::report::{ClauseResult, HostFacts, Report, RuntimeFacts};
use crate::{Clause, Harness, Scratch, Verdict};

/// How a run is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Ids, areas or beginnings of ids; all clauses without any.
    pub filters: Vec<String>,
    /// How many clauses may run at the same time.
    pub jobs: usize,
    /// Keep the scratch directories of successes too.
    pub keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { filters: Vec::new(), jobs: 1, keep: false }
    }
}

/// How this binary is called again for a process per clause: everything before `run-one`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfCall {
    /// The binary.
    pub program: PathBuf,
    /// Its first arguments, such as `conformance`.
    pub args: Vec<OsString>,
}

/// Runs the clauses that the options select and tells each result as soon as it is there.
///
/// With a [`SelfCall`] each clause gets a process of its own, unless the runtime lives on virtual time.
///
/// # Errors
/// `InvalidArgument` for a filter that selects nothing, `ConfigInvalid` for a broken list of known failures.
pub fn run(
    harness: &Arc<dyn Harness>,
    options: &Options,
    call: Option<&SelfCall>,
    mut tell: impl FnMut(&ClauseResult),
) -> Result<Report> {
    let selected = select(&options.filters)?;
    let known = known::parse(harness.known_failures())?;
    let mut facts = RuntimeFacts::unopened(harness.reference());
    let results = match reason_not_to_run(harness, &mut facts) {
        Some((verdict, reason)) => {
            let same = |clause: &&'static Clause| {
                let result = ClauseResult::new(clause, Outcome::new(verdict, reason.clone()), None);
                tell(&result);
                result
            };
            selected.iter().map(same).collect()
        }
        None => run_all(&selected, options.jobs, &mut tell, |clause| {
            let outcome = match call {
                _ if interruption::code().is_some() => interruption::outcome(),
                Some(call) if !harness.virtual_time() => process::run(clause, harness, call, options.keep),
                _ => run_here(clause, harness, options.keep),
            };
            let listed = known.iter().find(|failure| failure.clause == clause.id);
            expected_or_not(clause, outcome, listed)
        }),
    };
    Ok(Report::new(facts, HostFacts::read(), results))
}

/// What is the same for every clause: a host that lacks something, or a runtime that cannot even be opened.
fn reason_not_to_run(harness: &Arc<dyn Harness>, facts: &mut RuntimeFacts) -> Option<(Verdict, String)> {
    if let Some(missing) = harness.unmet() {
        return Some((Verdict::Skipped, missing));
    }
    let looked = Scratch::new().and_then(|scratch| {
        let facts = RuntimeFacts::read(harness, &scratch);
        scratch.remove().and(facts)
    });
    match looked {
        Ok(read) => {
            *facts = read;
            None
        }
        Err(error) => Some((Verdict::NotRun, format!("the runtime cannot be opened: {}", error.report()))),
    }
}

/// Lets up to `jobs` threads take clauses from the list, and gives the results in the order of the list.
fn run_all(
    selected: &[&'static Clause],
    jobs: usize,
    tell: &mut impl FnMut(&ClauseResult),
    run_one: impl Fn(&'static Clause) -> ClauseResult + Sync,
) -> Vec<ClauseResult> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let mut in_order = BTreeMap::new();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, selected.len().max(1)) {
            let (sender, next, run_one) = (sender.clone(), &next, &run_one);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(clause) = selected.get(index) else { return };
                    if sender.send((index, run_one(clause))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (index, result) in results {
            tell(&result);
            in_order.insert(index, result);
        }
    });
    in_order.into_values().collect()
}

fn expected_or_not(
    clause: &'static Clause,
    mut outcome: Outcome,
    listed: Option<&KnownFailure>,
) -> ClauseResult {
    let Some(listed) = listed else { return ClauseResult::new(clause, outcome, None) };
    let (verdict, reason) = match outcome.verdict {
        Verdict::Failed | Verdict::TimedOut | Verdict::Leaked => {
            let found = outcome.reason.take().unwrap_or_default();
            (Verdict::KnownFailures, format!("{}: {found}", listed.reason))
        }
        Verdict::Passed | Verdict::Refused => (
            Verdict::SurprisePasses,
            format!("it is listed as a known failure ({}) and did not fail", listed.reason),
        ),
        _ => return ClauseResult::new(clause, outcome, None),
    };
    outcome.verdict = verdict;
    outcome.reason = Some(reason);
    ClauseResult::new(clause, outcome, Some(listed.link.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clauses;

    fn listed() -> KnownFailure {
        KnownFailure { clause: clauses::ALL[0].id.into(), reason: "old kernel".into(), link: "url".into() }
    }

    #[test]
    fn a_known_failure_is_told_apart_from_a_surprise() {
        let judged = |verdict| {
            let outcome = Outcome::new(verdict, "found".to_owned());
            expected_or_not(clauses::ALL[0], outcome, Some(&listed()))
        };
        let failed = judged(Verdict::Failed);
        assert_eq!(failed.verdict, Verdict::KnownFailures);
        assert_eq!(failed.reason.as_deref(), Some("old kernel: found"));
        assert_eq!(failed.link.as_deref(), Some("url"));
        assert_eq!(judged(Verdict::Passed).verdict, Verdict::SurprisePasses);
        assert_eq!(judged(Verdict::Skipped).verdict, Verdict::Skipped);
    }

    #[test]
    fn results_keep_the_order_of_the_list_however_many_jobs_there_are() {
        let told = &mut 0;
        let results = run_all(clauses::ALL, 4, &mut |_| *told += 1, |clause| {
            ClauseResult::new(clause, Outcome::new(Verdict::Passed, None), None)
        });
        let ids: Vec<_> = results.iter().map(|result| result.id.as_str()).collect();
        let expected: Vec<_> = clauses::ALL.iter().map(|clause| clause.id).collect();
        assert_eq!(ids, expected);
        assert_eq!(*told, clauses::ALL.len());
    }
}
