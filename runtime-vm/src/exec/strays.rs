//! Commands that run and that the shim knows nothing of.
//!
//! A shim stops what it does for a caller whose connection is closed. Where that is the start of an exec, the runtime below
//! is killed, or goes on, and may have run the command already: then nobody has its pid. A runtime that goes on is ended
//! first. What is left is told from all else by this: it is a child of the shim, in the container's own cgroup and root,
//! not its init, with the arguments of the exec, and no exec that the shim knows.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use runtime_api::Result;
use runtime_host::document::cannot_write;
use runtime_host::process::{Identity, children, end_all, kill_tree};

use super::command::{ANSWER, Command};
use crate::layout::ContainerDir;
use crate::task::{Target, TaskClient};

/// How often is looked, how far apart, and how many looks in a row show a stray: a command that was started by somebody
/// else just now is not known for a moment either.
const LOOKS: usize = 10;
const APART: Duration = Duration::from_millis(50);
const SHOWN: usize = 4;

/// Writes down what is to be run.
pub(crate) fn write_process(place: &Path, process: &Value) -> Result<()> {
    let file = process_file(place);
    std::fs::write(&file, process.to_string()).map_err(|error| cannot_write(&file, error))
}

fn process_file(place: &Path) -> PathBuf {
    place.join("process.json")
}

/// The arguments that were written down, as they stand in `/proc`.
fn arguments(place: &Path) -> Option<Vec<Vec<u8>>> {
    let text = std::fs::read(process_file(place)).ok()?;
    let process: Value = serde_json::from_slice(&text).ok()?;
    let arguments = process["args"].as_array()?.iter().filter_map(Value::as_str);
    Some(arguments.map(|each| each.as_bytes().to_vec()).collect())
}

impl Command {
    /// Kills what was run for this exec, if the shim has lost sight of it. `place` is where the exec was written down.
    pub(super) async fn end_stray(&self, client: &TaskClient, place: &Path) {
        let (Some(shim), Some(wanted)) = (self.shim_process(), arguments(place)) else { return };
        let mut looks: HashMap<i32, (Identity, usize)> = HashMap::new();
        for _ in 0..LOOKS {
            let members = self.members();
            let mut found: Vec<Identity> = children(shim)
                .into_iter()
                .filter(|child| members.contains(child) && has_exactly(*child, &wanted))
                .collect();
            if !found.is_empty() {
                let known = self.known_pids(client).await;
                found.retain(|each| !known.contains(&each.pid));
            }
            looks.retain(|_, (seen, _)| found.contains(seen));
            for each in found {
                let (_, count) = looks.entry(each.pid).or_insert((each, 0));
                *count += 1;
                if *count == SHOWN {
                    tracing::warn!(
                        exec = self.name(),
                        pid = each.pid,
                        "a command that the shim does not know is killed"
                    );
                    end_all(kill_tree(each)).await;
                }
            }
            sleep(APART).await;
        }
    }

    /// The pids of the execs that the shim knows.
    async fn known_pids(&self, client: &TaskClient) -> Vec<i32> {
        let mut pids = Vec::new();
        for name in names_of(self.container_dir()) {
            if let Ok(state) = client.state(Target::exec(self.container(), &name), ANSWER).await {
                pids.extend(i32::try_from(state.pid));
            }
        }
        pids
    }
}

/// What the shim calls the execs and sessions of a container.
fn names_of(dir: &ContainerDir) -> Vec<String> {
    let entries = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
    let execs = entries(dir.execs()).filter_map(|entry| entry.file_name().into_string().ok());
    let sessions = entries(dir.sessions()).filter_map(|entry| crate::sessions::name_at(entry.path()));
    execs.chain(sessions).collect()
}

fn has_exactly(process: Identity, wanted: &[Vec<u8>]) -> bool {
    process.has_arguments(|words| {
        // The last argument ends with a zero as well.
        let words = words.strip_suffix(&[b"".as_slice()]).unwrap_or(words);
        words.len() == wanted.len() && words.iter().zip(wanted).all(|(one, other)| *one == other.as_slice())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_command_is_told_by_all_of_its_arguments() {
        let at = tempfile::tempdir().unwrap();
        assert!(arguments(at.path()).is_none());
        let mut cat = std::process::Command::new("cat");
        let mut child = cat.args(["-", "-u", ""]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        // The kernel lets the parent go on a moment before it has put the arguments in their place.
        while !process.has_arguments(|words| words.first() == Some(&b"cat".as_slice())) {
            assert!(process.lives());
            std::thread::yield_now();
        }
        for (words, same) in [
            (json!(["cat", "-", "-u", ""]), true),
            (json!(["cat", "-", "-u"]), false),
            (json!(["cat", "-", "-v", ""]), false),
        ] {
            write_process(at.path(), &json!({"args": words})).unwrap();
            assert_eq!(has_exactly(process, &arguments(at.path()).unwrap()), same, "{words}");
        }
        assert!(children(Identity::own()).contains(&process));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
