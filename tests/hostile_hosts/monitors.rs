//! Monitors: one that hangs never tells of the end of its container, nor does one that was killed; what they must not be
//! asked for; all pass on what programs say of their readiness.

use std::sync::Arc;
use std::time::Duration;

use manyrun_tests::host;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use runtime_api::{
    AttachRequest, ContainerId, ContainerStatus, CreateRequest, DeleteRequest, ErrorKind, ExitCause,
    KillRequest, LogConfig, MonitorHealth, Peer, SharedRuntime, Signal, StopRequest, Streams, WindowSize,
};
use runtime_test::{BundleOptions, Step, Workload};
use tokio::net::UnixDatagram;
use tokio::task::JoinSet;

use crate::place::parent_of;
use crate::wrapper::write_script;
use crate::{LIMIT, Place, on, until, within};

/// A container whose init is dead and whose monitor is stopped.
async fn unwatched(place: &Place, runtime: &SharedRuntime, name: &str) -> ContainerId {
    let id = place.running(runtime, name, &Workload::forever()).await;
    let init = i32::try_from(runtime.state(&id).await.unwrap().pid.unwrap()).unwrap();
    let monitor = parent_of(init).unwrap();
    let name = std::fs::read_to_string(format!("/proc/{monitor}/comm")).unwrap();
    assert_eq!(name.trim(), "conmon");
    kill(Pid::from_raw(monitor), nix::sys::signal::Signal::SIGSTOP).unwrap();
    until("that the monitor is stopped", || (state_of(monitor) == "T").then_some(())).await;
    kill(Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL).unwrap();
    until("the end of the init", || (state_of(init) == "Z").then_some(())).await;
    id
}

fn state_of(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_that_hangs_holds_up_nobody_for_long() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let mut ids = Vec::new();
        // A look waits five seconds for such a monitor. One after the other they would take more than the limit.
        for number in 0..8 {
            ids.push(unwatched(place, &runtime, &format!("hung{number}")).await);
        }
        let listed = within(LIMIT, "list", runtime.list()).await.unwrap();
        assert_eq!(listed.iter().map(|state| &state.id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());

        let mut stops = JoinSet::new();
        for id in ids.clone() {
            let runtime = Arc::clone(&runtime);
            stops.spawn(async move { runtime.stop(&id, StopRequest::within(Duration::ZERO)).await });
        }
        for stopped in within(LIMIT, "stop", stops.join_all()).await {
            let status = stopped.unwrap();
            assert_eq!((status.code, status.cause), (None, ExitCause::MonitorLost));
        }
        for id in &ids {
            let state = within(LIMIT, "state", runtime.state(id)).await.unwrap();
            assert_eq!(state.status, ContainerStatus::Stopped);
            within(LIMIT, "delete", runtime.delete(id, DeleteRequest::new())).await.unwrap();
        }
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_delete_ends_a_monitor_that_hangs() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = unwatched(place, &runtime, "forced").await;
        let delete = runtime.delete(&id, DeleteRequest::force());
        within(LIMIT, "delete", delete).await.unwrap();
        assert!(runtime.state(&id).await.unwrap_err().is_not_found());
        runtime.shutdown().await;
    })
    .await;
}

/// Each of them waits for the monitor's word, and none may keep a delete from ending that wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_wait_for_a_monitor_that_hangs_keep_no_delete_away() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let elsewhere = place.open(&place.config()).await;
        let id = unwatched(place, &runtime, "polled").await;
        let mut pollers = JoinSet::new();
        for runtime in [&runtime, &runtime, &elsewhere, &elsewhere] {
            let (runtime, id) = (Arc::clone(runtime), id.clone());
            pollers.spawn(async move {
                while !runtime
                    .kill(&id, KillRequest::new(Signal::TERM))
                    .await
                    .is_err_and(|e| e.is_not_found())
                {}
            });
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let delete = runtime.delete(&id, DeleteRequest::force());
        within(LIMIT, "delete", delete).await.unwrap();
        within(LIMIT, "the end of the pollers", pollers.join_all()).await;
        elsewhere.shutdown().await;
        runtime.shutdown().await;
    })
    .await;
}

