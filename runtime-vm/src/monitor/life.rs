//! The whole life of a monitor that starts its own shim.
//!
//! ```text
//! order-giver             monitor                          shim
//!   order.json, spawn -->
//!                         bind, start the shim        -->
//!   <-- one line            (started.json first)
//!   "go on" on stdin  -->
//!                         serve ...
//! ```
//!
//! Without the word to go on everything is undone: an order-giver that died has left nothing behind.

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use runtime_api::{Error, ErrorKind, Result};

use super::order::{Report, StartOrder, Started};
use super::request::Refusal;
use super::{Monitor, Tasks, Told};

/// How long an order-giver may think about a report.
const THOUGHT: Duration = Duration::from_secs(120);
/// How long it may take to read it.
const READING: Duration = Duration::from_secs(10);

/// What starts a shim and removes it.
#[async_trait]
pub trait Launch: fmt::Debug + Send + Sync {
    /// Starts the shim and connects to it. Dropped midway, [`Launch::undo`] follows.
    ///
    /// # Errors
    /// Why there is no shim.
    async fn launch(&self, dir: &Path, order: &StartOrder) -> Result<Launched>;

    /// Removes everything that a launch left, whether it failed or is not wanted any more.
    async fn undo(&self, dir: &Path, order: &StartOrder);
}

/// A shim that was started.
pub struct Launched {
    /// The way to its tasks.
    pub tasks: Arc<dyn Tasks>,
    /// What it tells by itself.
    pub told: mpsc::Receiver<Told>,
    /// What is said about it.
    pub started: Started,
    /// What has to live as long as the monitor.
    pub kept: Box<dyn Any + Send>,
}

impl fmt::Debug for Launched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launched")
            .field("tasks", &self.tasks)
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

/// Lives in `dir`: reads the order there, starts the shim, reports, waits for the word to go on, and serves until the end or
/// until `until` comes.
///
/// # Errors
/// What was reported as well: why there is no shim. `PeerLost` when the order-giver went away.
pub async fn live(
    dir: &Path,
    launch: &dyn Launch,
    mut report: impl AsyncWrite + Unpin,
    mut go_on: impl AsyncRead + Unpin,
    until: impl Future<Output = ()>,
) -> Result<()> {
    let mut until = std::pin::pin!(until);
    // Kept, for whoever gives up on us may take the directory away before everything is undone.
    let order = match StartOrder::read(dir) {
        Ok(order) => order,
        Err(error) => {
            let _ = say(&mut report, &Report::Failed(Refusal::from(&error))).await;
            return Err(error);
        }
    };
    let begun = tokio::select! {
        begun = begin(dir, &order, launch) => begun,
        // Not a word is expected before the report.
        _ = go_on.read_u8() => Err(deserted()),
        () = &mut until => Err(deserted()),
    };
    let (monitor, launched) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            launch.undo(dir, &order).await;
            let _ = say(&mut report, &Report::Failed(Refusal::from(&error))).await;
            return Err(error);
        }
    };
    let agreed = async {
        say(&mut report, &Report::Started(launched.started.clone())).await?;
        // Whoever reads to the end of it sees the end.
        let _ = report.shutdown().await;
        drop(report);
        match timeout(THOUGHT, go_on.read_u8()).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(deserted()),
        }
    };
    let agreed = tokio::select! {
        agreed = agreed => agreed,
        () = &mut until => Err(deserted()),
    };
    let Launched { tasks, told, kept, .. } = launched;
    if let Err(error) = agreed {
        drop((monitor, tasks, told, kept));
        launch.undo(dir, &order).await;
        let _ = std::fs::remove_file(dir.join(Started::FILE));
        return Err(error);
    }
    monitor.serve(tasks, told, until).await;
    let _ = std::fs::remove_file(dir.join(Started::FILE));
    drop(kept);
    Ok(())
}

async fn begin(dir: &Path, order: &StartOrder, launch: &dyn Launch) -> Result<(Monitor, Launched)> {
    let monitor = Monitor::bind(dir)?;
    let launched = launch.launch(dir, order).await?;
    launched.started.write(dir)?;
    Ok((monitor, launched))
}

async fn say(to: &mut (impl AsyncWrite + Unpin), report: &Report) -> Result<()> {
    let mut line = serde_json::to_vec(report).map_err(|error| {
        Error::new(ErrorKind::Internal("a report cannot be written".into())).caused_by(error)
    })?;
    line.push(b'\n');
    let said = timeout(READING, async {
        to.write_all(&line).await?;
        to.flush().await
    });
    match said.await {
        Ok(Ok(())) => Ok(()),
        _ => Err(deserted()),
    }
}

fn deserted() -> Error {
    Error::new(ErrorKind::PeerLost(runtime_api::Peer::Client))
        .during_step("start a shim")
        .hint("who ordered it went away before it was done; everything was undone")
}
