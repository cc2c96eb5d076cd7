//! Where one test happens on one runtime, and what must be left of it: nothing.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it serves tests: what goes wrong in one fails it"
)]

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime_api::{ContainerId, CreateRequest, HandlerConfig, LogConfig, OpenContext, SharedRuntime};
use runtime_test::workload::READY;
use runtime_test::{BundleOptions, Workload, bundle};
use sha2::{Digest as _, Sha256};

use crate::patience::{LIMIT, until, within};
use crate::{census, handler, host};

/// Runs a test on each of these runtimes, or says which of them this host lacks. Afterwards nothing may be left.
pub async fn on(binaries: &[&'static str], test: impl AsyncFn(&Place)) {
    let mut needs = BTreeSet::new();
    for binary in binaries {
        if let Some(need) = host::lacks(binary) {
            needs.insert(need);
            continue;
        }
        let place = Place::new(binary);
        within(Duration::from_secs(600), "the test", test(&place)).await;
        place.assert_nothing_left().await;
    }
    if !needs.is_empty() {
        host::skipped(&needs.into_iter().collect::<Vec<_>>().join("; "));
    }
}

/// A directory whose name is in every id and path of the test.
#[derive(Debug)]
pub struct Place {
    directory: tempfile::TempDir,
    ids: Mutex<BTreeSet<ContainerId>>,
    /// The runtime, as [`handler::config`] reads it.
    pub binary: &'static str,
}

impl Place {
    /// A fresh place for one runtime.
    #[must_use]
    pub fn new(binary: &'static str) -> Self {
        let directory = tempfile::Builder::new().prefix("place").rand_bytes(8).tempdir().unwrap();
        Self { directory, ids: Mutex::default(), binary }
    }

    /// A file of the test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What every id and path of the test has in it, and nothing else on this host.
    #[must_use]
    pub fn token(&self) -> String {
        self.directory.path().file_name().unwrap().to_string_lossy().into_owned()
    }

    /// An id.
    #[must_use]
    pub fn id(&self, name: &str) -> ContainerId {
        let id = ContainerId::new(format!("{}-{name}", self.token())).unwrap();
        self.ids.lock().unwrap().insert(id.clone());
        id
    }

    /// The directory that the backend keeps for a container.
    #[must_use]
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.path("state/containers").join(id.as_str())
    }

    /// Whether the runtime is behind a shim.
    #[must_use]
    pub fn has_shim(&self) -> bool {
        handler::shim_of(self.binary).is_some()
    }

    /// Where containerd's shims put the socket of the one that is started for this container.
    #[must_use]
    pub fn socket_of(&self, id: &ContainerId) -> PathBuf {
        let state = self.path("state").canonicalize().unwrap();
        let namespace = format!("manyrun-{}", &digest(state.as_os_str().as_bytes())[..12]);
        Path::new("/run/containerd/s").join(digest(format!("{namespace}/{id}").as_bytes()))
    }

    /// A bundle for a workload.
    #[must_use]
    pub fn bundle(&self, name: &str, workload: &Workload) -> PathBuf {
        self.bundle_with(name, workload, &BundleOptions::new())
    }

    /// A bundle with more to say.
    #[must_use]
    pub fn bundle_with(&self, name: &str, workload: &Workload, options: &BundleOptions) -> PathBuf {
        let at = self.path("bundles").join(name);
        bundle::write_with(&at, workload, options).unwrap();
        at
    }

    /// A handler for the runtime.
    #[must_use]
    pub fn config(&self) -> HandlerConfig {
        handler::config(self.binary).unwrap()
    }

    /// A value over the state directory of this place; every call gives another one.
    pub async fn open(&self, config: &HandlerConfig) -> SharedRuntime {
        let context = OpenContext::new(self.path("state"), format!("/manyrun/{}", self.token()));
        within(LIMIT, "open", handler::open(config, context)).await.unwrap()
    }

    /// A container that runs, and its id.
    pub async fn running(&self, runtime: &SharedRuntime, name: &str, workload: &Workload) -> ContainerId {
        let id = self.id(name);
        let request = CreateRequest::new(id.clone(), self.bundle(name, workload));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        id
    }

    /// A container whose program has said that it is ready: its traps are set, and it says nothing more by itself. A
    /// program that speaks once its monitor is dead ends of that.
    pub async fn ready(&self, runtime: &SharedRuntime, name: &str, workload: &Workload) -> ContainerId {
        self.ready_over(runtime, name, &self.bundle(name, workload)).await
    }

    /// [`Place::ready`] over a bundle that is there.
    pub async fn ready_over(&self, runtime: &SharedRuntime, name: &str, bundle: &Path) -> ContainerId {
        let (id, log) = (self.id(name), self.path(&format!("{name}.log")));
        let request = CreateRequest::new(id.clone(), bundle);
        let request = request.log(LogConfig::cri_file(&log));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let said = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains(READY)).then_some(());
        until("the word that the program is ready", said).await;
        id
    }

    /// The files that are kept for containers. What stays by design is no file of a container.
    #[must_use]
    pub fn kept(&self) -> Vec<String> {
        ["containers", "exits", "root", "shims"]
            .iter()
            .flat_map(|name| census::entries(&self.path("state").join(name)))
            .filter(|entry| !is_namespace(entry))
            .collect()
    }

    /// No container has left anything on the host.
    pub async fn assert_nothing_left(&self) {
        let containers = format!("{}-", self.token());
        let found = census::settled(&containers, self.directory.path(), Duration::from_secs(10)).await;
        assert!(found.is_empty(), "left on {}: {found:#?}", self.binary);
        let kept = self.kept();
        assert!(kept.is_empty(), "left in the state directory: {kept:#?}");
        if self.has_shim() {
            let ids = self.ids.lock().unwrap();
            let mut sockets = ids.iter().map(|id| self.socket_of(id)).filter(|socket| socket.exists());
            assert_eq!(sockets.next(), None, "left by a shim");
        }
    }
}

fn digest(of: &[u8]) -> String {
    Sha256::digest(of).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A shim keeps what it knows of the containers of one state directory below a directory of that name.
fn is_namespace(entry: &str) -> bool {
    entry.strip_prefix("directory manyrun-").is_some_and(|rest| !rest.contains('/'))
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
            // What is frozen does not die. The first file is that of version 1, the second that of version 2.
            for cgroup in &cgroups {
                for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
                    let file = cgroup.join(file);
                    let _ = file.exists().then(|| std::fs::write(file, word));
                }
            }
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
#[must_use]
pub fn with_arguments(wanted: &[&str]) -> Option<i32> {
    every_process().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<_> = line.split(|byte| *byte == 0).collect();
        wanted.iter().all(|each| arguments.contains(&each.as_bytes()))
    })
}

/// The parent of a process.
#[must_use]
pub fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Whether every thread of a process is in this state, as `/proc` names it: `T` when it was stopped, `Z` when it is dead and
/// waits for its parent. A signal takes a moment to get to all of them.
#[must_use]
pub fn is_wholly(pid: i32, state: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let states: Vec<_> = threads
        .filter_map(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
            Some(stat.rsplit(')').next()?.split_whitespace().next()?.to_owned())
        })
        .collect();
    !states.is_empty() && states.iter().all(|each| each == state)
}

fn every_process() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
