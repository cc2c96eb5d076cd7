//! What a container uses and may use, and the way to its ports.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use runtime_api::{
    BoxRead, BoxWrite, ContainerId, DiskStats, Error, ErrorKind, Operation, PortForwardRequest, Result,
    Stats, UpdateRequest,
};
use runtime_host::port_forward::{carry, dial};

use crate::backend::Backend;
use crate::record::{Reach, Record};
use crate::task::any::linux_resources;
use crate::task::metrics;

/// How long a shim may take to count.
const STATS_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to change limits.
const UPDATE_LIMIT: Duration = Duration::from_secs(30);

impl Backend {
    pub(crate) async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let operation = Operation::Stats;
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let record = self.admit_unlocked(operation, id).await?;
        let read = match (record.reach, record.own_cgroup.as_deref()) {
            // The kernel's own files tell more, and need nobody's help.
            (Reach::Host, Some(cgroup)) => runtime_host::stats::read(&self.hierarchies, cgroup)
                .ok_or_else(|| Error::new(ErrorKind::Unavailable("it has no cgroup of its own".into()))),
            _ => self.stats_of_the_shim(&record).await,
        };
        // It may have ended meanwhile, and what was read may be that of its empty cgroup.
        if read.is_err() || !record.init.is_some_and(|init| init.lives()) {
            self.admit_unlocked(operation, id).await?;
        }
        read.map_err(named)
    }

    async fn stats_of_the_shim(&self, record: &Record) -> Result<Stats> {
        let client = self.client(record).await?;
        let payload = client.stats(record.id.as_str(), STATS_LIMIT).await;
        let stats = payload.and_then(|payload| metrics::stats(&payload, SystemTime::now()));
        stats.map_err(|fault| fault.into_error(Operation::Stats))
    }

    pub(crate) async fn disk_stats(&self, id: &ContainerId) -> Result<DiskStats> {
        let named = |error: Error| error.during(Operation::DiskStats).on(format_args!("container \"{id}\""));
        let record = self.admit_unlocked(Operation::DiskStats, id).await?;
        let root = record.root.ok_or_else(|| {
            named(Error::new(ErrorKind::Unavailable("its record does not tell where its root is".into())))
        })?;
        runtime_host::stats::disk(root).await.map_err(named)
    }

    pub(crate) async fn update(&self, id: &ContainerId, request: UpdateRequest) -> Result<()> {
        let named = |error: Error| error.during(Operation::Update).on(format_args!("container \"{id}\""));
        request.check().map_err(named)?;
        let payload = linux_resources(&request.resources).map_err(named)?;
        let (locked, _) = self.admit(Operation::Update, id).await?;
        let client = self.client(&locked.record).await.map_err(named)?;
        let done = client.update(id.as_str(), payload, BTreeMap::new(), UPDATE_LIMIT).await;
        done.map_err(|fault| named(fault.into_error(Operation::Update)))
    }

    pub(crate) async fn port_forward(
        &self,
        id: &ContainerId,
        request: PortForwardRequest,
        from: BoxRead,
        to: BoxWrite,
    ) -> Result<()> {
        let named =
            |error: Error| error.during(Operation::PortForward).on(format_args!("container \"{id}\""));
        if request.port == 0 {
            return Err(named(Error::new(ErrorKind::InvalidArgument("there is no port 0".into()))));
        }
        // No lock is held: the connection may last as long as the container, and its namespace is held open.
        let record = self.admit_unlocked(Operation::PortForward, id).await?;
        let Some(init) = record.init.filter(|_| record.reach == Reach::Host) else {
            let what = "its ports are in a machine of its own";
            return Err(named(Error::new(ErrorKind::Unavailable(what.into()))));
        };
        let socket = dial(init, request.port).await.map_err(named)?;
        carry(socket, from, to, init).await;
        Ok(())
    }
}
