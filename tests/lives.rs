//! Many container lives of every kind leave nothing behind: no process, mount, cgroup, socket, fifo, symlink or file.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use manyrun_tests::{census, handler, host};
use runtime_api::{
    ContainerId, CreateRequest, DeleteRequest, ErrorKind, ExecSyncRequest, KillRequest, OpenContext,
    Rejection, RuntimeExt as _, SharedRuntime, Signal, StopRequest,
};
use runtime_test::{BundleOptions, Workload, bundle};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

/// What stays in a state directory by design, however many containers lived there.
const CONSTANT: &[&str] = &["file capabilities.json", "file handler.json"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_on_runc_leave_nothing() {
    lives_leave_nothing("runc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_on_crun_leave_nothing() {
    lives_leave_nothing("crun").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_behind_the_shim_in_go_leave_nothing() {
    lives_leave_nothing("vm:runc").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_behind_the_shim_in_go_on_crun_leave_nothing() {
    lives_leave_nothing("vm:runc@crun").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lives_behind_the_shim_in_rust_leave_nothing() {
    lives_leave_nothing("vm:runc-rs").await;
}

async fn lives_leave_nothing(binary: &'static str) {
    if let Some(need) = host::lacks(binary) {
        return host::skipped(&need);
    }
    // Descriptors belong to the process, and both tests may run in one.
    static ALONE: Mutex<()> = Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let lives: usize = std::env::var("MANYRUN_TEST_LIVES").map_or(200, |text| text.parse().unwrap());
    let place = Arc::new(Place::new(binary));
    let runtime = place.open().await;
    let descriptors = open_descriptors();

    let mut running = JoinSet::new();
    for number in 0..lives {
        if running.len() == 4 {
            running.join_next().await.unwrap().unwrap();
        }
        let (place, runtime) = (Arc::clone(&place), Arc::clone(&runtime));
        running.spawn(async move { place.live(&runtime, number).await });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    runtime.shutdown().await;
    drop(runtime);

    // What a dropped create began is undone by the next open at the latest.
    let runtime = place.open().await;
    let left = runtime.list().await.unwrap();
    assert!(left.is_empty(), "still listed after {lives} lives: {left:#?}");
    // What an open finishes in the background has some open for a moment.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let left = open_descriptors();
        if left.len() <= descriptors.len() {
            break;
        }
        let late = std::time::Instant::now() >= deadline;
        assert!(!late, "descriptors before: {descriptors:#?}, after: {left:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    runtime.shutdown().await;
    drop(runtime);

    let found = census::settled(&format!("{}-", place.token), &place.state(), Duration::from_secs(10)).await;
    assert!(found.is_empty(), "left by {lives} lives on {binary}: {found:#?}");
    let files: BTreeSet<_> = census::entries(&place.state())
        .into_iter()
        .filter(|entry| !entry.starts_with("directory ") && !CONSTANT.contains(&entry.as_str()))
        .collect();
    assert!(files.is_empty(), "left in the state directory: {files:#?}");
    println!("{lives} lives on {binary} left nothing");
    place.remove();
}

/// Where the campaign on one runtime happens. Its token is in every id and path.
struct Place {
    token: String,
    directory: PathBuf,
    binary: &'static str,
}

impl Place {
    fn new(binary: &'static str) -> Self {
        let directory = tempfile::Builder::new().prefix("lives").rand_bytes(8).tempdir().unwrap().keep();
        let token = directory.file_name().unwrap().to_string_lossy().into_owned();
        let place = Self { token, directory, binary };
        for (name, workload) in [
            ("exits", Workload::exits(3)),
            ("forever", Workload::ready_forever()),
            ("ignores", Workload::ignores_term()),
            ("tree", Workload::forks_a_tree()),
        ] {
            bundle::write(&place.bundle(name), &workload).unwrap();
        }
        let missing = BundleOptions::new().argv(["/no/such/program"]);
        bundle::write_with(&place.bundle("missing"), &Workload::exits(0), &missing).unwrap();
        place
    }

    fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn bundle(&self, name: &str) -> PathBuf {
        self.directory.join("bundles").join(name)
    }

    async fn open(&self) -> SharedRuntime {
        let config = handler::config(self.binary).unwrap();
        let context = OpenContext::new(self.state(), format!("/manyrun/{}", self.token));
        handler::open(&config, context).await.unwrap()
    }

    /// One life; which kind the number decides.
    async fn live(&self, runtime: &SharedRuntime, number: usize) {
        let id = ContainerId::new(format!("{}-{number}", self.token)).unwrap();
        let request = |bundle: &str| CreateRequest::new(id.clone(), self.bundle(bundle));
        match number % 8 {
            0 => {
                let status = runtime.run_to_exit(request("exits")).await.unwrap();
                assert_eq!(status.code, Some(3));
            }
            1 => {
                runtime.create(request("forever")).await.unwrap();
                runtime.start(&id).await.unwrap();
                runtime.kill(&id, KillRequest::new(Signal::KILL)).await.unwrap();
                assert_eq!(runtime.wait(&id).await.unwrap().code, Some(137));
                runtime.delete(&id, DeleteRequest::new()).await.unwrap();
            }
            2 => {
                runtime.create(request("exits")).await.unwrap();
                runtime.delete(&id, DeleteRequest::new()).await.unwrap();
            }
            3 => {
                runtime.create(request("tree")).await.unwrap();
                runtime.start(&id).await.unwrap();
                runtime.delete(&id, DeleteRequest::force()).await.unwrap();
            }
            4 => {
                runtime.create(request("ignores")).await.unwrap();
                runtime.start(&id).await.unwrap();
                let grace = Duration::from_millis(30);
                assert_eq!(runtime.stop(&id, StopRequest::within(grace)).await.unwrap().code, Some(137));
                runtime.delete(&id, DeleteRequest::new()).await.unwrap();
            }
            5 => {
                runtime.create(request("forever")).await.unwrap();
                runtime.start(&id).await.unwrap();
                let exec = ExecSyncRequest::new(Workload::says(id.as_str()).process());
                let outcome = runtime.exec_sync(&id, exec).await.unwrap();
                assert_eq!(outcome.stdout, format!("{id}\n").into_bytes());
                runtime.delete(&id, DeleteRequest::force()).await.unwrap();
            }
            6 => {
                let error = runtime.run_to_exit(request("missing")).await.unwrap_err();
                let class = Rejection::ExecNotFound;
                assert!(
                    matches!(error.kind(), ErrorKind::Rejected { class: found, .. } if *found == class),
                    "{error:?}"
                );
            }
            _ => {
                let limit = Duration::from_millis(u64::try_from(number % 23).unwrap());
                let created = tokio::time::timeout(limit, runtime.create(request("exits"))).await;
                if let Ok(created) = created {
                    created.unwrap();
                    runtime.delete(&id, DeleteRequest::new()).await.unwrap();
                }
            }
        }
    }

    /// Removes what the campaign itself made: its directory, and the cgroup under which its containers were.
    fn remove(&self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let parent = hierarchy.path().join("manyrun").join(&self.token);
            match std::fs::remove_dir(&parent) {
                // Others on this host remove what is empty, too.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                // Fails while a cgroup is left below it, which the census would have missed.
                removed => removed.unwrap(),
            }
        }
        assert!(!Path::new(&self.directory).exists());
    }
}

/// What this process holds open, as the kernel names it.
fn open_descriptors() -> Vec<String> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect()
}
