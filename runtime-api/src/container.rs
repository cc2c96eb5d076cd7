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
        }
    }
}
