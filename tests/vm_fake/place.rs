//! A state directory with a value over fake shims.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use manyrun_tests::fake_shim::{FakeShimHarness, Misdeeds};
use manyrun_tests::patience::{LIMIT, until, within};
use runtime_api::{
    ContainerId, ContainerStatus, CreateRequest, DeleteRequest, KillRequest, LogConfig, OpenContext,
    SharedRuntime, Signal,
};
use runtime_test::{BundleOptions, Step, Trap, Workload, bundle};
use tempfile::TempDir;

/// How long a shim may take for what it answers.
const ROOMY: Duration = Duration::from_secs(10);

/// How long it may take for what is asked in [a hurry](Place::hurry).
const SOON: Duration = Duration::from_secs(2);

/// How long it may take until an end is seen of which nobody tells.
pub(crate) const PATIENT: Duration = Duration::from_secs(90);

/// A program that says that it is ready, and ends with 7 when it is asked to.
pub(crate) fn program() -> Workload {
    let trap = Step::Trap(15, Trap::Exit(7));
    Workload::new([trap, Step::Out("ready".to_owned()), Step::Forever])
}

pub(crate) struct Place {
    dir: TempDir,
    harness: FakeShimHarness,
    pub(crate) runtime: SharedRuntime,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let (dir, harness) = (tempfile::tempdir().unwrap(), FakeShimHarness::default());
        let runtime = open(&dir, &harness, ROOMY, ROOMY).await;
        Self { dir, harness, runtime }
    }

    /// From now on asks another value, which waits for shims no longer than it must: for a create so long, for everything
    /// else a moment. What was prepared before had all its time.
    pub(crate) async fn hurry(&mut self, create: Option<Duration>) {
        self.runtime.shutdown().await;
        self.runtime = open(&self.dir, &self.harness, create.unwrap_or(SOON), SOON).await;
    }

    /// Another value takes the place of this one, as after a crash.
    pub(crate) async fn reopen(&mut self) {
        self.runtime.shutdown().await;
        self.runtime = open(&self.dir, &self.harness, ROOMY, ROOMY).await;
    }

    /// The directory that is kept for a container.
    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.dir.path().join("state/containers").join(id.as_str())
    }

    /// Writes down that the monitor of a container is a process that is gone.
    pub(crate) fn lose_monitor(&self, id: &ContainerId) {
        self.note(id, |record| record["shim"]["monitor"] = serde_json::json!({"pid": i32::MAX, "start": 1}));
    }

    /// Changes what is written down of a container.
    pub(crate) fn note(&self, id: &ContainerId, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.container(id).join("record.json");
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut record);
        std::fs::write(&path, record.to_string()).unwrap();
    }

    /// How a container stands in the shim.
    pub(crate) fn truth(&self, id: &ContainerId) -> Option<ContainerStatus> {
        self.harness.shims().truth(id)
    }

    /// Has the shim forget a container.
    pub(crate) fn lose(&self, id: &ContainerId) {
        self.harness.shims().lose(id);
    }

    /// Ends a container that runs [`program`], and gives the code with which it ended.
    pub(crate) async fn code_after_term(&self, id: &ContainerId) -> Option<i32> {
        let term = KillRequest::new(Signal::TERM);
        within(LIMIT, "kill", self.runtime.kill(id, term)).await.unwrap();
        within(PATIENT, "wait", self.runtime.wait(id)).await.unwrap().code
    }

    /// A container that waits for its start.
    pub(crate) async fn created(&self, id: &ContainerId, workload: &Workload) {
        within(LIMIT, "create", self.runtime.create(self.request(id, workload))).await.unwrap();
    }

    /// A container whose program has said that it is ready.
    pub(crate) async fn running(&self, id: &ContainerId, workload: &Workload) {
        self.created(id, workload).await;
        within(LIMIT, "start", self.runtime.start(id)).await.unwrap();
        let log = self.log(id);
        until("the word that it is ready", || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("stdout F ready")).then_some(())
        })
        .await;
    }

    pub(crate) fn misdeeds(&self) -> &Misdeeds {
        self.harness.shims().misdeeds()
    }

    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.dir.path().join(format!("{id}.log"))
    }

    /// What is asked for a container that runs this.
    pub(crate) fn request(&self, id: &ContainerId, workload: &Workload) -> CreateRequest {
        let place = self.dir.path().join(format!("bundle-{id}"));
        bundle::write_with(&place, workload, &BundleOptions::new()).unwrap();
        let mut request = CreateRequest::new(id.clone(), place);
        request.log = LogConfig::cri_file(self.log(id));
        request
    }

    /// Deletes a container by force, whatever the shim does, and looks that nothing is left.
    pub(crate) async fn end(self, id: &ContainerId) {
        within(PATIENT, "a forced delete", self.runtime.delete(id, DeleteRequest::force())).await.unwrap();
        assert!(self.runtime.list().await.unwrap().is_empty());
        self.runtime.shutdown().await;
        let give_up = std::time::Instant::now() + LIMIT;
        loop {
            let mut left = self.harness.shims().leftovers();
            for below in ["containers", "shims", "exits"] {
                let entries = std::fs::read_dir(self.dir.path().join("state").join(below)).unwrap();
                left.extend(entries.map(|entry| format!("{:?}", entry.unwrap().path())));
            }
            if left.is_empty() {
                return;
            }
            assert!(std::time::Instant::now() < give_up, "left behind: {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A value over the state directory of a place.
async fn open(dir: &TempDir, harness: &FakeShimHarness, create: Duration, others: Duration) -> SharedRuntime {
    let mut handler = FakeShimHarness::handler().unwrap();
    handler.timeouts.create = Some(create);
    handler.timeouts.start = Some(others);
    handler.timeouts.exec = Some(others);
    handler.timeouts.stop = Some(others);
    // Two that are at work at once must not have one cgroup.
    let name = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let context = OpenContext::new(dir.path().join("state"), format!("/manyrun/fake/{name}"));
    within(LIMIT, "open", harness.open_as(&handler, context)).await.unwrap()
}

/// A process that has nothing to do with any container, and an argument that says what it is about.
pub(crate) struct Bystander(Child);

impl Bystander {
    pub(crate) fn new(argument: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "read wait"]).arg(argument);
        // It reads for as long as we do not close its input, and goes with us.
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // It is there a moment before it has its arguments, by which it is to be found.
        let has_arguments = || {
            let words = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
            words.split(|byte| *byte == 0).any(|word| word == b"read wait")
        };
        let deadline = std::time::Instant::now() + LIMIT;
        while !has_arguments() {
            assert!(std::time::Instant::now() < deadline, "a program does not begin");
            std::thread::yield_now();
        }
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn id(text: &str) -> ContainerId {
    ContainerId::new(text).unwrap()
}
