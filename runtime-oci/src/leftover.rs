//! Commands that outlive the caller who ran them.
//!
//! A runtime's verb goes on when the program that asked for it is killed, while the lock of the container is free again.
//! So each verb leaves a mark for as long as it runs. Whoever takes the lock next and finds a mark waits for what still
//! runs, or ends it: nothing may change a container behind the back of whoever holds its lock.

use std::time::Duration;

use tokio::time::Instant;

use runtime_api::{Error, ErrorKind, Result};
use runtime_host::process::{Identity, end_all, kill_tree, tree};

use crate::conmon;
use crate::layout::ContainerDir;
use crate::record::Record;

/// How long a verb of a dead caller may still take. Most are over in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may then live after KILL before the next caller is told that it is still there.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Notes that a verb runs, and removes what an earlier one complained of, which must not be taken for this one's words.
/// Only the holder of the container's lock may.
pub(crate) fn mark(dir: &ContainerDir) {
    // The old complaints become the mark: that is one step, and makes no file.
    if std::fs::rename(dir.oci_log(), dir.verb()).is_err() {
        let _ = std::fs::remove_file(dir.oci_log());
        // Where no file can be made, the verb shall run all the same: it may be the one that frees space.
        drop(std::fs::File::create(dir.verb()));
    }
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
///
/// # Errors
/// `Busy` when it does not end even so, as in a system call that cannot be interrupted.
pub(crate) async fn settle(dir: &ContainerDir, patience: Duration) -> Result<()> {
    if !is_marked(dir) {
        return Ok(());
    }
    until_gone(|| verbs_on(dir), patience).await?;
    unmark(dir);
    Ok(())
}

/// The verbs that run on a container. Whatever their arguments, its own processes are none.
async fn verbs_on(dir: &ContainerDir) -> Vec<Identity> {
    let mut left = conmon::verbs_on(dir).await;
    if !left.is_empty()
        && let Ok(Some(record)) = Record::read(dir)
        && let Some(init) = record.init
    {
        let own = tree(init);
        left.retain(|each| !own.contains(each));
    }
    left
}

async fn until_gone<F>(find: impl Fn() -> F, patience: Duration) -> Result<()>
where
    F: Future<Output = Vec<Identity>> + Send,
{
    let begun = Instant::now();
    loop {
        let left = find().await;
        let Some(first) = left.first() else { return Ok(()) };
        if begun.elapsed() >= patience + KILL_PATIENCE {
            let holder = format!("a command whose caller is gone, process {}", first.pid);
            return Err(Error::new(ErrorKind::Busy { holder }).hint(
                "it was killed; a process in uninterruptible sleep (state D) dies when its system call ends",
            ));
        }
        if begun.elapsed() >= patience {
            end_all(left.into_iter().flat_map(kill_tree)).await;
        }
        let pause = if begun.elapsed() < patience { 2 } else { 50 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// [`settle`] with the patience that is right where nobody is in a hurry.
pub(crate) async fn wait_for(dir: &ContainerDir) -> Result<()> {
    settle(dir, PATIENCE).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until a child that was just started has its arguments: its parent goes on before.
    fn with_arguments(child: u32) -> Identity {
        let process = Identity::of(i32::try_from(child).unwrap()).unwrap();
        while !process.has_arguments(|words| words.first() == Some(&&b"sh"[..]) && words.len() > 3) {
            std::thread::yield_now();
        }
        process
    }

    #[tokio::test]
    async fn a_verb_that_goes_on_is_waited_for_and_then_ended() {
        let at = tempfile::tempdir().unwrap();
        let dir = ContainerDir::at(at.path().to_owned());
        wait_for(&dir).await.unwrap();

        mark(&dir);
        let log = format!("--log={}", dir.oci_log().display());
        let mut verb = tokio::process::Command::new("sh").args(["-c", "sleep 600; :", &log]).spawn().unwrap();
        with_arguments(verb.id().unwrap());
        settle(&dir, Duration::from_millis(50)).await.unwrap();
        assert!(verb.wait().await.unwrap().code().is_none());
        assert!(!is_marked(&dir));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_killed_is_named_and_not_waited_for_for_ever() {
        // Nobody is killed for it: the start time is that of no process.
        let undead = Identity { start: 0, ..Identity::own() };
        let error = until_gone(|| async { vec![undead] }, PATIENCE).await.unwrap_err();
        let ErrorKind::Busy { holder } = error.kind() else { panic!("{error:?}") };
        assert!(holder.ends_with(&format!("process {}", undead.pid)), "{holder}");
    }

    #[tokio::test]
    async fn a_sandbox_with_the_arguments_of_its_create_is_no_verb() {
        let at = tempfile::tempdir().unwrap();
        let dir = ContainerDir::at(at.path().to_owned());
        let log = format!("--log={}", dir.oci_log().display());
        let bundle = format!("--bundle={}", dir.path().display());
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", "read line", "runsc", &log]).args(arguments);
            command.stdin(std::process::Stdio::piped()).spawn().unwrap()
        };
        let identity = |child: &std::process::Child| with_arguments(child.id());
        let mut sandbox = run(&["boot", &bundle, "x"]);
        let mut init = run(&["boot", "x"]);
        let mut verb = run(&["pause", "x"]);
        identity(&sandbox);
        let mut record = Record::new(runtime_api::ContainerId::new("x").unwrap(), "/b".into(), "boot".into());
        record.init = Some(identity(&init));
        record.write(&dir).unwrap();
        assert_eq!(verbs_on(&dir).await, [identity(&verb)]);
        for child in [&mut sandbox, &mut init, &mut verb] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
