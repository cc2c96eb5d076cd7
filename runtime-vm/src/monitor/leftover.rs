//! What is left of a shim whose monitor was killed before anybody knew of it.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use runtime_host::process::{Identity, end_whatever, with_arguments};

use super::find::PROGRAM;
use super::launch::command;
use super::order::{StartOrder, Started};
use crate::shim::{Address, LogPipe, dial};

/// How long the shim's command `delete` may take.
const DELETE: Duration = Duration::from_secs(20);

/// Removes the shim that was ordered, and everything of it: for whoever knows that its monitor is dead, and that it has no
/// container that anybody wants. Nothing happens to a shim of the same id that was started in another bundle.
pub async fn remove_leftovers(dir: &Path, order: &StartOrder) {
    end_whatever(|| processes(dir, order)).await;
    let address = std::fs::read_to_string(order.bundle.join("address")).ok();
    let address = address.and_then(|text| Address::parse(&text).ok());
    if let Some(address) = address
        && dial::remove_dead(&address).await
    {
        // It was started, and it is dead: its own clean-up ends what it had started itself.
        if let Err(error) = command(order, None).delete(DELETE).await {
            tracing::debug!(error = error.report(), "the shim's delete failed");
        }
    }
    // One that was killed before it told its address.
    dial::remove_dead(&Address::usual(&order.namespace, &order.id)).await;
    for file in ["control", "events", Started::FILE] {
        let _ = std::fs::remove_file(dir.join(file));
    }
    let _ = std::fs::remove_file(order.bundle.join(LogPipe::NAME));
}

/// The processes of the ordered shim: its binary, with its id, at work in its bundle; and what its monitor had forked to
/// become it when the monitor was killed.
async fn processes(dir: &Path, order: &StartOrder) -> Vec<Identity> {
    let (id, dir) = (order.id.clone(), dir.as_os_str().as_bytes().to_vec());
    let is_fork = move |words: &[&[u8]]| {
        words.first().is_some_and(|word| word.ends_with(PROGRAM.as_bytes()))
            && words.get(1).is_some_and(|word| *word == dir)
    };
    let forked = is_fork.clone();
    let wanted = move |words: &[&[u8]]| {
        forked(words) || words.windows(2).any(|pair| pair == [&b"-id"[..], id.as_bytes()])
    };
    let bundle = std::fs::canonicalize(&order.bundle).ok();
    let binary = std::fs::metadata(&order.shim).map(|file| (file.dev(), file.ino())).ok();
    let path = order.shim.as_os_str().as_bytes();
    let mut found = with_arguments(wanted).await;
    found.retain(|each| {
        let here = std::fs::read_link(format!("/proc/{}/cwd", each.pid)).ok();
        // A shim that is a script runs another file; its path is the second word.
        let is_shim = here.is_some()
            && here == bundle
            && (each.program() == binary
                || each.has_arguments(|words| words.iter().take(2).any(|word| *word == path)));
        is_shim || each.has_arguments(&is_fork)
    });
    found
}
