//! Removes what a clause made, and looks whether anything is left.

use std::sync::Arc;
use std::time::Duration;

use runtime_api::{ContainerState, DeleteRequest, SharedRuntime};
use tokio::time::timeout;

use crate::{Bench, Harness, Scratch, audit};

/// How long one call may take. The contract gives a forced delete five seconds; a slow machine gets more.
const LIMIT: Duration = Duration::from_secs(30);

/// Deletes every container by force and ends the runtime. Gives what is wrong afterwards.
pub(super) async fn clear(bench: &Bench) -> Vec<String> {
    match bench.current() {
        Some(runtime) => clear_through(&runtime).await,
        // The clause ended in the middle of a reopen.
        None => clear_afresh(bench.harness(), bench.scratch()).await,
    }
}

/// The same through a new runtime value, where the clause's own is gone: it, or its process, was killed or crashed.
pub(super) async fn clear_afresh(harness: &Arc<dyn Harness>, scratch: &Scratch) -> Vec<String> {
    match timeout(LIMIT, harness.open(scratch)).await {
        Ok(Ok(runtime)) => clear_through(&runtime).await,
        Ok(Err(error)) => vec![format!("clean-up: {}", error.report())],
        Err(_) => vec!["clean-up: the runtime cannot be opened in time".to_owned()],
    }
}

/// What the list does not show is found by the audit, if there is anything.
async fn clear_through(runtime: &SharedRuntime) -> Vec<String> {
    let mut wrong = Vec::new();
    for state in listed(runtime, &mut wrong).await {
        match timeout(LIMIT, runtime.delete(&state.id, DeleteRequest::force())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => wrong.push(format!("clean-up: {}", error.report())),
            Err(_) => wrong.push(format!("clean-up: a forced delete of \"{}\" does not answer", state.id)),
        }
    }
    for state in listed(runtime, &mut wrong).await {
        wrong.push(format!("container \"{}\" is still {}", state.id, state.status));
    }
    if timeout(LIMIT, runtime.shutdown()).await.is_err() {
        wrong.push("the runtime value did not end its own tasks".to_owned());
    }
    wrong
}

async fn listed(runtime: &SharedRuntime, wrong: &mut Vec<String>) -> Vec<ContainerState> {
    match timeout(LIMIT, runtime.list()).await {
        Ok(Ok(states)) => return states,
        Ok(Err(error)) => wrong.push(format!("clean-up: {}", error.report())),
        Err(_) => wrong.push("clean-up: the list does not answer".to_owned()),
    }
    Vec::new()
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
    let give_up = tokio::time::Instant::now() + audit::settling(harness.virtual_time());
    let mut found = look();
    while !found.is_empty() && tokio::time::Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = look();
    }
    found
}
