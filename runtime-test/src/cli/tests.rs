use std::path::Path;

use clap::Parser as _;
use serde_json::Value;

use super::*;
use crate::{Defect, FakeHarness, clauses};

fn called(words: &[&str]) -> u8 {
    let resolve = |reference: &str| -> Result<Box<dyn Harness>> {
        let harness = match reference {
            "fake" => FakeHarness::full(),
            "broken" => FakeHarness::full().with_defect(Defect::KillStoppedIsOk),
            other => return Err(Error::new(ErrorKind::InvalidArgument(format!("no runtime {other:?}")))),
        };
        Ok(Box::new(harness))
    };
    let parsed = Program::try_parse_from(std::iter::once("suite").chain(words.iter().copied()));
    exit_code(&parsed.unwrap().command, &resolve, &[])
}

fn document(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_run_ends_with_the_code_of_its_verdicts() {
    assert_eq!(called(&["run", "--quiet", "--runtime", "fake", "--filter", "start"]), 0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let broken = ["run", "--quiet", "--runtime", "broken", "--filter", "kill.stopped-is-refused", "--json"];
    assert_eq!(called(&[&broken[..], &[path.to_str().unwrap()]].concat()), 1);
    let evidence = document(&path)["clauses"][0]["evidence"][0].as_str().unwrap().to_owned();
    std::fs::remove_dir_all(evidence.strip_prefix("kept ").unwrap()).unwrap();
}

#[test]
fn mistakes_of_usage_end_with_two_and_run_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("missing/report.json");
    let nowhere = nowhere.to_str().unwrap();
    assert_eq!(called(&["run", "--runtime", "fake", "--filter", "no.such-clause"]), 2);
    assert_eq!(called(&["run", "--runtime", "fake", "--filter", "start", "--filter", "nothing"]), 2);
    assert_eq!(called(&["run", "--runtime", "jail"]), 2);
    assert_eq!(called(&["run", "--runtime", "fake", "--json", nowhere]), 2);
    assert_eq!(called(&["explain", "no.such-clause"]), 2);
    assert_eq!(called(&["run-one", "--runtime", "fake", "no.such-clause"]), 2);
    assert_eq!(called(&["run-one", "--runtime", "fake", "--scratch", "/tmp", clauses::ALL[0].id]), 2);
    for wrong in [&["run"][..], &["run", "--runtime", "fake", "--jobs", "0"], &["jump"]] {
        let error = Program::try_parse_from(std::iter::once(&"suite").chain(wrong)).map(drop).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{wrong:?}");
    }
}

#[test]
fn the_report_of_a_run_is_written_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    let file = path.to_str().unwrap();
    assert_eq!(called(&["run", "--quiet", "--runtime", "fake", "--filter", "stop", "--json", file]), 0);
    let report = document(&path);
    assert_eq!(report["schema"], 1);
    assert_eq!(report["runtime"]["reference"], "fake");
    assert_eq!(report["summary"]["executed"], report["summary"]["total"]);
    assert!(report["clauses"].as_array().unwrap().iter().all(|clause| clause["verdict"] == "passed"));
}

#[test]
fn the_list_is_complete_and_every_clause_can_be_explained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list.json");
    assert_eq!(called(&["list", "--json", path.to_str().unwrap()]), 0);
    let listed = document(&path)["clauses"].as_array().unwrap().clone();
    assert_eq!(listed.len(), clauses::ALL.len());
    for (entry, clause) in listed.iter().zip(clauses::ALL) {
        assert_eq!((&entry["id"], &entry["title"]), (&clause.id.into(), &clause.title.into()));
    }
    assert_eq!(called(&["list"]), 0);
    assert_eq!(called(&["explain", "exec.sync.times-out"]), 0);
}
