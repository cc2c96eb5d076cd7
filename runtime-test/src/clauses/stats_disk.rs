use runtime_api::{ContainerStatus, ErrorKind};

use crate::clause::{clause, ensure, refused};
use crate::{Bench, Checked, Workload};

clause! {
    /// The file system of the container's root has a size, and no more than that is in use.
    tells_the_file_system = "stats.disk.tells-the-file-system", DiskStats, needs [DiskStats]
}
async fn tells_the_file_system(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let disk = bench.runtime().disk_stats(container.id()).await?;
    ensure!(disk.limit_bytes > 0, "it has no size: {disk:?}");
    ensure!(disk.used_bytes > 0 && disk.used_bytes <= disk.limit_bytes, "more is used than there is: {disk:?}");
    let fits = disk.limit_inodes.is_none_or(|limit| disk.used_inodes > 0 && disk.used_inodes <= limit);
    ensure!(fits, "more inodes are used than there are: {disk:?}");
    Ok(())
}

clause! {
    /// A stopped container is refused with `WrongState`.
    stopped_is_refused = "stats.disk.stopped-is-refused", DiskStats, needs [DiskStats]
}
async fn stopped_is_refused(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(0)).await?;
    let read = bench.runtime().disk_stats(container.id()).await;
    refused!(read, ErrorKind::WrongState { is: ContainerStatus::Stopped, .. }, "a look after the end");
    Ok(())
}
