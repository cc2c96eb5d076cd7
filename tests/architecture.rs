//! The rules of the house, held by reading `cargo metadata`, `cargo tree` and the files themselves.

#![expect(clippy::unwrap_used, reason = "what a test cannot read fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use manyrun_tests::source::{Source, before_tests, code_only, files, root};
use serde_json::Value;

/// Which crates of the workspace each crate may use: in earnest, and for its tests besides.
const ALLOWED: &[(&str, &[&str], &[&str])] = &[
    ("runtime-api", &[], &[]),
    ("runtime-handlers", &["runtime-api"], &["runtime-test"]),
    ("runtime-host", &["runtime-api"], &[]),
    ("runtime-oci", &["runtime-api", "runtime-host"], &["runtime-test"]),
    ("runtime-vm", &["runtime-api", "runtime-host"], &["runtime-test"]),
    ("runtime-test", &["runtime-api"], &[]),
    ("runtime-cli", EVERY_LIBRARY, &[]),
    ("manyrun-examples", EVERY_LIBRARY, &["manyrun-tests"]),
    ("manyrun-tests", EVERY_LIBRARY, &[]),
    ("manyrun-bench-baseline", &[], &[]),
    ("manyrun-bench-shim-baseline", &[], &[]),
];

const EVERY_LIBRARY: &[&str] =
    &["runtime-api", "runtime-host", "runtime-handlers", "runtime-oci", "runtime-vm", "runtime-test"];

/// The files that may hold unsafe code, and why no safe way exists there.
const UNSAFE: &[(&str, &str)] = &[
    ("runtime-host/src/apart.rs", "a session begins between fork and exec"),
    (
        "runtime-host/src/descriptor.rs",
        "tokio registers a descriptor of a foreign type by an unsafe function only",
    ),
    ("runtime-host/src/process.rs", "real-time signals have no safe constructor"),
    ("runtime-oci/src/reaper.rs", "a small parent of an exec lives between fork and exec"),
    ("runtime-oci/src/spawn.rs", "a spawn with a working directory has no safe wrapper"),
    ("runtime-test/probe/main.rs", "the standard library has no signal handlers and no setsid"),
];

/// The most lines that a file may have before its tests.
const LINES: usize = 600;

