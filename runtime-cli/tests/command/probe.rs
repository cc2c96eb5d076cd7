//! `manyrun probe`.

use runtime_api::Capability;
use serde_json::Value;

use crate::invoke::Place;

#[test]
fn every_capability_is_told_with_its_reason() {
    let place = Place::new();
    let answer = place.call(&["probe", "fake", "--json", "-"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let document: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(document["info"]["kind"], "fake");
    for capability in Capability::ALL {
        let told = &document["capabilities"][capability.id()];
        assert!(told["evidence"]["source"].is_string(), "{capability}: {told}");
        assert!(answer.stderr.contains(capability.id()), "{capability} is not in the table");
    }
    place.assert_nothing_left();
}

#[test]
fn without_a_runtime_the_host_is_told() {
    let place = Place::new();
    let answer = place.call(&["probe", "--json", "-"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    let document: Value = serde_json::from_str(&answer.stdout).unwrap();
    let needs = document["needs"].as_array().unwrap();
    let names: Vec<_> = needs.iter().map(|need| need["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["root", "conmon", "runc", "crun", "youki", "runsc", "criu", "cgroups"]);
    for need in needs {
        assert_eq!(need["ok"] == true, need["remedy"].is_null(), "what is lacking has a remedy: {need}");
    }
}

#[test]
fn a_host_without_programs_says_how_to_get_them() {
    let place = Place::new();
    let mut command = place.command(&["probe"]);
    let answer = crate::invoke::finish(command.env("PATH", "/nonexistent").spawn().unwrap());
    assert_eq!(answer.code, 0, "{answer:?}");
    for told in ["apt-get install runc", "apt-get install conmon", "cargo install youki"] {
        assert!(answer.stdout.contains(told), "{told} is not in {answer:?}");
    }
}

#[test]
fn an_unknown_runtime_is_refused() {
    let place = Place::new();
    let kind = place.call(&["probe", "jail"]);
    assert_eq!(kind.code, 125);
    assert!(kind.stderr.contains("unknown kind \"jail\""), "{kind:?}");
    assert_eq!(place.call(&["probe", "OCI:x"]).code, 2);
    assert_eq!(place.call(&["probe", "vm"]).code, 125);
}
