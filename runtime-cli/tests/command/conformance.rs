//! `manyrun conformance`, mounted.

use serde_json::Value;

use crate::invoke::Place;

#[test]
fn the_fake_keeps_the_contract() {
    let place = Place::new();
    let report = place.text("report.json");
    let answer = place.call(&["conformance", "run", "--runtime", "fake", "--quiet", "--json", &report]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["summary"]["failed"]), (&1.into(), &0.into()));
    assert!(report["summary"]["executed"].as_u64().unwrap() >= 40, "{}", report["summary"]);
}

#[test]
fn exit_codes_are_those_of_the_suite() {
    let place = Place::new();
    let run = |args: &[&str]| place.call(&[&["conformance", "run", "--runtime"], args].concat());
    assert_eq!(run(&["fake", "--filter", "no.such-clause"]).code, 2);
    let vm = run(&["vm"]);
    assert_eq!(vm.code, 2);
    assert!(vm.stderr.contains("not available"), "{vm:?}");
    assert_eq!(run(&["fake:huge"]).code, 2);
    let missing = run(&["oci:/no/such/runtime", "--filter", "create.leaves-created"]);
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.stdout.contains("/no/such/runtime is not installed"), "{missing:?}");
}

#[test]
fn clauses_are_listed_and_explained() {
    let place = Place::new();
    let list = place.call(&["conformance", "list", "--json", "-"]);
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    let first = list["clauses"][0]["id"].as_str().unwrap().to_owned();
    let told = place.call(&["conformance", "explain", &first]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stdout.contains(&first), "{told:?}");
}
