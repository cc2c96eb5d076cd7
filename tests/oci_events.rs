//! What only real runtimes can show of the event stream: monitors that die, and processes that the kernel kills while
//! their container goes on.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::path::PathBuf;
use std::time::Duration;

use manyrun_tests::{census, host};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime_api::{
    ContainerId, ContainerStatus, CreateRequest, DeleteRequest, EventKind, EventStream, ExecSyncRequest,
    ExitCause, HandlerConfig, HandlerName, OpenContext, Origin, RuntimeFactory as _, RuntimeKind,
    SharedRuntime, StopRequest,
};
use runtime_oci::OciFactory;
use runtime_test::{BundleOptions, Workload, bundle};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

/// One container on one runtime.
struct Place {
    directory: tempfile::TempDir,
    runtime: SharedRuntime,
    id: ContainerId,
    /// Runtimes that a user's `--root` does not name keep theirs here.
    state: PathBuf,
}

impl Place {
    async fn with(binary: &str, options: &BundleOptions) -> Self {
        let directory = tempfile::Builder::new().prefix("events").rand_bytes(8).tempdir().unwrap();
        let token = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let handler = HandlerConfig::new(
            HandlerName::new(binary).unwrap(),
            RuntimeKind::new("oci").unwrap(),
            Origin::other("this test"),
        );
        let state = directory.path().join("state");
        let context = OpenContext::new(&state, format!("/manyrun/{token}"));
        let runtime = OciFactory.open(&handler, context).await.unwrap();
        let id = ContainerId::new(format!("{token}-a")).unwrap();
        let at = directory.path().join("bundle");
        bundle::write_with(&at, &Workload::forever(), options).unwrap();
        runtime.create(CreateRequest::new(id.clone(), at)).await.unwrap();
        Self { directory, runtime, id, state }
    }

    /// conmon's pid, from the file that it writes.
    fn monitor(&self) -> Pid {
        let file = self.state.join("containers").join(self.id.as_str()).join("conmon-pidfile");
        Pid::from_raw(std::fs::read_to_string(file).unwrap().trim().parse().unwrap())
    }

    async fn end(self) {
        self.runtime.delete(&self.id, DeleteRequest::force()).await.unwrap();
        self.runtime.shutdown().await;
        let token = self.id.as_str().to_owned();
        let found = census::settled(&token, self.directory.path(), Duration::from_secs(10)).await;
        assert!(found.is_empty(), "left: {found:#?}");
    }
}

async fn next(stream: &mut EventStream) -> EventKind {
    timeout(LIMIT, stream.next()).await.unwrap().unwrap().unwrap().kind
}

/// Every runtime of this host whose containers are processes of the host.
fn runtimes() -> Vec<&'static str> {
    let mut found = Vec::new();
    for binary in ["runc", "crun", "youki"] {
        match host::lacks(binary) {
            None => found.push(binary),
            Some(need) => host::skipped(&need),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_that_dies_is_told_and_so_is_the_end_that_nobody_saw() {
    for binary in runtimes() {
        let place = Place::with(binary, &BundleOptions::new()).await;
        let mut stream = place.runtime.events().await.unwrap();
        place.runtime.start(&place.id).await.unwrap();
        assert_eq!(next(&mut stream).await, EventKind::Started, "{binary}");
        kill(place.monitor(), Signal::SIGKILL).unwrap();
        assert_eq!(next(&mut stream).await, EventKind::MonitorLost, "{binary}");
        let state = place.runtime.state(&place.id).await.unwrap();
        assert_eq!(state.status, ContainerStatus::Running, "{binary}");
        let init = Pid::from_raw(i32::try_from(state.pid.unwrap()).unwrap());
        // Nobody asks for the container any more: the watch sees its end by itself, and writes it down.
        kill(init, Signal::SIGKILL).unwrap();
        let EventKind::Exited(exit) = next(&mut stream).await else { panic!("{binary}: it has ended") };
        assert_eq!((exit.code, exit.cause), (None, ExitCause::MonitorLost), "{binary}");
        assert_eq!(place.runtime.wait(&place.id).await.unwrap(), exit, "{binary}");
        place.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kill_for_want_of_memory_is_told_although_the_container_goes_on() {
    for binary in runtimes() {
        let options = BundleOptions::new().memory_limit(96 << 20);
        let place = Place::with(binary, &options).await;
        place.runtime.start(&place.id).await.unwrap();
        let mut stream = place.runtime.events().await.unwrap();
        for _ in 0..3 {
            let greedy = ExecSyncRequest::new(Workload::eats(512 << 20).process()).timeout(LIMIT);
            let outcome = place.runtime.exec_sync(&place.id, greedy).await.unwrap();
            assert_eq!(outcome.code(), Some(137), "{binary}");
            assert_eq!(next(&mut stream).await, EventKind::OutOfMemory, "{binary}");
        }
        let exit = place.runtime.stop(&place.id, StopRequest::within(Duration::ZERO)).await.unwrap();
        assert_eq!(next(&mut stream).await, EventKind::Exited(exit), "{binary}");
        place.end().await;
    }
}
