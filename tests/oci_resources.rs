//! What real containers get and use: descriptors that were handed on, and stats against the files that they come from.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manyrun_tests::host;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::statvfs::statvfs;
use runtime_api::{
    Capability, ContainerId, CreateRequest, DeleteRequest, HandlerConfig, HandlerName, LogConfig,
    OpenContext, Origin, RuntimeFactory as _, RuntimeKind, SharedRuntime,
};
use runtime_oci::OciFactory;
use runtime_test::{BundleOptions, Step, Workload, bundle};
use tokio::sync::Mutex;

/// A debug build on a busy machine is many times slower than what users have. That there is no fork is seen elsewhere.
const QUICK: Duration = Duration::from_millis(50);

/// Children belong to the process, and both tests may run in one.
static ALONE: Mutex<()> = Mutex::const_new(());

/// The file of a controller, whichever version it is mounted as.
fn file(cgroup: &str, controller: &str, names: [&str; 2]) -> PathBuf {
    let [old, new] = names;
    let old = Path::new("/sys/fs/cgroup").join(controller).join(&cgroup[1..]).join(old);
    if old.exists() { old } else { Path::new("/sys/fs/cgroup").join(&cgroup[1..]).join(new) }
}

fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).unwrap().trim().parse().ok()
}

async fn open(binary: &str, state: &Path, cgroup: &str) -> SharedRuntime {
    let kind = RuntimeKind::new("oci").unwrap();
    let handler = HandlerConfig::new(HandlerName::new(binary).unwrap(), kind, Origin::other("this test"));
    OciFactory.open(&handler, OpenContext::new(state, cgroup)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_are_those_of_the_files_and_cost_little_and_no_fork() {
    let _alone = ALONE.lock().await;
    for binary in ["runc", "crun", "youki"] {
        if let Some(need) = host::lacks(binary) {
            host::skipped(&need);
            continue;
        }
        let directory = tempfile::Builder::new().prefix("resources").rand_bytes(8).tempdir().unwrap();
        let token = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let parent = format!("/manyrun/{token}");
        let runtime = open(binary, &directory.path().join("state"), &parent).await;
        assert!(runtime.capabilities().has(Capability::Stats));
        let at = directory.path().join("bundle");
        let options = BundleOptions::new().memory_limit(200 << 20).pids_limit(99);
        bundle::write_with(&at, &Workload::eats(32 << 20), &options).unwrap();
        let id = ContainerId::new(format!("{token}-a")).unwrap();
        runtime.create(CreateRequest::new(id.clone(), &at)).await.unwrap();
        runtime.start(&id).await.unwrap();
        let cgroup = format!("{parent}/{id}");
        let usage = file(&cgroup, "memory", ["memory.usage_in_bytes", "memory.current"]);
        while number(&usage).unwrap() < 32 << 20 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        let before = number(&usage).unwrap();
        let stats = runtime.stats(&id).await.unwrap();
        let after = number(&usage).unwrap();
        let slack = 4 << 20;
        let fits = before.saturating_sub(slack)..=after + slack;
        assert!(fits.contains(&stats.memory.usage), "{binary}: {} is not in {fits:?}", stats.memory.usage);
        let limit = file(&cgroup, "memory", ["memory.limit_in_bytes", "memory.max"]);
        assert_eq!(stats.memory.limit, number(&limit), "{binary}");
        let pids = stats.pids.unwrap();
        assert_eq!(Some(pids.current), number(&file(&cgroup, "pids", ["pids.current"; 2])), "{binary}");
        assert_eq!(pids.limit, number(&file(&cgroup, "pids", ["pids.max"; 2])), "{binary}");
        assert_eq!(stats.memory.oom_kills, Some(0), "{binary}");

        let disk = runtime.disk_stats(&id).await.unwrap();
        let host = statvfs(&at.join("rootfs")).unwrap();
        assert_eq!(disk.limit_bytes, host.blocks() * host.fragment_size(), "{binary}");

        let children = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().minor_page_faults();
        let mut times = Vec::new();
        for _ in 0..300 {
            let begun = Instant::now();
            runtime.stats(&id).await.unwrap();
            times.push(begun.elapsed());
        }
        assert_eq!(
            getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().minor_page_faults(),
            children,
            "{binary}: a child"
        );
        times.sort_unstable();
        println!("{binary}: stats take {:?} as a rule, {:?} at best", times[times.len() / 2], times[0]);
        assert!(times[0] < QUICK, "{binary}: {:?} at best", times[0]);
        runtime.delete(&id, DeleteRequest::force()).await.unwrap();
        runtime.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_finds_the_descriptors_that_it_was_given() {
    let _alone = ALONE.lock().await;
    for binary in ["runc", "crun", "youki"] {
        if let Some(need) = host::lacks(binary) {
            host::skipped(&need);
            continue;
        }
        let directory = tempfile::Builder::new().prefix("resources").rand_bytes(8).tempdir().unwrap();
        let token = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let runtime = open(binary, &directory.path().join("state"), &format!("/manyrun/{token}")).await;
        let at = directory.path().join("bundle");
        let steps = [3, 4, 5].map(Step::Descriptor);
        bundle::write(&at, &Workload::new(steps)).unwrap();
        let id = ContainerId::new(format!("{token}-a")).unwrap();
        let log = directory.path().join("log");
        let mut request = CreateRequest::new(id.clone(), &at).log(LogConfig::cri_file(&log));
        for text in ["first", "second"] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(text.as_bytes()).unwrap();
            request = request.descriptor(reader);
        }
        runtime.create(request).await.unwrap();
        runtime.start(&id).await.unwrap();
        assert_eq!(runtime.wait(&id).await.unwrap().code, Some(0), "{binary}");
        let log = std::fs::read_to_string(log).unwrap();
        for line in ["fd 3 first", "fd 4 second", "fd 5 closed"] {
            assert!(log.lines().any(|each| each.ends_with(line)), "{binary}: {line} is not in {log}");
        }
        runtime.delete(&id, DeleteRequest::force()).await.unwrap();
        runtime.shutdown().await;
    }
}
