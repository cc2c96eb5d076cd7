//! What we write down about a session.

use serde::{Deserialize, Serialize};

use runtime_api::Result;
use runtime_host::document;
use runtime_host::process::Identity;

use crate::layout::ContainerDir;

use crate::record::StopPhase;

/// The version of the record's shape.
const SCHEMA: u32 = 1;

/// One session's record. Without a pid the session is being made, and its maker holds the lock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SessionRecord {
    schema: u32,
    /// Start times of processes count from the boot; after another one no process of the record lives.
    pub(super) boot_id: String,
    pub(super) terminal: bool,
    #[serde(default)]
    pub(super) monitor: Option<Identity>,
    /// What the runtime says the program's pid is; 0 until the program was started.
    #[serde(default)]
    pub(super) pid: i32,
    /// The program, unless it was over before it could be looked at.
    #[serde(default)]
    pub(super) command: Option<Identity>,
    #[serde(default)]
    pub(super) stop: Option<StopPhase>,
}

impl SessionRecord {
    pub(super) fn new(boot_id: String, terminal: bool) -> Self {
        Self { schema: SCHEMA, boot_id, terminal, monitor: None, pid: 0, command: None, stop: None }
    }

    /// Whether the program has not been started, as far as anybody wrote down.
    pub(super) const fn is_starting(&self) -> bool {
        self.pid == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_being_made_until_its_program_has_a_pid() {
        let at = tempfile::tempdir().unwrap();
        let dir = ContainerDir::at(at.path().to_owned());
        assert!(SessionRecord::read(&dir).unwrap().is_none());
        let mut record = SessionRecord::new("boot".into(), true);
        record.write(&dir).unwrap();
        assert!(SessionRecord::read(&dir).unwrap().unwrap().is_starting());
        (record.pid, record.command) = (7, Some(Identity { pid: 7, start: 8 }));
        record.write(&dir).unwrap();
        let read = SessionRecord::read(&dir).unwrap().unwrap();
        assert!(!read.is_starting() && read.terminal);
        assert_eq!((read.command, read.boot_id.as_str()), (record.command, "boot"));
    }
}
