//! The monitor as a process of its own: with shims that are scripts and misbehave.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use runtime_api::{ErrorKind, Peer};
use runtime_host::process::Identity;
use runtime_vm::monitor::{MonitorClient, StartOrder, Started};

use crate::field::{soon, until};

pub(crate) const MONITOR: &str = env!("CARGO_BIN_EXE_manyrun-vm-io");

/// A directory for a monitor and one for a bundle.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.monitor()).unwrap();
        std::fs::create_dir(place.bundle()).unwrap();
        place
    }

    pub(crate) fn monitor(&self) -> PathBuf {
        // Longer than the address of a socket can be.
        self.0.path().join("m".repeat(120))
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        // A shim may want it named by the id.
        self.0.path().join(self.id())
    }

    /// Shims of one id are one shim, so every test has another one.
    pub(crate) fn id(&self) -> String {
        let name = self.0.path().file_name().unwrap().to_string_lossy().into_owned();
        format!("vm-io{}", name.replace('.', "-"))
    }

    pub(crate) fn order(&self, shim: &Path) -> StartOrder {
        let mut order = StartOrder::new(shim, self.id(), self.bundle());
        order.start_limit = Duration::from_secs(20);
        order.dial_limit = Duration::from_secs(20);
        order
    }

    /// A shim that does this.
    fn script(&self, text: &str) -> PathBuf {
        let path = self.0.path().join("containerd-shim-script");
        std::fs::write(&path, format!("#!/bin/sh\nfor action; do :; done\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The processes that have this place in their command line or their working directory.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let place = self.0.path().to_string_lossy().into_owned();
        let own = i32::try_from(std::process::id()).unwrap();
        let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let here = String::from_utf8_lossy(&words).contains(&place) || cwd.starts_with(&place);
            (here && pid != own && Identity::of(pid).is_some()).then_some(pid)
        });
        pids.collect()
    }

    pub(crate) async fn until_empty(&self) {
        until(|| self.processes().is_empty()).await;
    }
}

#[tokio::test]
async fn shims_that_do_not_start_leave_nothing_and_say_why() {
    for (text, says) in [
        ("echo broken >&2; exit 1", "broken"),
        ("[ $action = start ] && exit 0", "said nothing"),
        (
            "[ $action = start ] && echo unix:///nonexistent/s; sleep 1000 </dev/null >/dev/null 2>&1 &",
            "No such file",
        ),
        (
            "[ $action = start ] && echo '{\"version\":9,\"address\":\"unix:///x\",\"protocol\":\"ttrpc\"}'",
            "version",
        ),
    ] {
        let place = Place::new();
        let mut order = place.order(&place.script(text));
        order.dial_limit = Duration::from_millis(300);
        let error = MonitorClient::spawn(MONITOR.as_ref(), &place.monitor(), &order).await.unwrap_err();
        assert!(error.report().contains(says), "{}", error.report());
        assert!(error.report().contains("containerd-shim-script"), "{}", error.report());
        place.until_empty().await;
        assert!(!place.monitor().join(Started::FILE).exists());
        assert!(!place.monitor().join("control").exists());
    }
}

#[tokio::test]
async fn a_shim_that_is_dead_is_not_dialled_until_the_limit() {
    let place = Place::new();
    let mut order = place.order(&place.script("[ $action = start ] && echo unix:///nonexistent/s"));
    order.dial_limit = Duration::MAX;
    let dir = place.monitor();
    let error = soon(MonitorClient::spawn(MONITOR.as_ref(), &dir, &order)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PeerLost(Peer::Shim), "{}", error.report());
    assert!(error.report().contains("ended before it served"), "{}", error.report());
    place.until_empty().await;
}

#[tokio::test]
async fn a_shim_that_never_answers_is_killed_at_the_limit() {
    let place = Place::new();
    let mut order = place.order(&place.script("[ $action = start ] && exec sleep 1000"));
    order.start_limit = Duration::from_millis(300);
    let error = MonitorClient::spawn(MONITOR.as_ref(), &place.monitor(), &order).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error:?}");
    place.until_empty().await;
}

#[tokio::test]
async fn a_program_that_is_no_monitor_is_told() {
    let place = Place::new();
    let order = place.order(Path::new("/bin/true"));
    let error =
        MonitorClient::spawn(Path::new("/nonexistent/io"), &place.monitor(), &order).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
    let strange = place.script("echo hello");
    let error = MonitorClient::spawn(&strange, &place.monitor(), &order).await.unwrap_err();
    assert!(error.to_string().contains("makes no sense"), "{error}");
    let silent = place.script("echo its last words >&2; exit 3");
    let error = MonitorClient::spawn(&silent, &place.monitor(), &order).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PeerLost(Peer::Monitor));
    assert!(error.report().contains("its last words") && error.report().contains("exit code 3"), "{error:?}");
}

#[test]
fn by_hand_it_says_what_it_is() {
    let run = |words: &[&str]| {
        std::process::Command::new(MONITOR).args(words).stdin(Stdio::null()).output().unwrap()
    };
    assert!(String::from_utf8(run(&["--version"]).stdout).unwrap().starts_with("manyrun-vm-io 0."));
    for words in [&[][..], &["relative"], &["/a", "/b"]] {
        let said = run(words);
        assert_eq!(said.status.code(), Some(2));
        assert!(String::from_utf8(said.stderr).unwrap().contains("usage"));
    }
    let said = run(&["/tmp"]);
    assert_eq!(said.status.code(), Some(1), "its input is no pipe");
}

#[tokio::test]
async fn an_order_giver_that_is_killed_leaves_nothing() {
    let place = Place::new();
    let shim = place.script("[ $action = start ] && exec sleep 1000");
    let order = place.order(&shim);
    std::fs::write(place.monitor().join(StartOrder::FILE), serde_json::to_vec(&order).unwrap()).unwrap();
    let mut monitor = tokio::process::Command::new(MONITOR)
        .arg(place.monitor())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| place.processes().len() > 1).await;
    // All that a death does to it.
    drop((monitor.stdin.take(), monitor.stdout.take()));
    let status = soon(monitor.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    place.until_empty().await;
}

#[tokio::test]
async fn a_monitor_that_is_killed_while_it_starts_leaves_nothing() {
    let place = Place::new();
    let shim = place.script(
        "case $action in start) \"$0\" \"$@\" serve </dev/null >/dev/null 2>&1 & echo unix:///nonexistent/s > address; \
         kill -9 $PPID;; serve) sleep 1000;; esac",
    );
    let order = place.order(&shim);
    let error = MonitorClient::spawn(MONITOR.as_ref(), &place.monitor(), &order).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PeerLost(Peer::Monitor));
    place.until_empty().await;
    assert!(!place.monitor().join("control").exists() && !place.bundle().join("log").exists());
}
