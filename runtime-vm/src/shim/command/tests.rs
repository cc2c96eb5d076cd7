//! The command line, against scripts.

use std::fs::{Permissions, read_to_string};
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::shim::{Address, StartReply};
use crate::task::TaskApi;

const LIMIT: Duration = Duration::from_secs(20);

/// A place with a script that stands for a shim.
struct Place(tempfile::TempDir);

impl Place {
    fn with(script: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        // Another process writes it: a file that this one had open could be held open by a child of another test, and such a
        // file cannot be run.
        let writer = ["-c", "printf '#!/bin/sh\\n%s\\n' \"$0\" > \"$1\" && chmod 755 \"$1\"", script];
        let path = place.path().join("shim");
        assert!(std::process::Command::new("sh").args(writer).arg(path).status().unwrap().success());
        std::fs::create_dir(place.path().join("a")).unwrap();
        Self(place)
    }

    fn shim(&self) -> ShimCommand {
        ShimCommand::new(self.0.path().join("shim"), "a", self.0.path().join("a"))
    }

    fn text(&self, name: &str) -> String {
        read_to_string(self.0.path().join("a").join(name)).unwrap()
    }
}

#[tokio::test]
async fn a_shim_gets_the_whole_contract() {
    let place = Place::with(
        "for word; do echo \"[$word]\"; done > words; env > env; pwd > cwd; ps -o pgid= -p $$ | tr -d ' ' > group
         echo $$ > pid; cat > input; echo complaint >&2; echo ' unix:///run/x '",
    );
    let mut shim = place.shim();
    shim.events = Some("/run/events".into());
    let reply = shim.start(LIMIT).await.unwrap();
    assert_eq!(reply, StartReply { address: Address::Path("/run/x".into()), api: TaskApi::V2 });
    assert_eq!(
        place.text("words"),
        "[-namespace]\n[default]\n[-address]\n[]\n[-publish-binary]\n[/bin/true]\n[-id]\n[a]\n[start]\n"
    );
    let env = place.text("env");
    for line in [
        "GOMAXPROCS=2",
        "MAX_SHIM_VERSION=2",
        "NAMESPACE=default",
        "GRPC_ADDRESS=",
        "TTRPC_ADDRESS=/run/events",
    ] {
        assert!(env.lines().any(|one| one == line), "{line} is not in {env}");
    }
    assert!(env.contains("PATH="), "{env}");
    assert_eq!(place.text("cwd").trim(), shim.bundle.to_str().unwrap());
    assert_eq!(place.text("group"), place.text("pid"), "it leads a process group");
    assert_eq!(place.text("input"), "");

    shim.debug = true;
    shim.events = None;
    shim.start(LIMIT).await.unwrap();
    assert!(place.text("words").ends_with("[-debug]\n[start]\n"));
    assert!(place.text("env").lines().any(|one| one == "TTRPC_ADDRESS="));
}

#[tokio::test]
async fn delete_names_the_bundle_and_reads_its_answer() {
    let place =
        Place::with("for word; do echo \"[$word]\"; done > words; printf '\\010\\007\\020\\211\\001'");
    let shim = place.shim();
    let deleted = shim.delete(LIMIT).await.unwrap();
    assert_eq!((deleted.pid, deleted.exit.code), (7, 137));
    let bundle = shim.bundle.display();
    assert!(place.text("words").ends_with(&format!("[-bundle]\n[{bundle}]\n[delete]\n")));
    let error = Place::with("echo nonsense").shim().delete(LIMIT).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Internal(_)), "{error:?}");
}

#[tokio::test]
async fn a_shim_that_says_no_is_quoted() {
    let place = Place::with("echo first >&2; echo 'TTRPC_ADDRESS is not set' >&2; exit 3");
    let error = place.shim().start(LIMIT).await.unwrap_err();
    let text = "start the shim \"a\": the runtime refused: TTRPC_ADDRESS is not set";
    assert_eq!(error.to_string(), text);
    let command = error.command().unwrap();
    assert_eq!(command.code, Some(3));
    assert!(command.stderr.starts_with("first"), "{command:?}");
    assert_eq!(command.argv.last().map(String::as_str), Some("start"));
    let error = Place::with("kill -9 $$").shim().start(LIMIT).await.unwrap_err();
    assert_eq!(error.command().unwrap().code, Some(137));
    assert!(error.to_string().ends_with("it said nothing"), "{error}");
}

#[tokio::test]
async fn a_reply_that_makes_no_sense_comes_with_the_command() {
    let place = Place::with("echo why >&2; echo two words");
    let error = place.shim().start(LIMIT).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Internal(_)), "{error:?}");
    assert_eq!(error.command().unwrap().stderr, "why\n");
    // More than any reply, and not kept.
    let place =
        Place::with("head -c 1000000 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero | tr '\\0' y >&2");
    let error = place.shim().start(LIMIT).await.unwrap_err();
    assert!(error.to_string().len() < 1_000, "{error}");
    assert_eq!(error.command().unwrap().stderr.len(), STDERR_TAIL);
}

#[tokio::test]
async fn what_it_leaves_running_does_not_hold_the_start() {
    let place = Place::with("sleep 60 & echo $! > left; echo unix:///run/x");
    let begun = tokio::time::Instant::now();
    place.shim().start(LIMIT).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(15));
    let pid = place.text("left").trim().parse().unwrap();
    Identity::of(pid).expect("what a shim left running goes on").signal(runtime_api::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_start_that_hangs_is_killed_with_what_is_below_it() {
    let place = Place::with("setsid sleep 60 & echo $! > left; echo waiting >&2; wait");
    // Long enough for the script to come to its wait on a busy machine.
    let limit = Duration::from_secs(3);
    let error = place.shim().start(limit).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::TimedOut(limit));
    assert_eq!(error.command().unwrap().stderr, "waiting\n");
    gone(place.text("left").trim().parse().unwrap()).await;
}

#[tokio::test]
async fn a_start_that_is_dropped_is_killed_with_what_is_below_it() {
    let place = Place::with("setsid sleep 60 & echo $! > left.new; mv left.new left; wait");
    let shim = place.shim();
    let left = shim.bundle.join("left");
    tokio::select! {
        ended = shim.start(LIMIT) => panic!("it ended: {ended:?}"),
        () = async {
            while !left.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        } => {}
    }
    gone(place.text("left").trim().parse().unwrap()).await;
}

async fn gone(pid: i32) {
    for _ in 0..1_000 {
        if Identity::of(pid).is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} is still there");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let place = Place::with("true");
    let mut shim = place.shim();
    shim.binary = "/nonexistent/shim".into();
    let error = shim.start(LIMIT).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("/nonexistent/shim"), "{error}");
    let mut shim = place.shim();
    shim.bundle = "/nonexistent/bundle".into();
    let error = shim.start(LIMIT).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
    let mut shim = place.shim();
    std::fs::set_permissions(&shim.binary, Permissions::from_mode(0o644)).unwrap();
    shim.debug = true;
    let error = shim.start(LIMIT).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
}
