//! Where what is measured works: state on a memory file system where there is one, bundles on the disk.
//!
//! On a node the state of containers is below `/run`, which is in memory. On a disk the two sides would wait for its
//! journal, and which of them does is a matter of luck. Bundles stay out of it: memory file systems are often mounted so
//! that no program in them can be run.

use std::fmt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use crate::Result;

/// Names the directory for state instead.
const VARIABLE: &str = "MANYRUN_BENCH_STATE";
/// Where memory file systems are, the one of a node's state first.
const CANDIDATES: [&str; 2] = ["/run", "/dev/shm"];

/// Directories that go when the benchmark is over.
pub(crate) struct Place {
    bundles: TempDir,
    state: TempDir,
    why: String,
}

/// The two directories of one part.
pub(crate) struct Part {
    pub(crate) bundles: PathBuf,
    pub(crate) state: PathBuf,
}

impl Place {
    pub(crate) fn make() -> Result<Self> {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let (state, why) = choose(named, &CANDIDATES.map(PathBuf::from), is_in_memory);
        let make = |below: &Path| tempfile::Builder::new().prefix("bench").tempdir_in(below);
        let state =
            make(&state).map_err(|error| format!("no directory below {}: {error}", state.display()))?;
        Ok(Self { bundles: make(&std::env::temp_dir())?, state, why })
    }

    /// Makes the directories of a part.
    pub(crate) fn part(&self, name: &str) -> Result<Part> {
        let [bundles, state] = [&self.bundles, &self.state].map(|each| each.path().join(name));
        for each in [&bundles, &state] {
            std::fs::create_dir_all(each)?;
        }
        Ok(Part { bundles, state })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the state of both sides is in {}: {}", self.state.path().display(), self.why)
    }
}

/// Below which directory the state goes, and why.
fn choose(
    named: Option<PathBuf>,
    candidates: &[PathBuf],
    in_memory: impl Fn(&Path) -> bool,
) -> (PathBuf, String) {
    if let Some(named) = named {
        let kind = if in_memory(&named) { "in memory" } else { "not in memory" };
        return (named, format!("{VARIABLE} names it; it is {kind}"));
    }
    match candidates.iter().position(|each| in_memory(each)) {
        Some(0) => (candidates[0].clone(), "a memory file system, where a node has it".to_owned()),
        Some(at) => {
            let others: Vec<_> = candidates[..at].iter().map(|each| each.display().to_string()).collect();
            (candidates[at].clone(), format!("a memory file system, which {} is not here", others.join(", ")))
        }
        None => {
            let why = format!(
                "{CANDIDATES:?} are no memory file systems here, so the disk's journal is measured too"
            );
            (std::env::temp_dir(), why)
        }
    }
}

fn is_in_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_in_memory_unless_another_place_is_named() {
        let candidates = ["/a", "/b"].map(PathBuf::from);
        let chosen = |named: Option<&str>, memory: &[&str]| {
            choose(named.map(PathBuf::from), &candidates, |path| {
                memory.iter().any(|each| path == Path::new(each))
            })
        };
        assert_eq!(chosen(None, &["/a", "/b"]).0, Path::new("/a"));
        let (second, why) = chosen(None, &["/b"]);
        assert!(second == Path::new("/b") && why.contains("/a"), "{why}");
        assert_eq!(chosen(None, &[]).0, std::env::temp_dir());
        let (named, why) = chosen(Some("/c"), &["/a"]);
        assert!(named == Path::new("/c") && why.contains("not in memory"), "{why}");
    }
}
