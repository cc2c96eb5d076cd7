//! Commands that outlive the caller who ran them.
//!
//! A runtime's verb goes on when the program that asked for it is killed, while the lock of the container is free again.
//! So each verb leaves a mark for as long as it runs. Whoever takes the lock next and finds a mark waits for what still
//! runs, or ends it: nothing may change a container behind the back of whoever holds its lock.

use std::time::Duration;

use tokio::time::Instant;

use crate::conmon;
use crate::layout::ContainerDir;
use crate::process::{end_all, kill_tree};

/// How long a verb of a dead caller may still take. Most are over in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Notes that a verb runs. Only the holder of the container's lock may.
pub(crate) fn mark(dir: &ContainerDir) {
    // Where no file can be made, the verb shall run all the same: it may be the one that frees space.
    drop(std::fs::File::create(dir.verb()));
}

/// Notes that it is over.
pub(crate) fn unmark(dir: &ContainerDir) {
    let _ = std::fs::remove_file(dir.verb());
}

/// Whether a caller died, or let go, while it ran a verb.
pub(crate) fn is_marked(dir: &ContainerDir) -> bool {
    dir.verb().exists()
}

/// Waits for the verb of a dead caller, for so long, and ends what then still runs. Only the holder of the container's
/// lock may.
pub(crate) async fn settle(dir: &ContainerDir, patience: Duration) {
    if !is_marked(dir) {
        return;
    }
    let deadline = Instant::now() + patience;
    loop {
        let left = conmon::verbs_on(dir);
        if left.is_empty() {
            return unmark(dir);
        }
        if Instant::now() >= deadline {
            for each in left {
                end_all(kill_tree(each)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// [`settle`] with the patience that is right where nobody is in a hurry.
pub(crate) async fn wait_for(dir: &ContainerDir) {
    settle(dir, PATIENCE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_verb_that_goes_on_is_waited_for_and_then_ended() {
        let at = tempfile::tempdir().unwrap();
        let dir = ContainerDir::at(at.path().to_owned());
        let begun = Instant::now();
        wait_for(&dir).await;
        assert!(begun.elapsed() < PATIENCE);

        mark(&dir);
        let log = format!("--log={}", dir.oci_log().display());
        let mut verb = tokio::process::Command::new("sh").args(["-c", "sleep 60; :", &log]).spawn().unwrap();
        settle(&dir, Duration::from_millis(50)).await;
        assert!(begun.elapsed() < Duration::from_secs(50));
        assert!(verb.wait().await.unwrap().code().is_none());
        assert!(!is_marked(&dir));
    }
}
