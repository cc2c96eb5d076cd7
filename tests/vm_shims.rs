//! The client of `runtime-vm` against real shims: whole lives of containers, call by call.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::time::{Duration, SystemTime};

use manyrun_tests::patience::{LIMIT, within};
use runtime_api::Rejection;
use runtime_test::{BundleOptions, Step, Workload};
use runtime_vm::task::answer::TaskStatus;
use runtime_vm::task::code::Meaning;
use runtime_vm::task::events::TaskEvent;
use runtime_vm::task::{Fault, Target, any, metrics};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use place::{Place, Shim, Streams, on_each, reaped};

#[path = "vm_shims/place.rs"]
mod place;

const TERM: u32 = 15;
const KILL: u32 = 9;

/// A shutdown that is answered by the end of the connection is a shutdown.
async fn shut_down(shim: Shim) {
    match shim.timed("Shutdown", shim.task.shutdown(&shim.id, false, LIMIT)).await {
        Ok(()) | Err(Fault::Closed(_)) => {}
        Err(other) => panic!("{other}: {}", shim.log()),
    }
    shim.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_life() {
    on_each(async |place: &Place| {
        let mut shim = place.shim(&Workload::exits_on_term(7)).await;
        let id = shim.id.clone();
        let init = Target::init(&id);
        // Whatever one expects, the version that is served is found.
        let other = shim.connect(shim.task.api().other()).await;
        assert_eq!(other.api(), shim.task.api());
        println!("  the reply is {:?}; {:?} is spoken", shim.reply, shim.task.api());
        drop(other);

        let mut streams = Streams::new(place, "init", false, false);
        let pid = shim.timed("Create", shim.task.create(shim.create(place, &streams), LIMIT)).await;
        let pid = pid.unwrap_or_else(|fault| panic!("{fault}: {}", shim.log()));
        // The options arrived: the runtime keeps its state where they say.
        assert!(place.path("root/default").join(&id).is_dir());
        let state = shim.timed("State", shim.task.state(init, LIMIT)).await.unwrap();
        assert_eq!((state.status, state.pid, state.exit), (TaskStatus::Created, pid, None));
        assert_eq!((state.id.as_str(), state.exec.as_deref()), (id.as_str(), None));
        assert_eq!(state.io, streams.io);
        let again = shim.task.create(shim.create(place, &streams), LIMIT).await.unwrap_err();
        assert_eq!(again.meaning(), Some(Meaning::AlreadyExists), "{again}");
        let connected = shim.timed("Connect", shim.task.connect(&id, LIMIT)).await.unwrap();
        assert_eq!(connected.task, pid);
        shim.pid = Some(connected.shim);

        assert_eq!(shim.timed("Start", shim.task.start(init, LIMIT)).await, Ok(pid));
        streams.hears("ready").await;
        assert_eq!(shim.task.state(init, LIMIT).await.unwrap().status, TaskStatus::Running);
        let waiting = {
            let (task, id) = (shim.task.clone(), id.clone());
            tokio::spawn(async move { task.wait(Target::init(&id)).await })
        };
        let again = shim.task.start(init, LIMIT).await.unwrap_err();
        assert_eq!(again.meaning(), Some(Meaning::WrongState), "{again}");

        let pids = shim.timed("Pids", shim.task.pids(&id, LIMIT)).await.unwrap();
        assert!(pids.iter().any(|process| process.pid == pid), "{pids:?}");
        measured(&shim).await;
        paused(&shim).await;
        execs(place, &shim).await;
        paused_under_an_exec(place, &shim).await;

        shim.timed("Kill", shim.task.kill(init, TERM, false, LIMIT)).await.unwrap();
        let exit = within(LIMIT, "Wait", waiting).await.unwrap().unwrap();
        assert_eq!(exit.code, 7);
        assert!(exit.at.is_some_and(|at| at <= SystemTime::now()), "{exit:?}");
        // Whoever asks later gets the same.
        assert_eq!(shim.timed("Wait", shim.task.wait(init)).await, Ok(exit));
        let state = shim.task.state(init, LIMIT).await.unwrap();
        assert_eq!((state.status, state.exit.map(|exit| exit.code)), (TaskStatus::Stopped, Some(7)));
        let late = shim.task.kill(init, KILL, false, LIMIT).await;
        println!("  killed when it had ended: {late:?}");
        assert!(late.is_ok() || late.is_err_and(|fault| fault.is_gone()));
        let deleted = shim.timed("Delete", shim.task.delete(init, LIMIT)).await.unwrap();
        assert_eq!((deleted.pid, deleted.exit.code), (pid, 7));
        let unknown = shim.task.state(init, LIMIT).await.unwrap_err();
        assert!(unknown.is_not_found(), "{unknown:?}");
        told(&mut shim).await;
        drop(streams);
        shut_down(shim).await;
    })
    .await;
}

/// Resource use is read, and follows an update.
async fn measured(shim: &Shim) {
    let resources = any::linux_resources(&json!({"pids": {"limit": 50}})).unwrap();
    let updated = shim.task.update(&shim.id, resources, [].into(), LIMIT);
    shim.timed("Update", updated).await.unwrap_or_else(|fault| panic!("{fault}: {}", shim.log()));
    let payload = shim.timed("Stats", shim.task.stats(&shim.id, LIMIT)).await.unwrap();
    let stats = metrics::stats(&payload, SystemTime::now()).unwrap();
    println!("  {}: {stats:?}", payload.type_url);
    assert!(stats.memory.usage > 0, "{stats:?}");
    // The Rust shim looks for the words of cgroup version 2 in the files of version 1, and finds no processor time there.
    if payload.type_url == metrics::V2 || !shim.command.binary.ends_with("containerd-shim-runc-v2-rs") {
        assert!(stats.cpu.usage_ns > 0, "{stats:?}");
    }
    let pids = stats.pids.unwrap();
    assert_eq!((pids.current, pids.limit), (1, Some(50)));
}

async fn paused(shim: &Shim) {
    let init = Target::init(&shim.id);
    shim.timed("Pause", shim.task.pause(&shim.id, LIMIT)).await.unwrap();
    assert_eq!(shim.task.state(init, LIMIT).await.unwrap().status, TaskStatus::Paused);
    shim.timed("Resume", shim.task.resume(&shim.id, LIMIT)).await.unwrap();
    assert_eq!(shim.task.state(init, LIMIT).await.unwrap().status, TaskStatus::Running);
}

/// What is frozen has not ended, whatever the shim answers to one who waits for it.
async fn paused_under_an_exec(place: &Place, shim: &Shim) {
    let mut streams = Streams::new(place, "frozen", false, false);
    let frozen = Target::exec(&shim.id, "frozen");
    let argv = Workload::ready_forever().argv();
    shim.task.exec(shim.exec("frozen", argv, &streams), LIMIT).await.unwrap();
    shim.task.start(frozen, LIMIT).await.unwrap();
    streams.hears("ready").await;
    shim.task.pause(&shim.id, LIMIT).await.unwrap();
    let waiting = {
        let (task, id) = (shim.task.clone(), shim.id.clone());
        tokio::spawn(async move { task.wait(Target::exec(&id, "frozen")).await })
    };
    // An answer that came would have come before that of a later call.
    for _ in 0..5 {
        shim.task.state(frozen, LIMIT).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!waiting.is_finished(), "an end was told of what is frozen");
    shim.task.resume(&shim.id, LIMIT).await.unwrap();
    shim.task.kill(frozen, KILL, false, LIMIT).await.unwrap();
    assert_eq!(within(LIMIT, "the exec", waiting).await.unwrap().unwrap().code, 137);
    shim.task.delete(frozen, LIMIT).await.unwrap();
}

/// An exec gets its input to the last byte and the end of it; one whose program is missing is refused by its class.
async fn execs(place: &Place, shim: &Shim) {
    let mut streams = Streams::new(place, "exec", false, true);
    let echo = Target::exec(&shim.id, "echo");
    let argv = Workload::echoes().then(Step::Exit(3)).argv();
    shim.timed("Exec", shim.task.exec(shim.exec("echo", argv, &streams), LIMIT)).await.unwrap();
    let pid = shim.timed("Start of an exec", shim.task.start(echo, LIMIT)).await.unwrap();
    let state = shim.task.state(echo, LIMIT).await.unwrap();
    assert_eq!((state.status, state.pid), (TaskStatus::Running, pid));
    assert!(state.id == "echo" || state.exec.as_deref() == Some("echo"), "{state:?}");
    streams.input.as_mut().unwrap().write_all(b"from first to last\n").await.unwrap();
    shim.timed("CloseIO", shim.task.close_stdin(echo, LIMIT)).await.unwrap();
    streams.input = None;
    let exit = within(LIMIT, "the exec", shim.task.wait(echo)).await.unwrap();
    assert_eq!(exit.code, 3);
    streams.hears("from first to last\n").await;
    shim.timed("Delete of an exec", shim.task.delete(echo, LIMIT)).await.unwrap();
    assert!(shim.task.state(echo, LIMIT).await.unwrap_err().is_not_found());
    drop(streams);

    let streams = Streams::new(place, "missing", false, false);
    let missing = Target::exec(&shim.id, "missing");
    shim.task.exec(shim.exec("missing", vec!["/nowhere".into()], &streams), LIMIT).await.unwrap();
    let fault = shim.task.start(missing, LIMIT).await.unwrap_err();
    println!("  an exec of a missing program: {fault}");
    assert_eq!(fault.meaning(), Some(Meaning::Runtime(Rejection::ExecNotFound)), "{fault}");
    let _ = shim.task.delete(missing, LIMIT).await;
}

/// The shim told of the life on the socket that it got.
async fn told(shim: &mut Shim) {
    let mut told = Vec::new();
    // The Rust shim tells of the end after it has told of the delete.
    let last: [fn(&TaskEvent) -> bool; 2] = [
        |event| matches!(event, TaskEvent::Deleted { exec: None, .. }),
        |event| matches!(event, TaskEvent::Exited { exec: None, exit, .. } if exit.code == 7),
    ];
    while !last.iter().all(|wanted| told.iter().any(wanted)) {
        let event = within(LIMIT, "an event", shim.events.recv()).await.unwrap();
        assert_eq!(event.namespace, "default");
        assert!(event.at.is_some() && event.topic.starts_with("/tasks/"), "{event:?}");
        told.push(event.what);
    }
    let has = |wanted: &dyn Fn(&TaskEvent) -> bool| told.iter().any(wanted);
    assert!(has(&|event| matches!(event, TaskEvent::Created { .. })), "{told:?}");
    assert!(has(&|event| matches!(event, TaskEvent::Started { .. })), "{told:?}");
    assert!(has(&|event| matches!(event, TaskEvent::ExecStarted { exec, .. } if exec == "echo")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_the_size_that_it_is_given() {
    on_each(async |place: &Place| {
        let mut shim = place.shim_with(&Workload::tells_sizes(), &BundleOptions::new().terminal()).await;
        let id = shim.id.clone();
        let init = Target::init(&id);
        let mut streams = Streams::new(place, "init", true, false);
        shim.task.create(shim.create(place, &streams), LIMIT).await.unwrap();
        shim.pid = Some(shim.task.connect(&id, LIMIT).await.unwrap().shim);
        shim.task.start(init, LIMIT).await.unwrap();
        streams.hears("ready").await;
        shim.timed("ResizePty", shim.task.resize_pty(init, 101, 41, LIMIT)).await.unwrap();
        streams.hears("winsize 41 101").await;
        shim.task.kill(init, KILL, true, LIMIT).await.unwrap();
        assert_eq!(within(LIMIT, "Wait", shim.task.wait(init)).await.unwrap().code, 137);
        shim.task.delete(init, LIMIT).await.unwrap();
        drop(streams);
        shut_down(shim).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_missing_is_refused_by_its_class() {
    on_each(async |place: &Place| {
        let mut shim = place.shim_with(&Workload::forever(), &BundleOptions::new().argv(["/nowhere"])).await;
        let id = shim.id.clone();
        let init = Target::init(&id);
        let streams = Streams::new(place, "init", false, false);
        let fault = match shim.task.create(shim.create(place, &streams), LIMIT).await {
            Err(fault) => fault,
            Ok(_pid) => shim.task.start(init, LIMIT).await.unwrap_err(),
        };
        println!("  a missing program: {fault}");
        assert_eq!(fault.meaning(), Some(Meaning::Runtime(Rejection::ExecNotFound)), "{fault}");
        if let Ok(connected) = shim.task.connect(&id, LIMIT).await {
            shim.pid = Some(connected.shim);
        }
        let _ = shim.task.delete(init, LIMIT).await;
        drop(streams);
        shut_down(shim).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_that_dies_is_noticed_and_cleaned_up_after() {
    on_each(async |place: &Place| {
        let mut shim = place.shim(&Workload::ready_forever()).await;
        let id = shim.id.clone();
        let init = Target::init(&id);
        let mut streams = Streams::new(place, "init", false, false);
        let init_pid = shim.task.create(shim.create(place, &streams), LIMIT).await.unwrap();
        let pid = shim.task.connect(&id, LIMIT).await.unwrap().shim;
        shim.pid = Some(pid);
        shim.task.start(init, LIMIT).await.unwrap();
        streams.hears("ready").await;
        let waiting = {
            let (task, id) = (shim.task.clone(), id.clone());
            tokio::spawn(async move { task.wait(Target::init(&id)).await })
        };
        shim.task.state(init, LIMIT).await.unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let fault = within(LIMIT, "Wait", waiting).await.unwrap().unwrap_err();
        assert!(matches!(fault, Fault::Closed(_)), "{fault:?}");
        let deleted = shim.timed("the command delete", shim.command.delete(LIMIT)).await;
        println!("  deleted: {deleted:?}");
        assert_eq!(deleted.unwrap().exit.code, 137);
        reaped(init_pid).await;
        drop(streams);
        shim.ended().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_for_want_of_memory_is_told() {
    on_each(async |place: &Place| {
        let options = BundleOptions::new().memory_limit(32 << 20);
        // containerd's shim begins to watch the memory once the program runs, and misses what happens before.
        let workload = Workload::echoes().then(Step::Eat(256 << 20));
        let mut shim = place.shim_with(&workload, &options).await;
        let id = shim.id.clone();
        let init = Target::init(&id);
        let mut streams = Streams::new(place, "init", false, true);
        shim.task.create(shim.create(place, &streams), LIMIT).await.unwrap();
        shim.pid = Some(shim.task.connect(&id, LIMIT).await.unwrap().shim);
        shim.task.start(init, LIMIT).await.unwrap();
        shim.task.close_stdin(init, LIMIT).await.unwrap();
        streams.input = None;
        assert_eq!(within(LIMIT, "Wait", shim.task.wait(init)).await.unwrap().code, 137);
        loop {
            let event = within(LIMIT, "the event", shim.events.recv()).await.unwrap();
            if event.what == (TaskEvent::OutOfMemory { id: id.clone() }) {
                break;
            }
        }
        shim.task.delete(init, LIMIT).await.unwrap();
        drop(streams);
        shut_down(shim).await;
    })
    .await;
}
