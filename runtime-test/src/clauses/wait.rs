use std::time::Duration;

use runtime_api::{ContainerStatus, ErrorKind, ExitCause, ExitStatus, Result, Signal};
use tokio::task::JoinHandle;

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, BundleOptions, Checked, Violation, Workload};

clause! {
    /// `wait` gives the program's exit code.
    gives_the_exit_code = "wait.gives-the-exit-code", Wait, deadline 60
}
async fn gives_the_exit_code(bench: &Bench) -> Checked {
    for code in [0, 1, 2, 42, 127, 128, 137, 255_u8] {
        let container = bench.running(&Workload::exits_after(Duration::from_millis(50), code)).await?;
        let exit = container.wait().await?;
        ensure_eq!((exit.code, exit.cause), (Some(i32::from(code)), ExitCause::Exited), "code and cause");
    }
    Ok(())
}

clause! {
    /// A very short program has its own code too, not a made-up one.
    gives_the_code_of_a_short_life = "wait.gives-the-code-of-a-short-life", Wait, deadline 60
}
async fn gives_the_code_of_a_short_life(bench: &Bench) -> Checked {
    let bundle = bench.bundle(&Workload::exits(42))?;
    for number in 1..=10 {
        let id = bench.id(&format!("n{number}"));
        let container = bench.create(bench.request(&id, &bundle)).await?;
        // Half of the callers are there before the start and half after the end.
        let early = (number % 2 == 0).then(|| container.waiting());
        container.start().await?;
        let exit = match early {
            Some(early) => joined(early).await?,
            None => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                container.wait().await?
            }
        };
        ensure_eq!((exit.code, exit.cause), (Some(42), ExitCause::Exited), "life {number}: code and cause");
        container.delete().await?;
    }
    Ok(())
}

clause! {
    /// Death by signal n is 128 + n.
    gives_signal_deaths = "wait.gives-signal-deaths", Wait
}
async fn gives_signal_deaths(bench: &Bench) -> Checked {
    // The init of a container has no default actions: only KILL, from outside, is a death by signal for certain.
    let container = bench.ready(&Workload::ready_forever()).await?;
    let waiting = container.waiting();
    container.kill(Signal::KILL).await?;
    let exit = joined(waiting).await?;
    ensure_eq!((exit.code, exit.cause), (Some(128 + 9), ExitCause::Exited), "code and cause");
    ensure_eq!(container.state().await?.exit, Some(exit), "the exit status in the state");
    Ok(())
}

clause! {
    /// `wait` blocks from Created on, until the real end.
    blocks_until_the_end = "wait.blocks-until-the-end", Wait
}
async fn blocks_until_the_end(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::exits_on_term(7)).await?;
    let waiting = container.waiting();
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(!waiting.is_finished(), "wait ended before the start");
    container.start().await?;
    container.until_ready().await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure!(!waiting.is_finished(), "wait ended while the program runs");
    container.kill(Signal::TERM).await?;
    ensure_eq!(joined(waiting).await?.code, Some(7), "the code");
    container.must_be(ContainerStatus::Stopped).await
}

clause! {
    /// Late callers get the same status.
    answers_late_callers = "wait.answers-late-callers", Wait
}
async fn answers_late_callers(bench: &Bench) -> Checked {
    let container = bench.running(&Workload::exits(7)).await?;
    let first = container.wait().await?;
    ensure_eq!(first.code, Some(7), "the code");
    for pause in [0, 200, 500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        ensure_eq!(container.wait().await?, first, "what a late caller gets");
    }
    Ok(())
}

clause! {
    /// Any number of callers get the same status.
    answers_many_callers = "wait.answers-many-callers", Wait
}
async fn answers_many_callers(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::exits_on_term(7)).await?;
    let mut callers: Vec<_> = (0..25).map(|_| container.waiting()).collect();
    container.start().await?;
    container.until_ready().await?;
    callers.extend((0..25).map(|_| container.waiting()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    container.kill(Signal::TERM).await?;
    let last = container.wait().await?;
    ensure_eq!(last.code, Some(7), "the code");
    for caller in callers {
        ensure_eq!(joined(caller).await?, last, "what another caller gets");
    }
    Ok(())
}

clause! {
    /// Callers that wait while the container is deleted get its final status.
    survives_a_delete = "wait.survives-a-delete", Wait
}
async fn survives_a_delete(bench: &Bench) -> Checked {
    let killed = bench.ready(&Workload::ignores_term()).await?;
    let created = bench.created(&Workload::exits(0)).await?;
    for (container, what) in [(&killed, "running"), (&created, "created")] {
        let callers: Vec<_> = (0..3).map(|_| container.waiting()).collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        container.delete_by_force().await?;
        for caller in callers {
            ensure_eq!(joined(caller).await?.code, Some(137), "the code of the {what} container");
        }
        container.must_be_unknown().await?;
    }
    Ok(())
}

clause! {
    /// A new wait after the delete is `NotFound`.
    after_delete_is_not_found = "wait.after-delete-is-not-found", Wait
}
async fn after_delete_is_not_found(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(7)).await?;
    container.delete().await?;
    let asked = tokio::time::timeout(Duration::from_secs(10), container.wait()).await;
    let Ok(answer) = asked else { return Err(Violation::new("wait blocks on a deleted container")) };
    refused!(answer, ErrorKind::NotFound, "a wait after the delete");
    Ok(())
}

clause! {
    /// Dropping a wait has no effect: the container goes on.
    dropped_changes_nothing = "wait.dropped-changes-nothing", Wait
}
async fn dropped_changes_nothing(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    let before = container.state().await?;
    let other = container.waiting();
    for _ in 0..3 {
        let dropped = tokio::time::timeout(Duration::from_millis(100), container.wait()).await;
        ensure!(dropped.is_err(), "wait ended while the program runs: {dropped:?}");
    }
    ensure_eq!(container.state().await?, before, "the container");
    ensure!(!other.is_finished(), "another caller's wait ended");
    container.kill(Signal::TERM).await?;
    ensure_eq!(joined(other).await?.code, Some(7), "the code that another caller gets");
    Ok(())
}

async fn joined(wait: JoinHandle<Result<ExitStatus>>) -> Checked<ExitStatus> {
    Ok(wait.await.map_err(|error| Violation::new(format!("wait panicked: {error}")))??)
}

clause! {
    /// A program that takes more memory than its limit is killed: code 137, cause OomKilled.
    tells_want_of_memory = "wait.tells-want-of-memory", Wait, needs [Stats]
}
async fn tells_want_of_memory(bench: &Bench) -> Checked {
    let options = BundleOptions::new().memory_limit(96 << 20);
    let greedy = bench.created_in(&Workload::eats(512 << 20), &options).await?;
    greedy.start().await?;
    let exit = greedy.wait().await?;
    ensure_eq!((exit.code, exit.cause), (Some(137), ExitCause::OomKilled), "its end");
    // A KILL by anybody else is none of that.
    let modest = bench.ready_in(&Workload::ready_forever(), &options).await?;
    let exit = modest.stop(Duration::ZERO).await?;
    ensure_eq!((exit.code, exit.cause), (Some(137), ExitCause::Exited), "the end of one that was killed");
    Ok(())
}
