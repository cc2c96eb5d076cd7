//! Execs of owners that are dead, and sessions whose monitor is.

use std::time::Duration;

use manyrun_tests::fake_shim::Misdeed;
use manyrun_tests::patience::{LIMIT, until, within};
use runtime_api::{ExecId, ExecSessionRequest, ExecSessionState, StopRequest};
use runtime_test::Workload;
use runtime_vm::task::answer::TaskStatus;
use ttrpc::Code;

use crate::place::{PATIENT, Place, id, program};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_still_run_is_not_forgotten() {
    let (mut place, id) = (Place::new().await, id("one"));
    place.running(&id, &program()).await;
    // The owner is a process that nobody has ever been.
    let execs: Vec<_> =
        (0..3).map(|number| place.container(&id).join(format!("execs/{}-1.{number}", i32::MAX))).collect();
    for exec in &execs {
        std::fs::create_dir_all(exec).unwrap();
    }
    let unknown = Misdeed::Refuses(Code::UNKNOWN, "something broke".to_owned());
    place.misdeeds().always("Delete", unknown);
    within(PATIENT, "open", place.reopen()).await;
    assert!(execs.iter().all(|exec| exec.exists()), "one that the shim does not end is forgotten");
    place.misdeeds().none();
    within(PATIENT, "open", place.reopen()).await;
    for exec in &execs {
        until("the end of what was left", || (!exec.exists()).then_some(())).await;
    }
    assert_eq!(place.code_after_term(&id).await, Some(7));
    place.end(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_session_that_is_only_said_is_not_believed() {
    let (place, id) = (Place::new().await, id("one"));
    place.running(&id, &program()).await;
    let session = ExecId::new("session").unwrap();
    let request = ExecSessionRequest::new(session.clone(), Workload::exits_on_term(5).process());
    within(LIMIT, "exec.start", place.runtime.exec_start(&id, request)).await.unwrap();
    place.lose_monitor(&id);
    place.misdeeds().always("State", Misdeed::Lies(TaskStatus::Stopped));
    let state = within(LIMIT, "exec.state", place.runtime.exec_state(&id, &session)).await.unwrap();
    assert!(matches!(state, ExecSessionState::Running { .. }), "{state:?}");
    place.misdeeds().none();
    let stop = place.runtime.exec_stop(&id, &session, StopRequest::within(Duration::from_secs(60)));
    let state = within(PATIENT, "exec.stop", stop).await.unwrap();
    let ExecSessionState::Stopped { code } = state else { panic!("{state:?}") };
    // The signal may come before the program can handle it.
    assert!([Some(5), Some(143)].contains(&code), "{code:?}");
    within(LIMIT, "exec.cleanup", place.runtime.exec_cleanup(&id, &session)).await.unwrap();
    place.end(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_cannot_be_undone_is_not_forgotten() {
    let (mut place, id) = (Place::new().await, id("one"));
    place.running(&id, &program()).await;
    let refuses = || Misdeed::Refuses(Code::UNKNOWN, "something broke".to_owned());
    place.misdeeds().always("Start", refuses());
    place.misdeeds().always("Delete", refuses());
    let session = ExecId::new("session").unwrap();
    let start = || ExecSessionRequest::new(session.clone(), Workload::exits_on_term(5).process());
    let error = within(PATIENT, "exec.start", place.runtime.exec_start(&id, start())).await.unwrap_err();
    assert!(error.report().contains("something broke"), "{error:?}");
    let dir = place.container(&id).join("sessions/session");
    assert!(dir.exists(), "a session is forgotten that the shim does not end");
    place.misdeeds().none();
    within(PATIENT, "open", place.reopen()).await;
    assert!(!dir.exists(), "it is left, although the shim ends it");
    // The id is free, and nothing of the first is in the way.
    within(LIMIT, "exec.start", place.runtime.exec_start(&id, start())).await.unwrap();
    let stop = place.runtime.exec_stop(&id, &session, StopRequest::within(Duration::ZERO));
    let state = within(LIMIT, "exec.stop", stop).await.unwrap();
    assert_eq!(state, ExecSessionState::Stopped { code: Some(137) });
    assert_eq!(place.code_after_term(&id).await, Some(7));
    place.end(&id).await;
}
