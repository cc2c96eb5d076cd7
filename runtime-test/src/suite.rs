//! Runs clauses against a runtime.

mod cleanup;
mod here;
pub(crate) mod interruption;
mod plan;
mod process;
mod refusal;
mod runner;

pub use here::keeps;
pub use plan::select;
pub use runner::{Options, SelfCall, run};

pub(crate) use here::{run_alone, run_here, tokio_runtime};
pub(crate) use refusal::{call, refusal_at_create, refusal_of, undeclared_is_refused};

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Verdict;

/// What running one clause gave, before it is known whether that was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) reason: Option<String>,
    pub(crate) evidence: Vec<String>,
    pub(crate) duration: Duration,
    /// The scratch directory, where it was kept.
    pub(crate) kept: Option<PathBuf>,
}

impl Outcome {
    pub(crate) fn new(verdict: Verdict, reason: impl Into<Option<String>>) -> Self {
        Self { verdict, reason: reason.into(), evidence: Vec::new(), duration: Duration::ZERO, kept: None }
    }

    /// Adds what was left behind: a pass becomes a leak, and a failure stays what it is.
    pub(crate) fn with_leaks(mut self, leaks: &[String]) -> Self {
        if leaks.is_empty() {
            return self;
        }
        if matches!(self.verdict, Verdict::Passed | Verdict::Refused) {
            self.verdict = Verdict::Leaked;
            self.reason = Some(format!("left behind: {}", leaks.join("; ")));
        } else {
            self.evidence.extend(leaks.iter().map(|leak| format!("left behind: {leak}")));
        }
        self
    }
}

#[cfg(test)]
mod tests;
