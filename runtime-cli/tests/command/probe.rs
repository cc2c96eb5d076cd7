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
    let shims = ["containerd-shim-runc-v2", "containerd-shim-runc-v2-rs", "manyrun-vm-io"];
    let all =
        [&["root", "conmon", "runc", "crun", "youki", "runsc", "criu"][..], &shims, &["cgroups"]].concat();
    assert_eq!(names, all);
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

/// A `PATH` with everything but these programs.
fn path_without(place: &Place, hidden: &[&str]) -> std::path::PathBuf {
    let shown = place.path("bin");
    std::fs::create_dir(&shown).unwrap();
    for dir in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !hidden.iter().any(|each| name == *each) {
                // The first directory of PATH that has a program counts.
                let _ = std::os::unix::fs::symlink(entry.path(), shown.join(name));
            }
        }
    }
    shown
}

#[test]
fn without_criu_there_is_no_checkpoint_and_criu_is_named() {
    for reference in ["oci:runc", "vm:runc"] {
        without_criu_there_is_no_checkpoint(reference);
    }
}

fn without_criu_there_is_no_checkpoint(reference: &str) {
    let place = Place::new();
    let told = |path: Option<&std::path::Path>| {
        let mut command = place.command(&["probe", reference, "--json", "-"]);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let answer = crate::invoke::finish(command.spawn().unwrap());
        assert_eq!(answer.code, 0, "{answer:?}");
        let document: Value = serde_json::from_str(&answer.stdout).unwrap();
        document["capabilities"].clone()
    };
    let found = told(None);
    if !found["checkpoint"]["why_not"].is_null() {
        println!("SKIPPED: {reference} cannot checkpoint here: {}", found["checkpoint"]["why_not"]);
        return;
    }
    let hidden = path_without(&place, &["criu"]);
    let found = told(Some(&hidden));
    for capability in ["checkpoint", "restore", "checkpoint.leave-running"] {
        let why = found[capability]["why_not"].as_str().unwrap_or_default();
        assert!(why.contains("criu is not on PATH"), "{capability}: {why}");
        assert_eq!(found[capability]["evidence"]["asked"], "criu check");
    }
    // The first answer was kept, and is not taken for this one's.
    assert!(told(None)["checkpoint"]["why_not"].is_null());
    std::fs::remove_dir_all(hidden).unwrap();
    place.assert_nothing_left();
}

#[test]
fn what_is_missing_or_no_runtime_is_told_first_and_is_no_success() {
    let place = Place::new();
    for (reference, told) in [
        ("oci:nothing-like-it", "no executable nothing-like-it"),
        ("oci:/bin/true", "/bin/true is no OCI runtime"),
        ("vm:nothing-like-it", "no shim containerd-shim-nothing-like-it-v2"),
    ] {
        let answer = place.call(&["probe", reference]);
        assert_eq!(answer.code, 125, "{reference}: {answer:?}");
        let first = answer.stdout.lines().next().unwrap_or_default();
        assert!(first.contains(told) && first.contains("install"), "{reference}: {answer:?}");
    }
    place.assert_nothing_left();
}

#[test]
fn an_unknown_runtime_is_refused() {
    let place = Place::new();
    let kind = place.call(&["probe", "jail"]);
    assert_eq!(kind.code, 125);
    assert!(kind.stderr.contains("unknown kind \"jail\""), "{kind:?}");
    assert_eq!(place.call(&["probe", "OCI:x"]).code, 2);
    let unnamed = place.call(&["probe", "oci"]);
    assert!(unnamed.code == 2 && unnamed.stderr.contains("name a binary, such as oci:crun"), "{unnamed:?}");
    assert_eq!(place.run(&["--runtime", "oci:crun@x", "bundle"]).code, 2);
    assert_eq!(place.call(&["probe", "vm"]).code, 125);
}
