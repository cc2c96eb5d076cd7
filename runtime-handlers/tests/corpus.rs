//! What fuzzing found worth keeping is read again: every input of `fuzz/corpus`, as the fuzz target of its directory does it.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "../../fuzz/targets.rs"]
mod targets;

use std::path::Path;

fn replay(target: &str, read: fn(&[u8])) {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "the corpus of {target} has gone: {} inputs", files.len());
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        // What the fuzzer found has the name that it gave, and what people added says what it is.
        let is_found = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_found || name.starts_with(|first: char| first.is_ascii_lowercase()), "{}", path.display());
        let data = std::fs::read(&path).unwrap();
        // A panic alone would not say which input it was.
        if std::panic::catch_unwind(|| read(&data)).is_err() {
            panic!("{}", path.display());
        }
    }
}

macro_rules! targets {
    ($($name:ident)+) => {$(
        #[test]
        fn $name() {
            replay(stringify!($name), targets::$name);
        }
    )+};
}

targets! { crio containerd containers native runtime_class crio_state }

/// Each program of the fuzzer is one of the tests above.
#[test]
fn no_target_is_forgotten() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let text = std::fs::read_to_string(fuzz.join("../runtime-handlers/tests/corpus.rs")).unwrap();
    let listed = text.split_once("targets! { ").and_then(|(_, rest)| rest.split_once(" }")).unwrap().0;
    let mut listed: Vec<_> = listed.split(' ').map(str::to_owned).collect();
    listed.sort();
    let mut programs: Vec<_> = std::fs::read_dir(&fuzz)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| name != "targets")
        .collect();
    programs.sort();
    assert_eq!(listed, programs);
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    assert!(programs.iter().all(|name| manifest.contains(&format!("name = \"{name}\""))), "{manifest}");
}
