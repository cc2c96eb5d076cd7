use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};
use runtime_api::{ContainerStatus, ErrorKind};

use crate::clause::{clause, ensure_eq, refused};
use crate::{Bench, BundleOptions, Checked, Violation, Workload};

const MIB: i64 = 1 << 20;

/// A limit of memory without swap, so that it can be raised and lowered in one step.
fn memory(bytes: i64) -> LinuxResources {
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(bytes));
    memory.set_swap(Some(bytes));
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_memory(Some(memory));
    resources
}

/// Two limits of one container, as its stats have them.
async fn shown(subject: &crate::Subject<'_>) -> Checked<(Option<u64>, Option<u64>)> {
    let stats = subject.stats().await?;
    Ok((stats.memory.limit, stats.pids.and_then(|pids| pids.limit)))
}

fn bytes(mib: i64) -> Checked<Option<u64>> {
    let bytes = u64::try_from(mib * MIB);
    bytes.map(Some).map_err(|_| Violation::new("the clause itself asks for a negative limit"))
}

clause! {
    /// Limits of memory and of processes change, up and down, and the stats show it.
    changes_limits = "update.changes-limits", Update, needs [Update, Stats]
}
async fn changes_limits(bench: &Bench) -> Checked {
    let options = BundleOptions::new().memory_limit(128 * MIB).pids_limit(100);
    let container = bench.ready_in(&Workload::ready_forever(), &options).await?;
    ensure_eq!(shown(&container).await?, (bytes(128)?, Some(100)), "the limits of the bundle");
    for (mib, pids) in [(64, 50), (192, 200)] {
        let mut resources = memory(mib * MIB);
        let mut limit = LinuxPids::default();
        limit.set_limit(pids);
        resources.set_pids(Some(limit));
        container.update(resources).await?;
        ensure_eq!(shown(&container).await?, (bytes(mib)?, u64::try_from(pids).ok()), "the new limits");
    }
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// What an update does not name stays as it was.
    keeps_what_is_not_named = "update.keeps-what-is-not-named", Update, needs [Update, Stats]
}
async fn keeps_what_is_not_named(bench: &Bench) -> Checked {
    let options = BundleOptions::new().memory_limit(128 * MIB).pids_limit(100);
    let container = bench.ready_in(&Workload::ready_forever(), &options).await?;
    container.update(memory(96 * MIB)).await?;
    ensure_eq!(shown(&container).await?, (bytes(96)?, Some(100)), "the limits");
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(512));
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_cpu(Some(cpu));
    container.update(resources).await?;
    ensure_eq!(shown(&container).await?, (bytes(96)?, Some(100)), "the limits after the second update");
    Ok(())
}

clause! {
    /// A paused container stays paused and has the new limits, and so has a created one.
    paused_stays_paused = "update.paused-stays-paused", Update, needs [Update, Stats, Pause]
}
async fn paused_stays_paused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    container.pause().await?;
    container.update(memory(96 * MIB)).await?;
    container.must_be(ContainerStatus::Paused).await?;
    ensure_eq!(container.stats().await?.memory.limit, bytes(96)?, "the limit of the paused container");
    container.resume().await?;
    container.must_be(ContainerStatus::Running).await?;
    let created = bench.created(&Workload::ready_forever()).await?;
    created.update(memory(96 * MIB)).await?;
    created.must_be(ContainerStatus::Created).await?;
    created.start().await?;
    created.until_ready().await?;
    ensure_eq!(created.stats().await?.memory.limit, bytes(96)?, "the limit of what was created before");
    Ok(())
}

clause! {
    /// An update of a stopped container is refused with `WrongState`.
    stopped_is_refused = "update.stopped-is-refused", Update, needs [Update]
}
async fn stopped_is_refused(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(0)).await?;
    let before = container.state().await?;
    let updated = container.update(memory(96 * MIB)).await;
    refused!(updated, ErrorKind::WrongState { is: ContainerStatus::Stopped, .. }, "an update after the end");
    ensure_eq!(container.state().await?, before, "the container");
    Ok(())
}

clause! {
    /// An update without any limit is `InvalidArgument`, before the container is looked for.
    nothing_is_invalid = "update.nothing-is-invalid", Update, needs [Update]
}
async fn nothing_is_invalid(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    for id in [container.id(), &bench.id("unknown")] {
        let mut nothing = LinuxResources::default();
        nothing.set_devices(None);
        let updated = bench.runtime().update(id, runtime_api::UpdateRequest::new(nothing)).await;
        refused!(updated, ErrorKind::InvalidArgument(_), "an update of {id} that asks for nothing");
    }
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// A memory limit below what is in use is `Rejected`; the old limits stay and the program goes on.
    refused_limits_change_nothing = "update.refused-limits-change-nothing", Update, needs [Update, Stats]
}
async fn refused_limits_change_nothing(bench: &Bench) -> Checked {
    let options = BundleOptions::new().memory_limit(128 * MIB).pids_limit(100);
    let container = bench.ready_in(&Workload::eats(48 << 20), &options).await?;
    let updated = container.update(memory(8 * MIB)).await;
    refused!(updated, ErrorKind::Rejected { .. }, "a limit of 8 MiB where 48 MiB are in use");
    ensure_eq!(shown(&container).await?, (bytes(128)?, Some(100)), "the limits");
    container.must_be(ContainerStatus::Running).await?;
    ensure_eq!(container.stop(std::time::Duration::ZERO).await?.code, Some(137), "the code of its later end");
    Ok(())
}
