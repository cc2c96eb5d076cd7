//! What a container uses, without a fork and without its lock.

use runtime_api::{ContainerId, DiskStats, Error, ErrorKind, Operation, Result, Stats};
use runtime_host::stats::{disk, read};

use crate::backend::Backend;

impl Backend {
    pub(crate) async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let named = |error: Error| error.during(Operation::Stats).on(format_args!("container \"{id}\""));
        let record = self.admit_unlocked(Operation::Stats, id).await?;
        let cgroup = record.own_cgroup.as_deref().ok_or_else(|| named(no_cgroup()))?;
        let stats = read(&self.hierarchies, cgroup);
        // It may have ended meanwhile, and what was read may be that of its empty cgroup.
        if !record.init.is_some_and(|init| init.lives()) {
            self.admit_unlocked(Operation::Stats, id).await?;
        }
        stats.ok_or_else(|| named(no_cgroup()))
    }

    pub(crate) async fn disk_stats(&self, id: &ContainerId) -> Result<DiskStats> {
        let named = |error: Error| error.during(Operation::DiskStats).on(format_args!("container \"{id}\""));
        let record = self.admit_unlocked(Operation::DiskStats, id).await?;
        let root = record.root.ok_or_else(|| {
            named(Error::new(ErrorKind::Unavailable("its record does not tell where its root is".into())))
        })?;
        disk(root).await.map_err(named)
    }
}

fn no_cgroup() -> Error {
    Error::new(ErrorKind::Unavailable("it has no cgroup of its own, so nothing counts what it uses".into()))
}
