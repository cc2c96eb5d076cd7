//! A sandbox's containers share a shim; shims and monitors that are killed; what reaches a shim besides its containers.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "vm_losses/guests.rs"]
mod guests;
#[path = "vm_losses/hung.rs"]
mod hung;
#[path = "vm_losses/proxy.rs"]
mod proxy;
#[path = "vm_losses/strangers.rs"]
mod strangers;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::{Place, is_wholly, on};
use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::Pid;
use runtime_api::{
    ContainerId, ContainerStatus, CreateRequest, DeleteRequest, ErrorKind, EventKind, ExecSyncRequest,
    ExitCause, HandlerConfig, KillRequest, MonitorHealth, SandboxId, SharedRuntime, Signal, StopRequest,
};
use runtime_test::{BundleOptions, Workload};
use tokio::time::Instant;

const SHIMS: &[&str] = &["vm:runc", "vm:runc@crun", "vm:runc-rs"];

/// The shims of a place: what their monitors wrote down.
fn shims(place: &Place) -> Vec<serde_json::Value> {
    let entries = std::fs::read_dir(place.path("state/shims")).unwrap().flatten();
    let started = entries.map(|entry| std::fs::read(entry.path().join("started.json")).unwrap());
    started.map(|text| serde_json::from_slice(&text).unwrap()).collect()
}

fn pid_of(shim: &serde_json::Value, who: &str) -> Pid {
    Pid::from_raw(i32::try_from(shim[who]["pid"].as_i64().unwrap()).unwrap())
}

fn kill_all_shims(place: &Place) {
    for shim in shims(place) {
        kill(pid_of(&shim, "shim"), Number::SIGKILL).unwrap();
    }
}

/// Writes down that the host does not see into a container.
fn as_if_in_a_machine(place: &Place, id: &ContainerId) {
    let record = place.container(id).join("record.json");
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(text.contains("\"reach\":\"host\""), "{text}");
    std::fs::write(&record, text.replace("\"reach\":\"host\"", "\"reach\":\"guest\"")).unwrap();
}

