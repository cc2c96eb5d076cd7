//! Execs whose owner is dead.

use std::path::PathBuf;

use tokio::task::JoinSet;

use runtime_host::process::Identity;

use super::command::Command;
use super::running::owner_of;
use crate::backend::Backend;
use crate::layout::ContainerDir;
use crate::record::Record;

impl Backend {
    /// Ends the execs whose owner is dead, side by side. Nobody reads their output any more, and nobody would ever end them. One
    /// that cannot be ended now is left to the next who opens.
    pub(crate) async fn end_orphaned_execs(&self, dir: &ContainerDir) {
        let mut at_work = JoinSet::new();
        let Ok(execs) = std::fs::read_dir(dir.execs()) else { return };
        let Ok(Some(record)) = Record::read(dir) else { return };
        for entry in execs.flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if owner_of(&name).is_some_and(Identity::lives) {
                continue;
            }
            let place = entry.path();
            match Command::new(self, &record, &name) {
                Ok(command) if command.shim_lives() => {
                    at_work.spawn(end(command.written_at(&place), place));
                }
                _ => drop(std::fs::remove_dir_all(place)),
            }
        }
        while at_work.join_next().await.is_some() {}
    }
}

/// Ends one and removes its directory, in which it is written down, unless it may still run.
async fn end(command: Command, place: PathBuf) {
    let ended = match command.dial().await {
        Ok(client) => command.end(&client).await,
        Err(_) => !command.shim_lives(),
    };
    if ended {
        let _ = std::fs::remove_dir_all(place);
    } else {
        tracing::warn!(exec = command.name(), "the exec of a dead owner may still run");
    }
}
