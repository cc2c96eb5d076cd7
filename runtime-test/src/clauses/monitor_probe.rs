use runtime_api::{Capability, ContainerStatus, ErrorKind, MonitorHealth};

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, Checked, Violation, Workload};

clause! {
    /// From create until the end the monitor lives, and has a pid.
    finds_it_alive = "monitor.probe.finds-it-alive", ProbeMonitor, needs [MonitorProbe]
}
async fn finds_it_alive(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::ready_forever()).await?;
    let probe = async || match bench.runtime().probe_monitor(container.id()).await? {
        MonitorHealth::Alive { pid } => Ok(pid),
        other => Err(Violation::new(format!("the monitor lives, and is said to be {other:?}"))),
    };
    let first = probe().await?;
    ensure!(first > 0, "the monitor's pid is 0");
    if bench.has(Capability::HostVisiblePid) {
        ensure!(std::path::Path::new(&format!("/proc/{first}")).exists(), "process {first} does not exist");
    }
    container.start().await?;
    container.until_ready().await?;
    ensure_eq!(probe().await?, first, "the monitor's pid after the start");
    Ok(())
}

clause! {
    /// A probe of a stopped container is refused with `WrongState`.
    stopped_is_refused = "monitor.probe.stopped-is-refused", ProbeMonitor, needs [MonitorProbe]
}
async fn stopped_is_refused(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(7)).await?;
    let probed = bench.runtime().probe_monitor(container.id()).await;
    refused!(probed, ErrorKind::WrongState { is: ContainerStatus::Stopped, .. }, "a probe after the end");
    Ok(())
}
