//! Exec sessions whose monitor is killed or hangs, whose container is deleted under them, whose start hangs or loses its
//! caller; and the files by which others find them.

use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime_api::{
    AttachRequest, ContainerId, DeleteRequest, ErrorKind, ExecId, ExecSessionRequest, ExecSessionState,
    ExecSyncRequest, OpenContext, Peer, RuntimeImpl as _, SharedRuntime, StopRequest, Streams, WindowSize,
};
use runtime_oci::OciFactory;
use runtime_test::{Life, Step, Trap, Workload};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;

use crate::place::{parent_of, with_arguments};
use crate::wrapper::{Hangs, Wrapper};
use crate::{LIMIT, Place, on, until, within};

/// A session of a test, with the pids of its program and of its monitor.
struct Session {
    runtime: SharedRuntime,
    container: ContainerId,
    id: ExecId,
    program: i32,
    monitor: i32,
}

impl Session {
    async fn start(
        place: &Place,
        runtime: &SharedRuntime,
        container: &ContainerId,
        name: &str,
        workload: &Workload,
    ) -> Self {
        let id = session_id(place, name);
        let request = ExecSessionRequest::new(id.clone(), workload.process());
        let started = within(LIMIT, "exec_start", runtime.exec_start(container, request)).await.unwrap();
        let ExecSessionState::Running { pid } = started else { panic!("it began as {started:?}") };
        let program = i32::try_from(pid).unwrap();
        let monitor = parent_of(program).unwrap();
        assert_eq!(std::fs::read_to_string(format!("/proc/{monitor}/comm")).unwrap().trim(), "conmon");
        Self { runtime: runtime.clone(), container: container.clone(), id, program, monitor }
    }

    async fn state(&self) -> ExecSessionState {
        within(LIMIT, "exec_state", self.runtime.exec_state(&self.container, &self.id)).await.unwrap()
    }

    async fn stop(&self, grace: Duration) -> ExecSessionState {
        let stop = self.runtime.exec_stop(&self.container, &self.id, StopRequest::within(grace));
        within(LIMIT, "exec_stop", stop).await.unwrap()
    }

    async fn clean_up(&self) -> runtime_api::Result<()> {
        within(LIMIT, "exec_cleanup", self.runtime.exec_cleanup(&self.container, &self.id)).await
    }

    async fn kill_monitor(&self) {
        kill(Pid::from_raw(self.monitor), Signal::SIGKILL).unwrap();
        until("the end of the monitor", || (!lives(self.monitor)).then_some(())).await;
    }
}

fn session_id(place: &Place, name: &str) -> ExecId {
    ExecId::new(format!("{}-s-{name}", place.token())).unwrap()
}

/// Whether a process is there and no zombie.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().next().is_some_and(|state| state != "Z")
}

/// Waits until the program that says `told` is gone.
async fn nothing_runs(told: &str) {
    let argument = format!("out:{told}");
    until("the end of the program", || with_arguments(&[&argument]).is_none().then_some(())).await;
}

