use std::time::Duration;

use runtime_api::{ContainerStatus, ErrorKind, ExitCause};

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, Checked, Workload};

clause! {
    /// A new value over the same state directory finds running containers running.
    running_stays_running = "reopen.running-stays-running", Wait, needs [Reopen]
}
async fn running_stays_running(bench: &Bench) -> Checked {
    let created = bench.created(&Workload::exits(8)).await?;
    let running = bench.ready(&Workload::exits_on_term(7)).await?;
    let before = [created.state().await?, running.state().await?];
    bench.reopen(Duration::from_millis(200)).await?;
    let after = [created.state().await?, running.state().await?];
    ensure_eq!(after, before, "the containers after the reopen");
    ensure_eq!(bench.runtime().list().await?.len(), 2, "the length of the list");
    // They are not only known but can be used.
    created.start().await?;
    ensure_eq!(created.wait().await?.code, Some(8), "the code of the one that was created");
    let waiting = running.waiting();
    tokio::time::sleep(Duration::from_millis(200)).await;
    ensure!(!waiting.is_finished(), "wait ended while the program runs");
    ensure_eq!(running.stop(Duration::from_secs(20)).await?.code, Some(7), "the code of the one that ran");
    let waited = waiting.await.map_err(|error| crate::Violation::new(format!("wait panicked: {error}")))??;
    ensure_eq!(waited.code, Some(7), "the code that wait gives");
    Ok(())
}

clause! {
    /// A new value over the same state directory knows how those ended that ended meanwhile.
    exit_while_away_is_known = "reopen.exit-while-away-is-known", Wait, needs [Reopen]
}
async fn exit_while_away_is_known(bench: &Bench) -> Checked {
    let before = bench.stopped(&Workload::exits(6)).await?;
    let stored = before.wait().await?;
    let meanwhile = bench.running(&Workload::exits_after(Duration::from_millis(700), 7)).await?;
    bench.reopen(Duration::from_secs(2)).await?;
    ensure_eq!(before.wait().await?, stored, "the status of one that had ended before");
    let exit = meanwhile.wait().await?;
    ensure_eq!((exit.code, exit.cause), (Some(7), ExitCause::Exited), "code and cause of one that ended meanwhile");
    meanwhile.must_be(ContainerStatus::Stopped).await?;
    meanwhile.delete().await?;
    bench.reopen(Duration::ZERO).await?;
    refused!(meanwhile.state().await, ErrorKind::NotFound, "one that was deleted before another reopen");
    ensure_eq!(before.wait().await?, stored, "the status after another reopen");
    Ok(())
}

clause! {
    /// A new value over the same state directory finds a paused container paused, and can resume it.
    paused_stays_paused = "reopen.paused-stays-paused", Resume, needs [Reopen, Pause]
}
async fn paused_stays_paused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    container.pause().await?;
    bench.reopen(Duration::from_millis(200)).await?;
    container.must_be(ContainerStatus::Paused).await?;
    refused!(container.pause().await, ErrorKind::WrongState { is: ContainerStatus::Paused, .. }, "a second pause");
    container.resume().await?;
    bench.reopen(Duration::ZERO).await?;
    container.must_be(ContainerStatus::Running).await?;
    ensure_eq!(container.stop(Duration::from_secs(20)).await?.code, Some(7), "the code of its later end");
    Ok(())
}
