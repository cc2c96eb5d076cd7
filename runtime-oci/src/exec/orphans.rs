//! Commands without anybody who waits for them: their owner died, or the process that collects their code was killed.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use runtime_host::process::{Identity, kill_tree, with_arguments};

use crate::backend::Backend;
use crate::conmon::pid_in;
use crate::dialect::Reach;
use crate::layout::ContainerDir;
use crate::record::Record;

use super::running::Running;

impl Backend {
    /// Kills a command that has lost its parent: by its pid file, if that process is still the container's.
    pub(super) async fn kill_command(&self, dir: &ContainerDir, exec: &mut Running) {
        let Ok(Some(record)) = Record::read(dir) else { return };
        if record.reach == Reach::Runtime {
            return exec.kill().await;
        }
        kill_member(exec.pid_file(), &self.members(&record), record.init);
    }

    /// Ends the execs whose owner is dead. Nobody reads their output any more, and nobody would ever end them.
    pub(crate) async fn end_orphaned_execs(&self, dir: &ContainerDir) {
        let Ok(execs) = std::fs::read_dir(dir.execs()) else { return };
        let Ok(Some(record)) = Record::read(dir) else { return };
        for entry in execs.flatten() {
            let owner = entry.file_name().to_str().and_then(owner_of);
            if owner.is_some_and(Identity::lives) {
                continue;
            }
            let runtimes = runtimes_of(&entry.path()).await;
            if record.reach == Reach::Runtime {
                self.end_orphan_inside(&record, &entry.path(), &runtimes).await;
            }
            // A runtime that is still on its way to the command would write the pid a moment later.
            for runtime in runtimes {
                kill_tree(runtime);
            }
            kill_member(&entry.path().join("pid"), &self.members(&record), record.init);
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The runtime that runs the exec, or the session, of a directory.
pub(crate) async fn runtimes_of(place: &Path) -> Vec<Identity> {
    let process = place.join("process.json");
    with_arguments(move |arguments| {
        let option = [b"--process".as_slice(), process.as_os_str().as_bytes()];
        arguments.windows(2).any(|pair| *pair == option)
    })
    .await
}

/// Kills the command that a pid file names. The pid may be somebody else's by now: only a process of the container is
/// meant, and never its init.
pub(crate) fn kill_member(pid_file: &Path, members: &[Identity], init: Option<Identity>) {
    let command = pid_in(pid_file).and_then(Identity::of);
    if let Some(command) = command.filter(|one| members.contains(one) && Some(*one) != init) {
        kill_tree(command);
    }
}

/// Whose exec it is, from the name of its directory.
fn owner_of(name: &str) -> Option<Identity> {
    let mut parts = name.split('.');
    Some(Identity { pid: parts.next()?.parse().ok()?, start: parts.next()?.parse().ok()? })
}
