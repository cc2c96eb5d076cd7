//! Execs and sessions behind shims when somebody is killed: the caller, the monitor, the shim; and when the caller's tasks
//! are ended under an exec.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use manyrun_tests::life::{Life, Scenario, Step as Act};
use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::{Place, is_wholly, on, with_arguments};
use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::Pid;
use runtime_api::{
    ContainerId, DeleteRequest, ExecEnd, ExecId, ExecRequest, ExecSessionRequest, ExecSessionState,
    ExecSyncRequest, SharedRuntime, StopRequest, Streams,
};
use runtime_test::{BundleOptions, Step, Workload};
use tokio::io::AsyncReadExt as _;

const SHIMS: &[&str] = &["vm:runc", "vm:runc@crun", "vm:runc-rs"];

/// Kills the shim or the monitor of a place's only container.
fn kill_the(place: &Place, who: &str) {
    signal_the(place, who, Number::SIGKILL);
}

/// Tells who they were.
fn signal_the(place: &Place, who: &str, number: Number) -> Vec<i32> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir(place.path("state/shims")).unwrap().flatten() {
        let text = std::fs::read(entry.path().join("started.json")).unwrap();
        let started: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let pid = i32::try_from(started[who]["pid"].as_i64().unwrap()).unwrap();
        kill(Pid::from_raw(pid), number).unwrap();
        pids.push(pid);
    }
    pids
}

async fn delete(runtime: &SharedRuntime, id: &ContainerId) {
    within(LIMIT, "delete", runtime.delete(id, DeleteRequest::force())).await.unwrap();
}

/// A program that says so much, which tells its process from all others, and goes on for ever.
fn marked(place: &Place, name: &str) -> (Workload, String) {
    let mark = format!("{}-{name}", place.token());
    (Workload::new([Step::Out(mark.clone()), Step::Forever]), format!("out:{mark}"))
}

async fn seen(mark: &str) {
    until("the command", || with_arguments(&[mark]).is_some().then_some(())).await;
}

async fn gone(mark: &str) {
    until("the end of the command", || with_arguments(&[mark]).is_none().then_some(())).await;
}

