//! Every clause can fail: the fake breaks the contract in named ways, and the clauses that each defect names must see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runtime_test::suite::{self, Options};
use runtime_test::{Defect, FakeHarness, Harness, clauses};

/// The clauses that fail over a fake with this defect. Their scratch directories are of no interest here.
fn broken_by(defect: Defect) -> BTreeMap<String, String> {
    let harness: Arc<dyn Harness> = Arc::new(FakeHarness::full().with_defect(defect));
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = Options { jobs, ..Options::default() };
    let report = suite::run(&harness, &options, None, |_| {}).expect("every clause is selected");
    let failures = report.clauses.into_iter().filter(|clause| clause.verdict.is_failure());
    failures
        .map(|clause| {
            for kept in clause.evidence.iter().filter_map(|line| line.strip_prefix("kept ")) {
                std::fs::remove_dir_all(kept).expect("a kept directory is ours");
            }
            (clause.id, format!("{}: {}", clause.verdict, clause.reason.unwrap_or_default()))
        })
        .collect()
}

#[test]
fn every_clause_is_named_by_a_defect_and_every_name_is_a_clause() {
    let named: BTreeSet<&str> = Defect::ALL.iter().flat_map(|defect| defect.breaks()).copied().collect();
    let existing: BTreeSet<&str> = clauses::ALL.iter().map(|clause| clause.id).collect();
    let unbroken: Vec<_> = existing.difference(&named).collect();
    assert!(unbroken.is_empty(), "no defect names {unbroken:?}");
    let unknown: Vec<_> = named.difference(&existing).collect();
    assert!(unknown.is_empty(), "there are no clauses {unknown:?}");
}

#[test]
fn each_defect_is_caught_by_the_clauses_it_names() {
    let mut missed = Vec::new();
    let mut narrow: BTreeSet<&str> = BTreeSet::new();
    for defect in Defect::ALL {
        let broken = broken_by(*defect);
        let others: Vec<_> = broken.keys().filter(|id| !defect.breaks().contains(&id.as_str())).collect();
        println!("{:<30} breaks {:>2}; besides those it names: {others:?}", defect.name(), broken.len());
        for id in defect.breaks() {
            match broken.get(*id) {
                Some(_) if broken.len() <= NARROW => {
                    narrow.insert(id);
                }
                Some(_) => {}
                None => missed.push(format!("{defect} ({}) is not seen by {id}", defect.describe())),
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    let wide: Vec<_> =
        clauses::ALL.iter().map(|clause| clause.id).filter(|id| !narrow.contains(id)).collect();
    assert!(wide.is_empty(), "no defect breaks so few as {NARROW} clauses, among them {wide:?}");
}

/// A clause that only ever fails together with many others might be testing nothing of its own.
const NARROW: usize = 6;
