//! What we write down about a session.

use serde::{Deserialize, Serialize};

use runtime_api::Result;
use runtime_host::document;
use runtime_host::process::Identity;

use crate::layout::ContainerDir;
use crate::record::StopPhase;

/// The version of the record's shape.
const SCHEMA: u32 = 1;

/// One session's record. Until it is started it is being made, and its maker holds the lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SessionRecord {
    schema: u32,
    /// Start times of processes count from the boot; after another one no process of the record lives.
    pub(super) boot_id: String,
    /// What the shim and the monitor call it. No other session has had this name.
    pub(super) exec: String,
    pub(super) terminal: bool,
    /// Whether the shim has started the program.
    #[serde(default)]
    pub(super) started: bool,
    /// What the shim says the program's pid is.
    #[serde(default)]
    pub(super) pid: u32,
    /// The program, where it is a process of the host that could be looked at.
    #[serde(default)]
    pub(super) command: Option<Identity>,
    #[serde(default)]
    pub(super) stop: Option<StopPhase>,
}

impl SessionRecord {
    pub(super) fn new(boot_id: String, exec: String, terminal: bool) -> Self {
        Self { schema: SCHEMA, boot_id, exec, terminal, started: false, pid: 0, command: None, stop: None }
    }

    /// Reads the record; `None` when there is none.
    pub(super) fn read(dir: &ContainerDir) -> Result<Option<Self>> {
        document::read(&dir.record(), SCHEMA, |record: &Self| record.schema)
    }

    /// Replaces the record as a whole. Only the holder of the session's lock may.
    pub(super) fn write(&self, dir: &ContainerDir) -> Result<()> {
        document::write(&dir.record(), self)
    }
}
