//! `manyrun run`, over the fake runtime.

use runtime_test::{Step, Workload};
use serde_json::Value;

use crate::invoke::Place;

#[test]
fn it_prints_what_the_program_prints_and_exits_with_its_code() {
    let steps = [Step::Out("hello".into()), Step::Err("oops".into()), Step::Exit(7)];
    let place = Place::with(&Workload::new(steps));
    let answer = place.run(&["--runtime", "fake", "bundle"]);
    assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (7, "hello\n", "oops\n"));
    place.assert_nothing_left();
}

#[test]
fn a_handler_of_a_configuration_file_is_used() {
    let place = Place::with(&Workload::says("configured"));
    let config = place.write("handlers.toml", "default = 'mine'\n[runtimes.mine]\nkind = 'fake'\n");
    for args in [&["--config", &config, "bundle"][..], &["--config", &config, "--handler", "mine", "bundle"]]
    {
        let answer = place.run(args);
        assert_eq!((answer.code, answer.stdout.as_str()), (0, "configured\n"), "{answer:?}");
    }
    let mut command = place.command(&[]);
    command.args(place.run_args(&["bundle"])).env("MANYRUN_CONFIG", &config);
    let answer = crate::invoke::finish(command.spawn().unwrap());
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "configured\n"), "{answer:?}");
    place.assert_nothing_left();
}

#[test]
fn standard_input_reaches_the_program() {
    let place = Place::with(&Workload::echoes());
    let answer = place.run_with_input(&["--runtime", "fake", "bundle"], "one\ntwo\n");
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "one\ntwo\n"), "{answer:?}");
    place.assert_nothing_left();
}

#[test]
fn a_command_line_replaces_that_of_the_bundle() {
    let place = Place::with(&Workload::says("old"));
    let before = std::fs::read(place.path("bundle/config.json")).unwrap();
    let answer =
        place.run(&["--runtime", "fake", "bundle", "--", "/manyrun-probe", "out:new words", "exit:3"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (3, "new words\n"), "{answer:?}");
    assert_eq!(std::fs::read(place.path("bundle/config.json")).unwrap(), before);
    place.assert_nothing_left();
}

#[test]
fn large_output_arrives_whole() {
    let place = Place::with(&Workload::fills(300_000));
    let answer = place.run(&["--runtime", "fake", "bundle"]);
    assert_eq!((answer.code, answer.stdout.len()), (0, 300_000), "{}", answer.stderr);
}

#[test]
fn the_record_tells_who_ran_what_and_how_it_ended() {
    let place = Place::with(&Workload::exits(5));
    let record = place.text("record.json");
    let answer = place.run(&["--runtime", "fake", "--id", "web", "--json", &record, "bundle"]);
    assert_eq!(answer.code, 5, "{answer:?}");
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    assert_eq!(record["id"], "web");
    assert_eq!(record["handler"], "fake");
    assert_eq!(record["runtime"]["kind"], "fake");
    assert_eq!((&record["exit"]["code"], &record["exit_code"]), (&5.into(), &5.into()));
    assert_eq!(record["error"], Value::Null);
}

#[test]
fn a_record_on_standard_output_is_alone_there() {
    let place = Place::with(&Workload::says("hello"));
    let answer = place.run(&["--runtime", "fake", "--json", "-", "bundle"]);
    let record: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(record["exit_code"], 0);
    assert_eq!(answer.stderr, "hello\n");
}

#[test]
fn the_record_of_a_failure_has_the_error() {
    let place = Place::new();
    let answer = place.run(&["--runtime", "fake", "--json", "-", "nowhere"]);
    assert_eq!(answer.code, 125);
    let record: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(record["exit"], Value::Null);
    assert!(record["error"].as_str().unwrap().contains("nowhere"), "{record}");
}

#[test]
fn the_log_stays() {
    let place = Place::with(&Workload::says("hello"));
    let answer = place.run(&["--runtime", "fake", "--log", "out.log", "bundle"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (0, "hello\n"), "{answer:?}");
    let log = std::fs::read_to_string(place.path("out.log")).unwrap();
    assert!(log.ends_with(" stdout F hello\n"), "{log:?}");
}

#[test]
fn a_runtime_without_attach_still_runs_the_program() {
    let place = Place::with(&Workload::new([Step::Out("unheard".into()), Step::Exit(4)]));
    let answer = place.run(&["--runtime", "fake:minimal", "bundle"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (4, ""));
    assert!(answer.stderr.contains("cannot attach"), "{answer:?}");
    place.assert_nothing_left();
}

#[test]
fn a_bundle_that_is_marked_as_spoofed_is_refused_and_nothing_is_left() {
    let place = Place::new();
    std::fs::create_dir(place.path("bundle")).unwrap();
    place.write("bundle/config.json", r#"{"ociVersion":"1.0.2","annotations":{"spoofed.crio.io":"true"}}"#);
    let config = place.write("h.toml", "default = 'one'\n[runtimes.one]\nkind = 'fake'\n");
    let bundle = place.text("bundle");
    let answer = place.run(&["--config", &config, &bundle]);
    assert_eq!(answer.code, 125, "{answer:?}");
    assert!(answer.stderr.contains("marked as spoofed, and nothing runs"), "{answer:?}");
    let left = std::fs::read_dir(place.path("state/.spoofed")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).filter(|name| name != ".lock").collect();
    assert!(left.is_empty(), "{left:?}");
}
