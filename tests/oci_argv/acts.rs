//! Every operation that a runtime declares, each with its section on the sheet.

use std::time::Duration;

use manyrun_tests::patience::{LIMIT, within};
use manyrun_tests::place::Place;
use runtime_api::{
    AttachRequest, Capability, CheckpointRequest, ContainerId, CreateRequest, DeleteRequest, ExecId,
    ExecRequest, ExecSessionRequest, ExecSyncRequest, KillRequest, LogConfig, PortForwardRequest,
    RestoreRequest, Result, SharedRuntime, Signal, StdinMode, StopRequest, Streams, UpdateRequest,
    WindowSize,
};
use runtime_test::{BundleOptions, Workload};

use crate::sheet::Sheet;

async fn done<T>(what: &str, operation: impl Future<Output = Result<T>>) -> T {
    match within(LIMIT, what, operation).await {
        Ok(done) => done,
        Err(error) => panic!("{what}: {}", error.report()),
    }
}

/// A container that runs; nothing of that is on the sheet.
async fn running(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet, name: &str) -> ContainerId {
    let id = place.running(runtime, name, &Workload::exits_on_term(7)).await;
    sheet.forget();
    id
}

async fn remove(runtime: &SharedRuntime, sheet: &mut Sheet, id: &ContainerId) {
    done("delete", runtime.delete(id, DeleteRequest::force())).await;
    sheet.forget();
}

pub(crate) async fn life(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet) {
    let id = place.id("life");
    let bundle = place.bundle("life", &Workload::exits_on_term(7));
    done("create", runtime.create(CreateRequest::new(id.clone(), &bundle))).await;
    sheet.note("create");
    done("start", runtime.start(&id)).await;
    sheet.note("start");
    done("state", runtime.state(&id)).await;
    sheet.note("state");
    done("list", runtime.list()).await;
    sheet.note("list");
    // One that no program dies of: not every kernel keeps the first process from the default action of a signal.
    let harmless: Signal = "WINCH".parse().unwrap();
    done("kill", runtime.kill(&id, KillRequest::new(harmless))).await;
    sheet.note("kill");
    if runtime.capabilities().has(Capability::KillAll) {
        done("kill all", runtime.kill(&id, KillRequest::new(harmless).all())).await;
        sheet.note("kill all");
    }
    if runtime.capabilities().has(Capability::MonitorProbe) {
        done("monitor.probe", runtime.probe_monitor(&id)).await;
        sheet.note("monitor.probe");
    }
    if runtime.capabilities().has(Capability::Events) {
        done("events", runtime.events()).await;
        sheet.note("events");
    }
    if runtime.capabilities().has(Capability::Pause) {
        done("pause", runtime.pause(&id)).await;
        sheet.note("pause");
        done("resume", runtime.resume(&id)).await;
        sheet.note("resume");
        done("pause", runtime.pause(&id)).await;
        sheet.forget();
    }
    done("stop", runtime.stop(&id, StopRequest::within(Duration::from_secs(20)))).await;
    sheet.note("stop of a paused container");
    done("wait", runtime.wait(&id)).await;
    sheet.note("wait");
    done("delete", runtime.delete(&id, DeleteRequest::new())).await;
    sheet.note("delete");

    let request = CreateRequest::new(id.clone(), &bundle)
        .stdin(StdinMode::KeepOpen)
        .log(LogConfig::cri_file(place.path("log")).max_size(9000));
    done("create", runtime.create(request)).await;
    sheet.note("create with a log of limited size and input that stays open");
    if runtime.capabilities().has(Capability::LogReopen) {
        std::fs::rename(place.path("log"), place.path("log.1")).unwrap();
        done("log.reopen", runtime.reopen_log(&id)).await;
        sheet.note("log.reopen");
    }
    done("delete", runtime.delete(&id, DeleteRequest::new())).await;
    sheet.note("delete of a created container");

    done("create", runtime.create(CreateRequest::new(id.clone(), &bundle).stdin(StdinMode::Once))).await;
    sheet.note("create with input that is closed once");
    let attach = {
        let (runtime, id) = (SharedRuntime::clone(runtime), id.clone());
        let (told, attached) = tokio::sync::oneshot::channel();
        let request = AttachRequest::new().on_attached(told);
        let attach = tokio::spawn(async move { runtime.attach(&id, request, Streams::none()).await });
        within(LIMIT, "attach", attached).await.unwrap();
        attach
    };
    sheet.note("attach");
    done("start", runtime.start(&id)).await;
    sheet.forget();
    done("delete", runtime.delete(&id, DeleteRequest::force())).await;
    sheet.note("delete of a running container with force");
    let _ = within(LIMIT, "the end of the attach", attach).await.unwrap();
}

