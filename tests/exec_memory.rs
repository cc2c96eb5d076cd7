//! What an exec prints costs the caller no memory beyond what is kept of it.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use manyrun_tests::patience::{LIMIT, within};
use manyrun_tests::place;
use runtime_api::{DeleteRequest, ExecEnd, ExecRequest, ExecSyncRequest, Streams};
use runtime_test::script::filling;
use runtime_test::{Step, Workload};
use tokio::io::AsyncWrite;

/// Printed in pieces, so that the program itself stays small.
const PIECE: usize = 16 * MIB;
const PIECES: usize = 64;
const MIB: usize = 1024 * 1024;
/// By how much the peak may rise, in KiB.
const RISE: u64 = 32 * 1024;

/// The only test of this binary: the process is fresh, and nobody else moves its peak.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exec_that_prints_a_gibibyte_costs_little_memory() {
    place::on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "prints", &Workload::forever()).await;
        let much = || Workload::new((0..PIECES).map(|_| Step::Fill(PIECE as u64)));
        let long = Duration::from_secs(100);

        let before = peak_from_now();
        let exec = runtime.exec_sync(&id, ExecSyncRequest::new(much().process()));
        let outcome = within(long, "exec_sync", exec).await.unwrap();
        let rise = peak() - before;
        assert_eq!((outcome.end, outcome.truncated), (ExecEnd::Exited(0), true));
        assert_eq!(outcome.stdout.len(), ExecSyncRequest::DEFAULT_OUTPUT_LIMIT);
        println!("{}: kept 16 MiB of 1 GiB: the peak rose by {rise} KiB", place.binary);
        assert!(rise < RISE, "kept 16 MiB: the peak rose by {rise} KiB");
        assert!(outcome.stdout == filling(PIECE), "what was kept is not the beginning");
        drop(outcome);

        let before = peak_from_now();
        let taken = Taken::default();
        let streams = Streams::none().stdout(taken.clone());
        let exec = runtime.exec(&id, ExecRequest::new(much().process()), streams);
        let status = within(long, "exec", exec).await.unwrap();
        let rise = peak() - before;
        assert_eq!(status.code, Some(0));
        assert_eq!(taken.0.load(Ordering::Relaxed), (PIECE * PIECES) as u64);
        println!("{}: carried 1 GiB: the peak rose by {rise} KiB", place.binary);
        assert!(rise < RISE, "carried: the peak rose by {rise} KiB");

        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

/// Lets the peak count from now on, and gives it in KiB.
fn peak_from_now() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak()
}

/// The most memory that this process has had, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A client that takes everything and keeps only the count.
#[derive(Clone, Default)]
struct Taken(Arc<AtomicU64>);

impl AsyncWrite for Taken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
