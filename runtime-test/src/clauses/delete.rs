use std::fs;
use std::time::Duration;

use runtime_api::{ContainerStatus, DeleteRequest, ErrorKind};

use crate::clause::{clause, ensure_eq, refused};
use crate::{Bench, Checked, Life, Step, Violation, Workload};

/// The contract gives a forced delete five seconds; a slow machine gets more, and less than the grace of a stop.
const FORCE_LIMIT: Duration = Duration::from_secs(20);

clause! {
    /// After a delete the id is unknown and not listed, and free for a new container.
    frees_the_id = "delete.frees-the-id", Delete
}
async fn frees_the_id(bench: &Bench) -> Checked {
    let first = bench.stopped(&Workload::exits(7)).await?;
    first.delete().await?;
    first.must_be_unknown().await?;
    bench.nothing_is_left_of(first.id()).await?;
    let bundle = bench.bundle(&Workload::exits(8))?;
    let second = bench.create(bench.request(first.id(), &bundle)).await?;
    let state = second.state().await?;
    ensure_eq!((state.status, state.exit), (ContainerStatus::Created, None), "the new container");
    second.start().await?;
    ensure_eq!(second.wait().await?.code, Some(8), "the new container's code");
    Ok(())
}

clause! {
    /// A delete of a running container is refused with `WrongState`, and the container goes on.
    running_is_refused = "delete.running-is-refused", Delete
}
async fn running_is_refused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    let before = container.state().await?;
    let deleted = container.delete().await;
    refused!(deleted, ErrorKind::WrongState { is: ContainerStatus::Running, .. }, "a delete of a running container");
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure_eq!(container.state().await?, before, "the container");
    ensure_eq!(container.stop(Duration::from_secs(20)).await?.code, Some(7), "the code of its later end");
    Ok(())
}

clause! {
    /// A delete of a paused container is refused with `WrongState`, and the container stays paused.
    paused_is_refused = "delete.paused-is-refused", Delete, needs [Pause]
}
async fn paused_is_refused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    container.pause().await?;
    let before = container.state().await?;
    let deleted = container.delete().await;
    refused!(deleted, ErrorKind::WrongState { is: ContainerStatus::Paused, .. }, "a delete of a paused container");
    ensure_eq!(container.state().await?, before, "the container");
    container.resume().await?;
    ensure_eq!(container.stop(Duration::from_secs(20)).await?.code, Some(7), "the code of its later end");
    Ok(())
}

clause! {
    /// A created container is killed and deleted.
    kills_created = "delete.kills-created", Delete
}
async fn kills_created(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::says("ran")).await?;
    container.delete().await?;
    container.must_be_unknown().await?;
    bench.nothing_is_left_of(container.id()).await?;
    ensure_eq!(container.output()?.unwrap_or_default().stdout, "", "the output");
    Ok(())
}

clause! {
    /// With force any container is killed and deleted at once, also one that ignores TERM.
    force_kills = "delete.force-kills", Delete, deadline 120
}
async fn force_kills(bench: &Bench) -> Checked {
    let stubborn = bench.ready(&Workload::ignores_term()).await?;
    let created = bench.created(&Workload::exits(0)).await?;
    let stopped = bench.stopped(&Workload::exits(0)).await?;
    let being_stopped = bench.ready(&Workload::ignores_term()).await?;
    let stop = being_stopped.stopping(Duration::from_secs(60));
    tokio::time::sleep(Duration::from_millis(300)).await;
    for (container, what) in [
        (&stubborn, "a container that ignores TERM"),
        (&created, "a created container"),
        (&stopped, "a stopped container"),
        (&being_stopped, "a container that is being stopped"),
    ] {
        forced(container, what).await?;
    }
    let ended = stop.await.map_err(|error| Violation::new(format!("stop panicked: {error}")))?;
    ensure_eq!(ended?.code, Some(137), "what the stop gives that was under way");
    Ok(())
}

clause! {
    /// With force a paused container is killed and deleted too.
    force_kills_paused = "delete.force-kills-paused", Delete, needs [Pause], deadline 60
}
async fn force_kills_paused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ignores_term()).await?;
    container.pause().await?;
    forced(&container, "a paused container").await
}

async fn forced(container: &crate::Subject<'_>, what: &str) -> Checked {
    match tokio::time::timeout(FORCE_LIMIT, container.delete_by_force()).await {
        Ok(deleted) => deleted?,
        Err(_) => return Err(Violation::new(format!("a forced delete of {what} takes more than {FORCE_LIMIT:?}"))),
    }
    container.must_be_unknown().await
}

clause! {
    /// With force a delete of an unknown id is Ok.
    force_of_unknown_is_ok = "delete.force-of-unknown-is-ok", Delete
}
async fn force_of_unknown_is_ok(bench: &Bench) -> Checked {
    let other = bench.created(&Workload::exits(0)).await?;
    let never = bench.id("never");
    bench.runtime().delete(&never, DeleteRequest::force()).await?;
    let gone = bench.stopped(&Workload::exits(0)).await?;
    gone.delete().await?;
    gone.delete_by_force().await?;
    gone.must_be_unknown().await?;
    other.must_be(ContainerStatus::Created).await
}

clause! {
    /// Without force a second delete is `NotFound`.
    again_is_not_found = "delete.again-is-not-found", Delete
}
async fn again_is_not_found(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(0)).await?;
    container.delete().await?;
    refused!(container.delete().await, ErrorKind::NotFound, "a second delete");
    Ok(())
}

clause! {
    /// The log stays when the container is deleted: it is the caller's.
    keeps_the_log = "delete.keeps-the-log", Delete, needs [Log]
}
async fn keeps_the_log(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::says("hello").then(Step::Err("oh".to_owned()))).await?;
    container.until_said("hello").await?;
    container.delete().await?;
    let output = container.output()?.unwrap_or_default();
    ensure_eq!((output.stdout.as_str(), output.stderr.as_str()), ("hello\n", "oh\n"), "what the log says");
    let forced = bench.ready(&Workload::ready_forever()).await?;
    forced.delete_by_force().await?;
    ensure_eq!(forced.output()?.unwrap_or_default().stdout, "ready\n", "what the log says after force");
    Ok(())
}

clause! {
    /// After a delete no process of the container is left.
    leaves_no_process = "delete.leaves-no-process", Delete, deadline 90
}
async fn leaves_no_process(bench: &Bench) -> Checked {
    let tree = bench.ready(&Workload::forks_a_tree()).await?;
    tree.delete_by_force().await?;
    bench.no_process_is_left().await?;
    let forks_and_ends =
        Workload::new([Step::Child(Life::Forever), Step::Orphan(Life::Forever), Step::Exit(0)]);
    let ended = bench.stopped(&forks_and_ends).await?;
    ended.delete().await?;
    bench.no_process_is_left().await?;
    // A process that can be seen through nothing else is seen through what it writes.
    let ticking = bench.running(&Workload::ticks(Duration::from_millis(20))).await?;
    ticking.until_said("tick 2").await?;
    ticking.delete_by_force().await?;
    let log = bench.log_path(ticking.id());
    let length = || fs::metadata(&log).map(|meta| meta.len()).ok();
    let mut before = length();
    // What it wrote before may be on its way for a while.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = length();
        if now == before {
            return Ok(());
        }
        before = now;
    }
    Err(Violation::new("the program still writes to its log after the delete"))
}
