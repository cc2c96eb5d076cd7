//! Execs whose owner is dead.

use runtime_host::process::Identity;

use super::command::Command;
use super::running::owner_of;
use crate::backend::Backend;
use crate::layout::ContainerDir;
use crate::record::Record;

impl Backend {
    /// Ends the execs whose owner is dead. Nobody reads their output any more, and nobody would ever end them.
    pub(crate) async fn end_orphaned_execs(&self, dir: &ContainerDir) {
        let Ok(execs) = std::fs::read_dir(dir.execs()) else { return };
        let Ok(Some(record)) = Record::read(dir) else { return };
        for entry in execs.flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if owner_of(&name).is_some_and(Identity::lives) {
                continue;
            }
            if let Ok(command) = Command::new(self, &record, &name)
                && command.shim_lives()
                && let Ok(client) = self.client(&record).await
            {
                command.written_at(&entry.path()).end(&client).await;
            }
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
