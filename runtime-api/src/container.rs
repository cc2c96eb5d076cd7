//! A container's identity, as engines keep it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{ContainerId, HandlerName, SandboxId, Signal};

/// Identity and handler snapshot of a container: plain data.
///
/// The status is not here. The backend alone knows it; a copy would disagree sooner or later.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The id.
    pub id: ContainerId,
    /// The name that people use; the id unless given.
    pub name: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The annotations of its `config.json`.
    pub annotations: BTreeMap<String, String>,
    /// The sandbox (pod) it belongs to.
    pub sandbox: Option<SandboxId>,
    /// The bundle it was created from.
    pub bundle: PathBuf,
    /// Its log file.
    pub log_path: Option<PathBuf>,
    /// The handler it was created with.
    pub handler: HandlerName,
    /// Which snapshot of the handler's configuration it was created with; it stays with that one for life.
    pub snapshot: String,
    /// The signal that a stop sends first.
    pub stop_signal: Option<Signal>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// When it was created.
    #[serde(with = "humantime_serde")]
    pub created_at: SystemTime,
    /// What of the host is mounted into it: the bind mounts of its `config.json`.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Where its root file system is.
    #[serde(default)]
    pub mount_point: Option<PathBuf>,
    /// Whose users it has, by its `config.json`; empty without a user namespace.
    #[serde(default)]
    pub id_mappings: IdMappings,
    /// Whether it only holds the namespaces of its sandbox.
    #[serde(default)]
    pub infra: bool,
    /// Whether it stands for a container that nobody needs to run, as CRI-O's annotation `spoofed.crio.io` says.
    #[serde(default)]
    pub spoofed: bool,
    /// The image that it was continued from.
    #[serde(default)]
    pub restored_from: Option<PathBuf>,
    /// Why its program could not be started, when that was tried last.
    #[serde(default)]
    pub start_failure: Option<String>,
}

/// A directory or file of the host that a container sees.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is in the container.
    pub destination: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

impl Volume {
    /// `source`, which the container sees as `destination`.
    pub fn new(source: impl Into<PathBuf>, destination: impl Into<PathBuf>, read_only: bool) -> Self {
        Self { source: source.into(), destination: destination.into(), read_only }
    }
}

/// Which users of the host those of a container are.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMappings {
    /// Users.
    #[serde(default)]
    pub uids: Vec<IdMapping>,
    /// Groups.
    #[serde(default)]
    pub gids: Vec<IdMapping>,
}

impl IdMappings {
    /// These users and groups.
    #[must_use]
    pub const fn new(uids: Vec<IdMapping>, gids: Vec<IdMapping>) -> Self {
        Self { uids, gids }
    }
}

/// A row of ids.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first id in the container.
    pub container: u32,
    /// Which id of the host that is.
    pub host: u32,
    /// How many follow each other.
    pub size: u32,
}

impl Container {
    /// A container without labels, sandbox, log and stop signal, named by its id.
    pub fn new(
        id: ContainerId,
        bundle: impl Into<PathBuf>,
        handler: HandlerName,
        snapshot: impl Into<String>,
        created_at: SystemTime,
    ) -> Self {
        Self {
            name: id.to_string(),
            id,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            sandbox: None,
            bundle: bundle.into(),
            log_path: None,
            handler,
            snapshot: snapshot.into(),
            stop_signal: None,
            terminal: false,
            created_at,
            volumes: Vec::new(),
            mount_point: None,
            id_mappings: IdMappings::default(),
            infra: false,
            spoofed: false,
            restored_from: None,
            start_failure: None,
        }
    }
}

impl IdMapping {
    /// `size` ids from `container` on, which are those of the host from `host` on.
    #[must_use]
    pub const fn new(container: u32, host: u32, size: u32) -> Self {
        Self { container, host, size }
    }
}
