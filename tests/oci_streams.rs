//! What only real runtimes and real processes can show of attached clients and of logs: how much memory a client takes,
//! for how long a silent one holds up a container, and callers in several processes.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::{self, Place};
use runtime_api::{
    AttachEnd, AttachRequest, ContainerId, CreateRequest, DeleteRequest, ErrorKind, LogConfig, SharedRuntime,
    StopRequest, Streams,
};
use runtime_handlers::logs::{LogOptions, LogReader};
use runtime_test::{Step, Workload, script};
use tokio::io::AsyncReadExt as _;
use tokio::sync::oneshot;

const MIB: usize = 1024 * 1024;

/// What a test asks of a process of its own; nothing in the process of the test itself.
fn task() -> Option<Vec<String>> {
    let text = std::env::var("MANYRUN_TEST_TASK").ok()?;
    Some(text.split('\n').map(str::to_owned).collect())
}

/// This test program again, for one test and with a task.
fn process_for(test: &str, task: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("MANYRUN_TEST_TASK", task.join("\n"));
    command
}

/// A client of a created container, which reads from the other end.
async fn attached(
    runtime: &SharedRuntime,
    id: &ContainerId,
    buffer: usize,
) -> (tokio::task::JoinHandle<runtime_api::Result<AttachEnd>>, tokio::io::DuplexStream) {
    let (theirs, ours) = tokio::io::duplex(buffer);
    let (told, begun) = oneshot::channel();
    let (runtime, id) = (SharedRuntime::clone(runtime), id.clone());
    let attachment = tokio::spawn(async move {
        let request = AttachRequest::new().on_attached(told);
        runtime.attach(&id, request, Streams::none().stdout(theirs)).await
    });
    within(LIMIT, "attach", begun).await.unwrap();
    (attachment, ours)
}

#[tokio::test]
async fn a_hundred_mebibytes_arrive_whole_in_little_memory() {
    const TEST: &str = "a_hundred_mebibytes_arrive_whole_in_little_memory";
    const SIZE: usize = 100 * MIB;
    if let Some(task) = task() {
        let [binary] = task.as_slice() else { panic!("{task:?}") };
        // The names that the place takes live as long as the process.
        let place = Place::new(if binary == "crun" { "crun" } else { "runc" });
        let runtime = place.open(&place.config()).await;
        let id = place.id("a");
        let program = Workload::fills(SIZE as u64);
        let request = CreateRequest::new(id.clone(), place.bundle("a", &program));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        let (attachment, mut ours) = attached(&runtime, &id, 64 * 1024).await;
        let before = peak_memory();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let began = std::time::Instant::now();
        let mut expected = Pattern::default();
        let mut piece = vec![0; 64 * 1024];
        loop {
            let count = within(LIMIT, "output", ours.read(&mut piece)).await.unwrap();
            if count == 0 {
                break;
            }
            expected.check(&piece[..count]);
        }
        assert_eq!(attachment.await.unwrap().unwrap(), AttachEnd::Ended);
        assert_eq!(expected.seen, SIZE);
        let grown = peak_memory() - before;
        println!("{binary}: {SIZE} bytes in {:?}, {} KiB more memory", began.elapsed(), grown / 1024);
        assert!(grown < 32 * MIB, "the peak memory grew by {grown} bytes");
        runtime.delete(&id, DeleteRequest::new()).await.unwrap();
        runtime.shutdown().await;
        place.assert_nothing_left().await;
        return;
    }
    place::on(&["runc", "crun"], async |place| {
        let done = tokio::process::Command::from(process_for(TEST, &[place.binary])).status().await.unwrap();
        assert!(done.success(), "on {}", place.binary);
    })
    .await;
}

/// Compares what comes with the pattern of the step `fill`, without keeping either.
#[derive(Default)]
struct Pattern {
    seen: usize,
}

impl Pattern {
    fn check(&mut self, bytes: &[u8]) {
        let line = script::filling(64);
        for byte in bytes {
            let (number, at) = (self.seen / 64, self.seen % 64);
            let expected = match at {
                // Twelve digits, the most significant first.
                0..12 => {
                    b'0' + u8::try_from(number / 10_usize.pow(11 - u32::try_from(at).unwrap()) % 10).unwrap()
                }
                at => line[at],
            };
            assert_eq!(*byte, expected, "byte {}", self.seen);
            self.seen += 1;
        }
    }
}

