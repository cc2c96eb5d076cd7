//! Shims that say what is not so, or do not say what is: nobody is told a code that was made up, and nobody waits for ever.

use std::time::Duration;

use manyrun_tests::fake_shim::Misdeed;
use manyrun_tests::patience::{LIMIT, within};
use runtime_api::{
    ContainerId, ContainerState, ContainerStatus, DeleteRequest, ExecEnd, ExecSyncRequest, ExitCause,
    KillRequest, ProcessRequest, Signal,
};
use runtime_test::Workload;
use runtime_vm::task::answer::TaskStatus;
use ttrpc::Code;

use crate::place::{Bystander, PATIENT, Place, id, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_is_only_said_is_not_believed() {
    for lie in [Misdeed::Lies(TaskStatus::Stopped), Misdeed::WrongId, Misdeed::Lies(TaskStatus::Unknown(77))]
    {
        let (place, id) = (Place::new().await, id("one"));
        place.created(&id, &program()).await;
        place.misdeeds().once("Start", Misdeed::Closes);
        place.misdeeds().always("State", lie.clone());
        // Whether it was started only the shim can tell, and that lies.
        let error = within(LIMIT, "start", place.runtime.start(&id)).await.unwrap_err();
        assert!(error.report().contains("\"one\""), "{error:?}");
        let state = within(LIMIT, "state", place.runtime.state(&id)).await.unwrap();
        assert_ne!(state.status, ContainerStatus::Stopped, "{lie:?}");
        place.misdeeds().none();
        let state = within(LIMIT, "state", place.runtime.state(&id)).await.unwrap();
        assert_eq!(Some(state.status), place.truth(&id), "{lie:?}");
        assert_eq!(place.code_after_term(&id).await, Some(7), "{lie:?}");
        place.end(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_says_that_everything_runs_keeps_nothing_alive() {
    let (place, id) = (Place::new().await, id("one"));
    place.misdeeds().always("State", Misdeed::Lies(TaskStatus::Running));
    place.running(&id, &program()).await;
    assert_eq!(place.code_after_term(&id).await, Some(7));
    assert_eq!(place.runtime.state(&id).await.unwrap().status, ContainerStatus::Stopped);
    within(LIMIT, "delete", place.runtime.delete(&id, DeleteRequest::new())).await.unwrap();
    place.end(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_seen_whichever_of_the_ways_to_tell_it_is_silent() {
    let unknown = || Misdeed::Refuses(Code::NOT_FOUND, "container: not found".to_owned());
    let rows: [&[(&str, Misdeed)]; 4] = [
        // The event comes, and the answer to the wait does not.
        &[("Wait", Misdeed::Silent)],
        // The reverse.
        &[("Forward", Misdeed::Silent)],
        // Neither.
        &[("Wait", Misdeed::Silent), ("Forward", Misdeed::Silent)],
        // It says that it knows no such container, which it has.
        &[("Wait", unknown())],
    ];
    let each = rows.map(|row| async move {
        let (place, id) = (Place::new().await, id("one"));
        for (method, misdeed) in row {
            place.misdeeds().always(method, misdeed.clone());
        }
        place.running(&id, &program()).await;
        assert_eq!(place.runtime.state(&id).await.unwrap().status, ContainerStatus::Running);
        assert_eq!(place.code_after_term(&id).await, Some(7), "{row:?}");
        place.end(&id).await;
    });
    let [one, two, three, four] = each;
    tokio::join!(one, two, three, four);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_an_exec_is_seen_although_its_wait_is_not_answered() {
    let (place, id) = (Place::new().await, id("one"));
    place.running(&id, &program()).await;
    place.misdeeds().always("Wait", Misdeed::Silent);
    let request = ExecSyncRequest::new(ProcessRequest::new(Workload::says("x").argv()));
    let outcome = within(PATIENT, "exec", place.runtime.exec_sync(&id, request)).await.unwrap();
    assert_eq!((outcome.end, outcome.stdout.as_slice()), (ExecEnd::Exited(0), b"x\n".as_slice()));
    place.end(&id).await;
}

/// The state of a container once it is told to have ended. Nobody waits for that: whoever asks how it stands finds out.
async fn stopped(place: &Place, id: &ContainerId) -> ContainerState {
    within(PATIENT, "the end", async {
        loop {
            let state = within(LIMIT, "state", place.runtime.state(id)).await.unwrap();
            if state.status == ContainerStatus::Stopped {
                break state;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_its_shim_has_lost_has_ended_and_nobody_knows_how() {
    for waits in [true, false] {
        let (place, id) = (Place::new().await, id("one"));
        place.running(&id, &program()).await;
        place.lose(&id);
        let exit = if waits {
            within(PATIENT, "wait", place.runtime.wait(&id)).await.unwrap()
        } else {
            stopped(&place, &id).await.exit.unwrap()
        };
        assert_eq!((exit.code, exit.cause), (None, ExitCause::StateLost));
        assert_eq!(place.runtime.state(&id).await.unwrap().exit, Some(exit));
        within(LIMIT, "delete", place.runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        place.end(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_whose_shim_is_gone_is_not_told_to_run() {
    for status in [ContainerStatus::Created, ContainerStatus::Running, ContainerStatus::Paused] {
        let (place, id) = (Place::new().await, id("one"));
        if status == ContainerStatus::Created {
            place.created(&id, &program()).await;
        } else {
            place.running(&id, &program()).await;
        }
        if status == ContainerStatus::Paused {
            place.runtime.pause(&id).await.unwrap();
        }
        place.misdeeds().once("Stats", Misdeed::Dies);
        place.misdeeds().once("Kill", Misdeed::Dies);
        // Which of the two is answered does not matter: it dies of either.
        let _ = within(LIMIT, "stats", place.runtime.stats(&id)).await;
        let _ = within(LIMIT, "kill", place.runtime.kill(&id, KillRequest::new(Signal::TERM))).await;
        let told = stopped(&place, &id).await;
        let exit = told.exit.clone().unwrap();
        assert_eq!((exit.code, exit.cause), (Some(137), ExitCause::MonitorLost), "{status}");
        assert_eq!(place.runtime.list().await.unwrap(), [told], "{status}");
        within(LIMIT, "delete", place.runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        place.end(&id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pid_that_is_none_is_no_pid() {
    let (place, id) = (Place::new().await, id("one"));
    for method in ["Create", "Start", "State", "Connect"] {
        place.misdeeds().always(method, Misdeed::Pid(0));
    }
    place.running(&id, &program()).await;
    assert_eq!(place.runtime.state(&id).await.unwrap().pid, None);
    let request = ExecSyncRequest::new(ProcessRequest::new(Workload::says("x").argv()));
    let outcome = within(LIMIT, "exec", place.runtime.exec_sync(&id, request)).await.unwrap();
    assert_eq!(outcome.end, ExecEnd::Exited(0));
    within(LIMIT, "pause", place.runtime.pause(&id)).await.unwrap();
    within(LIMIT, "resume", place.runtime.resume(&id)).await.unwrap();
    assert_eq!(place.code_after_term(&id).await, Some(7));
    place.end(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pid_of_somebody_else_brings_that_no_harm() {
    for kill in [Misdeed::Late(Duration::ZERO), Misdeed::Dies, Misdeed::ForgetsTheCall] {
        let mut bystander = Bystander::new("");
        let (place, id) = (Place::new().await, id("one"));
        for method in ["Create", "Start", "State"] {
            place.misdeeds().always(method, Misdeed::Pid(bystander.pid()));
        }
        place.running(&id, &program()).await;
        place.misdeeds().always("Kill", kill.clone());
        let killed = place.runtime.kill(&id, KillRequest::new(Signal::KILL));
        let _ = within(LIMIT, "kill", killed).await;
        place.end(&id).await;
        assert!(bystander.lives(), "{kill:?}");
    }
}