/// The program's own send is played by the test: it finds the socket where the program does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_says_of_its_readiness_reaches_the_callers_socket() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let caller = UnixDatagram::bind(place.path("ready.sock")).unwrap();
        let id = place.id("notifying");
        let workload = Workload::new([Step::Env("NOTIFY_SOCKET".into()), Step::Forever]);
        let log = place.path("notifying.log");
        let request = CreateRequest::new(id.clone(), place.bundle("notifying", &workload))
            .log(LogConfig::cri_file(&log))
            .notify_socket(place.path("ready.sock"));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let said = until("the program to tell its environment", || {
            std::fs::read_to_string(&log).ok().filter(|text| text.contains('\n'))
        })
        .await;
        let told = said.split("NOTIFY_SOCKET=").nth(1).unwrap().trim();
        let pid = runtime.state(&id).await.unwrap().pid.unwrap();
        let program = UnixDatagram::unbound().unwrap();
        program.send_to(b"READY=1", format!("/proc/{pid}/root{told}")).await.unwrap();
        let mut message = [0; 64];
        let length = within(LIMIT, "the message", caller.recv(&mut message)).await.unwrap();
        assert_eq!(&message[..length], b"READY=1");
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_that_was_killed_is_told_and_its_container_can_be_stopped() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.id("a");
        // It says nothing: a word to a terminal whose monitor is gone would end it.
        let silent = Workload::new([Step::Forever]);
        let bundle = place.bundle_with("a", &silent, &BundleOptions::new().terminal());
        let request = CreateRequest::new(id.clone(), bundle).log(LogConfig::cri_file(place.path("log")));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let health = runtime.probe_monitor(&id).await.unwrap();
        let MonitorHealth::Alive { pid } = health else { panic!("{health:?}") };
        let (told, begun) = tokio::sync::oneshot::channel();
        let client = tokio::spawn({
            let (runtime, id) = (Arc::clone(&runtime), id.clone());
            async move { runtime.attach(&id, AttachRequest::new().on_attached(told), Streams::none()).await }
        });
        begun.await.unwrap();
        std::fs::rename(place.path("log"), place.path("log.1")).unwrap();
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
        within(LIMIT, "that the monitor is lost", async {
            while runtime.probe_monitor(&id).await.unwrap() != MonitorHealth::Lost {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;

        let lost = ErrorKind::PeerLost(Peer::Monitor);
        let ended = within(LIMIT, "the end of the attachment", client).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), &lost, "the client that was attached");
        let size = WindowSize::new(24, 80).unwrap();
        let attach =
            within(LIMIT, "attach", runtime.attach(&id, AttachRequest::new(), Streams::none())).await;
        assert_eq!(attach.unwrap_err().kind(), &lost, "attach");
        let resize = within(LIMIT, "resize", runtime.attach_resize(&id, size)).await;
        assert_eq!(resize.unwrap_err().kind(), &lost, "resize");
        let reopen = within(LIMIT, "reopen", runtime.reopen_log(&id)).await;
        assert_eq!(reopen.unwrap_err().kind(), &lost, "reopen");

        let stop = runtime.stop(&id, StopRequest::within(Duration::ZERO));
        let status = within(LIMIT, "stop", stop).await.unwrap();
        assert_eq!((status.code, status.cause), (None, ExitCause::MonitorLost));
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_monitor_would_destroy_it_is_not_asked_for() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let (id, logs) = (place.id("a"), place.path("logs"));
        std::fs::create_dir(&logs).unwrap();
        let (log, old) = (logs.join("log"), logs.join("log.1"));
        let bundle = place.bundle("a", &Workload::ticks(Duration::from_millis(5)));
        let request = CreateRequest::new(id.clone(), bundle).log(LogConfig::cri_file(&log));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        std::fs::rename(&log, &old).unwrap();
        let refused = async |why: &str| {
            let error = within(LIMIT, "reopen", runtime.reopen_log(&id)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{why}: {error:?}");
        };
        std::fs::write(&log, "somebody else's").unwrap();
        refused("another file").await;
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "somebody else's");
        std::fs::remove_file(&log).unwrap();
        // conmon would follow it, and empty what it names.
        let precious = place.path("precious");
        std::fs::write(&precious, "precious").unwrap();
        std::os::unix::fs::symlink(&precious, logs.join("log.tmp")).unwrap();
        refused("a link in the place of the new file").await;
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
        std::fs::remove_file(logs.join("log.tmp")).unwrap();
        // conmon would exit.
        std::fs::rename(&logs, place.path("elsewhere")).unwrap();
        refused("no directory").await;
        assert!(matches!(runtime.probe_monitor(&id).await.unwrap(), MonitorHealth::Alive { .. }));
        std::fs::rename(place.path("elsewhere"), &logs).unwrap();
        within(LIMIT, "reopen", runtime.reopen_log(&id)).await.unwrap();
        until("output in the new file", || {
            std::fs::read(&log).is_ok_and(|log| !log.is_empty()).then_some(())
        })
        .await;
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

/// It may be gone before it is told to begin: its log cannot be opened, or its libraries are missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_that_gives_up_at_once_is_quoted() {
    on(&["runc", "crun"], async |place| {
        let real = host::find("conmon").unwrap();
        let path = place.path("monitor");
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && exec {} --version\necho 'no place for a log' >&2\nexit 3\n",
            real.display()
        );
        write_script(&path, &text);
        let mut config = place.config();
        config.monitor.path = Some(path);
        let runtime = place.open(&config).await;
        let id = place.id("gives-up");
        let request = CreateRequest::new(id.clone(), place.bundle("gives-up", &Workload::forever()));
        let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::PeerLost(Peer::Monitor), "{error:?}");
        assert!(error.report().contains("no place for a log"), "{}", error.report());
        assert_eq!(error.command().unwrap().code, Some(3));
        assert!(place.kept().is_empty(), "{:?}", place.kept());
        runtime.shutdown().await;
    })
    .await;
}
