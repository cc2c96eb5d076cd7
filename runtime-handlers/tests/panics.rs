//! No input makes a reader panic, hang or take memory without end.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use runtime_handlers::resolve::Host;
use runtime_handlers::{
    HandlerTable, Source, containerd, containers, convert, crio, diff, native, runtime_class,
};

/// The same inputs in every run: a failure is one of this commit, and can be repeated.
///
/// `MANYRUN_TEST_INPUTS` sets how many.
fn config(seed: u64) -> ProptestConfig {
    let cases = std::env::var("MANYRUN_TEST_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        cases,
        ..ProptestConfig::default()
    }
}

/// A host that has crun.
#[derive(Debug)]
struct Crun;

impl Host for Crun {
    fn has(&self, program: &Path) -> bool {
        program == Path::new("/usr/bin/crun")
    }

    fn exists(&self, path: &Path) -> bool {
        self.has(path)
    }
}

/// Reads a text as everything, and does with the result what can be done.
fn read(texts: &[String]) {
    let sources: Vec<_> =
        texts.iter().enumerate().map(|(nth, text)| Source::new(format!("f{nth}"), text.as_str())).collect();
    let tables: Vec<HandlerTable> = [
        native::parse(&sources),
        crio::parse(&sources),
        containerd::parse(&sources),
        containers::parse(&sources, &Crun),
    ]
    .into_iter()
    .flatten()
    .collect();
    for table in &tables {
        for converted in [convert::to_native(table), convert::to_crio(table), convert::to_containerd(table)] {
            // What is written is TOML at least.
            toml::from_str::<toml::Table>(&converted.text).unwrap();
        }
        assert!(diff::between(table, table).is_empty());
        // What is written in our own dialect says the same again.
        let text = convert::to_native(table).text;
        let again = native::parse(&[Source::new("again", text.as_str())]).unwrap();
        assert_eq!(convert::to_native(&again).text, text);
    }
    for source in &sources {
        let _ = containerd::imports(source);
        let _ = runtime_class::parse(source);
    }
}

/// Every input of the goldens.
static SEEDS: LazyLock<Vec<String>> = LazyLock::new(seeds);

fn seeds() -> Vec<String> {
    fn walk(directory: &Path, into: &mut Vec<String>) {
        let mut entries: Vec<_> =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, into);
            } else if path.file_name() != Some("expected.toml".as_ref()) {
                into.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut seeds = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialects"), &mut seeds);
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/handlers.toml");
    seeds.push(std::fs::read_to_string(example).unwrap());
    seeds.push(
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: a}\nhandler: b\noverhead: {podFixed: {cpu: 250m}}\n\
         scheduling:\n  nodeSelector: {a: b}\n  tolerations:\n  - {key: a, operator: Exists}\n"
            .to_owned(),
    );
    assert!(seeds.len() > 25, "{} inputs", seeds.len());
    seeds
}

/// One edit of a text: at a place, some lines are taken out, and something is put in.
#[derive(Clone, Debug)]
struct Edit {
    at: prop::sample::Index,
    lines: usize,
    put: String,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let values = prop_oneof![
        // The last ones break the whole file.
        5 => prop::sample::select(vec![
            "", "= 1", "= ''", "= []", "= {}", "= [1]", "= true", "= -1", "= ['']", "= 'a'", "= ['a=b']", "= 1979-05-27",
            "= 9223372036854775807", "= nan", "= [{append = true}]", "= 'a/b'", "= '*['", "= ['*']", "= \"\\u0000\\u007f\\n\"",
            "= '/x'", "= ['/x', '/y']", "= 'crun'", "= 'vm'", "= { a = { b = [1.5, inf] } }",
        ]),
        1 => prop::sample::select(vec!["[", "]", "[[x]]", "\u{0}", "é", "{", "- ", ": ", "\"\" = 1", "&a", "*a", "#"]),
    ];
    let edit = (any::<prop::sample::Index>(), prop::sample::select(vec![0_usize, 0, 0, 1, 2, 3]), values)
        .prop_map(|(at, lines, put)| Edit { at, lines, put: put.to_owned() });
    prop::collection::vec(edit, 1..4)
}

fn edited(seed: &str, edits: &[Edit]) -> String {
    let mut lines: Vec<String> = seed.lines().map(str::to_owned).collect();
    for edit in edits {
        if lines.is_empty() {
            lines.push(String::new());
        }
        let keys: Vec<usize> = (0..lines.len()).filter(|nth| lines[*nth].contains(" = ")).collect();
        if edit.lines == 0 && !keys.is_empty() {
            // In the place of what a key is set to.
            let at = keys[edit.at.index(keys.len())];
            let key = lines[at].split(" = ").next().unwrap_or_default().to_owned();
            lines[at] = format!("{key} {}", edit.put);
        } else {
            let at = edit.at.index(lines.len());
            let end = (at + edit.lines.saturating_sub(1)).min(lines.len());
            let put = if edit.put.starts_with('=') { format!("x {}", edit.put) } else { edit.put.clone() };
            lines.splice(at..end, [put]);
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(config(1))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}", more in "[\\[\\]{}='\"a.\n#,:&*!-]{0,80}") {
        read(&[text, more.clone()]);
        read(&[more]);
    }
}

proptest! {
    #![proptest_config(config(2))]

    #[test]
    fn configuration_with_faults_is_read_or_refused(
        first in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
        edits in edits(),
    ) {
        let seeds = &*SEEDS;
        let (whole, other) = (&seeds[first.index(seeds.len())], &seeds[second.index(seeds.len())]);
        let faulty = edited(whole, &edits);
        read(std::slice::from_ref(&faulty));
        read(&[whole.clone(), faulty.clone()]);
        read(&[faulty, other.clone()]);
    }
}

#[test]
fn what_is_nested_without_end_is_read_or_refused() {
    let many = 20_000;
    read(&[format!("a = {}", "[".repeat(many))]);
    read(&[format!("a = {}{}", "[".repeat(many), "]".repeat(many))]);
    read(&[format!("a = {}", "{ a = ".repeat(many))]);
    read(&[format!("{} = 1", vec!["a"; many].join("."))]);
    read(&[format!("[{}]", vec!["a"; many].join("."))]);
    read(&["- ".repeat(many)]);
    read(&["? ".repeat(many)]);
    read(&[format!("a: {}", "{a: ".repeat(many))]);
    let indented: String = (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    read(&[indented]);
}
