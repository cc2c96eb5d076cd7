//! Where one test happens on one runtime, and what must be left of it: nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manyrun_tests::census;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime_api::{
    ContainerId, CreateRequest, HandlerConfig, HandlerName, OpenContext, Origin, RuntimeFactory as _,
    RuntimeKind, SharedRuntime,
};
use runtime_oci::OciFactory;
use runtime_test::{BundleOptions, Workload, bundle};

use crate::{LIMIT, within};

/// A directory whose name is in every id and path of the test.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) binary: &'static str,
}

impl Place {
    pub(crate) fn new(binary: &'static str) -> Self {
        let directory = tempfile::Builder::new().prefix("hostile").rand_bytes(8).tempdir().unwrap();
        Self { directory, binary }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn token(&self) -> String {
        self.directory.path().file_name().unwrap().to_string_lossy().into_owned()
    }

    pub(crate) fn id(&self, name: &str) -> ContainerId {
        ContainerId::new(format!("{}-{name}", self.token())).unwrap()
    }

    /// The directory that the backend keeps for a container.
    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.path("state/containers").join(id.as_str())
    }

    pub(crate) fn bundle(&self, name: &str, workload: &Workload) -> PathBuf {
        self.bundle_with(name, workload, &BundleOptions::new())
    }

    pub(crate) fn bundle_with(&self, name: &str, workload: &Workload, options: &BundleOptions) -> PathBuf {
        let at = self.path("bundles").join(name);
        bundle::write_with(&at, workload, options).unwrap();
        at
    }

    pub(crate) fn config(&self) -> HandlerConfig {
        HandlerConfig::new(
            HandlerName::new(self.binary).unwrap(),
            RuntimeKind::new("oci").unwrap(),
            Origin::other("this test"),
        )
    }

    /// A value over the state directory of this place; every call gives another one.
    pub(crate) async fn open(&self, config: &HandlerConfig) -> SharedRuntime {
        let context = OpenContext::new(self.path("state"), format!("/manyrun/{}", self.token()));
        within(LIMIT, "open", OciFactory.open(config, context)).await.unwrap()
    }

    /// A container that runs, and its id.
    pub(crate) async fn running(
        &self,
        runtime: &SharedRuntime,
        name: &str,
        workload: &Workload,
    ) -> ContainerId {
        let id = self.id(name);
        let request = CreateRequest::new(id.clone(), self.bundle(name, workload));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        id
    }

    /// The files that are kept for containers. What stays by design is no file of a container.
    pub(crate) fn kept(&self) -> Vec<String> {
        ["containers", "exits", "root"]
            .iter()
            .flat_map(|name| census::entries(&self.path("state").join(name)))
            .collect()
    }

    /// No container has left anything on the host.
    pub(crate) async fn assert_nothing_left(&self) {
        let containers = format!("{}-", self.token());
        let found = census::settled(&containers, self.directory.path(), Duration::from_secs(10)).await;
        assert!(found.is_empty(), "left on {}: {found:#?}", self.binary);
        let kept = self.kept();
        assert!(kept.is_empty(), "left in the state directory: {kept:#?}");
    }
}

impl Drop for Place {
    /// A test that failed leaves its containers; they bear the token, which nobody else has.
    #[expect(clippy::disallowed_methods, reason = "a drop cannot wait in another way")]
    fn drop(&mut self) {
        let token = self.token();
        let mut cgroups = Vec::new();
        for _ in 0..100 {
            let found = census::of(&token, Path::new("/nonexistent"));
            let processes = found.iter().filter_map(|line| line.strip_prefix("process "));
            for pid in processes.filter_map(|line| line.split(' ').next()?.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            cgroups =
                found.iter().filter_map(|line| line.strip_prefix("cgroup ")).map(PathBuf::from).collect();
            cgroups.retain(|cgroup| cgroup.exists() && remove_cgroup(cgroup).is_err());
            if cgroups.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("these cgroups cannot be removed: {cgroups:?}");
    }
}

/// A cgroup cannot be removed but from the inside out; its files go with it.
fn remove_cgroup(cgroup: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(cgroup)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    std::fs::remove_dir(cgroup)
}

/// A process that lives and has each of these arguments.
pub(crate) fn with_arguments(wanted: &[&str]) -> Option<i32> {
    every_process().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<_> = line.split(|byte| *byte == 0).collect();
        wanted.iter().all(|each| arguments.contains(&each.as_bytes()))
    })
}

pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn every_process() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
