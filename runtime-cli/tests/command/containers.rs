//! `manyrun list` and `manyrun delete` where no runtime is needed.

use serde_json::Value;

use crate::invoke::Place;

#[test]
fn nothing_is_listed_where_nothing_is_and_nothing_is_made() {
    let place = Place::new();
    let listed = place.call(&["list", "--state-dir", &place.text("state")]);
    assert_eq!((listed.code, listed.stderr.as_str()), (0, ""), "{listed:?}");
    let words: Vec<_> = listed.stdout.split_whitespace().collect();
    assert_eq!(words, ["ID", "HANDLER", "STATUS", "PID", "CREATED", "BUNDLE"]);
    place.assert_untouched();
}

#[test]
fn a_handler_that_cannot_be_opened_is_named_and_hides_nothing_else() {
    let place = Place::new();
    let snapshot = place.path("state").join("broken").join("0123456789ab");
    std::fs::create_dir_all(snapshot.join("containers").join("web")).unwrap();
    std::fs::write(snapshot.join("handler.json"), "{").unwrap();
    let listed = place.call(&["list", "--state-dir", &place.text("state"), "--json", "-"]);
    assert_eq!(listed.code, 1, "{listed:?}");
    assert!(listed.stderr.contains(&snapshot.display().to_string()), "{listed:?}");
    assert!(listed.stderr.contains("remove the file and create any container"), "{listed:?}");
    let document: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(document["containers"], serde_json::json!([]));
    assert_eq!(document["notes"].as_array().unwrap().len(), 1, "{document}");
}

#[test]
fn each_unknown_container_is_named_unless_it_only_has_to_be_gone() {
    let place = Place::new();
    let state = place.text("state");
    let unknown = place.call(&["delete", "--state-dir", &state, "one", "other"]);
    assert_ne!(unknown.code, 0, "{unknown:?}");
    assert_eq!(unknown.stderr.lines().count(), 2, "{unknown:?}");
    for name in ["one", "other"] {
        assert!(unknown.stderr.contains(&format!("\"{name}\"")), "{unknown:?}");
    }
    let gone = place.call(&["delete", "--state-dir", &state, "--force", "one", "other"]);
    assert_eq!((gone.code, gone.stderr.as_str()), (0, ""), "{gone:?}");
    let wrong = place.call(&["delete", "--state-dir", &state, "../x"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert_eq!(place.call(&["delete", "--state-dir", &state]).code, 2);
    place.assert_untouched();
}

#[test]
fn a_container_whose_record_is_damaged_does_not_vanish() {
    let place = Place::with(&runtime_test::Workload::says("never"));
    // It is no runtime, and leaves the place for its containers all the same.
    let refused = place.run(&["--runtime", "oci:/bin/true", "bundle"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    let snapshots = std::fs::read_dir(place.path("state/true")).unwrap();
    let snapshot = snapshots.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let container = snapshot.join("containers").join("web");
    std::fs::create_dir_all(&container).unwrap();
    std::fs::write(container.join("record.json"), "{").unwrap();
    let listed = place.call(&["list", "--state-dir", &place.text("state"), "--json", "-"]);
    assert_eq!(listed.code, 1, "{listed:?}");
    assert!(
        listed.stderr.contains("record.json") && listed.stderr.contains("delete --force web"),
        "{listed:?}"
    );
    let document: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(document["notes"].as_array().unwrap().len(), 1, "{document}");
}

#[test]
fn a_state_directory_that_is_none_is_told_so() {
    let place = Place::new();
    let file = place.write("file", "");
    for args in [&["list", "--state-dir", &file][..], &["delete", "--state-dir", &file, "web"]] {
        let answer = place.call(args);
        assert!(answer.code == 125 && answer.stderr.contains("it is no directory"), "{answer:?}");
    }
}
