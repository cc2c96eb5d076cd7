//! What a run found, as a value; the writers make text and JSON of it.

mod host;
pub mod json;
pub mod text;

use std::sync::Arc;

use runtime_api::{Capabilities, Error, ErrorKind, Result, RuntimeInfo};
use serde::{Deserialize, Serialize};

use crate::suite::Outcome;
use crate::{Clause, Harness, Scratch, Summary, Verdict};

pub use host::HostFacts;

/// A whole run.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this shape.
    pub schema: u32,
    /// The version of the suite.
    pub suite: String,
    /// Who was tested.
    pub runtime: RuntimeFacts,
    /// Where.
    pub host: HostFacts,
    /// How many clauses came out how.
    pub summary: Summary,
    /// Each clause, in the order of the list.
    pub clauses: Vec<ClauseResult>,
}

/// Who was tested.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuntimeFacts {
    /// The name that it was called by.
    pub reference: String,
    /// Who it says that it is, where it could be opened.
    #[serde(flatten)]
    pub info: Option<RuntimeInfo>,
    /// What it says that it can do, where it could be opened.
    pub capabilities: Option<Capabilities>,
}

/// How one clause came out.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClauseResult {
    /// The clause's id.
    pub id: String,
    /// Its area.
    pub area: String,
    /// Whom it binds: `core` or `declared`.
    pub level: String,
    /// The operation whose documentation says it.
    pub operation: String,
    /// The capability that it is about, if it is about one.
    pub capability: Option<String>,
    /// How it came out.
    pub verdict: Verdict,
    /// Why, unless it passed.
    pub reason: Option<String>,
    /// Where a known failure is reported.
    pub link: Option<String>,
    /// How long it took, cleaning up included.
    pub duration_ms: u64,
    /// What else was seen, one line each; the directory that was kept is among them.
    pub evidence: Vec<String>,
}

impl Report {
    /// The version of the JSON document.
    pub const SCHEMA: u32 = 1;

    /// Counts the results and puts everything together.
    #[must_use]
    pub fn new(runtime: RuntimeFacts, host: HostFacts, clauses: Vec<ClauseResult>) -> Self {
        let summary = Summary::of(clauses.iter().map(|clause| clause.verdict));
        let suite = env!("CARGO_PKG_VERSION").to_owned();
        Self { schema: Self::SCHEMA, suite, runtime, host, summary, clauses }
    }
}

impl RuntimeFacts {
    /// A runtime that was not opened.
    #[must_use]
    pub const fn unopened(reference: String) -> Self {
        Self { reference, info: None, capabilities: None }
    }

    /// Opens a value over the scratch, asks it who it is, and ends it.
    pub(crate) fn read(harness: &Arc<dyn Harness>, scratch: &Scratch) -> Result<Self> {
        let (harness, scratch) = (Arc::clone(harness), scratch.clone());
        // A thread of its own: the caller may be inside a tokio runtime already.
        let reading = std::thread::spawn(move || {
            let tokio = crate::suite::tokio_runtime(harness.virtual_time()).map_err(internal)?;
            tokio.block_on(async {
                let limit = Clause::DEADLINE;
                let opened = tokio::time::timeout(limit, harness.open(&scratch)).await;
                let runtime = opened.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::TimedOut(limit)).during_step("open the runtime"))
                })?;
                let facts = Self {
                    reference: harness.reference(),
                    info: Some(runtime.info().clone()),
                    capabilities: Some(runtime.capabilities().clone()),
                };
                runtime.shutdown().await;
                Ok(facts)
            })
        });
        reading.join().unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal("opening the runtime panicked".to_owned())))
        })
    }
}

impl ClauseResult {
    pub(crate) fn new(clause: &Clause, outcome: Outcome, link: Option<String>) -> Self {
        let mut evidence = outcome.evidence;
        evidence.extend(outcome.kept.map(|dir| format!("kept {}", dir.display())));
        Self {
            id: clause.id.to_owned(),
            area: clause.area().to_owned(),
            level: clause.level().as_str().to_owned(),
            operation: clause.operation.id().to_owned(),
            capability: clause.needs.first().map(|capability| capability.id().to_owned()),
            verdict: outcome.verdict,
            reason: outcome.reason,
            link,
            duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
            evidence,
        }
    }
}

fn internal(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal("tokio cannot be started".to_owned())).caused_by(error)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use runtime_api::{Capability, Evidence, HandlerName, RuntimeKind};
    use std::time::Duration;

    /// A report with one clause of each interesting kind, the same on every machine.
    pub(crate) fn example() -> Report {
        let outcome = |verdict, reason: Option<&str>, millis| Outcome {
            duration: Duration::from_millis(millis),
            ..Outcome::new(verdict, reason.map(str::to_owned))
        };
        let clause = |id| crate::clauses::find(id).unwrap();
        let mut failed = outcome(Verdict::Failed, Some("expected 7, found 0"), 1203);
        failed.evidence.push("standard error: oh".to_owned());
        failed.kept = Some("/tmp/mr-0123456789".into());
        let results = vec![
            ClauseResult::new(clause("create.leaves-created"), outcome(Verdict::Passed, None, 12), None),
            ClauseResult::new(clause("wait.gives-the-exit-code"), failed, None),
            ClauseResult::new(
                clause("pause.twice-is-refused"),
                outcome(Verdict::Refused, Some("pause is not declared: no freezer"), 5),
                None,
            ),
            ClauseResult::new(
                clause("stop.zero-grace-kills"),
                outcome(Verdict::KnownFailures, Some("old kernel: expected 137"), 80),
                Some("https://example.org/1".to_owned()),
            ),
        ];
        let handler = HandlerName::new("toy").unwrap();
        let mut info = RuntimeInfo::new(RuntimeKind::new("toy").unwrap(), handler, "toy");
        info.version = Some("1.2".to_owned());
        let capabilities = Capabilities::builder()
            .yes(Capability::Log, Evidence::design("written by itself"))
            .build()
            .unwrap()
            .iter()
            .filter(|(capability, _)| matches!(capability, Capability::Log | Capability::Pause))
            .map(|(capability, answer)| (capability.id().to_owned(), serde_json::to_value(answer).unwrap()))
            .collect::<serde_json::Map<_, _>>();
        let capabilities = serde_json::from_value(capabilities.into()).unwrap();
        let runtime =
            RuntimeFacts { reference: "toy".to_owned(), info: Some(info), capabilities: Some(capabilities) };
        let mut report = Report::new(runtime, HostFacts::example(), results);
        report.suite = "0.0.0".to_owned();
        report
    }
}