/// What a create may hand to the program.
pub(crate) async fn gifts(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet) {
    let id = place.id("gifts");
    let bundle = place.bundle("gifts", &Workload::forever());
    if runtime.capabilities().has(Capability::Descriptors) {
        let open = || std::fs::File::open("/dev/null").unwrap();
        let request = CreateRequest::new(id.clone(), &bundle).descriptor(open()).descriptor(open());
        done("create", runtime.create(request)).await;
        sheet.note("create with descriptors");
        remove(runtime, sheet, &id).await;
    }
    if runtime.capabilities().has(Capability::Notify) {
        let path = place.path("notify");
        let _socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        done("create", runtime.create(CreateRequest::new(id.clone(), &bundle).notify_socket(path))).await;
        sheet.note("create with a socket for notifications");
        remove(runtime, sheet, &id).await;
    }
}

pub(crate) async fn execs(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet) {
    let id = running(place, runtime, sheet, "second").await;
    let request = ExecSyncRequest::new(Workload::exits(0).process());
    done("exec.sync", runtime.exec_sync(&id, request)).await;
    sheet.note("exec.sync");
    if runtime.capabilities().has(Capability::Exec) {
        let request = ExecRequest::new(Workload::exits(0).process());
        done("exec", runtime.exec(&id, request, Streams::none())).await;
        sheet.note("exec");
    }
    if runtime.capabilities().has(Capability::ExecTty) {
        let request = ExecRequest::new(Workload::exits(0).process().terminal());
        done("exec", runtime.exec(&id, request, Streams::none())).await;
        sheet.note("exec with a terminal");
    }
    if runtime.capabilities().has(Capability::ExecDescriptors) {
        let open = || std::fs::File::open("/dev/null").unwrap();
        let request = ExecRequest::new(Workload::exits(0).process()).descriptor(open()).descriptor(open());
        done("exec", runtime.exec(&id, request, Streams::none())).await;
        sheet.note("exec with descriptors");
    }
    if runtime.capabilities().has(Capability::PortForward) {
        let (near, far) = tokio::io::duplex(64);
        let (read, write) = tokio::io::split(near);
        drop(far);
        // Nobody listens there: what counts is that no command is needed to find out.
        let forward = runtime.port_forward(&id, PortForwardRequest::new(7), Box::new(read), Box::new(write));
        let _ = within(LIMIT, "port-forward", forward).await;
        sheet.note("port-forward");
    }
    remove(runtime, sheet, &id).await;
}