async fn delete(runtime: &SharedRuntime, id: &ContainerId, request: DeleteRequest) {
    within(LIMIT, "delete", runtime.delete(id, request)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_containers_of_a_sandbox_share_its_shim() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let sandbox = place.id("sandbox");
        let noted = |kind: &str| {
            BundleOptions::new()
                .annotation("io.kubernetes.cri-o.ContainerType", kind)
                .annotation("io.kubernetes.cri-o.SandboxID", sandbox.as_str())
        };
        let forever = Workload::forever();
        let bundles = [
            place.bundle_with("sandbox", &forever, &noted("sandbox")),
            place.bundle_with("member", &forever, &noted("container")),
        ];
        let mut ids = vec![sandbox.clone()];
        let create = async |id: &ContainerId, bundle: &PathBuf| {
            within(LIMIT, "create", runtime.create(CreateRequest::new(id.clone(), bundle))).await.unwrap();
            within(LIMIT, "start", runtime.start(id)).await.unwrap();
        };
        create(&sandbox, &bundles[0]).await;
        for number in 1..20 {
            let id = place.id(&format!("member{number}"));
            create(&id, &bundles[1]).await;
            ids.push(id);
        }
        assert_eq!(shims(place).len(), 1);
        assert_eq!(within(LIMIT, "list", runtime.list()).await.unwrap().len(), 20);

        // Deleted with the last, whichever that is, and by whichever value.
        let other = place.open(&place.config()).await;
        let stopped = within(LIMIT, "stop", other.stop(&ids[7], StopRequest::within(Duration::ZERO))).await;
        assert_eq!(stopped.unwrap().code, Some(137));
        delete(&other, &ids[7], DeleteRequest::new()).await;
        delete(&runtime, &sandbox, DeleteRequest::force()).await;
        let last = ids.pop().unwrap();
        for id in ids.iter().filter(|id| **id != sandbox && **id != place.id("member7")) {
            delete(&runtime, id, DeleteRequest::force()).await;
        }
        assert_eq!(shims(place).len(), 1);
        assert_eq!(runtime.state(&last).await.unwrap().status, ContainerStatus::Running);
        delete(&runtime, &last, DeleteRequest::force()).await;
        assert_eq!(shims(place).len(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_may_name_the_sandbox_as_well() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let bundle = place.bundle("forever", &Workload::forever());
        let sandbox = SandboxId::new(place.token()).unwrap();
        let ids: Vec<_> = (0..3).map(|number| place.id(&format!("one{number}"))).collect();
        for id in &ids {
            let request = CreateRequest::new(id.clone(), &bundle).sandbox(sandbox.clone());
            within(LIMIT, "create", runtime.create(request)).await.unwrap();
        }
        assert_eq!(shims(place).len(), 1);
        for id in &ids {
            delete(&runtime, id, DeleteRequest::new()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_is_killed_is_noticed_and_cleaned_up_after() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let mut events = runtime.events().await.unwrap();
        let id = place.running(&runtime, "running", &Workload::forever()).await;
        let init = i32::try_from(runtime.state(&id).await.unwrap().pid.unwrap()).unwrap();
        kill_all_shims(place);
        let killed = Instant::now();
        let status = within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
        // The shim's command that cleans up has run as well.
        println!("{}: the end of the shim is told after {:?}", place.binary, killed.elapsed());
        assert_eq!((status.code, status.cause), (Some(137), ExitCause::MonitorLost));
        until("the end of the init", || kill(Pid::from_raw(init), None).is_err().then_some(())).await;
        within(LIMIT, "the event", async {
            loop {
                if let EventKind::Exited(told) = events.next().await.unwrap().unwrap().kind {
                    break assert_eq!(told, status);
                }
            }
        })
        .await;
        let state = runtime.state(&id).await.unwrap();
        assert_eq!((state.status, state.exit), (ContainerStatus::Stopped, Some(status)));
        delete(&runtime, &id, DeleteRequest::new()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_may_be_killed_in_any_state_of_its_container() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let bundle = place.bundle("forever", &Workload::forever());
        for (name, status) in [
            ("created", ContainerStatus::Created),
            ("paused", ContainerStatus::Paused),
            ("stopped", ContainerStatus::Stopped),
            ("stopping", ContainerStatus::Running),
        ] {
            let id = place.id(name);
            within(LIMIT, "create", runtime.create(CreateRequest::new(id.clone(), &bundle))).await.unwrap();
            if status != ContainerStatus::Created {
                within(LIMIT, "start", runtime.start(&id)).await.unwrap();
            }
            match status {
                ContainerStatus::Paused => within(LIMIT, "pause", runtime.pause(&id)).await.unwrap(),
                ContainerStatus::Stopped => {
                    let request = KillRequest::new(Signal::KILL);
                    within(LIMIT, "kill", runtime.kill(&id, request)).await.unwrap();
                    within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
                }
                _ => {}
            }
            let stop = (name == "stopping").then(|| {
                let (runtime, id) = (runtime.clone(), id.clone());
                tokio::spawn(async move { runtime.stop(&id, StopRequest::within(LIMIT)).await })
            });
            kill_all_shims(place);
            let ended = within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
            let cause =
                if status == ContainerStatus::Stopped { ExitCause::Exited } else { ExitCause::MonitorLost };
            assert_eq!((ended.code, ended.cause), (Some(137), cause), "{name}");
            if let Some(stop) = stop {
                assert_eq!(within(LIMIT, "stop", stop).await.unwrap().unwrap(), ended);
            }
            delete(&runtime, &id, DeleteRequest::new()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_while_nobody_looked_is_found_by_the_next() {
    on(SHIMS, async |place| {
        for with_monitor in [false, true] {
            let runtime = place.open(&place.config()).await;
            let name = if with_monitor { "both" } else { "shim" };
            let id = place.running(&runtime, name, &Workload::forever()).await;
            drop(runtime);
            for shim in shims(place) {
                if with_monitor {
                    kill(pid_of(&shim, "monitor"), Number::SIGKILL).unwrap();
                }
                kill(pid_of(&shim, "shim"), Number::SIGKILL).unwrap();
            }
            let runtime = place.open(&place.config()).await;
            let status = within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
            assert_eq!((status.code, status.cause), (Some(137), ExitCause::MonitorLost));
            delete(&runtime, &id, DeleteRequest::new()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_monitor_takes_no_exit_code_along() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let mut events = runtime.events().await.unwrap();
        let id = place.ready(&runtime, "told", &Workload::exits_on_term(7)).await;
        assert!(matches!(runtime.probe_monitor(&id).await.unwrap(), MonitorHealth::Alive { .. }));
        for shim in shims(place) {
            kill(pid_of(&shim, "monitor"), Number::SIGKILL).unwrap();
        }
        within(LIMIT, "the event", async {
            while !matches!(events.next().await.unwrap().unwrap().kind, EventKind::MonitorLost) {}
        })
        .await;
        assert_eq!(runtime.probe_monitor(&id).await.unwrap(), MonitorHealth::Lost);
        assert_eq!(runtime.state(&id).await.unwrap().status, ContainerStatus::Running);
        let request = KillRequest::new(Signal::TERM);
        within(LIMIT, "kill", runtime.kill(&id, request)).await.unwrap();
        let status = within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
        assert_eq!((status.code, status.cause), (Some(7), ExitCause::Exited));
        delete(&runtime, &id, DeleteRequest::new()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_monitor_takes_no_shim_along_that_stands_still() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.ready(&runtime, "still", &Workload::exits_on_term(7)).await;
        let shim = shims(place).remove(0);
        kill(pid_of(&shim, "shim"), Number::SIGSTOP).unwrap();
        let is = |who, state| is_wholly(pid_of(&shim, who).as_raw(), state).then_some(());
        until("that the shim stands still", || is("shim", "T")).await;
        // The kernel tells a group to hang up in which something stands still, when nobody else of its session is left.
        kill(pid_of(&shim, "monitor"), Number::SIGKILL).unwrap();
        let monitor = format!("/proc/{}", pid_of(&shim, "monitor"));
        let is_gone = || (!Path::new(&monitor).exists()).then_some(());
        until("the end of the monitor", || is("monitor", "Z").or_else(is_gone)).await;
        kill(pid_of(&shim, "shim"), Number::SIGCONT).unwrap();
        let said = runtime.exec_sync(&id, ExecSyncRequest::new(Workload::says("on").process()));
        assert_eq!(within(LIMIT, "exec", said).await.unwrap().stdout, b"on\n");
        assert_eq!(runtime.state(&id).await.unwrap().status, ContainerStatus::Running);
        let status = within(LIMIT, "stop", runtime.stop(&id, StopRequest::within(LIMIT))).await.unwrap();
        assert_eq!((status.code, status.cause), (Some(7), ExitCause::Exited));
        delete(&runtime, &id, DeleteRequest::new()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_whose_binary_vanished_still_serves_its_containers() {
    on(SHIMS, async |place| {
        let shim = manyrun_tests::handler::shim_of(place.binary).unwrap().0;
        let (there, copy) = (manyrun_tests::host::find(&shim).unwrap(), place.path(&shim));
        manyrun_tests::wrapper::copy_program(&there, &copy);
        let mut config = place.config();
        config.paths = vec![copy.clone()];
        let runtime = place.open(&config).await;
        let running = place.ready(&runtime, "running", &Workload::exits_on_term(5)).await;
        drop(runtime);
        std::fs::remove_file(&copy).unwrap();

        let runtime = place.open(&config).await;
        assert_eq!(within(LIMIT, "list", runtime.list()).await.unwrap().len(), 1);
        assert_eq!(runtime.state(&running).await.unwrap().status, ContainerStatus::Running);
        within(LIMIT, "pause", runtime.pause(&running)).await.unwrap();
        within(LIMIT, "resume", runtime.resume(&running)).await.unwrap();
        let request = CreateRequest::new(place.id("another"), place.bundle("forever", &Workload::forever()));
        let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains(&shim), "{error}");
        let status = within(LIMIT, "stop", runtime.stop(&running, StopRequest::within(LIMIT))).await.unwrap();
        assert_eq!(status.code, Some(5));
        delete(&runtime, &running, DeleteRequest::new()).await;
    })
    .await;
}

/// A handler whose runtime does, before and after what it is asked for, what a script says.
fn wrapped(place: &Place, before: &str, after: &str) -> HandlerConfig {
    let wrapper = place.path("wrapper");
    let below = manyrun_tests::handler::shim_of(place.binary).unwrap().1;
    let script = format!("#!/bin/sh\n{before}\n{below} \"$@\"\ncode=$?\n{after}\nexit $code\n");
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = place.config();
    config.options.insert("BinaryName".to_owned(), wrapper.to_string_lossy().into_owned().into());
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_lost_its_caller_is_undone_by_a_resume() {
    on(SHIMS, async |place| {
        let mark = place.path("mark");
        let after = format!("case \"$*\" in *' pause '*) touch {}; sleep 1;; esac", mark.display());
        let config = wrapped(place, "", &after);
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "paused", &Workload::forever()).await;
        // A process that is killed closes its connection, as a value does that is dropped.
        let paused = tokio::spawn({
            let id = id.clone();
            async move { runtime.pause(&id).await }
        });
        until("that it is frozen", || mark.exists().then_some(())).await;
        paused.abort();
        let _ = paused.await;
        let runtime = place.open(&config).await;
        let status = async || runtime.state(&id).await.unwrap().status;
        assert_eq!(status().await, ContainerStatus::Paused);
        within(LIMIT, "resume", runtime.resume(&id)).await.unwrap();
        assert_eq!(status().await, ContainerStatus::Running);
        delete(&runtime, &id, DeleteRequest::force()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shim_reads_the_options_of_its_handler() {
    on(SHIMS, async |place| {
        // A runtime that leaves a mark, and a root of its own.
        let (wrapper, mark) = (place.path("marks"), place.path("mark"));
        let below = manyrun_tests::handler::shim_of(place.binary).unwrap().1;
        let script = format!("#!/bin/sh\necho \"$@\" >>{}\nexec {below} \"$@\"\n", mark.display());
        std::fs::write(&wrapper, script).unwrap();
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = place.config();
        config.options.insert("BinaryName".to_owned(), wrapper.to_string_lossy().into_owned().into());
        config.root = Some(place.path("roots"));
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "marked", &Workload::forever()).await;
        let marks = std::fs::read_to_string(&mark).unwrap();
        assert!(
            marks.contains("create") && marks.contains(&place.path("roots").display().to_string()),
            "{marks}"
        );
        delete(&runtime, &id, DeleteRequest::force()).await;
        drop(runtime);
        std::fs::remove_dir_all(place.path("roots")).unwrap();
        for file in [wrapper, mark] {
            std::fs::remove_file(file).unwrap();
        }
    })
    .await;
}
