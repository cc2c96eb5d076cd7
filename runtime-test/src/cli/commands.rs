//! What each sub-command does.

use runtime_api::{Error, ErrorKind, Result};
use serde_json::json;

use super::sink::Sink;
use super::{ExplainArgs, ListArgs, Resolve, RunArgs, RunOneArgs, resolved};
use crate::report::{json, text};
use crate::suite::{self, Options, SelfCall};
use crate::{Clause, Scratch, clauses};

pub(super) fn list(args: &ListArgs) -> Result<u8> {
    let sink = Sink::open(args.json.as_deref())?;
    if sink.is_wanted() {
        let all: Vec<_> = clauses::ALL.iter().copied().map(described).collect();
        let document = json!({"schema": 1, "suite": env!("CARGO_PKG_VERSION"), "clauses": all});
        return sink.finish(&format!("{document:#}\n"), 0);
    }
    for clause in clauses::ALL {
        sink.say(&format!("{:<42} {}\n", clause.id, clause.title));
    }
    sink.say(&format!("{} clauses\n", clauses::ALL.len()));
    sink.finish("", 0)
}

pub(super) fn explain(args: &ExplainArgs) -> Result<u8> {
    let clause = find(&args.id)?;
    let sink = Sink::open(None)?;
    let row = clause.operation.row();
    sink.say(&format!("{}\n\n  {}\n\n", clause.id, clause.title));
    sink.say(&format!("operation  {}: legal from {:?}, leads to {:?}\n", row.id, row.from, row.effect));
    if clause.needs.is_empty() {
        sink.say("binds      every runtime\n");
    } else {
        let needs: Vec<_> = clause.needs.iter().map(|capability| capability.id()).collect();
        sink.say(&format!(
            "binds      runtimes that declare {}; others must refuse it as not supported\n",
            needs.join(" and ")
        ));
    }
    sink.say(&format!("deadline   {} s\n", clause.deadline.as_secs()));
    sink.finish("", 0)
}

pub(super) fn run(args: &RunArgs, resolve: Resolve<'_>, call: &SelfCall) -> Result<u8> {
    let harness = resolved(resolve, &args.runtime)?;
    let options = Options { filters: args.filter.clone(), jobs: usize::from(args.jobs), keep: args.keep };
    // The file is opened first: a run of minutes must not end with a report that cannot be written.
    let sink = Sink::open(args.json.as_deref())?;
    suite::interruption::listen();
    let report = suite::run(&harness, &options, Some(call), |result| {
        let silent = args.quiet && !result.verdict.is_failure();
        if !silent {
            sink.say(&text::line(result));
        }
    })?;
    sink.say(&text::heading(&report));
    sink.say(&text::closing(&report));
    let code = suite::interruption::code().unwrap_or_else(|| report.summary.exit_code());
    sink.finish(&json::write(&report), code)
}

pub(super) fn run_one(args: &RunOneArgs, resolve: Resolve<'_>) -> Result<u8> {
    let clause = find(&args.id)?;
    let harness = resolved(resolve, &args.runtime)?;
    let scratch = match &args.scratch {
        Some(dir) => Scratch::open(dir)?,
        None => Scratch::new()?,
    };
    let outcome = suite::run_alone(clause, &harness, &scratch);
    let line = serde_json::to_string(&outcome).map_err(|error| {
        Error::new(ErrorKind::Internal("the outcome has no JSON form".to_owned())).caused_by(error)
    })?;
    let sink = Sink::open(None)?;
    sink.say(&format!("{line}\n"));
    sink.finish("", 0)
}

fn find(id: &str) -> Result<&'static Clause> {
    clauses::find(id).ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument(format!("there is no clause {id:?}; `list` shows them all")))
    })
}

fn described(clause: &Clause) -> serde_json::Value {
    let needs: Vec<_> = clause.needs.iter().map(|capability| capability.id()).collect();
    json!({
        "id": clause.id,
        "title": clause.title,
        "area": clause.area(),
        "level": clause.level(),
        "operation": clause.operation.id(),
        "capability": needs.first(),
        "needs": needs,
        "deadline_ms": u64::try_from(clause.deadline.as_millis()).unwrap_or(u64::MAX),
    })
}
