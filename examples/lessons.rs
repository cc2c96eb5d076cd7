//! Runs every example: on the fake, and where a real handler is named, on those that this host has.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::process::{Command, Output};

use manyrun_tests::host;

const DEMO: &str = env!("CARGO_BIN_EXE_demo");
const CAPABILITY_MATRIX: &str = env!("CARGO_BIN_EXE_capability_matrix");
const RUN_AND_STOP: &str = env!("CARGO_BIN_EXE_run_and_stop");
const SELECT_HANDLER: &str = env!("CARGO_BIN_EXE_select_handler");
const SURVIVE_RESTART: &str = env!("CARGO_BIN_EXE_survive_restart");

/// Runs a program without a handler table of the machine's own; gives what it printed.
fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).env_remove("MANYRUN_CONFIG").output().unwrap()
}

#[track_caller]
fn printed(output: &Output) -> String {
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out
}

#[test]
fn a_handler_is_selected_by_name() {
    let text = printed(&run(SELECT_HANDLER, &[]));
    assert!(
        text.contains("on-everyday: exited, code 3") && text.contains("on-small: exited, code 3"),
        "{text}"
    );
    assert!(text.contains("\"kata\"") && text.contains("everyday"), "the refusal names both: {text}");
    assert!(text.contains("optoins") && text.contains("handlers.toml:9"), "the refusal has the line: {text}");
}

#[test]
fn the_fake_runs_stops_and_survives() {
    runs_stops_and_survives("fake");
}

#[test]
fn runc_runs_stops_and_survives() {
    match host::lacks("runc") {
        Some(need) => host::skipped(&need),
        None => runs_stops_and_survives("runc"),
    }
}

#[test]
fn crun_runs_stops_and_survives() {
    match host::lacks("crun") {
        Some(need) => host::skipped(&need),
        None => runs_stops_and_survives("crun"),
    }
}

fn runs_stops_and_survives(handler: &str) {
    let text = printed(&run(RUN_AND_STOP, &[handler]));
    assert!(text.contains("exited, code 7") && text.contains("ready"), "{text}");
    let text = printed(&run(SURVIVE_RESTART, &[handler]));
    assert!(text.contains("running after the restart") && text.contains("exited, code 137"), "{text}");
}

#[test]
fn the_demo_shows_the_fake() {
    let text = printed(&run(DEMO, &["--handler", "fake"]));
    assert!(text.contains("printed \"hello from a container\"; exit 0"), "{text}");
    assert!(text.ends_with("demo: 1 handlers ran, 0 failed\n"), "{text}");
}

#[test]
fn the_demo_tells_an_unknown_handler_from_the_known_ones() {
    let output = run(DEMO, &["--handler", "nope"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("nope") && told.contains("crun"), "{told}");
}

#[test]
fn the_demo_fails_on_a_bundle_that_is_not_there() {
    if let Some(need) = host::lacks("crun") {
        return host::skipped(&need);
    }
    let output = run(DEMO, &["--handler", "crun", "--bundle", "/no/such/bundle"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("FAILED") && told.contains("/no/such/bundle"), "{told}");
    assert!(told.ends_with("demo: 0 handlers ran, 1 failed\n"), "{told}");
}

#[test]
fn the_matrix_has_a_row_for_every_capability() {
    let text = printed(&run(CAPABILITY_MATRIX, &["fake"]));
    for capability in runtime_api::Capability::ALL {
        assert!(text.contains(&format!("| `{capability}` | ")), "{capability} is not in {text}");
    }
}

#[test]
fn a_full_disk_is_an_error_and_no_panic() {
    for (program, arguments) in [
        (DEMO, &["--handler", "fake"][..]),
        (CAPABILITY_MATRIX, &["fake"]),
        (RUN_AND_STOP, &["fake"]),
        (SELECT_HANDLER, &[]),
        (SURVIVE_RESTART, &["fake"]),
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(program);
        let output = command.args(arguments).env_remove("MANYRUN_CONFIG").stdout(full).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            matches!(output.status.code(), Some(1 | 2)) && told.contains("No space left"),
            "{program}: {told}"
        );
    }
}

#[test]
fn an_error_is_told_by_its_report() {
    let output = run(RUN_AND_STOP, &["nope"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.starts_with("run_and_stop: ") && told.contains("known handlers are"), "{told}");
}
