use std::time::Duration;

use runtime_api::{ContainerEvent, ContainerId, EventKind, EventStream, ExitCause, ExitStatus};

use crate::clause::{clause, ensure, ensure_eq};
use crate::{Bench, BundleOptions, Checked, Violation, Workload};

/// How long an event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

async fn next(stream: &mut EventStream) -> Checked<ContainerEvent> {
    match tokio::time::timeout(PATIENCE, stream.next()).await {
        Ok(Some(event)) => Ok(event?),
        Ok(None) => Err(Violation::new("the stream ended although its value is there")),
        Err(_) => Err(Violation::new(format!("no event came within {PATIENCE:?}"))),
    }
}

/// Everything that is told up to the end of `last`.
async fn until_exit(stream: &mut EventStream, last: &ContainerId) -> Checked<Vec<ContainerEvent>> {
    let mut told = Vec::new();
    loop {
        let event = next(stream).await?;
        let over = event.id == *last && matches!(event.kind, EventKind::Exited(_));
        told.push(event);
        if over {
            return Ok(told);
        }
    }
}

fn about(told: &[ContainerEvent], id: &ContainerId) -> Vec<EventKind> {
    told.iter().filter(|event| event.id == *id).map(|event| event.kind.clone()).collect()
}

fn life(exit: ExitStatus) -> Vec<EventKind> {
    vec![EventKind::Started, EventKind::Exited(exit)]
}

clause! {
    /// The start and the end of each container are told once, in this order, the end with its status.
    tells_starts_and_ends = "events.tells-starts-and-ends", Events, needs [Events]
}
async fn tells_starts_and_ends(bench: &Bench) -> Checked {
    let mut stream = bench.runtime().events().await?;
    let short = bench.stopped(&Workload::exits(7)).await?;
    let killed = bench.ready(&Workload::ready_forever()).await?;
    killed.stop(Duration::ZERO).await?;
    let ends = [short.wait().await?, killed.wait().await?];
    ensure_eq!((ends[0].code, ends[1].code), (Some(7), Some(137)), "the codes");
    short.delete().await?;
    killed.delete().await?;
    // Whatever were told too often would come before the end of a container that comes later.
    let last = bench.stopped(&Workload::exits(0)).await?;
    let told = until_exit(&mut stream, last.id()).await?;
    for (subject, exit) in [&short, &killed, &last].into_iter().zip([&ends[0], &ends[1], &last.wait().await?]) {
        ensure_eq!(about(&told, subject.id()), life(exit.clone()), "what was told of {}", subject.id());
    }
    Ok(())
}

clause! {
    /// The end of a container that is deleted with force is told too.
    tells_ends_by_force = "events.tells-ends-by-force", Events, needs [Events]
}
async fn tells_ends_by_force(bench: &Bench) -> Checked {
    let mut stream = bench.runtime().events().await?;
    let container = bench.ready(&Workload::ignores_term()).await?;
    container.delete_by_force().await?;
    let told = until_exit(&mut stream, container.id()).await?;
    let told = about(&told, container.id());
    let [EventKind::Started, EventKind::Exited(exit)] = told.as_slice() else {
        return Err(Violation::new(format!("a start and an end must be told, and it was: {told:?}")));
    };
    ensure_eq!(exit.code, Some(137), "the code of the end");
    Ok(())
}

clause! {
    /// Every subscriber is told everything.
    reaches_every_subscriber = "events.reaches-every-subscriber", Events, needs [Events]
}
async fn reaches_every_subscriber(bench: &Bench) -> Checked {
    let runtime = bench.runtime();
    let mut streams = [runtime.events().await?, runtime.events().await?, runtime.events().await?];
    let container = bench.stopped(&Workload::exits(3)).await?;
    let exit = container.wait().await?;
    for stream in &mut streams {
        let told = until_exit(stream, container.id()).await?;
        ensure_eq!(about(&told, container.id()), life(exit.clone()), "what one of three was told");
    }
    Ok(())
}

clause! {
    /// What happened before the subscription is not told.
    begins_with_the_subscription = "events.begins-with-the-subscription", Events, needs [Events]
}
async fn begins_with_the_subscription(bench: &Bench) -> Checked {
    let before = bench.stopped(&Workload::exits(3)).await?;
    let running = bench.ready(&Workload::exits_on_term(5)).await?;
    let mut stream = bench.runtime().events().await?;
    let after = bench.stopped(&Workload::exits(0)).await?;
    let told = until_exit(&mut stream, after.id()).await?;
    ensure_eq!(about(&told, before.id()), [], "what was told of the one that ended before");
    let exit = running.stop(PATIENCE).await?;
    let told = until_exit(&mut stream, running.id()).await?;
    ensure_eq!(about(&told, running.id()), [EventKind::Exited(exit)], "what was told of the one that ran before");
    Ok(())
}

clause! {
    /// A kill for want of memory is told before the end, once.
    tells_want_of_memory = "events.tells-want-of-memory", Events, needs [Events, Stats]
}
async fn tells_want_of_memory(bench: &Bench) -> Checked {
    let mut stream = bench.runtime().events().await?;
    let options = BundleOptions::new().memory_limit(96 << 20);
    let greedy = bench.created_in(&Workload::eats(512 << 20), &options).await?;
    greedy.start().await?;
    let exit = greedy.wait().await?;
    let told = until_exit(&mut stream, greedy.id()).await?;
    let expected = [EventKind::Started, EventKind::OutOfMemory, EventKind::Exited(exit.clone())];
    ensure_eq!(about(&told, greedy.id()), expected, "what was told");
    ensure_eq!(exit.cause, ExitCause::OomKilled, "the cause of the end");
    Ok(())
}

clause! {
    /// What another value over the same state directory does is told too.
    tells_what_others_do = "events.tells-what-others-do", Events, needs [Events, Reopen]
}
async fn tells_what_others_do(bench: &Bench) -> Checked {
    let mut stream = bench.runtime().events().await?;
    let other = bench.harness().open(bench.scratch()).await?;
    let id = bench.id("other");
    let bundle = bench.bundle(&Workload::exits(3))?;
    other.create(bench.request(&id, &bundle)).await?;
    other.start(&id).await?;
    let exit = other.wait(&id).await?;
    let told = until_exit(&mut stream, &id).await?;
    ensure_eq!(about(&told, &id), life(exit), "what was told");
    other.shutdown().await;
    Ok(())
}

clause! {
    /// The stream ends with the value.
    ends_with_the_value = "events.ends-with-the-value", Events, needs [Events]
}
async fn ends_with_the_value(bench: &Bench) -> Checked {
    let mut stream = bench.runtime().events().await?;
    bench.reopen(Duration::ZERO).await?;
    let end = tokio::time::timeout(PATIENCE, stream.next()).await;
    ensure!(matches!(end, Ok(None)), "the value was shut down, and its stream gives {end:?}");
    Ok(())
}
