use std::time::{Duration, SystemTime};

use runtime_api::{ContainerStatus, ErrorKind};
use tokio::time::Instant;

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, BundleOptions, Checked, Workload};

/// How far apart the clock of a test and that of its runtime may be read.
const SLACK: Duration = Duration::from_secs(60);

clause! {
    /// A running container has used processor time and memory, has at least one process, and was asked just now.
    counts_what_is_used = "stats.counts-what-is-used", Stats, needs [Stats]
}
async fn counts_what_is_used(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let before = container.stats().await?.read_at;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let stats = container.stats().await?;
    ensure!(stats.read_at > before, "a second reading is not newer than the first");
    ensure!(stats.cpu.usage_ns > 0, "it used no processor time: {:?}", stats.cpu);
    let parts = stats.cpu.user_ns.saturating_add(stats.cpu.kernel_ns);
    // The kernel counts the whole exactly and scales the parts to it.
    let most = stats.cpu.usage_ns.saturating_mul(2).max(100_000_000);
    ensure!(parts <= most, "user and kernel time are more than there was: {:?}", stats.cpu);
    ensure!(stats.memory.usage > 0, "it used no memory: {:?}", stats.memory);
    let set = stats.memory.working_set;
    ensure!(set > 0 && set <= stats.memory.usage, "the working set is no part of its memory: {:?}", stats.memory);
    ensure!(stats.pids.is_none_or(|pids| pids.current > 0), "it has no process: {:?}", stats.pids);
    if !bench.harness().virtual_time() {
        let age = SystemTime::now().duration_since(stats.read_at).unwrap_or_default();
        ensure!(age < SLACK, "the stats are {age:?} old");
    }
    Ok(())
}

clause! {
    /// The processor time grows as the program works, and never goes back.
    grows_with_work = "stats.grows-with-work", Stats, needs [Stats]
}
async fn grows_with_work(bench: &Bench) -> Checked {
    let container = bench.running(&Workload::ticks(Duration::from_millis(5))).await?;
    let first = container.stats().await?.cpu.usage_ns;
    let (mut last, mut grew) = (first, 0);
    let give_up = Instant::now() + Duration::from_secs(20);
    while grew < 3 {
        ensure!(Instant::now() < give_up, "it stays at {last} ns while the program works");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = container.stats().await?.cpu.usage_ns;
        ensure!(now >= last, "it went back from {last} to {now} ns");
        grew += u32::from(now > last);
        last = now;
    }
    Ok(())
}

clause! {
    /// Memory that the program takes is in its use, in its working set and in its anonymous memory.
    sees_memory = "stats.sees-memory", Stats, needs [Stats]
}
async fn sees_memory(bench: &Bench) -> Checked {
    const EATEN: u64 = 48 << 20;
    let container = bench.ready(&Workload::eats(EATEN)).await?;
    let memory = container.stats().await?.memory;
    // The kernel counts pages of each processor in lots.
    let least = EATEN - (4 << 20);
    ensure!(memory.usage >= least, "of {EATEN} bytes {} are in use", memory.usage);
    ensure!(memory.working_set >= least, "of {EATEN} bytes {} are in the working set", memory.working_set);
    ensure!(memory.usage < 4 * EATEN, "{EATEN} bytes were taken, {} are in use", memory.usage);
    Ok(())
}

clause! {
    /// The limits that the bundle sets are shown, and no limit is none.
    shows_limits = "stats.shows-limits", Stats, needs [Stats]
}
async fn shows_limits(bench: &Bench) -> Checked {
    let options = BundleOptions::new().memory_limit(96 << 20).pids_limit(77);
    let limited = bench.ready_in(&Workload::ready_forever(), &options).await?;
    let stats = limited.stats().await?;
    ensure_eq!(stats.memory.limit, Some(96 << 20), "the limit of memory");
    ensure!(
        stats.pids.is_none_or(|pids| pids.limit == Some(77)),
        "the limit of processes is 77, and shown is {:?}",
        stats.pids
    );
    let free = bench.ready(&Workload::ready_forever()).await?;
    ensure_eq!(free.stats().await?.memory.limit, None, "the limit of memory where there is none");
    Ok(())
}

clause! {
    /// A paused container answers, and uses no processor time.
    answers_while_paused = "stats.answers-while-paused", Stats, needs [Stats, Pause]
}
async fn answers_while_paused(bench: &Bench) -> Checked {
    // What it costs to look at a container is charged to it by some runtimes, but it is far from this much.
    const NOTHING: u64 = 200_000_000;
    let container = bench.ready(&Workload::ready_forever()).await?;
    container.pause().await?;
    let first = container.stats().await?.cpu.usage_ns;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = container.stats().await?.cpu.usage_ns;
    ensure!(second >= first, "it went back from {first} to {second} ns");
    ensure!(second - first < NOTHING, "it used {} ns while it was paused for a second", second - first);
    container.must_be(ContainerStatus::Paused).await
}

clause! {
    /// A stopped container is refused with `WrongState`: there are no stale numbers.
    stopped_is_refused = "stats.stopped-is-refused", Stats, needs [Stats]
}
async fn stopped_is_refused(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(0)).await?;
    let read = container.stats().await;
    refused!(read, ErrorKind::WrongState { is: ContainerStatus::Stopped, .. }, "stats after the end");
    Ok(())
}
