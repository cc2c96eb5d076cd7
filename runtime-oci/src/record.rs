//! What we write down about a container, and how it is written so that no reader ever sees half of it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use runtime_api::{ContainerId, Error, ErrorKind, ExitStatus, Result, Signal};

use crate::dialect::Reach;
use crate::image::ImagePlace;
use crate::layout::ContainerDir;
use crate::owner::Owner;
use crate::process::Identity;

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

/// A checkpoint, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointPhase {
    pub(crate) owner: Owner,
    pub(crate) place: ImagePlace,
    /// Whether the container was paused before.
    pub(crate) was_paused: bool,
    /// Whether the container ends with it.
    pub(crate) ends: bool,
    /// Whether the container was saved; nothing while nobody has seen the end of the command. It is written down before
    /// the image gets its name or goes: what is at its path says nothing, for an image of somebody else may be there.
    #[serde(default)]
    pub(crate) saved: Option<bool>,
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

/// Reads a record; `None` when there is none. One of a later schema than `known` is not touched.
pub(crate) fn read<T: DeserializeOwned>(
    path: &Path,
    known: u32,
    schema: impl Fn(&T) -> u32,
) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(path, "it cannot be read").caused_by(error)),
    };
    let record = serde_json::from_slice(&bytes)
        .map_err(|error| damaged(path, "it is not a record").caused_by(error))?;
    let schema = schema(&record);
    if schema > known {
        return Err(damaged(path, &format!("it has schema {schema}, this version knows {known}")));
    }
    Ok(Some(record))
}

/// Replaces a record as a whole.
pub(crate) fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(record).map_err(|error| {
        Error::new(ErrorKind::Internal("record cannot be written".into())).caused_by(error)
    })?;
    replace(path, &text).map_err(|error| cannot_write(path, error))
}

/// Writes a file so that readers see the old content or the new one. It survives the death of this process, not a
/// loss of power: an fsync would cost an eighth of a container's whole life, and after a reboot nothing runs anyway.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(content)?;
    // The two change names in one step. A rename over the old file is as good for readers, but there ext4 begins to write
    // the new one to the disk at once and frees the block of the old one, and the caller waits for both.
    match renameat_with(CWD, &fresh, CWD, path, RenameFlags::EXCHANGE) {
        // What cannot be removed now is what the next write begins with.
        Ok(()) => drop(std::fs::remove_file(&fresh)),
        // There is no old one yet, or the file system cannot swap names.
        Err(_) => std::fs::rename(&fresh, path)?,
    }
    Ok(())
}

/// A state file cannot be written: full, read-only, gone, or not ours.
pub(crate) fn cannot_write(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull => ErrorKind::Exhausted("no space left on the device".into()),
        _ => ErrorKind::Internal("a state file cannot be written".into()),
    };
    Error::new(kind).on(format_args!("file {}", path.display())).caused_by(error)
}

fn damaged(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid(why.to_owned()))
        .on(format_args!("record {}", path.display()))
        .hint("delete the container with force")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("file");
        for content in ["first, and longer", "second", "third"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 1);
        }
        // What a writer left that was cut off is no part of the next one's content.
        std::fs::write(at.path().join("file.new"), "a much longer text than the next one").unwrap();
        replace(&path, b"fourth").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "fourth");
        assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 1);
    }

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
