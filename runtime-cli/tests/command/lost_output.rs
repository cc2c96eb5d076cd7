//! Output that cannot be written.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use runtime_test::{Step, Workload};
use serde_json::Value;

use crate::invoke::{Answer, Place, finish};

/// A disk without room.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn to_full(place: &Place, args: &[&str]) -> Answer {
    finish(place.command(args).stdout(full()).spawn().unwrap())
}

const TOLD: &str = "manyrun: write standard output: No space left on device";

#[test]
fn what_cannot_be_printed_is_no_success() {
    let place = Place::new();
    let state = place.text("state");
    let log = place.write("log", "2024-01-02T03:04:05.000000000Z stdout F hello\n");
    let table = place.write("handlers.toml", "[runtimes.one]\nkind = 'fake'\n");
    let other = place.write("other.toml", "[runtimes.two]\nkind = 'fake'\n");
    let (old, new) = (format!("native:{table}"), format!("native:{other}"));
    let calls: [&[&str]; 15] = [
        &["--help"],
        &["run", "--help"],
        &["--version"],
        &["list", "--state-dir", &state],
        &["list", "--state-dir", &state, "--json", "-"],
        &["logs", &log],
        &["handlers", "show", "--config", &table],
        &["handlers", "check", "--config", &table],
        &["handlers", "select", "--config", &table, "one"],
        &["handlers", "convert", "--config", &table, "--to", "native"],
        &["handlers", "diff", &old, &new],
        &["probe", "fake"],
        &["conformance", "list"],
        &["conformance", "run", "--runtime", "fake", "--filter", "create.leaves-created"],
        &["conformance", "explain", "stop.kills-after-the-grace"],
    ];
    for args in calls {
        let answer = to_full(&place, args);
        assert_eq!(answer.code, 125, "{args:?}: {answer:?}");
        assert!(answer.stderr.contains(TOLD), "{args:?}: {answer:?}");
    }
}

#[test]
fn a_reader_that_has_left_is_no_failure() {
    let place = Place::new();
    for args in [&["--help"][..], &["conformance", "list"], &["probe", "fake"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let answer = finish(place.command(args).stdout(writer).spawn().unwrap());
        assert_eq!((answer.code, answer.stderr.as_str()), (0, ""), "{args:?}: {answer:?}");
    }
}

#[test]
fn a_container_whose_output_cannot_be_written_is_stopped_and_that_is_told() {
    let endless = Workload::new([Step::Out("ready".into()), Step::Tick(Duration::from_millis(5))]);
    let place = Place::with(&endless);
    let record = place.text("record.json");
    let args = place.run_args(&["--runtime", "fake", "--json", &record, "bundle"]);
    let answer = to_full(&place, &args.iter().map(String::as_str).collect::<Vec<_>>());
    let told = "write standard output: No space left on device; the container was stopped";
    assert_eq!(answer.code, 125, "{answer:?}");
    assert!(answer.stderr.contains(told), "{answer:?}");
    let record: Value = serde_json::from_str(&std::fs::read_to_string(record).unwrap()).unwrap();
    assert_eq!(record["output_error"], told);
    assert!(record["exit"].is_object(), "{record}");
    std::fs::remove_file(place.path("record.json")).unwrap();
    place.assert_nothing_left();
}

#[test]
fn a_program_that_ended_already_has_lost_its_output_too() {
    let place = Place::with(&Workload::says("hello"));
    let args = place.run_args(&["--runtime", "fake", "bundle"]);
    let answer = to_full(&place, &args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(answer.code, 125, "{answer:?}");
    assert!(answer.stderr.contains(TOLD), "{answer:?}");
    place.assert_nothing_left();
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let place = Place::with(&Workload::says("hello"));
    let mut command = place.command(&[]);
    command.args(place.run_args(&["--runtime", "fake", "bundle"]));
    let answer = finish(command.env("MANYRUN_LOG", "trace").stderr(full()).spawn().unwrap());
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "hello\n"), "{answer:?}");
    place.assert_nothing_left();
}

#[test]
fn the_log_has_colours_for_terminals_only_and_a_wrong_level_is_told() {
    let place = Place::with(&Workload::says("hello"));
    let with = |level: &str| {
        let mut command = place.command(&[]);
        command.args(place.run_args(&["--runtime", "fake", "bundle"]));
        finish(command.env("MANYRUN_LOG", level).spawn().unwrap())
    };
    let loud = with("trace");
    assert!(loud.code == 0 && !loud.stderr.is_empty() && !loud.stderr.contains('\u{1b}'), "{loud:?}");
    let wrong = with("runtime_handlers=loud");
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.stderr.contains("MANYRUN_LOG=\"runtime_handlers=loud\""), "{wrong:?}");
}
