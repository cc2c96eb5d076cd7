//! What the watch on containers sees of one.

use std::path::PathBuf;

use runtime_api::{ContainerId, ContainerStatus, Result};
use runtime_host::cgroup::Hierarchies;
use runtime_host::events::{Glimpse, Stage, Watched};

use crate::backend::Backend;
use crate::observe::{self, Sight};
use crate::record::{Phase, Reach, Record};

impl Watched for Backend {
    fn containers(&self) -> PathBuf {
        self.layout.containers()
    }

    fn ids(&self) -> Result<Vec<ContainerId>> {
        Self::ids(self)
    }

    fn glimpse(&self, id: &ContainerId) -> Result<Option<Glimpse>> {
        let dir = self.layout.container(id);
        let Some(record) = Record::read(&dir)? else { return Ok(None) };
        let stage = match observe::look(&record, &dir, &self.hierarchies)? {
            Sight::Creating
            | Sight::Alive(ContainerStatus::Created)
            | Sight::Unseen(ContainerStatus::Created) => Stage::Unbegun,
            Sight::Alive(_) | Sight::Unseen(_) => Stage::Begun,
            Sight::Ending => Stage::Ending,
            Sight::Lost => Stage::Lost,
            Sight::Stopped(status) => Stage::Ended(status),
        };
        Ok(Some(Glimpse {
            stage,
            was_started: record.started_at.is_some(),
            is_starting: record.phase == Phase::Starting,
            end_is_on_record: record.exit.is_some(),
            monitor: record.shim.as_ref().map(|shim| shim.monitor),
            peers: record.shim.as_ref().and_then(|shim| shim.process).into_iter().collect(),
            init: record.init.filter(|_| record.reach == Reach::Host),
            oom_kills: observe::oom_kills(&record, &dir, &self.hierarchies),
            cgroup: record.own_cgroup,
        }))
    }

    fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    async fn settle_lost(&self, id: &ContainerId) -> Result<()> {
        match self.lock(id).await? {
            Some(mut locked) => self.settle(&mut locked).await.map(drop),
            None => Ok(()),
        }
    }
}