fn entries_of_sessions(place: &Place, container: &ContainerId) -> Vec<PathBuf> {
    let sessions = std::fs::read_dir(place.container(container).join("sessions"));
    sessions.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_monitor_is_killed_is_stopped_by_its_pid() {
    on(&["runc", "crun", "runsc"], async |place| {
        let runtime = place.open(&place.config()).await;
        let container = place.running(&runtime, "unwatched", &Workload::forever()).await;
        // They write nothing: without a monitor nobody would read it.
        let stubborn = Workload::new([Step::Trap(15, Trap::Ignore), Step::Forever]);
        let one = Session::start(place, &runtime, &container, "one", &Workload::forever()).await;
        let other = Session::start(place, &runtime, &container, "other", &stubborn).await;
        one.kill_monitor().await;
        other.kill_monitor().await;

        assert_eq!(one.state().await, ExecSessionState::Running { pid: one.program.unsigned_abs() });
        let attach = runtime.exec_attach(&container, &one.id, AttachRequest::new(), Streams::none());
        let error = within(LIMIT, "exec_attach", attach).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::PeerLost(Peer::Monitor), "{error:?}");
        let lost = ExecSessionState::Stopped { code: None };
        assert_eq!(one.stop(Duration::from_secs(20)).await, lost, "nobody was there to take the code");
        assert_eq!(other.stop(Duration::ZERO).await, lost);
        for session in [&one, &other] {
            assert!(!lives(session.program));
            assert_eq!(session.state().await, lost);
            session.clean_up().await.unwrap();
        }
        within(LIMIT, "delete", runtime.delete(&container, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_that_hangs_is_ended_by_a_stop() {
    on(&["runc", "crun", "runsc"], async |place| {
        let runtime = place.open(&place.config()).await;
        let container = place.running(&runtime, "hung", &Workload::forever()).await;
        let session = Session::start(place, &runtime, &container, "hung", &Workload::forever()).await;
        kill(Pid::from_raw(session.monitor), Signal::SIGSTOP).unwrap();
        kill(Pid::from_raw(session.program), Signal::SIGKILL).unwrap();
        until("the end of the program", || (!lives(session.program)).then_some(())).await;
        let error = session.clean_up().await.unwrap_err();
        assert!(error.is_wrong_state(), "its end is not known yet: {error:?}");
        assert_eq!(session.stop(Duration::ZERO).await, ExecSessionState::Stopped { code: None });
        assert!(!lives(session.monitor));
        session.clean_up().await.unwrap();
        within(LIMIT, "delete", runtime.delete(&container, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

/// Each of them waits for the monitor's word, and none may keep a stop from ending that wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_wait_for_a_sessions_monitor_that_hangs_keep_no_stop_away() {
    on(&["crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let elsewhere = place.open(&place.config()).await;
        let container = place.running(&runtime, "polled", &Workload::forever()).await;
        let session = Session::start(place, &runtime, &container, "polled", &Workload::forever()).await;
        kill(Pid::from_raw(session.monitor), Signal::SIGSTOP).unwrap();
        kill(Pid::from_raw(session.program), Signal::SIGKILL).unwrap();
        until("the end of the program", || (!lives(session.program)).then_some(())).await;
        let mut pollers = JoinSet::new();
        for runtime in [&runtime, &runtime, &runtime, &elsewhere, &elsewhere, &elsewhere] {
            let (runtime, container, id) = (runtime.clone(), container.clone(), session.id.clone());
            pollers.spawn(async move { while runtime.exec_cleanup(&container, &id).await.is_err() {} });
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        // The stop may be over before it could tell: then the session was cleaned up at once.
        let stop = runtime.exec_stop(&container, &session.id, StopRequest::within(Duration::ZERO));
        match within(LIMIT, "exec_stop", stop).await {
            Ok(ended) => assert_eq!(ended, ExecSessionState::Stopped { code: None }),
            Err(error) => assert!(error.is_not_found(), "{error:?}"),
        }
        within(LIMIT, "the end of the pollers", pollers.join_all()).await;
        assert!(!lives(session.monitor));
        within(LIMIT, "delete", runtime.delete(&container, DeleteRequest::force())).await.unwrap();
        elsewhere.shutdown().await;
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sessions_monitor_that_hangs_does_not_hold_up_a_stop_of_the_container() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let container = place.running(&runtime, "held", &Workload::forever()).await;
        let session = Session::start(place, &runtime, &container, "held", &Workload::forever()).await;
        kill(Pid::from_raw(session.monitor), Signal::SIGSTOP).unwrap();
        let stop = runtime.stop(&container, StopRequest::within(Duration::ZERO));
        let status = within(LIMIT, "stop", stop).await.unwrap();
        assert_eq!(status.code, Some(137));
        assert_eq!(session.state().await, ExecSessionState::Stopped { code: None });
        within(LIMIT, "delete", runtime.delete(&container, DeleteRequest::new())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_delete_leaves_nothing_of_sessions() {
    on(&["runc", "crun", "runsc"], async |place| {
        let runtime = place.open(&place.config()).await;
        let container = place.running(&runtime, "full", &Workload::forever()).await;
        let family = Workload::new([
            Step::Trap(15, Trap::Ignore),
            Step::Child(Life::Forever),
            Step::Orphan(Life::Forever),
            Step::Forever,
        ]);
        let mut sessions = Vec::new();
        for (name, workload) in [
            ("plain", &Workload::forever()),
            ("family", &family),
            ("unwatched", &Workload::forever()),
            ("hung", &Workload::forever()),
        ] {
            sessions.push(Session::start(place, &runtime, &container, name, workload).await);
        }
        let ended = Session::start(place, &runtime, &container, "ended", &Workload::forever()).await;
        assert_eq!(ended.stop(Duration::ZERO).await, ExecSessionState::Stopped { code: Some(137) });
        sessions[2].kill_monitor().await;
        kill(Pid::from_raw(sessions[3].monitor), Signal::SIGSTOP).unwrap();

        let delete = runtime.delete(&container, DeleteRequest::force());
        within(LIMIT, "delete", delete).await.unwrap();
        for session in &sessions {
            assert!(!lives(session.program), "the program of {} lives on", session.id);
            assert!(!lives(session.monitor), "the monitor of {} lives on", session.id);
            let error = runtime.exec_state(&container, &session.id).await.unwrap_err();
            assert!(error.is_not_found(), "{error:?}");
        }
        assert_eq!(place.kept(), Vec::<String>::new());
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_by_a_runtime_that_hangs_times_out_and_leaves_nothing() {
    for hangs in [Hangs::Before, Hangs::After] {
        on(&["runc", "crun", "runsc"], async |place| {
            let wrapper = Wrapper::new(place, "exec", hangs);
            let mut config = place.config();
            config.paths = vec![wrapper.path.clone()];
            // The real one is to be through with its work before.
            config.timeouts.exec = Some(Duration::from_secs(10));
            let runtime = place.open(&config).await;
            let container = place.running(&runtime, "slow", &Workload::forever()).await;
            let told = format!("{}-told", place.token());
            let workload = Workload::new([Step::Out(told.clone()), Step::Forever]);
            let id = session_id(place, "slow");
            let request = || ExecSessionRequest::new(id.clone(), workload.process());
            let start = runtime.exec_start(&container, request());
            let (started, ()) = tokio::join!(within(LIMIT, "exec_start", start), wrapper.hangs());
            let error = started.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error:?}");
            nothing_runs(&told).await;
            let state = runtime.exec_state(&container, &id).await;
            assert!(state.unwrap_err().is_not_found());
            assert_eq!(entries_of_sessions(place, &container), Vec::<PathBuf>::new());

            wrapper.mend();
            config.timeouts.exec = None;
            let patient = place.open(&config).await;
            within(LIMIT, "exec_start", patient.exec_start(&container, request())).await.unwrap();
            within(LIMIT, "delete", patient.delete(&container, DeleteRequest::force())).await.unwrap();
            patient.shutdown().await;
            runtime.shutdown().await;
        })
        .await;
    }
}

/// The caller goes away with everything that could tidy up after it, as when it is killed.
#[test]
fn a_start_whose_caller_is_killed_is_undone_by_the_next_open() {
    let own = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for hangs in [Hangs::Before, Hangs::After] {
        own().block_on(on(&["runc", "crun", "runsc"], async |place| {
            let wrapper = Wrapper::new(place, "exec", hangs);
            let mut config = place.config();
            config.paths = vec![wrapper.path.clone()];
            let (id, container) = (session_id(place, "cut"), place.id("cut"));
            let told = format!("{}-told", place.token());
            let workload = Workload::new([Step::Out(told.clone()), Step::Forever]);
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    let caller = own();
                    caller.block_on(async {
                        let runtime = place.open(&config).await;
                        place.running(&runtime, "cut", &Workload::forever()).await;
                        let request = ExecSessionRequest::new(id.clone(), workload.process());
                        let container = container.clone();
                        tokio::spawn(async move { runtime.exec_start(&container, request).await });
                        wrapper.hangs().await;
                    });
                    // Nothing of it is left when this is over, its lock neither.
                    caller.shutdown_timeout(LIMIT);
                });
            });
            assert_ne!(entries_of_sessions(place, &container), Vec::<PathBuf>::new(), "it was not cut off");

            let runtime = place.open(&config).await;
            nothing_runs(&told).await;
            let state = within(LIMIT, "exec_state", runtime.exec_state(&container, &id)).await;
            assert!(state.unwrap_err().is_not_found());
            assert_eq!(entries_of_sessions(place, &container), Vec::<PathBuf>::new());
            wrapper.mend();
            let look = ExecSyncRequest::new(Workload::new([Step::Procs]).process());
            // The init and the one that looks. What was killed in a sandbox may take a moment.
            within(LIMIT, "that nothing else runs", async {
                while runtime.exec_sync(&container, look.clone()).await.unwrap().stdout != b"procs 2\n" {}
            })
            .await;
            within(LIMIT, "delete", runtime.delete(&container, DeleteRequest::force())).await.unwrap();
            runtime.shutdown().await;
        }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_session_are_where_they_are_said_to_be() {
    on(&["runc", "crun", "runsc"], async |place| {
        let context = OpenContext::new(place.path("state"), format!("/manyrun/{}", place.token()));
        let config = place.config();
        let concrete = within(LIMIT, "open", Box::pin(OciFactory.open_oci(&config, context))).await.unwrap();
        let runtime = place.open(&place.config()).await;
        let container = place.running(&runtime, "paths", &Workload::forever()).await;
        let is_socket =
            |path: PathBuf| std::fs::metadata(path).is_ok_and(|there| there.file_type().is_socket());
        assert!(is_socket(concrete.attach_socket_path(&container)));
        let session = Session::start(place, &runtime, &container, "paths", &Workload::forever()).await;
        let socket = concrete.exec_attach_socket_path(&container, &session.id);
        let exit = concrete.exec_exit_file_path(&container, &session.id);
        assert!(is_socket(socket.clone()) && !exit.exists());
        assert!(!concrete.exit_file_path(&container).exists());
        session.stop(Duration::from_secs(20)).await;
        assert_eq!(std::fs::read_to_string(&exit).unwrap(), "143");
        session.clean_up().await.unwrap();
        assert!(!socket.exists() && !exit.exists());
        assert!(
            !concrete.exit_file_path(&container).exists(),
            "the end of a session is none of the container"
        );
        let stop = runtime.stop(&container, StopRequest::within(Duration::ZERO));
        within(LIMIT, "stop", stop).await.unwrap();
        assert_eq!(std::fs::read_to_string(concrete.exit_file_path(&container)).unwrap(), "137");
        within(LIMIT, "delete", runtime.delete(&container, DeleteRequest::new())).await.unwrap();
        runtime.shutdown().await;
        concrete.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminal_of_a_session_has_the_size_that_was_asked_for_last() {
    on(&["runc", "crun", "runsc"], async |place| {
        let runtime = place.open(&place.config()).await;
        let container = place.running(&runtime, "sizes", &Workload::forever()).await;
        let id = session_id(place, "sizes");
        // Each size that arrives is told.
        let workload = Workload::new([Step::Trap(28, Trap::Winsize), Step::Tick(Duration::from_millis(20))]);
        let request = ExecSessionRequest::new(id.clone(), workload.process().terminal());
        within(LIMIT, "exec_start", runtime.exec_start(&container, request)).await.unwrap();
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        let attach = {
            let (runtime, container, id) = (runtime.clone(), container.clone(), id.clone());
            let request = AttachRequest::new().initial_size(WindowSize::new(11, 22).unwrap());
            let streams = Streams::none().stdout(theirs);
            tokio::spawn(async move { runtime.exec_attach(&container, &id, request, streams).await })
        };
        let mut tick = [0; 4];
        within(LIMIT, "a tick", ours.read_exact(&mut tick)).await.unwrap();
        for rows in 1..=50 {
            let size = WindowSize::new(rows, 80).unwrap();
            within(LIMIT, "exec_resize", runtime.exec_resize(&container, &id, size)).await.unwrap();
        }
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("winsize 50 80") {
            let read = within(LIMIT, "the last size", ours.read_buf(&mut seen)).await.unwrap();
            assert!(read > 0, "the client got {:?}", String::from_utf8_lossy(&seen));
        }
        let stop = runtime.exec_stop(&container, &id, StopRequest::within(Duration::ZERO));
        let stopped = within(LIMIT, "exec_stop", stop).await.unwrap();
        assert_eq!(stopped, ExecSessionState::Stopped { code: Some(137) });
        within(LIMIT, "attach", attach).await.unwrap().unwrap();
        let late = runtime.exec_resize(&container, &id, WindowSize::new(1, 1).unwrap()).await.unwrap_err();
        assert!(late.is_wrong_state(), "{late:?}");

        let plain = Session::start(place, &runtime, &container, "plain", &Workload::forever()).await;
        let refused = runtime.exec_resize(&container, &plain.id, WindowSize::new(1, 1).unwrap()).await;
        assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Rejected { .. }));
        within(LIMIT, "delete", runtime.delete(&container, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}
