//! What this host offers to tests on real runtimes.

use std::path::PathBuf;

use crate::handler::shim_of;

/// What this host lacks to run containers with this runtime, such as `crun` or `vm:runc`, with the command that would help.
#[must_use]
pub fn lacks(binary: &str) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some(format!("containers with {binary} need root: run the tests as root"));
    }
    let missing = |commands: &[&str]| {
        let missing = commands.iter().find(|command| find(command).is_none())?;
        Some(format!("{missing} is not installed: scripts/install-host-needs installs it"))
    };
    let Some((shim, below)) = shim_of(binary) else { return missing(&["conmon", binary]) };
    missing(&[&shim, below]).or_else(|| {
        let lost = runtime_vm::monitor::find::find(None).err()?;
        Some(format!("{}; cargo build -p runtime-vm", lost.report()))
    })
}

/// Says for the test's own report that it did not run, and why; `scripts/tally` counts the line.
pub fn skipped(need: &str) {
    println!("SKIPPED: {need}");
}

/// Where `command` is on `PATH`.
#[must_use]
pub fn find(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(command)).find(|file| is_executable(file))
}

fn is_executable(file: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_is_found_and_nonsense_is_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-command-anywhere"), None);
        assert!(lacks("no-such-command-anywhere").is_some());
    }
}