pub(crate) async fn sessions(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet) {
    if !runtime.capabilities().has(Capability::ExecSession) {
        return;
    }
    let id = running(place, runtime, sheet, "outlives").await;
    for (name, terminal) in [("plain", false), ("terminal", true)] {
        if terminal && !runtime.capabilities().has(Capability::ExecTty) {
            continue;
        }
        let session = ExecId::new(name).unwrap();
        let mut process = Workload::exits_on_term(7).process();
        process.terminal = terminal;
        let suffix = if terminal { " with a terminal" } else { "" };
        done("exec.start", runtime.exec_start(&id, ExecSessionRequest::new(session.clone(), process))).await;
        sheet.note(&format!("exec.start{suffix}"));
        done("exec.state", runtime.exec_state(&id, &session)).await;
        sheet.note(&format!("exec.state{suffix}"));
        let size = WindowSize::new(30, 100).unwrap();
        let resized = within(LIMIT, "exec.resize", runtime.exec_resize(&id, &session, size)).await;
        assert_eq!(resized.is_ok(), terminal, "{resized:?}");
        sheet.note(&format!("exec.resize{suffix}"));
        let attach = {
            let (runtime, id, session) = (SharedRuntime::clone(runtime), id.clone(), session.clone());
            let (told, attached) = tokio::sync::oneshot::channel();
            let request = AttachRequest::new().on_attached(told);
            let attach =
                tokio::spawn(
                    async move { runtime.exec_attach(&id, &session, request, Streams::none()).await },
                );
            within(LIMIT, "exec.attach", attached).await.unwrap();
            attach
        };
        sheet.note(&format!("exec.attach{suffix}"));
        let stop = runtime.exec_stop(&id, &session, StopRequest::within(Duration::from_secs(20)));
        done("exec.stop", stop).await;
        sheet.note(&format!("exec.stop{suffix}"));
        let _ = within(LIMIT, "the end of the attach", attach).await.unwrap();
        done("exec.cleanup", runtime.exec_cleanup(&id, &session)).await;
        sheet.note(&format!("exec.cleanup{suffix}"));
    }
    for (name, stdin) in [("once", StdinMode::Once), ("open", StdinMode::KeepOpen)] {
        let session = ExecId::new(name).unwrap();
        let mut request = ExecSessionRequest::new(session.clone(), Workload::exits_on_term(7).process());
        request.stdin = stdin;
        done("exec.start", runtime.exec_start(&id, request)).await;
        sheet.note(&format!("exec.start with input: {name}"));
        let stop = runtime.exec_stop(&id, &session, StopRequest::within(Duration::from_secs(20)));
        done("exec.stop", stop).await;
        sheet.forget();
    }
    remove(runtime, sheet, &id).await;
}

pub(crate) async fn terminals(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet) {
    let id = place.id("terminal");
    let bundle = place.bundle_with("terminal", &Workload::exits_on_term(7), &BundleOptions::new().terminal());
    done("create", runtime.create(CreateRequest::new(id.clone(), bundle))).await;
    sheet.note("create with a terminal");
    if runtime.capabilities().has(Capability::AttachResize) {
        done("attach.resize", runtime.attach_resize(&id, WindowSize::new(30, 100).unwrap())).await;
        sheet.note("attach.resize");
    }
    remove(runtime, sheet, &id).await;
}