#[test]
fn crates_use_only_what_the_design_allows() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for package in packages() {
        let name = text(&package["name"]);
        let Some((_, earnest, tests)) = ALLOWED.iter().find(|row| row.0 == name) else {
            wrong.push(format!("{name} has no row in this test: say what it may use"));
            continue;
        };
        seen.insert(name.clone());
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["path"].is_null() {
                continue;
            }
            let used = text(&dependency["name"]);
            let for_tests = dependency["kind"] == "dev" && tests.contains(&used.as_str());
            if !(earnest.contains(&used.as_str()) || for_tests) {
                wrong.push(format!("{name} must not use {used}"));
            }
        }
    }
    for (name, ..) in ALLOWED {
        if !seen.contains(*name) {
            wrong.push(format!("{name} is not a member of the workspace"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for package in packages() {
        let manifest = std::fs::read_to_string(text(&package["manifest_path"])).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{} has lints of its own", package["name"]);
        assert_eq!(package["license"], "Apache-2.0", "{}", package["name"]);
    }
}

#[test]
fn the_contract_brings_no_backend_along() {
    let tree = tree("runtime-api");
    for banned in ["nix", "ttrpc", "vsock", "rustix", "runtime-oci", "runtime-vm", "runtime-test"] {
        assert!(!tree.contains_key(banned), "runtime-api depends on {banned}");
    }
    // `bytes` is what `io-util` itself turns on; `default` is empty in tokio.
    let allowed = ["sync", "time", "io-util", "bytes", "default"];
    let excess: Vec<_> =
        tree["tokio"].iter().filter(|feature| !allowed.contains(&feature.as_str())).collect();
    assert!(excess.is_empty(), "runtime-api turns on these features of tokio: {excess:?}");
}

#[test]
fn the_baselines_of_the_benchmark_are_free_of_our_crates() {
    let rows: [(&str, &[&str]); 2] = [
        ("manyrun-bench-baseline", &["nix"]),
        ("manyrun-bench-shim-baseline", &["containerd-shim-protos", "nix", "protobuf", "ttrpc"]),
    ];
    for (name, allowed) in rows {
        let package = packages().into_iter().find(|package| package["name"] == name).unwrap();
        let uses: Vec<_> =
            package["dependencies"].as_array().unwrap().iter().map(|d| text(&d["name"])).collect();
        assert_eq!(uses, allowed);
        let tree = tree(name);
        let ours: Vec<_> = ALLOWED.iter().filter(|row| tree.contains_key(row.0)).map(|row| row.0).collect();
        assert_eq!(ours, [name]);
    }
}

#[test]
fn unsafe_code_lives_in_named_files_only() {
    let word = concat!("un", "safe");
    let forms = ["{", "fn", "impl", "extern", "trait"].map(|next| format!("{word} {next}"));
    let attribute = format!("#[{word}(");
    let found: BTreeSet<String> = rust_files()
        .into_iter()
        .filter(|file| {
            let code = code_only(&file.text);
            let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
            forms.iter().any(|form| code.contains(form.as_str())) || code.contains(&attribute)
        })
        .map(|file| file.path)
        .collect();
    let named: BTreeSet<String> = UNSAFE.iter().map(|row| row.0.to_owned()).collect();
    assert_eq!(found, named, "left: files with unsafe code; right: files that this test names");
}

/// What is fuzzed is what is shipped: the fuzzer's own lock file may add packages, and nothing else.
#[test]
fn the_fuzzer_builds_the_versions_of_the_workspace() {
    let locked = |name: &str| {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for package in text.split("[[package]]").skip(1) {
            let value = |key: &str| {
                let line = package.lines().find_map(|line| line.strip_prefix(key)).unwrap();
                line.trim_matches([' ', '=', '"']).to_owned()
            };
            packages.entry(value("name")).or_default().insert(value("version"));
        }
        packages
    };
    let (ours, fuzzed) = (locked("Cargo.lock"), locked("fuzz/Cargo.lock"));
    assert!(ours.contains_key("toml") && fuzzed.contains_key("toml"), "lock files have another shape");
    let mut wrong = Vec::new();
    for (name, versions) in &fuzzed {
        let Some(known) = ours.get(name) else { continue };
        wrong.extend(
            versions.difference(known).map(|version| format!("{name}@{version}, here it is {known:?}")),
        );
    }
    assert!(wrong.is_empty(), "in fuzz/: cargo update -p NAME@VERSION --precise HERE: {wrong:#?}");
}

#[test]
fn files_stay_small() {
    let mut sizes: Vec<(usize, String)> =
        rust_files().into_iter().map(|file| (before_tests(&file.text).lines().count(), file.path)).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    println!("the largest files: {:?}", &sizes[..sizes.len().min(5)]);
    let over: Vec<_> = sizes.into_iter().filter(|(lines, _)| *lines > LINES).collect();
    assert!(over.is_empty(), "more than {LINES} lines before the tests: {over:?}");
}

#[test]
fn files_have_names_that_say_something() {
    let empty = ["mod", "utils", "util", "common", "misc", "helper", "helpers", "manager", "inner"];
    for file in rust_files() {
        let stem = file.path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default();
        assert!(!empty.contains(&stem), "{}", file.path);
    }
}

#[test]
fn nothing_is_left_to_do_and_no_registry_is_named() {
    let macros = ["todo", "unimplemented"].map(|name| format!("{name}!"));
    let hosts = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("npmjs", ".org"),
        concat!("proxy.", "golang.org"),
        concat!("deb.", "debian.org"),
    ];
    for file in files().unwrap() {
        for host in hosts {
            assert!(!file.text.contains(host), "{} names {host}", file.path);
        }
        if file.path.ends_with(".rs") {
            let code = code_only(&file.text);
            for name in &macros {
                assert!(!code.contains(name.as_str()), "{} has {name}", file.path);
            }
        }
    }
}

#[test]
fn the_readme_and_the_makefile_name_the_same_targets() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let targets: BTreeSet<String> = read("Makefile")
        .lines()
        .filter_map(|line| line.split_once(": ##"))
        .map(|(target, _)| target.to_owned())
        .collect();
    assert!(targets.contains("test"), "the Makefile's targets have changed their shape: {targets:?}");
    let readme = read("README.md");
    let named: BTreeSet<String> = code_spans(&readme)
        .iter()
        .filter_map(|code| code.trim_start_matches("$ ").strip_prefix("make "))
        .filter_map(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert_eq!(named, targets, "left: make targets in README.md; right: targets of the Makefile");
}

/// What stands in backticks and in fenced blocks of a Markdown text, a line at a time.
fn code_spans(markdown: &str) -> Vec<String> {
    let mut spans = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            spans.push(line.trim().to_owned());
        } else {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

fn rust_files() -> Vec<Source> {
    let files: Vec<_> = files().unwrap().into_iter().filter(|file| file.path.ends_with(".rs")).collect();
    assert!(files.len() > 20, "only {} Rust files were found", files.len());
    files
}

fn packages() -> Vec<Value> {
    let json = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let mut metadata: Value = serde_json::from_str(&json).unwrap();
    serde_json::from_value(metadata["packages"].take()).unwrap()
}

/// What a package depends on in earnest, with the features that are on.
fn tree(package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let shown =
        cargo(&["tree", "-p", package, "--edges", "normal", "--prefix", "none", "--format", "{p}|{f}"]);
    let mut tree: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in shown.lines() {
        let (crate_, features) = line.split_once('|').unwrap_or((line, ""));
        let name = crate_.split_whitespace().next().unwrap_or_default();
        let features = features.trim_end_matches(" (*)").split(',').filter(|f| !f.is_empty());
        tree.entry(name.to_owned()).or_default().extend(features.map(str::to_owned));
    }
    assert!(tree.contains_key(package), "cargo tree did not show {package}");
    tree
}

fn cargo(arguments: &[&str]) -> String {
    let done =
        Command::new(env!("CARGO")).args(arguments).arg("--locked").current_dir(root()).output().unwrap();
    assert!(done.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
