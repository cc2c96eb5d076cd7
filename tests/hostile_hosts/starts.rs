//! Starts by a runtime that hangs before or after the act.

use std::sync::Arc;
use std::time::Duration;

use manyrun_tests::patience::until;
use runtime_api::{
    ContainerStatus, CreateRequest, DeleteRequest, ErrorKind, ExitCause, SharedRuntime, Signal, StopRequest,
};
use runtime_host::process::Identity;
use runtime_test::Workload;

use crate::wrapper::{Hangs, Wrapper, refusing};
use crate::{LIMIT, on, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_was_told_too_late_is_a_start() {
    on(&["runc", "crun"], async |place| {
        let wrapper = Wrapper::new(place, "start", Hangs::After);
        let mut config = place.config();
        config.paths = vec![wrapper.path.clone()];
        // The real one is to be through with its work before.
        config.timeouts.start = Some(Duration::from_secs(10));
        let runtime = place.open(&config).await;
        let id = place.id("late");
        let request = CreateRequest::new(id.clone(), place.bundle("late", &Workload::exits_on_term(7)));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        let start = within(LIMIT, "start", runtime.start(&id));
        let (started, ()) = tokio::join!(start, wrapper.hangs());
        let error = started.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error:?}");

        let state = within(LIMIT, "state", runtime.state(&id)).await.unwrap();
        assert_eq!(state.status, ContainerStatus::Running);
        assert!(state.started_at.is_some());
        let error = within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WrongState { .. }), "{error:?}");
        let error = within(LIMIT, "start", runtime.start(&id)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WrongState { .. }), "{error:?}");
        let stop = runtime.stop(&id, StopRequest::within(Duration::from_secs(10)));
        assert_eq!(within(LIMIT, "stop", stop).await.unwrap().code, Some(7));
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_start_that_did_not_begin_can_be_made_good() {
    on(&["runc", "crun"], async |place| {
        let wrapper = Wrapper::new(place, "start", Hangs::Before);
        let mut config = place.config();
        config.paths = vec![wrapper.path.clone()];
        let runtime = place.open(&config).await;
        let id = place.id("dropped");
        let request = CreateRequest::new(id.clone(), place.bundle("dropped", &Workload::forever()));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        tokio::select! {
            started = runtime.start(&id) => panic!("it does not hang: {started:?}"),
            () = wrapper.hangs() => {}
        }

        let state = within(LIMIT, "state", runtime.state(&id)).await.unwrap();
        assert_eq!((state.status, state.started_at), (ContainerStatus::Created, None));
        wrapper.mend();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let state = within(LIMIT, "state", runtime.state(&id)).await.unwrap();
        assert_eq!(state.status, ContainerStatus::Running);
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_delete_does_not_wait_for_a_start_that_hangs() {
    on(&["runc", "crun"], async |place| {
        for (name, hangs) in [("before", Hangs::Before), ("after", Hangs::After)] {
            let wrapper = Wrapper::new(place, "start", hangs);
            let mut config = place.config();
            config.paths = vec![wrapper.path.clone()];
            config.timeouts.start = Some(Duration::from_secs(600));
            let runtime = place.open(&config).await;
            let id = place.id(name);
            let request = CreateRequest::new(id.clone(), place.bundle(name, &Workload::forever()));
            within(LIMIT, "create", runtime.create(request)).await.unwrap();
            let start = {
                let (runtime, id) = (Arc::clone(&runtime), id.clone());
                tokio::spawn(async move { runtime.start(&id).await })
            };
            wrapper.hangs().await;
            let delete = runtime.delete(&id, DeleteRequest::force());
            within(LIMIT, "delete", delete).await.unwrap();
            let started = within(LIMIT, "start", start).await.unwrap();
            assert!(started.is_err(), "{name}: {started:?}");
            assert!(runtime.state(&id).await.unwrap_err().is_not_found());
            assert!(place.kept().is_empty(), "{name}: {:?}", place.kept());
            runtime.shutdown().await;
            wrapper.remove();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_that_takes_too_long_is_undone() {
    on(&["runc", "crun", "youki", "runsc"], async |place| {
        let wrapper = Wrapper::new(place, "create", Hangs::Before);
        let mut config = place.config();
        config.paths = vec![wrapper.path.clone()];
        config.timeouts.create = Some(Duration::from_secs(2));
        let runtime = place.open(&config).await;
        let id = place.id("slow");
        let request = CreateRequest::new(id.clone(), place.bundle("slow", &Workload::forever()));
        let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::TimedOut(Duration::from_secs(2)), "{error:?}");
        assert!(runtime.state(&id).await.unwrap_err().is_not_found());
        assert!(place.kept().is_empty(), "{:?}", place.kept());
        runtime.shutdown().await;
    })
    .await;
}

/// The init's own end tells nothing: whoever asked for the start is told why it failed, and so is whoever waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_during_a_start_that_fails_is_told_of_that() {
    on(&["runc", "crun", "youki", "runsc"], async |place| {
        let wrapper = Wrapper::new(place, "start", Hangs::Before);
        let mut config = place.config();
        config.paths = vec![wrapper.path.clone()];
        let runtime = place.open(&config).await;
        let id = place.id("fails");
        let request = CreateRequest::new(id.clone(), place.bundle("fails", &Workload::forever()));
        let created = within(LIMIT, "create", runtime.create(request)).await.unwrap();
        let asked = |runtime: &SharedRuntime| (Arc::clone(runtime), id.clone());
        let (waiter, waits_for) = asked(&runtime);
        let wait = tokio::spawn(async move { waiter.wait(&waits_for).await });
        let (starter, starts) = asked(&runtime);
        let start = tokio::spawn(async move { starter.start(&starts).await });
        wrapper.hangs().await;
        let init = Identity::of(i32::try_from(created.pid.unwrap()).unwrap()).unwrap();
        init.signal(Signal::KILL).unwrap();
        let exit = place.container(&id).join("exit");
        until("the exit file", || exit.exists().then_some(())).await;
        // Whoever believes the file has done so by then.
        tokio::time::sleep(Duration::from_millis(100)).await;
        wrapper.release();
        let error = within(LIMIT, "start", start).await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Rejected { .. }), "{error:?}");
        let told = within(LIMIT, "wait", wait).await.unwrap().unwrap();
        assert_eq!((told.code, told.cause), (None, ExitCause::StartFailed));
        assert_eq!(runtime.state(&id).await.unwrap().exit, Some(told));
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        runtime.shutdown().await;
        wrapper.remove();
    })
    .await;
}

/// Whoever asked for a start may die before it is written down what came of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_after_a_start_that_nobody_finished_ends() {
    on(&["runc", "crun", "youki", "runsc"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "over", &Workload::exits_on_term(7)).await;
        let told =
            within(LIMIT, "kill", runtime.stop(&id, StopRequest::within(Duration::ZERO))).await.unwrap();
        let file = place.container(&id).join("record.json");
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        record["phase"] = "starting".into();
        std::fs::write(&file, record.to_string()).unwrap();
        for _ in 0..2 {
            assert_eq!(within(LIMIT, "wait", runtime.wait(&id)).await.unwrap(), told);
        }
        assert_eq!(runtime.state(&id).await.unwrap().exit, Some(told));
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

/// gVisor keeps what it cannot start. It is ended, and nobody is told of that end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_whose_start_is_refused_ends_as_one_that_could_not_be_started() {
    on(&["runsc"], async |place| {
        let mut config = place.config();
        config.paths = vec![refusing(place, "start", "not today")];
        let runtime = place.open(&config).await;
        let id = place.id("refused");
        let request = CreateRequest::new(id.clone(), place.bundle("refused", &Workload::forever()));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        let wait = {
            let (runtime, id) = (SharedRuntime::clone(&runtime), id.clone());
            tokio::spawn(async move { runtime.wait(&id).await })
        };
        let error = within(LIMIT, "start", runtime.start(&id)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Rejected { .. }), "{error:?}");
        assert!(error.report().contains("not today"), "{}", error.report());
        let told = within(LIMIT, "wait", wait).await.unwrap().unwrap();
        assert_eq!((told.code, told.cause), (None, ExitCause::StartFailed));
        assert_eq!(runtime.state(&id).await.unwrap().exit, Some(told));
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}
