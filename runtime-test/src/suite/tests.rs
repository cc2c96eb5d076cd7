#![expect(unreachable_pub, reason = "clauses are public where they belong to the contract")]

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runtime_api::{Result, SharedRuntime};

use super::{Options, Outcome, SelfCall, process, run, run_alone, run_here};
use crate::clause::{clause, ensure};
use crate::clauses::start::runs_the_program;
use crate::{Bench, Checked, Clause, FakeHarness, Harness, Scratch, Verdict, Workload};

clause! {
    /// A clause that leaves its containers to the suite, as most do.
    leaves_containers = "test.leaves-containers", Create
}
async fn leaves_containers(bench: &Bench) -> Checked {
    bench.created(&Workload::forever()).await?;
    bench.ready(&Workload::ignores_term()).await?;
    Ok(())
}

clause! {
    /// A clause that is broken.
    finds_fault = "test.finds-fault", Create
}
async fn finds_fault(_: &Bench) -> Checked {
    ensure!(false, "two is not {}", 3);
    Ok(())
}

clause! {
    /// A clause whose body panics.
    panics = "test.panics", Create
}
async fn panics(bench: &Bench) -> Checked {
    bench.ready(&Workload::ready_forever()).await?;
    panic!("number {}", 7);
}

clause! {
    /// A clause that never ends.
    hangs = "test.hangs", Create
}
async fn hangs(bench: &Bench) -> Checked {
    bench.ready(&Workload::ready_forever()).await?;
    pending().await
}

clause! {
    /// A clause that leaves a file where the runtime keeps its records.
    litters = "test.litters", Create
}
async fn litters(bench: &Bench) -> Checked {
    let left = bench.scratch().state_dir().join(format!("{}.lock", bench.id("a")));
    std::fs::write(&left, "").map_err(|error| crate::Violation::host(left.display(), &error))
}

clause! {
    /// A clause about something that the minimal fake does not declare.
    about_pausing = "test.about-pausing", Pause, needs [Pause]
}
async fn about_pausing(_: &Bench) -> Checked {
    Ok(())
}

fn over(harness: impl Harness, clause: &'static Clause) -> Outcome {
    let outcome = run_here(clause, &(Arc::new(harness) as Arc<dyn Harness>), false);
    if let Some(kept) = &outcome.kept {
        assert!(outcome.verdict.is_failure(), "a success keeps nothing: {outcome:?}");
        std::fs::remove_dir_all(kept).unwrap();
    }
    outcome
}

fn says(outcome: &Outcome, text: &str) -> bool {
    outcome.reason.iter().chain(&outcome.evidence).any(|line| line.contains(text))
}

#[test]
fn the_suite_removes_what_clauses_leave() {
    let outcome = over(FakeHarness::full(), &leaves_containers::CLAUSE);
    assert_eq!((outcome.verdict, outcome.kept), (Verdict::Passed, None), "{:?}", outcome.reason);
}

#[test]
fn every_way_to_fail_has_its_verdict_and_its_reason() {
    for (clause, verdict, reason) in [
        (&finds_fault::CLAUSE, Verdict::Failed, "two is not 3"),
        (&panics::CLAUSE, Verdict::Failed, "panicked: number 7"),
        (&hangs::CLAUSE, Verdict::TimedOut, "not at its end after 30 s"),
        (&litters::CLAUSE, Verdict::Leaked, "-a.lock"),
    ] {
        let outcome = over(FakeHarness::full(), clause);
        assert_eq!(outcome.verdict, verdict, "{}: {outcome:?}", clause.id);
        assert!(says(&outcome, reason), "{}: {outcome:?}", clause.id);
        assert!(outcome.kept.is_some(), "{}: {outcome:?}", clause.id);
    }
}

#[test]
fn what_is_not_declared_is_held_to_be_refused() {
    let outcome = over(FakeHarness::minimal(), &about_pausing::CLAUSE);
    assert_eq!(outcome.verdict, Verdict::Refused);
    assert!(says(&outcome, "pause is not declared: "), "{outcome:?}");
    let lies = FakeHarness::minimal().with_defect(crate::Defect::UnsupportedSaysOk);
    let outcome = over(lies, &crate::clauses::identity::undeclared_is_refused::CLAUSE);
    assert_eq!(outcome.verdict, Verdict::Failed, "{outcome:?}");
}

/// The fake with a real clock, a missing need, or a list of known failures.
#[derive(Clone)]
struct Odd {
    unmet: Option<&'static str>,
    known: &'static str,
    opens: bool,
}

