//! What a monitor is told at its start, and what it says when the start is done.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use runtime_api::{Error, ErrorKind, Result};
use runtime_host::document;
use runtime_host::process::Identity;

use super::request::Refusal;
use crate::task::NAMESPACE;

/// The version of the shape of these files.
const SCHEMA: u32 = 1;

/// Which shim to start, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartOrder {
    /// The version of this document.
    #[serde(default = "schema")]
    schema: u32,
    /// The shim's binary.
    pub shim: PathBuf,
    /// The namespace of its containers.
    #[serde(default = "namespace")]
    pub namespace: String,
    /// The id that it is started with.
    pub id: String,
    /// The bundle, in which it runs.
    pub bundle: PathBuf,
    /// The program that publishes a shim's events where it has no socket for that.
    pub publisher: PathBuf,
    /// Whether it is to say more in its log.
    pub debug: bool,
    /// How long its command `start` may take.
    pub start_limit: Duration,
    /// How long it may take until it answers at its address.
    pub dial_limit: Duration,
}

fn namespace() -> String {
    NAMESPACE.to_owned()
}

const fn schema() -> u32 {
    SCHEMA
}

impl StartOrder {
    /// The name of its file in the monitor's directory.
    pub const FILE: &'static str = "order.json";

    /// An order with the limits that containerd and CRI-O have.
    pub fn new(shim: impl Into<PathBuf>, id: impl Into<String>, bundle: impl Into<PathBuf>) -> Self {
        Self {
            schema: SCHEMA,
            shim: shim.into(),
            namespace: namespace(),
            id: id.into(),
            bundle: bundle.into(),
            publisher: PathBuf::from("/bin/true"),
            debug: false,
            start_limit: Duration::from_secs(60),
            dial_limit: Duration::from_secs(100),
        }
    }

    pub(crate) fn read(dir: &Path) -> Result<Self> {
        read(&dir.join(Self::FILE), |order: &Self| order.schema)
    }

    /// Writes it into the directory of a monitor, for [`live`](super::live).
    ///
    /// # Errors
    /// Why the file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<()> {
        document::write(&dir.join(Self::FILE), self)
    }
}

/// What was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The version of this document.
    #[serde(default = "schema")]
    schema: u32,
    /// The monitor.
    pub monitor: Identity,
    /// The shim's process, if it could be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shim: Option<Identity>,
    /// Where the shim listens, as it said it.
    pub address: String,
    /// The version of the Task service that it serves: 2 or 3.
    pub api: u32,
}

impl Started {
    /// The name of its file in the monitor's directory.
    pub const FILE: &'static str = "started.json";

    /// A report about this process.
    #[must_use]
    pub fn by_this_process(shim: Option<Identity>, address: impl Into<String>, api: u32) -> Self {
        Self { schema: SCHEMA, monitor: Identity::own(), shim, address: address.into(), api }
    }

    /// Reads what the monitor with this directory started.
    ///
    /// # Errors
    /// `NotFound` when it never came to that; `ConfigInvalid` when the file is damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        read(&dir.join(Self::FILE), |started: &Self| started.schema)
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        document::write(&dir.join(Self::FILE), self)
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path, schema: impl Fn(&T) -> u32) -> Result<T> {
    let found = document::read(path, SCHEMA, schema)?;
    found.ok_or_else(|| Error::new(ErrorKind::NotFound).on(format_args!("file {}", path.display())))
}

/// The one line that a monitor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    Started(Started),
    Failed(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_reports_are_read_as_they_were_written() {
        let at = tempfile::tempdir().unwrap();
        assert_eq!(*Started::read(at.path()).unwrap_err().kind(), ErrorKind::NotFound);
        let order = StartOrder { debug: true, ..StartOrder::new("/bin/shim", "a", "/bundle") };
        order.write(at.path()).unwrap();
        assert_eq!(StartOrder::read(at.path()).unwrap(), order);
        let started = Started::by_this_process(None, "unix:///run/s", 3);
        started.write(at.path()).unwrap();
        assert_eq!(Started::read(at.path()).unwrap(), started);
        assert_eq!(started.monitor, Identity::own());
        let text = serde_json::to_string(&Report::Started(started)).unwrap();
        assert!(text.starts_with(r#"{"started":{"schema":1,"monitor":{"pid":"#), "{text}");
    }

    #[test]
    fn a_strange_order_is_refused() {
        let at = tempfile::tempdir().unwrap();
        let text = serde_json::to_string(&StartOrder::new("/bin/shim", "a", "/bundle")).unwrap();
        for bad in [text.replace("\"schema\":1", "\"schema\":2"), text.replace("debug", "debugs"), "{".into()]
        {
            std::fs::write(at.path().join(StartOrder::FILE), bad).unwrap();
            let error = StartOrder::read(at.path()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
        }
    }
}
