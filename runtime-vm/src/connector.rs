//! The seam between this backend and the shims of a host: how one is started, dialled and cleaned up after.
//!
//! Real shims are processes that a monitor of ours starts; a test may put a shim of its own in their place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;
use tokio::time::timeout;

use runtime_api::{Error, ErrorKind, Result};

use crate::monitor::{MonitorClient, StartOrder, Started, Starting as StartingMonitor};
use crate::shim::{Address, ShimCommand, dial};
use crate::task::answer::Deleted;
use crate::task::{TaskApi, TaskClient};

/// How long a shim may take to say its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// Starts and reaches shims. What is not about processes is the same for all: a shim listens at an address.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// Starts a monitor in `dir` and lets it start the shim. Nothing is left when this fails or is dropped.
    ///
    /// # Errors
    /// What the monitor reports.
    async fn start(&self, dir: &Path, order: StartOrder) -> Result<Box<dyn Starting>>;

    /// Connects to a shim at the address that it printed.
    ///
    /// # Errors
    /// Why nobody answers there.
    async fn dial(&self, address: &str, target: &Dialled<'_>, limit: Duration) -> Result<TaskClient> {
        let address = Address::parse(address).map_err(|error| {
            Error::new(ErrorKind::ConfigInvalid(format!("{address:?} is no address of a shim")))
                .caused_by(error)
        })?;
        // One that was there and is not any more will not come back: there is nothing to be patient for.
        let dialled = timeout(limit, dial::once(&address)).await;
        let stream =
            dialled.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(|error| {
                Error::new(ErrorKind::PeerLost(runtime_api::Peer::Shim)).on(&address).caused_by(error)
            })?;
        Ok(TaskClient::over(stream, target.api, target.namespace))
    }

    /// What the shim says of its version, where it says anything: a line with `Version` that it prints for `-v`.
    async fn version(&self, shim: &Path) -> Option<String> {
        let mut command = Command::new(shim);
        command.arg("-v").stdin(Stdio::null()).kill_on_drop(true);
        let said = timeout(VERSION_LIMIT, command.output()).await.ok()?.ok()?;
        let text = [said.stdout, said.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("Version:"))?;
        Some(line.trim().to_owned()).filter(|version| !version.is_empty())
    }

    /// Who saves containers behind this shim, which has a runtime `below` it, so that they can be continued.
    ///
    /// # Errors
    /// Why nobody does.
    async fn saver(&self, shim: &Path, below: &str) -> std::result::Result<String, NoSaver> {
        if crate::config::is_for_runc(shim) {
            return crate::saving::ask(below).await;
        }
        Err(NoSaver::No("what this shim wants to be told with a checkpoint is not known".to_owned()))
    }

    /// Lets the shim's own command clean up after a shim that died.
    ///
    /// # Errors
    /// What the command says.
    async fn clean_up(
        &self,
        shim: &Path,
        namespace: &str,
        id: &str,
        bundle: &Path,
        limit: Duration,
    ) -> Result<Deleted>;
}

/// Why nobody saves containers behind a shim, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSaver {
    /// It cannot be.
    No(String),
    /// Somebody did not answer, which says nothing of what can be.
    Silent(String),
}

impl From<String> for NoSaver {
    fn from(why: String) -> Self {
        Self::No(why)
    }
}

/// What is expected at an address.
#[derive(Clone, Copy, Debug)]
pub struct Dialled<'a> {
    /// The version of the Task service that the shim said.
    pub api: TaskApi,
    /// The namespace in which it was started.
    pub namespace: &'a str,
    /// The container.
    pub id: &'a str,
}

/// A shim that was started and does not outlive its caller yet.
#[async_trait]
pub trait Starting: fmt::Debug + Send {
    /// What was started.
    fn started(&self) -> &Started;

    /// From here on it lives without us. Dropped before, it is undone.
    ///
    /// # Errors
    /// `PeerLost` when the monitor is gone.
    async fn keep(self: Box<Self>) -> Result<()>;

    /// Has it undone, and waits until it is.
    async fn undo(self: Box<Self>);
}

/// The shims that are processes of this host.
#[derive(Debug)]
pub(crate) struct Processes {
    /// The monitor's program, or why there is none.
    monitor: Result<PathBuf>,
}

impl Processes {
    pub(crate) fn new(monitor: Result<PathBuf>) -> Self {
        Self { monitor }
    }
}

#[async_trait]
impl Connector for Processes {
    async fn start(&self, dir: &Path, order: StartOrder) -> Result<Box<dyn Starting>> {
        let monitor = self.monitor.as_ref().map_err(once_more)?;
        Ok(Box::new(MonitorClient::spawn(monitor, dir, &order).await?))
    }

    async fn clean_up(
        &self,
        shim: &Path,
        namespace: &str,
        id: &str,
        bundle: &Path,
        limit: Duration,
    ) -> Result<Deleted> {
        let mut command = ShimCommand::new(shim, id, bundle);
        namespace.clone_into(&mut command.namespace);
        let cleaned = command.delete(limit).await;
        // Where its monitor died as well, nobody has removed its socket.
        let address = std::fs::read_to_string(bundle.join("address")).ok();
        if let Some(address) = address.and_then(|text| Address::parse(&text).ok()) {
            dial::remove_dead(&address).await;
        }
        dial::remove_dead(&Address::usual(namespace, id)).await;
        cleaned
    }
}

#[async_trait]
impl Starting for StartingMonitor {
    fn started(&self) -> &Started {
        Self::started(self)
    }

    async fn keep(self: Box<Self>) -> Result<()> {
        (*self).go_on().await.map(drop)
    }

    async fn undo(self: Box<Self>) {
        Self::undo(*self).await;
    }
}

/// What was found out when the value opened, for whoever needs it now.
fn once_more(error: &Error) -> Error {
    let same = Error::new(error.kind().clone());
    match error.advice() {
        Some(advice) => same.hint(advice),
        None => same,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn why_there_is_no_monitor_is_told_as_it_was_found_out() {
        let missing = crate::monitor::find::find(Some(Path::new("/no/such/monitor")));
        let found = missing.as_ref().unwrap_err().report();
        assert!(found.contains("/no/such/monitor") && found.contains("correct the option"), "{found}");
        let order = StartOrder::new("/no/such/shim", "one", "/no/such/bundle");
        let told = Processes::new(missing).start(Path::new("/no/such/place"), order).await;
        assert_eq!(told.map(drop).unwrap_err().report(), found);
    }
}
