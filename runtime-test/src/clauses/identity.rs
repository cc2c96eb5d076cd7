use runtime_api::{Capability, ContainerId, DeleteRequest, ErrorKind, KillRequest, Operation, Signal, StopRequest};

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::suite;
use crate::{Bench, Checked, Workload};
use std::time::Duration;

clause! {
    /// The value never changes its mind about who it is.
    info_is_constant = "identity.info-is-constant", State
}
async fn info_is_constant(bench: &Bench) -> Checked {
    let before = bench.runtime().info().clone();
    let container = bench.running(&Workload::forever()).await?;
    ensure_eq!(*bench.runtime().info(), before, "while a container runs");
    container.delete_by_force().await?;
    ensure_eq!(*bench.runtime().info(), before, "after a container was deleted");
    Ok(())
}

clause! {
    /// The value never changes its mind about what it can do, and its named queries say the same.
    capabilities_are_constant = "identity.capabilities-are-constant", State
}
async fn capabilities_are_constant(bench: &Bench) -> Checked {
    let runtime = bench.runtime();
    let before = runtime.capabilities().clone();
    let container = bench.running(&Workload::forever()).await?;
    ensure_eq!(*runtime.capabilities(), before, "while a container runs");
    container.delete_by_force().await?;
    ensure_eq!(*runtime.capabilities(), before, "after a container was deleted");
    for (capability, says) in [
        (Capability::Checkpoint, runtime.supports_checkpoint()),
        (Capability::JsonErrors, runtime.supports_json_errors()),
        (Capability::NoCgroups, runtime.supports_no_cgroups()),
    ] {
        ensure_eq!(says, before.has(capability), "the named query of {capability}");
    }
    Ok(())
}

clause! {
    /// Every capability has an answer, every "no" a reason, and every answer its evidence.
    answers_have_reasons = "identity.answers-have-reasons", State
}
async fn answers_have_reasons(bench: &Bench) -> Checked {
    let runtime = bench.runtime();
    let capabilities = runtime.capabilities();
    for capability in Capability::ALL {
        let Some((_, answer)) = capabilities.iter().find(|(each, _)| each == capability) else {
            return Err(crate::Violation::new(format!("{capability} has no answer")));
        };
        let reason = answer.why_not.as_deref();
        ensure!(reason.is_none_or(|why| !why.trim().is_empty()), "{capability} is denied without a reason");
        ensure!(!answer.evidence.said.trim().is_empty(), "the answer about {capability} has no evidence");
        for implied in capability.implies() {
            ensure!(
                !answer.is_yes() || capabilities.has(*implied),
                "{capability} is declared, and {implied}, which it implies, is not"
            );
        }
    }
    Ok(())
}

clause! {
    /// What is not declared is refused with `Unsupported`, names the capability, and changes nothing.
    undeclared_is_refused = "identity.undeclared-is-refused", State, deadline 120
}
async fn undeclared_is_refused(bench: &Bench) -> Checked {
    for operation in Operation::ALL {
        let undeclared = operation.row().needs.is_some_and(|capability| !bench.has(capability));
        if undeclared {
            suite::undeclared_is_refused(bench, *operation).await?;
        }
    }
    for capability in [Capability::Log, Capability::CgroupParent, Capability::Notify, Capability::Descriptors] {
        if !bench.has(capability) {
            suite::refusal_at_create(bench, capability).await?;
        }
    }
    Ok(())
}

clause! {
    /// An unknown id is `NotFound` for every operation but create, restore and a forced delete.
    unknown_id_is_not_found = "identity.unknown-id-is-not-found", State
}
async fn unknown_id_is_not_found(bench: &Bench) -> Checked {
    let runtime = bench.runtime();
    let id = &ContainerId::new(format!("{}-nobody", bench.scratch().token()))?;
    let grace = StopRequest::within(Duration::from_secs(1));
    refused!(runtime.start(id).await, ErrorKind::NotFound, "start");
    refused!(runtime.state(id).await, ErrorKind::NotFound, "state");
    refused!(runtime.kill(id, KillRequest::new(Signal::TERM)).await, ErrorKind::NotFound, "kill");
    refused!(runtime.stop(id, grace).await, ErrorKind::NotFound, "stop");
    refused!(runtime.wait(id).await, ErrorKind::NotFound, "wait");
    refused!(runtime.delete(id, DeleteRequest::new()).await, ErrorKind::NotFound, "delete");
    for operation in Operation::ALL {
        let asks_for_a_container = !matches!(operation, Operation::Restore | Operation::Events);
        let declared = operation.row().needs.is_some_and(|capability| bench.has(capability));
        if declared && asks_for_a_container {
            let called = suite::call(bench, id, *operation).await;
            refused!(called, ErrorKind::NotFound, "{operation}");
        }
    }
    ensure!(runtime.list().await?.is_empty(), "questions about an unknown id must not make a container");
    Ok(())
}
