//! Removes what a clause made, and looks whether anything is left.

use std::sync::Arc;
use std::time::Duration;

use runtime_api::{ContainerId, DeleteRequest, SharedRuntime};
use tokio::time::timeout;

use crate::{Bench, Harness, Scratch, audit};

/// How long one forced delete may take. The contract says five seconds; a slow machine gets more.
const DELETE_LIMIT: Duration = Duration::from_secs(20);

/// How long things may take to vanish that end by themselves, such as a monitor.
const SETTLE: Duration = Duration::from_secs(5);

/// Deletes every container of the bench by force and ends its runtime. Gives what is wrong afterwards.
pub(super) async fn clear(bench: &Bench) -> Vec<String> {
    let runtime = bench.runtime();
    let mut wrong = delete_all(&runtime, &bench.ids()).await;
    wrong.extend(still_listed(&runtime).await);
    if timeout(DELETE_LIMIT, runtime.shutdown()).await.is_err() {
        wrong.push("the runtime value did not end its own tasks".to_owned());
    }
    wrong
}

/// The same for a scratch whose bench is gone, because its process was killed or crashed.
pub(super) async fn clear_after_a_crash(harness: &Arc<dyn Harness>, scratch: &Scratch) -> Vec<String> {
    let runtime = match timeout(DELETE_LIMIT, harness.open(scratch)).await {
        Ok(Ok(runtime)) => runtime,
        Ok(Err(error)) => return vec![format!("clean-up: {}", error.report())],
        Err(_) => return vec!["clean-up: the runtime cannot be opened in time".to_owned()],
    };
    let ids = match timeout(DELETE_LIMIT, runtime.list()).await {
        Ok(Ok(states)) => states.into_iter().map(|state| state.id).collect(),
        Ok(Err(error)) => return vec![format!("clean-up: {}", error.report())],
        Err(_) => return vec!["clean-up: the runtime cannot list its containers in time".to_owned()],
    };
    let mut wrong = delete_all(&runtime, &ids).await;
    wrong.extend(still_listed(&runtime).await);
    runtime.shutdown().await;
    wrong
}

/// Looks for leftovers until there are none or they had time enough to vanish.
pub(super) async fn leftovers(harness: &dyn Harness, scratch: &Scratch) -> Vec<String> {
    let look = || {
        let mut found = audit::files(scratch, scratch.token());
        if !harness.virtual_time() {
            found.extend(audit::host(scratch));
        }
        found.extend(harness.leftovers(scratch));
        found
    };
    let give_up = tokio::time::Instant::now() + SETTLE;
    let mut found = look();
    while !found.is_empty() && tokio::time::Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = look();
    }
    found
}

async fn delete_all(runtime: &SharedRuntime, ids: &Vec<ContainerId>) -> Vec<String> {
    let mut wrong = Vec::new();
    for id in ids {
        match timeout(DELETE_LIMIT, runtime.delete(id, DeleteRequest::force())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => wrong.push(format!("forced delete: {}", error.report())),
            Err(_) => wrong.push(format!("forced delete of \"{id}\" took more than {DELETE_LIMIT:?}")),
        }
    }
    wrong
}

async fn still_listed(runtime: &SharedRuntime) -> Vec<String> {
    match timeout(DELETE_LIMIT, runtime.list()).await {
        Ok(Ok(states)) => states
            .iter()
            .map(|state| format!("container \"{}\" is still {}", state.id, state.status))
            .collect(),
        Ok(Err(error)) => vec![format!("list after the clean-up: {}", error.report())],
        Err(_) => vec!["list after the clean-up does not answer".to_owned()],
    }
}
