use std::path::PathBuf;

use runtime_api::{ContainerStatus, ErrorKind, ExecEnd, LogConfig, Signal, StdinMode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::{Workload, bundle, fake, script};

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    async fn open(&self) -> FakeRuntime {
        FakeRuntime::open(&self.state(), Profile::full().unwrap()).await.unwrap()
    }

    fn request(&self, name: &str, workload: &Workload) -> CreateRequest {
        let bundle = self.dir.path().join(name);
        bundle::write(&bundle, workload).unwrap();
        CreateRequest::new(ContainerId::new(name).unwrap(), bundle)
    }
}

fn id(name: &str) -> ContainerId {
    ContainerId::new(name).unwrap()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn a_whole_life_with_a_log() {
    let place = Place::new();
    let runtime = place.open().await;
    let log = place.dir.path().join("log");
    let workload = Workload::says("hello").then(crate::Step::Sleep(secs(5))).then(crate::Step::Exit(3));
    let request = place.request("a", &workload).log(LogConfig::cri_file(&log)).label("k", "v");
    let state = runtime.create(request).await.unwrap();
    assert_eq!((state.status, state.labels["k"].as_str()), (ContainerStatus::Created, "v"));
    let begun = Instant::now();
    runtime.start(&id("a")).await.unwrap();
    assert_eq!(runtime.wait(&id("a")).await.unwrap().code, Some(3));
    assert!(begun.elapsed() >= secs(5));
    runtime.delete(&id("a"), DeleteRequest::new()).await.unwrap();
    assert!(std::fs::read_to_string(&log).unwrap().ends_with(" stdout F hello\n"));
    assert!(runtime.list().await.unwrap().is_empty());
    assert_eq!(std::fs::read_dir(place.state()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_create_leaves_nothing() {
    let place = Place::new();
    let runtime = place.open().await;
    let log = place.dir.path().join("log");
    let request = place.request("a", &Workload::forever()).log(LogConfig::cri_file(&log));
    let dropped = timeout(Duration::from_micros(1), runtime.create(request.clone())).await;
    assert!(dropped.is_err(), "it takes a moment");
    assert!(runtime.list().await.unwrap().is_empty() && !log.exists());
    runtime.create(request).await.unwrap();
    runtime.delete(&id("a"), DeleteRequest::force()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_create_leaves_no_log() {
    let place = Place::new();
    let runtime = place.open().await;
    let log = place.dir.path().join("log");
    let request =
        CreateRequest::new(id("a"), place.dir.path().join("nowhere")).log(LogConfig::cri_file(&log));
    let error = runtime.create(request).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)));
    assert!(error.report().contains("nowhere/config.json"), "{}", error.report());
    assert!(!log.exists() && runtime.list().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_exec_runs_in_the_containers_root() {
    let place = Place::new();
    let runtime = place.open().await;
    runtime.create(place.request("a", &Workload::forever())).await.unwrap();
    runtime.start(&id("a")).await.unwrap();
    let process = Workload::new([crate::Step::Env("A".into()), crate::Step::Cwd]).process();
    let request = ExecSyncRequest::new(process.env("A", "1").cwd("/tmp"));
    let outcome = runtime.exec_sync(&id("a"), request).await.unwrap();
    assert_eq!((outcome.end, outcome.stdout.as_slice()), (ExecEnd::Exited(0), &b"A=1\n/tmp\n"[..]));
    let missing = ExecSyncRequest::new(runtime_api::ProcessRequest::new(["/nowhere"]));
    let error = runtime.exec_sync(&id("a"), missing).await.unwrap_err();
    assert_eq!(error.exit_code(), 127);
    let forever = ExecSyncRequest::new(Workload::forever().process()).timeout(secs(3));
    assert_eq!(runtime.exec_sync(&id("a"), forever).await.unwrap().end, ExecEnd::TimedOut);
    let dropped = ExecSyncRequest::new(Workload::forever().process());
    assert!(timeout(secs(1), runtime.exec_sync(&id("a"), dropped)).await.is_err());
    let count = ExecSyncRequest::new(Workload::new([crate::Step::Procs]).process());
    assert_eq!(runtime.exec_sync(&id("a"), count).await.unwrap().stdout, b"procs 2\n");
    runtime.delete(&id("a"), DeleteRequest::force()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn attached_clients_carry_input_and_get_everything() {
    let place = Place::new();
    let runtime = place.open().await;
    runtime.create(place.request("a", &Workload::echoes()).stdin(StdinMode::Once)).await.unwrap();
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let (mut out, sink) = tokio::io::duplex(1024);
    let (told, attached) = oneshot::channel();
    let request = AttachRequest::new().on_attached(told);
    let a = id("a");
    let client = runtime.attach(&a, request, Streams::none().stdin(theirs).stdout(sink));
    let talk = async {
        attached.await.unwrap();
        runtime.start(&id("a")).await.unwrap();
        ours.write_all(b"ping").await.unwrap();
        ours.shutdown().await.unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).await.unwrap();
        text
    };
    let (end, text) = tokio::join!(client, talk);
    assert_eq!((end.unwrap(), text.as_str()), (AttachEnd::Ended, "ping"));
    assert_eq!(runtime.wait(&id("a")).await.unwrap().code, Some(0));
}

#[tokio::test(start_paused = true)]
async fn slow_clients_get_everything_and_silent_ones_are_cut_off() {
    const SIZE: usize = 12 * 1024 * 1024;
    for silent in [false, true] {
        let place = Place::new();
        let runtime = place.open().await;
        let workload = Workload::fills(SIZE as u64).then(crate::Step::Forever);
        runtime.create(place.request("a", &workload)).await.unwrap();
        let (mut out, sink) = tokio::io::duplex(1 << 20);
        let a = id("a");
        let client = runtime.attach(&a, AttachRequest::new(), Streams::none().stdout(sink));
        let read = async {
            runtime.start(&id("a")).await.unwrap();
            let mut got: Vec<u8> = Vec::new();
            while !silent && got.len() < SIZE {
                let mut part = vec![0; 1 << 20];
                let count = out.read(&mut part).await.unwrap();
                got.extend(&part[..count]);
                sleep(Duration::from_millis(900)).await;
            }
            sleep(secs(5)).await;
            got
        };
        let both = async { tokio::join!(client, read) };
        match timeout(secs(60), both).await {
            Ok((end, _)) => {
                assert!(silent);
                assert!(matches!(end.unwrap_err().kind(), ErrorKind::Lagged(lost) if *lost >= 8 << 20));
            }
            Err(_) => assert!(!silent, "a client that reads stays attached"),
        }
        assert_eq!(runtime.state(&id("a")).await.unwrap().status, ContainerStatus::Running);
        runtime.delete(&id("a"), DeleteRequest::force()).await.unwrap();
    }
    assert_eq!(script::filling(SIZE).len(), SIZE);
}

#[tokio::test(start_paused = true)]
async fn a_new_value_finds_what_an_old_one_left() {
    let place = Place::new();
    let runtime = place.open().await;
    for (name, workload) in [("a", Workload::forever()), ("b", Workload::exits_after(secs(2), 9))] {
        runtime.create(place.request(name, &workload)).await.unwrap();
        runtime.start(&id(name)).await.unwrap();
    }
    runtime.shutdown().await;
    drop(runtime);
    sleep(secs(10)).await;
    let runtime = place.open().await;
    let states = runtime.list().await.unwrap();
    assert_eq!(states[0].status, ContainerStatus::Running);
    let exit = states[1].exit.clone().unwrap();
    assert_eq!(exit.code, Some(9));
    assert_eq!(exit.finished_at, states[1].started_at.unwrap() + secs(2), "it happened at its time");
    assert_eq!(fake::leftovers(&place.state()).len(), 2);
    for name in ["a", "b"] {
        runtime.delete(&id(name), DeleteRequest::force()).await.unwrap();
    }
    drop(runtime);
    assert!(fake::leftovers(&place.state()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stop_goes_on() {
    let place = Place::new();
    let runtime = place.open().await;
    runtime.create(place.request("a", &Workload::ignores_term())).await.unwrap();
    runtime.start(&id("a")).await.unwrap();
    let a = id("a");
    let stop = runtime.stop(&a, StopRequest::within(secs(4)));
    assert!(timeout(secs(1), stop).await.is_err());
    assert!(runtime.state(&id("a")).await.unwrap().stopping);
    sleep(secs(4)).await;
    assert_eq!(runtime.state(&id("a")).await.unwrap().exit.unwrap().code, Some(137));
}

#[tokio::test(start_paused = true)]
async fn the_minimal_profile_refuses_everything_but_the_core() {
    let place = Place::new();
    let runtime = FakeRuntime::open(&place.state(), Profile::minimal().unwrap()).await.unwrap();
    let log = LogConfig::cri_file(place.dir.path().join("log"));
    let request = place.request("a", &Workload::forever());
    assert!(runtime.create(request.clone().log(log)).await.unwrap_err().is_unsupported());
    runtime.create(request).await.unwrap();
    assert!(runtime.kill(&id("a"), KillRequest::new(Signal::TERM)).await.unwrap_err().is_unsupported());
    runtime.start(&id("a")).await.unwrap();
    assert!(runtime.pause(&id("a")).await.unwrap_err().is_unsupported());
    assert!(runtime.reopen_log(&id("a")).await.unwrap_err().is_unsupported());
    assert!(runtime.events().await.unwrap_err().is_unsupported());
    let all = KillRequest::new(Signal::TERM).all();
    assert!(runtime.kill(&id("a"), all).await.unwrap_err().is_unsupported());
    assert_eq!(runtime.stop(&id("a"), StopRequest::within(secs(1))).await.unwrap().code, Some(137));
}
