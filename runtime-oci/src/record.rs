//! What we write down about a container.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use runtime_api::{ContainerId, ExitStatus, Result, Signal};
use runtime_host::document::{read, write};
use runtime_host::image::CheckpointPhase;
use runtime_host::owner::Owner;
use runtime_host::process::Identity;

use crate::dialect::Reach;
use crate::layout::ContainerDir;

/// The version of the record's shape. A record of a later version is not touched.
const SCHEMA: u32 = 1;

/// How far a container has come, as far as our own acts decide it. What its processes do is observed, not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// A create is under way; its maker holds the lock.
    Creating,
    /// The process exists.
    Created,
    /// A start was asked for, at the time in `started_at`; whether it happened, the init's program tells.
    Starting,
    /// The program was started.
    Started,
    /// A delete is under way.
    Deleting,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StopStage {
    /// The stop signal was sent.
    Terminating,
    /// KILL was sent.
    Killing,
}

/// Whether a container is paused, where only the runtime can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Frozen {
    #[default]
    No,
    Yes,
    /// A pause or a resume was asked for, and what came of it was not written down.
    InDoubt,
}

/// A stop, and whose it is. Once the owner is gone it no longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopPhase {
    pub(crate) stage: StopStage,
    pub(crate) owner: Owner,
}

/// One container's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) schema: u32,
    pub(crate) id: ContainerId,
    pub(crate) phase: Phase,
    /// Start times of processes count from the boot; after another one no process of the record lives.
    pub(crate) boot_id: String,
    pub(crate) bundle: PathBuf,
    #[serde(with = "humantime_serde")]
    pub(crate) created_at: SystemTime,
    #[serde(with = "humantime_serde", default)]
    pub(crate) started_at: Option<SystemTime>,
    #[serde(default)]
    pub(crate) init: Option<Identity>,
    /// How what runs in it is reached. It stands here, for a runtime whose binary vanished cannot be asked who it is.
    #[serde(default)]
    pub(crate) reach: Reach,
    /// The runtime's binary, where it is not the handler's own: one for the platform of the image.
    #[serde(default)]
    pub(crate) binary: Option<PathBuf>,
    /// Arguments before the verb that this container needs beyond the handler's.
    #[serde(default)]
    pub(crate) runtime_args: Vec<String>,
    /// Noted only where the host cannot see it.
    #[serde(default)]
    pub(crate) frozen: Frozen,
    /// The file that the init runs while it waits to be started: device and inode. Once it runs another one, the program
    /// was started, whoever asked for it and whether or not we could write it down.
    #[serde(default)]
    pub(crate) init_program: Option<(u64, u64)>,
    #[serde(default)]
    pub(crate) monitor: Option<Identity>,
    #[serde(default)]
    pub(crate) stop: Option<StopPhase>,
    /// The checkpoint that is under way, or was when its caller died.
    #[serde(default)]
    pub(crate) checkpoint: Option<CheckpointPhase>,
    /// Set where the end cannot be read from the exit file.
    #[serde(default)]
    pub(crate) exit: Option<ExitStatus>,
    #[serde(default)]
    pub(crate) stop_signal: Option<Signal>,
    /// The cgroup that the spec names, or that we named.
    #[serde(default)]
    pub(crate) cgroup: Option<String>,
    /// Whether we chose that cgroup, so that it goes with the container.
    #[serde(default)]
    pub(crate) chose_cgroup: bool,
    /// The monitor's own cgroup.
    #[serde(default)]
    pub(crate) monitor_cgroup: Option<String>,
    /// The cgroup in which the init was found, if it is the container's alone and not that of whoever made it.
    #[serde(default)]
    pub(crate) own_cgroup: Option<String>,
    /// Where the root file system is.
    #[serde(default)]
    pub(crate) root: Option<PathBuf>,
    #[serde(default)]
    pub(crate) terminal: bool,
    /// The log file, if the monitor writes one.
    #[serde(default)]
    pub(crate) log: Option<PathBuf>,
    /// The log file, when this create made it.
    #[serde(default)]
    pub(crate) made_log: Option<PathBuf>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Record {
    pub(crate) fn new(id: ContainerId, bundle: PathBuf, boot_id: String) -> Self {
        Self {
            schema: SCHEMA,
            id,
            phase: Phase::Creating,
            boot_id,
            bundle,
            created_at: SystemTime::now(),
            started_at: None,
            init: None,
            reach: Reach::Host,
            binary: None,
            runtime_args: Vec::new(),
            frozen: Frozen::No,
            init_program: None,
            monitor: None,
            stop: None,
            checkpoint: None,
            exit: None,
            stop_signal: None,
            cgroup: None,
            chose_cgroup: false,
            monitor_cgroup: None,
            own_cgroup: None,
            root: None,
            terminal: false,
            log: None,
            made_log: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// Whether the host cannot tell how it stands, and who knew was cut off before it was written down: then only the
    /// runtime can tell.
    pub(crate) fn is_in_doubt(&self) -> bool {
        let started = self.phase == Phase::Starting;
        self.reach == Reach::Runtime && (started || self.frozen == Frozen::InDoubt)
    }

    /// Reads the record; `None` when there is none.
    pub(crate) fn read(dir: &ContainerDir) -> Result<Option<Self>> {
        read(&dir.record(), SCHEMA, |record: &Self| record.schema)
    }

    /// Replaces the record as a whole. Only the holder of the container's lock may.
    pub(crate) fn write(&self, dir: &ContainerDir) -> Result<()> {
        write(&dir.record(), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::ErrorKind;

    #[test]
    fn a_record_survives_the_round_trip_and_a_damaged_one_is_told() {
        let at = tempfile::tempdir().unwrap();
        let dir = ContainerDir::at(at.path().to_owned());
        assert!(Record::read(&dir).unwrap().is_none());
        let mut record = Record::new(ContainerId::new("a").unwrap(), "/b".into(), "boot".into());
        record.stop_signal = Some(Signal::HUP);
        record.write(&dir).unwrap();
        assert_eq!(Record::read(&dir).unwrap().unwrap().stop_signal, Some(Signal::HUP));
        record.schema = 2;
        record.write(&dir).unwrap();
        assert!(matches!(Record::read(&dir).unwrap_err().kind(), ErrorKind::ConfigInvalid(_)));
        std::fs::write(dir.record(), b"{\"schema\":1").unwrap();
        assert!(matches!(Record::read(&dir).unwrap_err().kind(), ErrorKind::ConfigInvalid(_)));
    }
}
