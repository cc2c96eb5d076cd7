//! Execs whose small parent is killed, and execs by a runtime that hangs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use manyrun_tests::host;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime_api::{DeleteRequest, ErrorKind, ExecEnd, ExecRequest, ExecSyncRequest, Streams};
use runtime_test::{Step, Workload};
use serde_json::{Value, json};

use crate::place::{Place, parent_of, with_arguments};
use crate::wrapper::{Hangs, Wrapper, write_script};
use crate::{LIMIT, on, until, within};

fn name_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_whose_parent_is_killed_fails_and_leaves_no_command() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "reaper", &Workload::forever()).await;
        let told = format!("{}-told", place.token());
        let workload = Workload::new([Step::Out(told.clone()), Step::Forever]);
        let argument = format!("out:{told}");
        let exec = {
            let (runtime, id) = (Arc::clone(&runtime), id.clone());
            let request = ExecSyncRequest::new(workload.process());
            tokio::spawn(async move { runtime.exec_sync(&id, request).await })
        };
        let (command, reaper) = until("the command and its parent", || {
            let command = with_arguments(&[&argument])?;
            let parent = parent_of(command)?;
            (name_of(parent) == "manyrun-reaper").then_some((command, parent))
        })
        .await;
        kill(Pid::from_raw(reaper), Signal::SIGKILL).unwrap();
        let ended = within(LIMIT, "exec", exec).await.unwrap();
        assert!(ended.is_err(), "{ended:?}");
        until("the end of the command", || (with_arguments(&[&argument]) != Some(command)).then_some(()))
            .await;

        let request = ExecSyncRequest::new(Workload::exits(4).process());
        let outcome = within(LIMIT, "exec", runtime.exec_sync(&id, request)).await.unwrap();
        assert_eq!(outcome.end, ExecEnd::Exited(4));
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_by_a_runtime_that_hangs_times_out() {
    on(&["runc", "crun"], async |place| {
        let wrapper = Wrapper::new(place, "exec", Hangs::Before);
        let mut config = place.config();
        config.paths = vec![wrapper.path.clone()];
        // The script is to get as far as its mark before.
        config.timeouts.exec = Some(Duration::from_secs(10));
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "hangs", &Workload::forever()).await;
        let request = ExecSyncRequest::new(Workload::exits(4).process());
        let exec = runtime.exec_sync(&id, request.clone());
        let (ended, ()) = tokio::join!(within(LIMIT, "exec", exec), wrapper.hangs());
        let error = ended.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error:?}");
        let script = wrapper.path.to_string_lossy();
        let is_gone = || with_arguments(&[&script, "exec"]).is_none().then_some(());
        until("the end of the runtime", is_gone).await;

        wrapper.mend();
        config.timeouts.exec = None;
        let patient = place.open(&config).await;
        let outcome = within(LIMIT, "exec", patient.exec_sync(&id, request)).await.unwrap();
        assert_eq!(outcome.end, ExecEnd::Exited(4));
        within(LIMIT, "delete", patient.delete(&id, DeleteRequest::force())).await.unwrap();
        patient.shutdown().await;
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_that_is_dropped_before_its_command_began_leaves_nothing() {
    on(&["runc", "crun", "runsc"], async |place| {
        let wrapper = Wrapper::new(place, "exec", Hangs::Before);
        let mut config = place.config();
        config.paths = vec![wrapper.path.clone()];
        // The probes ask for the help of the verb, which must not hang.
        wrapper.mend();
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "dropped", &Workload::forever()).await;
        wrapper.arm();
        let exec = {
            let (runtime, id) = (Arc::clone(&runtime), id.clone());
            let request = ExecSyncRequest::new(Workload::ready_forever().process());
            tokio::spawn(async move { runtime.exec_sync(&id, request).await })
        };
        wrapper.hangs().await;
        exec.abort();
        assert!(within(LIMIT, "exec", exec).await.unwrap_err().is_cancelled());
        let is_gone = || with_arguments(&["exec", "--detach", id.as_str()]).is_none().then_some(());
        until("the end of the runtime", is_gone).await;
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

/// In front of the real runtime, which has begun a command and has left before this goes on with `tail`. There `$file` is
/// where the command's pid is.
fn goes_on_after_an_exec(place: &Place, tail: &str) -> PathBuf {
    let path = place.path("wrapper");
    let (real, mark) = (host::find(place.binary).unwrap(), place.path("begun"));
    let (real, mark) = (real.display(), mark.display());
    write_script(
        &path,
        &format!(
            "#!/bin/sh\ncase \" $* \" in *\" --help \"*) exec {real} \"$@\" ;; esac\n\
            for word; do [ \"$last\" = --pid-file ] && file=$word; last=$word; done\n\
            case \" $* \" in *\" exec \"*) ;; *) exec {real} \"$@\" ;; esac\n\
            {real} \"$@\" || exit\ncp \"$file\" {mark}.new; mv {mark}.new {mark}\n{tail}\n"
        ),
    );
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_whose_runtime_fails_after_it_began_leaves_no_command() {
    // runsc leaves with its command.
    on(&["runc", "crun", "youki"], async |place| {
        let mut config = place.config();
        config.paths = vec![goes_on_after_an_exec(place, "exit 1")];
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "fails", &Workload::forever()).await;
        let argument = format!("out:{}-told", place.token());
        let told = Workload::new([Step::Out(format!("{}-told", place.token())), Step::Forever]);
        let exec = runtime.exec_sync(&id, ExecSyncRequest::new(told.process()));
        let error = within(LIMIT, "exec", exec).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Rejected { .. }), "{error:?}");
        let begun = std::fs::read_to_string(place.path("begun")).unwrap();
        assert!(begun.trim().parse::<i32>().is_ok(), "it began: {begun:?}");
        assert_eq!(with_arguments(&[&argument]), None);
        let other = place.open(&place.config()).await;
        let look = ExecSyncRequest::new(Workload::new([Step::Procs]).process());
        // The init and the one that looks.
        within(LIMIT, "that nothing runs", async {
            while other.exec_sync(&id, look.clone()).await.unwrap().stdout != b"procs 2\n" {}
        })
        .await;
        other.shutdown().await;
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_that_is_dropped_while_its_runtime_leaves_takes_its_command_along() {
    on(&["runc", "crun", "youki"], async |place| {
        let mut config = place.config();
        let leaves_with_the_directory = "while [ -e \"$file\" ]; do :; done";
        config.paths = vec![goes_on_after_an_exec(place, leaves_with_the_directory)];
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "leaves", &Workload::forever()).await;
        let told = format!("{}-told", place.token());
        let argument = format!("out:{told}");
        let exec = {
            let (runtime, id) = (Arc::clone(&runtime), id.clone());
            let request =
                ExecSyncRequest::new(Workload::new([Step::Out(told.clone()), Step::Forever]).process());
            tokio::spawn(async move { runtime.exec_sync(&id, request).await })
        };
        let is_left = || with_arguments(&[&argument]).filter(|_| place.path("begun").exists());
        let command = until("the command", is_left).await;
        exec.abort();
        assert!(within(LIMIT, "exec", exec).await.unwrap_err().is_cancelled());
        until("the end of the command", || (with_arguments(&[&argument]) != Some(command)).then_some(()))
            .await;
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_is_refused_once_another_process_has_turned_to_killing() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "killing", &Workload::forever()).await;
        let request = ExecSyncRequest::new(Workload::exits(4).process());
        // A process that stops the container, as far as anybody can tell.
        let mut stopper = tokio::process::Command::new("sleep").arg("60").kill_on_drop(true).spawn().unwrap();
        let pid = stopper.id().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let start: u64 =
            stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
        let file = place.container(&id).join("record.json");
        for (stage, refused) in [("terminating", false), ("killing", true)] {
            let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            let owner = json!({"process": {"pid": pid, "start": start}, "value": 0});
            record["stop"] = json!({"stage": stage, "owner": owner});
            std::fs::write(&file, record.to_string()).unwrap();
            let ended = within(LIMIT, "exec_sync", runtime.exec_sync(&id, request.clone())).await;
            let attached = runtime.exec(&id, ExecRequest::new(request.process.clone()), Streams::none());
            let carried = within(LIMIT, "exec", attached).await;
            assert_eq!(
                (ended.is_err(), carried.is_err()),
                (refused, refused),
                "{stage}: {ended:?} {carried:?}"
            );
            for error in [ended.err(), carried.err()].into_iter().flatten() {
                assert!(matches!(error.kind(), ErrorKind::WrongState { stopping: true, .. }), "{error:?}");
            }
        }
        // Once nobody kills it any more, execs work again.
        stopper.kill().await.unwrap();
        let outcome = within(LIMIT, "exec_sync", runtime.exec_sync(&id, request)).await.unwrap();
        assert_eq!(outcome.end, ExecEnd::Exited(4));
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}