impl Odd {
    const PLAIN: Self = Self { unmet: None, known: "", opens: true };
}

#[async_trait]
impl Harness for Odd {
    fn reference(&self) -> String {
        "odd".to_owned()
    }
    async fn open(&self, at: &Scratch) -> Result<SharedRuntime> {
        if self.opens {
            return FakeHarness::full().open(at).await;
        }
        Err(runtime_api::Error::new(runtime_api::ErrorKind::Unavailable("the odd binary".to_owned())))
    }
    fn unmet(&self) -> Option<String> {
        self.unmet.map(str::to_owned)
    }
    fn known_failures(&self) -> &str {
        self.known
    }
}

fn verdicts(harness: Odd) -> (Vec<Verdict>, u8) {
    let harness: Arc<dyn Harness> = Arc::new(harness);
    let options = Options { filters: vec!["start.".to_owned()], ..Options::default() };
    let report = run(&harness, &options, None, |_| {}).unwrap();
    (report.clauses.iter().map(|clause| clause.verdict).collect(), report.summary.exit_code())
}

#[test]
fn a_run_tells_missing_needs_from_a_runtime_that_cannot_be_opened() {
    let skipped = Odd { unmet: Some("odd is not installed"), ..Odd::PLAIN };
    assert_eq!(verdicts(skipped), (vec![Verdict::Skipped; 3], 3));
    assert_eq!(verdicts(Odd { opens: false, ..Odd::PLAIN }), (vec![Verdict::NotRun; 3], 1));
}

#[test]
fn a_clause_that_passes_although_it_is_listed_is_a_surprise() {
    let known = "[[known]]\nclause = \"start.runs-the-program\"\nreason = \"r\"\nlink = \"l\"\n";
    let (verdicts, code) = verdicts(Odd { known, ..Odd::PLAIN });
    assert_eq!(verdicts, [Verdict::SurprisePasses, Verdict::Passed, Verdict::Passed]);
    assert_eq!(code, 1);
}

/// A shell that stands for the process of a clause. Its arguments are those of `run-one`: `$5` is the scratch.
fn in_a_shell(script: &str) -> Outcome {
    let args = ["-c", script, "sh"].map(Into::into).to_vec();
    let call = SelfCall { program: "/bin/sh".into(), args };
    let harness: Arc<dyn Harness> = Arc::new(Odd::PLAIN);
    let outcome = process::run(&runs_the_program::CLAUSE, &harness, &call, false);
    if let Some(kept) = &outcome.kept {
        std::fs::remove_dir_all(kept).unwrap();
    }
    outcome
}

#[test]
fn the_process_of_a_clause_reports_on_its_last_line() {
    let passed = serde_json::to_string(&Outcome::new(Verdict::Passed, None)).unwrap();
    let outcome = in_a_shell(&format!(
        "echo noise; test \"$1 $2 $3 $4\" = 'run-one --runtime odd --scratch' || exit 1; echo '{passed}'"
    ));
    assert_eq!((outcome.verdict, outcome.kept.is_none()), (Verdict::Passed, true), "{outcome:?}");
}

#[test]
fn a_process_that_dies_without_a_word_is_a_failure() {
    let outcome = in_a_shell("echo 'the last words' >&2; kill -9 $$");
    assert_eq!(outcome.verdict, Verdict::Failed);
    assert!(says(&outcome, "reported nothing") && says(&outcome, "the last words"), "{outcome:?}");
}

#[test]
fn what_a_dead_process_left_behind_is_named() {
    // It goes on for longer than anybody waits for it to go by itself.
    let outcome = in_a_shell("cd \"$5\" || exit 1; sleep 120 & exit 1");
    assert_eq!(outcome.verdict, Verdict::Failed);
    assert!(says(&outcome, "left behind: process") && says(&outcome, "sleep 120"), "{outcome:?}");
}

#[test]
fn a_clause_alone_in_its_process_is_held_to_its_children() {
    let scratch = Scratch::new().unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let harness: Arc<dyn Harness> = Arc::new(FakeHarness::full());
    let outcome = run_alone(&runs_the_program::CLAUSE, &harness, &scratch);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(outcome.verdict, Verdict::Leaked);
    assert!(says(&outcome, &format!("child process {}", child.id())), "{outcome:?}");
    assert!(outcome.duration < Duration::from_secs(60));
    scratch.remove().unwrap();
}