/// The directories of execs that are at work.
fn execs(place: &Place, id: &ContainerId) -> usize {
    std::fs::read_dir(place.container(id).join("execs")).map_or(0, |entries| entries.flatten().count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exec_of_a_killed_caller_is_ended_by_the_next_and_its_session_goes_on() {
    on(SHIMS, async |place| {
        let scenario = Scenario::named("whole").unwrap();
        let bundles = place.path("bundles");
        Life::write_bundles(&bundles, &BundleOptions::new()).unwrap();
        let life = Life { scenario, id: place.id("life"), bundles, log: place.path("log") };
        let hang = scenario.steps.iter().position(|step| *step == Act::Hang).unwrap();
        let mut caller = Command::new(env!("CARGO_BIN_EXE_crash-subject"));
        caller.arg(place.binary).arg(place.path("state")).arg(format!("/manyrun/{}", place.token()));
        caller.arg(place.path("progress")).arg(&life.bundles).arg(&life.log);
        caller.arg(life.id.as_str()).arg(scenario.name).arg(format!("after:{hang}"));
        let mut caller = caller.stdin(Stdio::null()).spawn().unwrap();
        let left = tokio::task::spawn_blocking(move || caller.wait());
        let left = within(LIMIT, "the caller", left).await.unwrap().unwrap();
        let told = || format!("{}: the caller got to: {}", place.binary, progress(place));
        assert_eq!(left.signal(), Some(Number::SIGKILL as i32), "{left:?}; {}", told());
        assert!(with_arguments(&[&life.hang_mark()]).is_some(), "the exec is gone; {}", told());

        // What takes long is finished after the open.
        let runtime = place.open(&place.config()).await;
        let what = format!("the end of the exec; {}", told());
        until(&what, || (!life.hangs(&runtime)).then_some(())).await;
        let what = format!("the end of the exec's directory; {}", told());
        until(&what, || (execs(place, &life.id) == 0).then_some(())).await;
        let session = Life::session().unwrap();
        let state = within(LIMIT, "exec.state", runtime.exec_state(&life.id, &session)).await;
        let state = state.unwrap_or_else(|error| panic!("exec.state: {}; {}", error.report(), told()));
        assert!(matches!(state, ExecSessionState::Running { .. }), "{state:?}; {}", told());
        let stop = runtime.exec_stop(&life.id, &session, StopRequest::within(LIMIT));
        let state = within(LIMIT, "exec.stop", stop).await;
        let state = state.unwrap_or_else(|error| panic!("exec.stop: {}; {}", error.report(), told()));
        assert!(Life::is_stopped_session(&state), "{state:?}; {}", told());
        delete(&runtime, &life.id).await;
        for file in ["progress", "log"] {
            let _ = std::fs::remove_file(place.path(file));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_like_that_of_a_killed_caller_goes_on() {
    on(SHIMS, async |place| {
        let scenario = Scenario::named("whole").unwrap();
        let bundles = place.path("bundles");
        Life::write_bundles(&bundles, &BundleOptions::new()).unwrap();
        let life = Life { scenario, id: place.id("life"), bundles, log: place.path("log") };
        let hang = scenario.steps.iter().position(|step| *step == Act::Hang).unwrap();
        // Opened before the caller dies, it leaves what that one leaves to the next.
        let runtime = place.open(&place.config()).await;
        let mut caller = Command::new(env!("CARGO_BIN_EXE_crash-subject"));
        caller.arg(place.binary).arg(place.path("state")).arg(format!("/manyrun/{}", place.token()));
        caller.arg(place.path("progress")).arg(&life.bundles).arg(&life.log);
        caller.arg(life.id.as_str()).arg(scenario.name).arg(format!("after:{hang}"));
        let mut caller = caller.stdin(Stdio::null()).spawn().unwrap();
        let left = tokio::task::spawn_blocking(move || caller.wait());
        within(LIMIT, "the caller", left).await.unwrap().unwrap();
        let first = with_arguments(&[&life.hang_mark()]).unwrap_or_else(|| panic!("{}", progress(place)));

        let alike = {
            let (runtime, id, request) = (runtime.clone(), life.id.clone(), life.hang());
            tokio::spawn(async move { runtime.exec_sync(&id, request).await })
        };
        let second = until("the second command", || {
            all_with_argument(&life.hang_mark()).into_iter().find(|pid| *pid != first)
        })
        .await;
        // It is one that the shim knows, and its start is answered, once its directory is all that is left beside it.
        let next = place.open(&place.config()).await;
        until("the end of the first", || {
            (!all_with_argument(&life.hang_mark()).contains(&first)).then_some(())
        })
        .await;
        until("the end of its directory", || (execs(place, &life.id) == 1).then_some(())).await;
        assert_eq!(all_with_argument(&life.hang_mark()), [second], "on {}", place.binary);
        assert!(!alike.is_finished(), "on {}", place.binary);
        alike.abort();
        until("the end of the second", || all_with_argument(&life.hang_mark()).is_empty().then_some(()))
            .await;
        delete(&next, &life.id).await;
        for file in ["progress", "log"] {
            let _ = std::fs::remove_file(place.path(file));
        }
    })
    .await;
}

/// The processes that have this argument.
fn all_with_argument(wanted: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes())
    })
    .collect()
}

fn progress(place: &Place) -> String {
    std::fs::read_to_string(place.path("progress")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_is_ended_though_the_tasks_of_its_caller_are() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "left", &Workload::forever()).await;
        let (program, mark) = marked(place, "dropped");
        let (config, state) = (place.config(), place.path("state"));
        let (container, cgroup) = (id.clone(), format!("/manyrun/{}", place.token()));
        let looked = mark.clone();
        let caller = std::thread::spawn(move || {
            let tasks = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            let tasks = tasks.unwrap();
            tasks.block_on(async {
                let context = runtime_api::OpenContext::new(state, cgroup);
                let runtime = manyrun_tests::handler::open(&config, context).await.unwrap();
                tokio::spawn(async move {
                    runtime.exec_sync(&container, ExecSyncRequest::new(program.process())).await
                });
                seen(&looked).await;
            });
            tasks.shutdown_timeout(Duration::from_secs(5));
        });
        within(LIMIT, "the caller", tokio::task::spawn_blocking(|| caller.join())).await.unwrap().unwrap();
        let what = format!("the end of the command on {}", place.binary);
        until(&what, || with_arguments(&[&mark]).is_none().then_some(())).await;
        let what = format!("the end of the exec's directory on {}", place.binary);
        until(&what, || (execs(place, &id) == 0).then_some(())).await;
        let outcome = runtime.exec_sync(&id, ExecSyncRequest::new(Workload::exits(3).process()));
        let outcome = within(LIMIT, "exec", outcome).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{}: {}", place.binary, error.report()));
        assert_eq!(outcome.end, ExecEnd::Exited(3), "on {}", place.binary);
        delete(&runtime, &id).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_monitor_is_killed_still_has_a_code() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "alone", &Workload::forever()).await;
        let start = async |name: &str, program: Workload| {
            let session = ExecId::new(name).unwrap();
            let request = ExecSessionRequest::new(session.clone(), program.process());
            within(LIMIT, "exec.start", runtime.exec_start(&id, request)).await.unwrap();
            session
        };
        let (program, mark) = marked(place, "session");
        let session = start("one", program).await;
        seen(&mark).await;
        kill_the(place, "monitor");
        let state = within(LIMIT, "exec.state", runtime.exec_state(&id, &session)).await.unwrap();
        assert!(matches!(state, ExecSessionState::Running { .. }), "{state:?}");
        let stop = runtime.exec_stop(&id, &session, StopRequest::within(Duration::ZERO));
        let stopped = within(LIMIT, "exec.stop", stop).await.unwrap();
        assert_eq!(stopped, ExecSessionState::Stopped { code: Some(137) });
        gone(&mark).await;
        // It stays known, and no new one can be had.
        let state = within(LIMIT, "exec.state", runtime.exec_state(&id, &session)).await.unwrap();
        assert_eq!(state, stopped);
        within(LIMIT, "exec.cleanup", runtime.exec_cleanup(&id, &session)).await.unwrap();
        let request = ExecSessionRequest::new(session.clone(), Workload::exits(0).process());
        let refused = within(LIMIT, "exec.start", runtime.exec_start(&id, request)).await.unwrap_err();
        assert!(refused.report().contains("monitor"), "{}", refused.report());
        assert!(within(LIMIT, "exec.state", runtime.exec_state(&id, &session)).await.is_err());
        // An attached exec needs none.
        let outcome = runtime.exec_sync(&id, ExecSyncRequest::new(Workload::says("on").process()));
        assert_eq!(within(LIMIT, "exec", outcome).await.unwrap().stdout, b"on\n");
        delete(&runtime, &id).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_session_is_told_once_its_monitor_has_written_it_down() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "ends", &Workload::forever()).await;
        let (program, mark) = marked(place, "session");
        let session = ExecId::new("one").unwrap();
        let request = ExecSessionRequest::new(session.clone(), program.process());
        within(LIMIT, "exec.start", runtime.exec_start(&id, request)).await.unwrap();
        seen(&mark).await;
        // The program ends between the look and the lock of whoever stops it, while the monitor takes its time.
        let lock = std::fs::File::open(place.container(&id).join("sessions/one/lock")).unwrap();
        lock.lock().unwrap();
        let stop = {
            let (runtime, id) = (runtime.clone(), id.clone());
            tokio::spawn(async move { runtime.exec_stop(&id, &session, StopRequest::within(LIMIT)).await })
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        for monitor in signal_the(place, "monitor", Number::SIGSTOP) {
            until("that the monitor stands still", || is_wholly(monitor, "T").then_some(())).await;
        }
        kill(Pid::from_raw(with_arguments(&[&mark]).unwrap()), Number::SIGKILL).unwrap();
        gone(&mark).await;
        let begun = Instant::now();
        drop(lock);
        tokio::time::sleep(Duration::from_millis(500)).await;
        // After five seconds the shim is asked, and believed.
        assert!(!stop.is_finished() || begun.elapsed() > Duration::from_secs(5), "on {}", place.binary);
        signal_the(place, "monitor", Number::SIGCONT);
        let state = within(LIMIT, "exec.stop", stop).await.unwrap().unwrap();
        assert_eq!(state, ExecSessionState::Stopped { code: Some(137) });
        delete(&runtime, &id).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execs_end_with_a_shim_that_is_killed() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "lost", &Workload::forever()).await;
        let (program, mark) = marked(place, "exec");
        let (mut says, stdout) = tokio::io::duplex(1024);
        let running = {
            let (runtime, id) = (runtime.clone(), id.clone());
            let (request, streams) = (ExecRequest::new(program.process()), Streams::none().stdout(stdout));
            tokio::spawn(async move { runtime.exec(&id, request, streams).await })
        };
        let (program, other) = marked(place, "session");
        let session = ExecId::new("one").unwrap();
        let request = ExecSessionRequest::new(session.clone(), program.process());
        within(LIMIT, "exec.start", runtime.exec_start(&id, request)).await.unwrap();
        // The command is there before the shim says so, and one that the shim never told of was not run.
        within(LIMIT, "the command's words", says.read_u8()).await.unwrap();
        seen(&other).await;
        kill_the(place, "shim");
        let ended = within(LIMIT, "exec", running).await.unwrap().unwrap();
        assert_eq!(ended.code, Some(137));
        for mark in [mark, other] {
            gone(&mark).await;
        }
        let state = within(LIMIT, "exec.state", runtime.exec_state(&id, &session)).await.unwrap();
        assert!(matches!(state, ExecSessionState::Stopped { .. }), "{state:?}");
        delete(&runtime, &id).await;
    })
    .await;
}