/// The most memory that this process had up to now.
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_holds_up_container_and_log_for_about_a_second() {
    const SIZE: u64 = 32 * MIB as u64;
    place::on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let (id, log) = (place.id("a"), place.path("log"));
        let bundle = place.bundle("a", &Workload::fills(SIZE).then(Step::Exit(7)));
        let request = CreateRequest::new(id.clone(), bundle).log(LogConfig::cri_file(&log));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        let (silent, never_read) = attached(&runtime, &id, 16).await;
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let error = within(LIMIT, "the end of the silent client", silent).await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Lagged(_)), "{error:?}");
        assert_eq!(within(LIMIT, "the end", runtime.wait(&id)).await.unwrap().code, Some(7));
        drop(never_read);

        let mut reader = LogReader::open(&log, LogOptions::new()).unwrap();
        let (mut last, mut gap, mut bytes) = (None::<SystemTime>, Duration::ZERO, 0);
        while let Some(line) = reader.next().await.unwrap() {
            bytes += line.text.len() as u64 + 1;
            gap = gap.max(last.and_then(|last| line.time.duration_since(last).ok()).unwrap_or_default());
            last = Some(line.time);
        }
        println!("{}: the log stood still for {gap:?} at most", place.binary);
        assert_eq!(bytes, SIZE, "the log is whole");
        // About a second; a busy host may add to it, and a client that is never cut off would never let it go on.
        assert!(gap < LIMIT, "the log stood still for {gap:?}");
        runtime.delete(&id, DeleteRequest::new()).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_may_reopen_a_log_at_once() {
    const TEST: &str = "two_processes_may_reopen_a_log_at_once";
    if let Some(task) = task() {
        let [binary, state, cgroup, id] = task.as_slice() else { panic!("{task:?}") };
        let place = Place::new(if binary == "crun" { "crun" } else { "runc" });
        let context = runtime_api::OpenContext::new(state, cgroup.as_str());
        let config = place.config();
        let runtime = runtime_api::RuntimeFactory::open(&runtime_oci::OciFactory, &config, context);
        let runtime = within(LIMIT, "open", runtime).await.unwrap();
        let id = ContainerId::new(id.as_str()).unwrap();
        for _ in 0..5 {
            within(LIMIT, "reopen", runtime.reopen_log(&id)).await.unwrap();
        }
        runtime.shutdown().await;
        return;
    }
    place::on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let (id, log) = (place.id("a"), place.path("log"));
        let bundle = place.bundle("a", &Workload::ticks(Duration::from_millis(2)));
        let request = CreateRequest::new(id.clone(), bundle).log(LogConfig::cri_file(&log));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let (state, cgroup) =
            (place.path("state").display().to_string(), format!("/manyrun/{}", place.token()));
        let mut files = Vec::new();
        for number in 0..3 {
            until("ticks", || (ticks(std::slice::from_ref(&log)).len() > 20).then_some(())).await;
            let old = place.path(&format!("log.{number}"));
            std::fs::rename(&log, &old).unwrap();
            files.push(old);
            let task = [place.binary, state.as_str(), cgroup.as_str(), id.as_str()];
            let others: Vec<_> = (0..2)
                .map(|_| tokio::process::Command::from(process_for(TEST, &task)).spawn().unwrap())
                .collect();
            for mut other in others {
                let done = within(LIMIT, "the other process", other.wait()).await.unwrap();
                assert!(done.success());
            }
        }
        files.push(log.clone());
        until("ticks", || (ticks(std::slice::from_ref(&log)).len() > 20).then_some(())).await;
        within(LIMIT, "stop", runtime.stop(&id, StopRequest::within(Duration::ZERO))).await.unwrap();
        let ticks = ticks(&files);
        assert!(ticks.iter().copied().eq(1..=ticks.len()), "lost or doubled: {ticks:?}");
        runtime.delete(&id, DeleteRequest::new()).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

/// The numbers of the ticks in these logs. conmon writes what it read as it read it, which need not be by lines.
fn ticks(files: &[PathBuf]) -> Vec<usize> {
    let mut printed = String::new();
    for file in files {
        let text = std::fs::read_to_string(Path::new(file)).unwrap_or_default();
        for record in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let mut words = record.splitn(4, ' ').skip(2);
            let (tag, piece) = (words.next().unwrap(), words.next().unwrap());
            printed.extend([piece, if tag == "F" { "\n" } else { "" }]);
        }
    }
    let whole = printed.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole.map(|line| line.strip_prefix("tick ").unwrap().parse().unwrap()).collect()
}