pub(crate) async fn resources(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet) {
    let id = running(place, runtime, sheet, "resources").await;
    if runtime.capabilities().has(Capability::Update) {
        let limits = serde_json::from_str(r#"{"memory":{"limit":67108864},"pids":{"limit":100}}"#).unwrap();
        done("update", runtime.update(&id, UpdateRequest::new(limits))).await;
        sheet.note("update");
    }
    if runtime.capabilities().has(Capability::Stats) {
        done("stats", runtime.stats(&id)).await;
        sheet.note("stats");
    }
    if runtime.capabilities().has(Capability::DiskStats) {
        done("stats.disk", runtime.disk_stats(&id)).await;
        sheet.note("stats.disk");
    }
    remove(runtime, sheet, &id).await;
}

/// A create that fails is undone by commands too.
pub(crate) async fn failures(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet) {
    let id = place.id("fails");
    let options = BundleOptions::new().argv(["/no/such/program"]);
    let bundle = place.bundle_with("fails", &Workload::exits(0), &options);
    let created = within(LIMIT, "create", runtime.create(CreateRequest::new(id.clone(), bundle))).await;
    sheet.note("create of a program that does not exist");
    if created.is_ok() {
        let started = within(LIMIT, "start", runtime.start(&id)).await;
        assert!(started.is_err(), "{started:?}");
        sheet.note("start of a program that does not exist");
        done("delete", runtime.delete(&id, DeleteRequest::new())).await;
        sheet.note("delete after a start that failed");
    }
}

pub(crate) async fn images(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet) {
    if !runtime.capabilities().has(Capability::Checkpoint) {
        return;
    }
    let id = running(place, runtime, sheet, "image").await;
    if runtime.capabilities().has(Capability::CheckpointLeaveRunning) {
        let mut request = CheckpointRequest::new(place.path("image-1"));
        request.leave_running = true;
        request.tcp_established = runtime.capabilities().has(Capability::CheckpointTcpEstablished);
        request.file_locks = runtime.capabilities().has(Capability::CheckpointFileLocks);
        done("checkpoint", runtime.checkpoint(&id, request)).await;
        sheet.note("checkpoint that leaves it running, with every option");
    }
    if runtime.capabilities().has(Capability::CheckpointPreDump) {
        let mut request = CheckpointRequest::new(place.path("image-2"));
        request.pre_dump = true;
        done("checkpoint", runtime.checkpoint(&id, request)).await;
        sheet.note("checkpoint of memory beforehand");
    }
    done("checkpoint", runtime.checkpoint(&id, CheckpointRequest::new(place.path("image-3")))).await;
    sheet.note("checkpoint");
    remove(runtime, sheet, &id).await;
    if runtime.capabilities().has(Capability::Restore) {
        let create = CreateRequest::new(id.clone(), place.path("bundles/image"));
        done("restore", runtime.restore(RestoreRequest::new(create, place.path("image-3")))).await;
        sheet.note("restore");
        remove(runtime, sheet, &id).await;
        if runtime.capabilities().has(Capability::CheckpointLeaveRunning) {
            let create = CreateRequest::new(id.clone(), place.path("bundles/image"));
            let mut request = RestoreRequest::new(create, place.path("image-1"));
            request.tcp_established = runtime.capabilities().has(Capability::CheckpointTcpEstablished);
            request.file_locks = runtime.capabilities().has(Capability::CheckpointFileLocks);
            done("restore", runtime.restore(request)).await;
            sheet.note("restore with every option");
            remove(runtime, sheet, &id).await;
        }
    }
}

/// Some flags are only written down: no host has everything.
pub(crate) async fn with_every_option(place: &Place, runtime: &SharedRuntime, sheet: &mut Sheet) {
    let id = place.id("options");
    let cgroup = format!("/manyrun/{}/{id}", place.token());
    let options = BundleOptions::new().cgroups_path(cgroup);
    let bundle = place.bundle_with("options", &Workload::exits_on_term(7), &options);
    done("create", runtime.create(CreateRequest::new(id.clone(), bundle))).await;
    sheet.note("create with every option");
    done("start", runtime.start(&id)).await;
    sheet.note("start with every option");
    let request = ExecSyncRequest::new(Workload::exits(0).process());
    done("exec.sync", runtime.exec_sync(&id, request)).await;
    sheet.note("exec.sync with every option");
    if runtime.capabilities().has(Capability::ExecSession) {
        let session = ExecId::new("options").unwrap();
        let request = ExecSessionRequest::new(session.clone(), Workload::exits_on_term(7).process());
        done("exec.start", runtime.exec_start(&id, request)).await;
        sheet.note("exec.start with every option");
        let stop = runtime.exec_stop(&id, &session, StopRequest::within(Duration::from_secs(20)));
        done("exec.stop", stop).await;
        sheet.forget();
    }
    if runtime.capabilities().has(Capability::Pause) {
        done("pause", runtime.pause(&id)).await;
        sheet.note("pause with every option");
        done("resume", runtime.resume(&id)).await;
        sheet.note("resume with every option");
    }
    if runtime.capabilities().has(Capability::Update) {
        let limits = serde_json::from_str(r#"{"pids":{"limit":100}}"#).unwrap();
        // Not every runtime finds a cgroup again that it was told to have systemd make where there is none.
        let _ = within(LIMIT, "update", runtime.update(&id, UpdateRequest::new(limits))).await;
        sheet.note("update with every option");
    }
    done("delete", runtime.delete(&id, DeleteRequest::force())).await;
    sheet.note("delete with every option");
}
