//! How a backend is opened.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::{HandlerConfig, Result, RuntimeKind, SharedRuntime};

/// Where a runtime value lives.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenContext {
    /// The directory for its records. It is made if it is missing (its parent too); several processes may share it.
    pub state_dir: PathBuf,
    /// The cgroup below which containers go whose spec names none: `/manyrun/<handler>/<snapshot>`, with a mark of the base
    /// unless that is the usual one. No two state directories should have the same.
    pub cgroup_parent: String,
}

impl OpenContext {
    /// A place with both of its parts.
    pub fn new(state_dir: impl Into<PathBuf>, cgroup_parent: impl Into<String>) -> Self {
        Self { state_dir: state_dir.into(), cgroup_parent: cgroup_parent.into() }
    }
}

/// Opens runtime values of one kind.
#[async_trait]
pub trait RuntimeFactory: fmt::Debug + Send + Sync + 'static {
    /// The kind that a handler names to be opened here.
    fn kind(&self) -> RuntimeKind;

    /// Checks a handler without touching the host: its options are read strictly.
    ///
    /// # Errors
    /// [`ConfigInvalid`](crate::ErrorKind::ConfigInvalid), which names the key.
    fn check(&self, config: &HandlerConfig) -> Result<()>;

    /// Opens a value over `context`, probes what it can do, and recovers what an earlier process left.
    ///
    /// A missing binary is not an error: the value opens, what needs the binary fails with
    /// [`Unavailable`](crate::ErrorKind::Unavailable), and containers that exist can still be listed, stopped and
    /// deleted.
    ///
    /// # Errors
    /// [`ConfigInvalid`](crate::ErrorKind::ConfigInvalid) as for [`RuntimeFactory::check`];
    /// [`PermissionDenied`](crate::ErrorKind::PermissionDenied) and
    /// [`Internal`](crate::ErrorKind::Internal) when the state directory cannot be used.
    async fn open(&self, config: &HandlerConfig, context: OpenContext) -> Result<SharedRuntime>;
}
