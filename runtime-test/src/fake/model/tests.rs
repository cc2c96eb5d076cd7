use std::collections::BTreeMap;
use std::time::Duration;

use runtime_api::{Capabilities, Capability, ErrorKind, ExecEnd, Signal};

use super::*;
use crate::{Life, Profile, Step, Workload};

const TERM: Signal = Signal::TERM;

fn id(text: &str) -> ContainerId {
    ContainerId::new(text).unwrap()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn answers() -> Capabilities {
    Profile::full().unwrap().capabilities().clone()
}

fn program(workload: &Workload) -> Program {
    Program { argv: workload.argv(), env: Vec::new(), cwd: "/".into(), who: Who::default() }
}

fn blueprint(workload: &Workload) -> Blueprint {
    Blueprint {
        bundle: "/b".into(),
        rootfs: "/b/rootfs".into(),
        program: program(workload),
        annotations: BTreeMap::new(),
        labels: BTreeMap::new(),
        terminal: false,
        input_open: true,
        input_kept: false,
        limits: Limits::default(),
        stop_signal: TERM,
    }
}

fn created(workload: &Workload) -> Model {
    let mut model = Model::new(SystemTime::UNIX_EPOCH, None);
    let key = model.reserve(&id("a")).unwrap();
    model.fill(key, blueprint(workload)).unwrap();
    model
}

fn started(workload: &Workload) -> Model {
    let mut model = created(workload);
    model.start(&id("a")).unwrap();
    model
}

fn status(model: &Model) -> ContainerStatus {
    model.state(&id("a")).unwrap().status
}

fn code(model: &Model) -> Option<i32> {
    model.state(&id("a")).unwrap().exit.and_then(|exit| exit.code)
}

fn text(model: &mut Model) -> String {
    model.take_output().iter().map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned()).collect()
}

fn collected(timeout: Option<Duration>, output: usize) -> ExecTerms {
    ExecTerms {
        operation: Operation::ExecSync,
        timeout,
        output,
        input: false,
        terminal: None,
        descriptors: Vec::new(),
    }
}

fn exec(model: &mut Model, workload: &Workload, timeout: Option<Duration>) -> ExecKey {
    let limits = collected(timeout, 1000);
    model.exec(&id("a"), program(workload), limits).unwrap()
}

#[test]
fn a_life_goes_through_its_states_at_its_times() {
    let mut model = created(&Workload::exits_after(secs(2), 7));
    assert_eq!(status(&model), ContainerStatus::Created);
    model.advance(secs(1));
    model.start(&id("a")).unwrap();
    model.advance(secs(2));
    assert_eq!(status(&model), ContainerStatus::Running);
    model.advance(secs(100));
    let state = model.state(&id("a")).unwrap();
    let exit = state.exit.unwrap();
    assert_eq!((exit.code, exit.finished_at), (Some(7), SystemTime::UNIX_EPOCH + secs(3)));
    assert_eq!(state.started_at, Some(SystemTime::UNIX_EPOCH + secs(1)));
    let key = model.begin_delete(&id("a"), false).unwrap().unwrap();
    assert!(model.forget(key) && model.is_empty());
    assert!(model.state(&id("a")).unwrap_err().is_not_found());
}

