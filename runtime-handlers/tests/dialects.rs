//! Configuration of other programs in its documented shapes, and what it becomes.
//!
//! Each directory `tests/dialects/DIALECT/CASE` has an input `in/`, and in `expected.toml` the handlers in the native
//! dialect, with all that is told besides as comments. `MANYRUN_UPDATE_GOLDENS=1` writes it anew.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use runtime_api::Result;
use runtime_handlers::{HandlerTable, Source, containerd, convert, crio, load, native};

type Load = fn(&Path) -> Result<HandlerTable>;

fn cases(dialect: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialects").join(dialect);
    let mut cases: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// What is expected of a case, as it is now.
fn shown(read: &Result<HandlerTable>, directory: &Path) -> String {
    let mut text = String::new();
    match read {
        Err(error) => writeln!(text, "# error: {}", error.report()).unwrap(),
        Ok(table) => {
            text.push_str(&convert::to_native(table).text);
            text.push('\n');
            for (name, broken) in &table.unavailable {
                writeln!(text, "# unavailable {name}: {} ({})", broken.reason, broken.origin).unwrap();
            }
            for note in &table.notes {
                writeln!(text, "# note: {note}").unwrap();
            }
            for (name, written) in &table.written {
                for each in written {
                    let (key, as_) = (&each.key, &each.written_as);
                    writeln!(text, "# {name}: {key} is {as_} of {}", each.origin).unwrap();
                }
            }
        }
    }
    text.replace(&format!("{}/", directory.display()), "")
}

fn check(dialect: &str, load: Load) {
    let mut wrong = Vec::new();
    let all = cases(dialect);
    assert!(all.len() > 4, "the cases of {dialect} have gone");
    for case in all {
        let directory = case.join("in");
        let now = shown(&load(&directory), &directory);
        let golden = case.join("expected.toml");
        if std::env::var_os("MANYRUN_UPDATE_GOLDENS").is_some() {
            std::fs::write(&golden, &now).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if now != expected {
            wrong.push(format!("{}: expected\n{expected}\nbut it is now\n{now}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a table says, without the places where it says it.
fn content(table: &HandlerTable) -> String {
    convert::to_native(table).text
}

/// What a dialect becomes is the same as native text.
fn check_native_form(dialect: &str, load: Load) {
    let mut seen = 0;
    for case in cases(dialect) {
        let Ok(table) = load(&case.join("in")) else { continue };
        let text = content(&table);
        let again = native::parse(&[Source::new("native", text.as_str())]).unwrap();
        assert_eq!(content(&again), text, "{}", case.display());
        seen += table.handlers.len();
    }
    assert!(seen > 4, "{seen} handlers");
}

#[test]
fn crio_is_read_as_crio_reads_it() {
    check("crio", load::crio);
}

#[test]
fn crio_has_a_native_form() {
    check_native_form("crio", load::crio);
}

#[test]
fn crio_comes_back_as_crio() {
    for case in cases("crio") {
        let Ok(table) = load::crio(&case.join("in")) else { continue };
        let converted = convert::to_crio(&table);
        let again = crio::parse(&[Source::new("crio.conf", converted.text.as_str())]).unwrap();
        assert_eq!(content(&again), content(&table), "{}\n{}", case.display(), converted.text);
    }
}

#[test]
fn containerd_is_read_as_containerd_reads_it() {
    check("containerd", load::containerd);
}

#[test]
fn containerd_has_a_native_form() {
    check_native_form("containerd", load::containerd);
}

#[test]
fn containerd_comes_back_as_containerd() {
    for case in cases("containerd") {
        let Ok(table) = load::containerd(&case.join("in")) else { continue };
        let converted = convert::to_containerd(&table);
        let again = containerd::parse(&[Source::new("config.toml", converted.text.as_str())]).unwrap();
        assert_eq!(content(&again), content(&table), "{}\n{}", case.display(), converted.text);
    }
}

/// What the installed containerd says of itself is read, of whatever version it is. A version that this crate does not know
/// may have keys that are noted; what the versions say that are known is in the cases `default-*`.
#[test]
fn the_defaults_of_the_installed_containerd_are_read() {
    let Ok(output) = std::process::Command::new("containerd").args(["config", "default"]).output() else {
        println!("SKIPPED: containerd is not installed");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let table = containerd::parse(&[Source::new("config.toml", text.as_str())]).unwrap();
    let runc = table.select(None).unwrap();
    assert_eq!((runc.name.as_str(), runc.kind.as_str()), ("runc", "oci"));
    assert!(runc.origin.to_string().starts_with("config.toml:"), "{}", runc.origin);
    assert!(table.unavailable.is_empty(), "{:?}", table.unavailable);
    let kind = table.written[&runc.name].iter().find(|each| each.key == "kind").unwrap();
    assert!(kind.origin.to_string().starts_with("config.toml:"), "{kind:?}");
    for note in &table.notes {
        println!("note: {note}");
    }
}

/// The defaults of the versions that are known say nothing that would be noted.
#[test]
fn known_defaults_of_containerd_give_no_notes() {
    let all = cases("containerd");
    let defaults: Vec<_> =
        all.iter().filter(|case| case.display().to_string().contains("/default-")).collect();
    assert_eq!(defaults.len(), 2, "{defaults:?}");
    for case in defaults {
        let table = load::containerd(&case.join("in")).unwrap();
        assert!(
            table.notes.is_empty() && table.unavailable.is_empty(),
            "{}: {:?}",
            case.display(),
            table.notes
        );
    }
}

#[test]
fn podman_is_read_as_podman_reads_it() {
    check("containers", load::containers);
}

#[test]
fn podman_has_a_native_form() {
    check_native_form("containers", load::containers);
}