#[test]
fn a_reserved_id_is_creating_until_it_is_filled_or_abandoned() {
    let mut model = Model::new(SystemTime::UNIX_EPOCH, None);
    let key = model.reserve(&id("a")).unwrap();
    assert_eq!(*model.reserve(&id("a")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(model.list()[0].status, ContainerStatus::Creating);
    assert!(model.state(&id("a")).unwrap_err().is_wrong_state());
    model.abandon(key, false);
    assert!(model.is_empty());
    let key = model.reserve(&id("a")).unwrap();
    assert!(model.begin_delete(&id("a"), true).unwrap().is_some());
    model.forget(key);
    assert!(model.fill(key, blueprint(&Workload::forever())).is_err(), "it was deleted meanwhile");
}

#[test]
fn a_stop_signals_once_and_kills_at_the_earliest_deadline() {
    let mut model = started(&Workload::says_signals(&[15]));
    model.stop(&id("a"), Some(secs(10))).unwrap();
    model.stop(&id("a"), Some(secs(60))).unwrap();
    model.stop(&id("a"), None).unwrap();
    model.stop(&id("a"), Some(Duration::MAX)).unwrap();
    assert_eq!(text(&mut model), "ready\nsignal 15\n");
    assert!(model.state(&id("a")).unwrap().stopping);
    assert!(model.begin_delete(&id("a"), false).unwrap_err().is_wrong_state());
    model.advance(secs(1));
    model.stop(&id("a"), Some(secs(2))).unwrap();
    model.advance(secs(2));
    assert_eq!(status(&model), ContainerStatus::Running);
    model.advance(secs(3));
    assert_eq!((status(&model), code(&model)), (ContainerStatus::Stopped, Some(137)));
    let (_, ending) = model.stop(&id("a"), Some(secs(1))).unwrap();
    assert_eq!(ending.get().unwrap().finished_at, SystemTime::UNIX_EPOCH + secs(3));
}

#[test]
fn an_unlimited_stop_never_kills() {
    let mut model = started(&Workload::ignores_term());
    model.stop(&id("a"), None).unwrap();
    model.advance(secs(1_000_000));
    assert_eq!(status(&model), ContainerStatus::Running);
    assert_eq!(model.next_wake(), None);
}

#[test]
fn a_paused_program_stands_still_and_its_signals_wait() {
    let mut model = started(&Workload::ticks(secs(1)));
    model.pause(&id("a")).unwrap();
    model.advance(secs(10));
    assert_eq!(text(&mut model), "tick 1\n");
    model.resume(&id("a")).unwrap();
    model.advance(secs(11));
    assert_eq!(text(&mut model), "tick 2\ntick 3\n");

    let mut model = started(&Workload::exits_on(10, 4));
    model.pause(&id("a")).unwrap();
    model.kill(&id("a"), Signal::USR1, false, &answers()).unwrap();
    assert_eq!(status(&model), ContainerStatus::Paused);
    let narrow = answers().without(Capability::KillPaused, "no", &runtime_api::Evidence::design("x"));
    assert!(model.kill(&id("a"), TERM, false, &narrow).unwrap_err().is_unsupported());
    model.resume(&id("a")).unwrap();
    assert_eq!(code(&model), Some(4));
}

#[test]
fn a_stop_thaws_first_and_kill_does_not() {
    let mut model = started(&Workload::exits_on_term(5));
    model.pause(&id("a")).unwrap();
    model.stop(&id("a"), Some(secs(10))).unwrap();
    assert_eq!(code(&model), Some(5));

    let mut model = started(&Workload::exits_on_term(5));
    model.pause(&id("a")).unwrap();
    model.kill(&id("a"), Signal::KILL, false, &answers()).unwrap();
    assert_eq!(code(&model), Some(137));
}

#[test]
fn an_exec_drains_for_a_second_and_its_children_become_the_inits() {
    let mut model = started(&Workload::forever());
    let workload = Workload::new([Step::Child(Life::Forever), Step::Procs, Step::Exit(3)]);
    let key = exec(&mut model, &workload, Some(secs(1)));
    model.advance(Duration::from_millis(999));
    assert_eq!(model.collect(key), None);
    model.advance(secs(1));
    let outcome = model.collect(key).unwrap();
    assert_eq!((outcome.end, outcome.stdout.as_slice()), (ExecEnd::Exited(3), &b"procs 3\n"[..]));
    let key = exec(&mut model, &Workload::new([Step::Procs]), None);
    assert_eq!(model.collect(key).unwrap().stdout, b"procs 3\n", "the child lives on");
}

#[test]
fn a_time_limit_ends_the_whole_tree_and_keeps_what_was_printed() {
    let mut model = started(&Workload::forever());
    let key = exec(&mut model, &Workload::forks_a_tree(), Some(secs(5)));
    model.advance(secs(5));
    let outcome = model.collect(key).unwrap();
    assert_eq!((outcome.end, outcome.stdout.as_slice()), (ExecEnd::TimedOut, &b"ready\n"[..]));
    let key = exec(&mut model, &Workload::new([Step::Procs]), None);
    assert_eq!(model.collect(key).unwrap().stdout, b"procs 2\n");
}

#[test]
fn execs_end_with_their_container_or_when_nobody_wants_them() {
    let mut model = started(&Workload::forever());
    let (one, other) =
        (exec(&mut model, &Workload::forks_a_tree(), None), exec(&mut model, &Workload::forever(), None));
    model.drop_exec(other);
    let key = exec(&mut model, &Workload::new([Step::Procs]), None);
    assert_eq!(model.collect(key).unwrap().stdout, b"procs 5\n");
    model.kill(&id("a"), Signal::KILL, false, &answers()).unwrap();
    assert_eq!(model.collect(one).unwrap().end, ExecEnd::Exited(137));
    assert!(model.exec(&id("a"), program(&Workload::forever()), collected(None, 0)).is_err());
}

#[test]
fn output_beyond_the_limit_is_dropped_and_told() {
    let mut model = started(&Workload::forever());
    let workload = Workload::fills(990).then(Step::Err("0123456789abc".into()));
    let key = exec(&mut model, &workload, None);
    let outcome = model.collect(key).unwrap();
    assert_eq!((outcome.stdout.len(), outcome.stderr.as_slice()), (990, &b"0123456789"[..]));
    assert!(outcome.truncated);
}

#[test]
fn a_signal_to_all_reaches_execs_too() {
    let mut model = started(&Workload::forever());
    let key = exec(&mut model, &Workload::forever(), None);
    model.kill(&id("a"), TERM, false, &answers()).unwrap();
    assert_eq!(model.collect(key), None);
    model.kill(&id("a"), TERM, true, &answers()).unwrap();
    assert_eq!(model.collect(key).unwrap().end, ExecEnd::Exited(143));
    assert_eq!(status(&model), ContainerStatus::Running, "an init traps nothing");
}

#[test]
fn input_is_carried_and_ends() {
    let mut model = started(&Workload::echoes());
    let key = model.admitted(Operation::Attach, &id("a")).unwrap();
    model.write_input(key, b"hello");
    assert_eq!(text(&mut model), "hello");
    assert_eq!((model.unread_input(key), model.is_over(key)), (0, false));
    model.end_input(key);
    assert_eq!(code(&model), Some(0));
}

#[test]
fn a_deleted_container_still_tells_those_who_wait() {
    let mut model = started(&Workload::forever());
    let (_, ending) = model.ending(&id("a")).unwrap();
    let key = model.begin_delete(&id("a"), true).unwrap().unwrap();
    model.forget(key);
    assert_eq!(ending.get().unwrap().code, Some(137));
    assert!(model.ending(&id("a")).unwrap_err().is_not_found());
    assert_eq!(model.begin_delete(&id("a"), true).unwrap(), None);
    assert!(model.begin_delete(&id("a"), false).unwrap_err().is_not_found());
}

/// What the probe does with these arguments when it is run for real, as a program that is no init.
fn for_real(dir: &std::path::Path, args: &[&str]) -> (i32, Vec<u8>, Vec<u8>) {
    use std::os::unix::process::ExitStatusExt;
    let mut command = std::process::Command::new(dir.join(crate::probe::NAME));
    command.args(args).env_clear().env("A", "1").current_dir("/").stdin(std::process::Stdio::null());
    let output = loop {
        match command.output() {
            // Another test that forks at this moment holds the file open for writing until its exec.
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            output => break output.unwrap(),
        }
    };
    let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap());
    (code, output.stdout, output.stderr)
}

#[test]
fn the_model_does_what_the_probe_does() {
    let dir = tempfile::tempdir().unwrap();
    crate::probe::install(dir.path()).unwrap();
    let scripts: &[&[&str]] = &[
        &[],
        &["out:a b", "raw:c", "err:d", "args", "env:A", "env:B", "cwd", "exit:3"],
        &["out:x", "raise:15", "out:never"],
        &["raise:9"],
        &["trap:15:say", "raise:15", "raise:15", "sleep:5", "exit:1"],
        &["trap:10:exit:4", "raise:10", "exit:5"],
        &["trap:15:ignore", "raise:15", "out:still"],
        &["trap:40:say", "raise:40", "raise:40", "exit:2"],
        &["raise:17", "raise:28", "fill:1000", "cat", "exit:255"],
        &["out:a", "bad"],
    ];
    for args in scripts {
        let mut model = started(&Workload::forever());
        let argv = std::iter::once("/manyrun-probe").chain(args.iter().copied()).map(str::to_owned).collect();
        let program = Program { argv, env: vec!["A=1".to_owned()], cwd: "/".into(), who: Who::default() };
        let key = model.exec(&id("a"), program, collected(None, 10_000)).unwrap();
        model.advance(secs(10));
        let outcome = model.collect(key).unwrap();
        let played = (outcome.code().unwrap(), outcome.stdout, outcome.stderr);
        assert_eq!(played, for_real(dir.path(), args), "{args:?}");
    }
}
