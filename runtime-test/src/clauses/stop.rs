use std::time::Duration;

use runtime_api::{ContainerStatus, ExitStatus, Signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::clause::{clause, ensure, ensure_eq};
use crate::workload::READY;
use crate::{Bench, Checked, Step, Trap, Violation, Workload};

/// Long enough to see that something did not wait for it, whatever the machine.
const LONG: Duration = Duration::from_secs(60);

clause! {
    /// A program that ends on the stop signal keeps its own exit code.
    keeps_the_programs_code = "stop.keeps-the-programs-code", Stop
}
async fn keeps_the_programs_code(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    let begun = Instant::now();
    let exit = container.stop(LONG).await?;
    ensure_eq!(exit.code, Some(7), "the code");
    ensure!(begun.elapsed() < LONG / 2, "the stop waited for its grace although the program ended");
    ensure_eq!(container.wait().await?, exit, "what wait gives");
    container.must_be(ContainerStatus::Stopped).await
}

clause! {
    /// A program that ignores the stop signal is killed when the grace is over, not before; the code is 137.
    kills_after_the_grace = "stop.kills-after-the-grace", Stop
}
async fn kills_after_the_grace(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ignores_term()).await?;
    let grace = Duration::from_secs(2);
    let begun = Instant::now();
    let exit = container.stop(grace).await?;
    ensure!(begun.elapsed() >= grace, "it was killed {:?} before the grace was over", grace - begun.elapsed());
    ensure_eq!(exit.code, Some(137), "the code");
    container.must_be(ContainerStatus::Stopped).await
}

clause! {
    /// A grace of zero kills at once.
    zero_grace_kills = "stop.zero-grace-kills", Stop
}
async fn zero_grace_kills(bench: &Bench) -> Checked {
    // It would end with 7 if the stop signal were sent at all.
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    ensure_eq!(container.stop(Duration::ZERO).await?.code, Some(137), "the code");
    container.must_be(ContainerStatus::Stopped).await
}

clause! {
    /// The stop signal of the create request is what the program gets.
    sends_the_configured_signal = "stop.sends-the-configured-signal", Stop
}
async fn sends_the_configured_signal(bench: &Bench) -> Checked {
    let program = Workload::new([
        Step::Trap(10, Trap::Exit(42)),
        Step::Trap(15, Trap::Exit(43)),
        Step::Out(READY.to_owned()),
        Step::Forever,
    ]);
    let container = bench.created_with(&program, |request| request.stop_signal(Signal::USR1)).await?;
    container.start().await?;
    container.until_ready().await?;
    ensure_eq!(container.stop(LONG).await?.code, Some(42), "the code that the trap of USR1 gives");
    Ok(())
}

clause! {
    /// A created container is killed at once.
    kills_created = "stop.kills-created", Stop
}
async fn kills_created(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::says("ran")).await?;
    let begun = Instant::now();
    let exit = container.stop(LONG).await?;
    ensure!(begun.elapsed() < LONG / 2, "the stop of a created container waited for its grace");
    ensure_eq!(exit.code, Some(137), "the code");
    let state = container.state().await?;
    ensure_eq!((state.status, state.started_at), (ContainerStatus::Stopped, None), "status and start time");
    ensure_eq!(container.output()?.unwrap_or_default().stdout, "", "the output");
    Ok(())
}

clause! {
    /// A paused container is thawed and then stopped like a running one.
    thaws_paused = "stop.thaws-paused", Stop, needs [Pause]
}
async fn thaws_paused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    container.pause().await?;
    let begun = Instant::now();
    ensure_eq!(container.stop(LONG).await?.code, Some(7), "the code that the trap of TERM gives");
    ensure!(begun.elapsed() < LONG / 2, "the program was not thawed to end by itself");
    container.must_be(ContainerStatus::Stopped).await
}

clause! {
    /// Stopping a stopped container is Ok, with the stored status unchanged.
    stopped_changes_nothing = "stop.stopped-changes-nothing", Stop
}
async fn stopped_changes_nothing(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(7)).await?;
    let before = container.state().await?;
    for grace in [LONG, Duration::ZERO] {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ensure_eq!(Some(container.stop(grace).await?), before.exit, "the status that a stop gives");
    }
    ensure_eq!(container.state().await?, before, "the container");
    Ok(())
}

clause! {
    /// A second stop with a shorter grace shortens the first.
    shorter_grace_shortens = "stop.shorter-grace-shortens", Stop, deadline 90
}
async fn shorter_grace_shortens(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ignores_term()).await?;
    let begun = Instant::now();
    let first = container.stopping(LONG);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let shorter = Duration::from_secs(1);
    let second = container.stop(shorter).await?;
    let first = ended(first).await?;
    ensure!(begun.elapsed() >= shorter, "it was killed before the shorter grace was over");
    ensure!(begun.elapsed() < LONG / 2, "the first stop kept its longer grace");
    ensure_eq!(first, second, "the two callers' statuses");
    ensure_eq!(first.code, Some(137), "the code");
    Ok(())
}

clause! {
    /// A second stop with a longer grace does not lengthen the first.
    longer_grace_does_not_lengthen = "stop.longer-grace-does-not-lengthen", Stop, deadline 90
}
async fn longer_grace_does_not_lengthen(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ignores_term()).await?;
    let begun = Instant::now();
    let shorter = Duration::from_secs(2);
    let first = container.stopping(shorter);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let second = container.stop(LONG).await?;
    ensure!(begun.elapsed() >= shorter, "it was killed before the first grace was over");
    ensure!(begun.elapsed() < LONG / 2, "the second stop lengthened the grace");
    ensure_eq!(ended(first).await?, second, "the two callers' statuses");
    ensure_eq!(second.code, Some(137), "the code");
    Ok(())
}

clause! {
    /// The stop signal is sent once, however many callers stop; all get the same status.
    many_callers_agree = "stop.many-callers-agree", Stop, deadline 60
}
async fn many_callers_agree(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::says_signals(&[15])).await?;
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (runtime, id) = (bench.runtime(), container.id().clone());
        let request = runtime_api::StopRequest::within(Duration::from_secs(600));
        callers.spawn(async move { runtime.stop(&id, request).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    container.until_said("signal 15").await?;
    // A second one would come soon, if it came.
    tokio::time::sleep(Duration::from_secs(1)).await;
    container.kill(Signal::KILL).await?;
    let mut statuses = Vec::new();
    while let Some(ended) = callers.join_next().await {
        statuses.push(ended.map_err(|error| Violation::new(format!("stop panicked: {error}")))??);
    }
    let final_status = container.wait().await?;
    ensure!(statuses.iter().all(|status| *status == final_status), "the callers disagree: {statuses:?}");
    ensure_eq!((statuses.len(), final_status.code), (8, Some(137)), "callers and code");
    if let Some(output) = container.output()? {
        ensure_eq!(output.count("signal 15"), 1, "how often the stop signal arrived");
    }
    Ok(())
}

clause! {
    /// A stop whose future is dropped goes on: the container still ends.
    dropped_goes_on = "stop.dropped-goes-on", Stop, deadline 60
}
async fn dropped_goes_on(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ignores_term()).await?;
    let grace = Duration::from_secs(2);
    let begun = Instant::now();
    let dropped = tokio::time::timeout(Duration::from_millis(300), container.stop(grace)).await;
    ensure!(dropped.is_err(), "the stop ended before its grace was over: {dropped:?}");
    ensure_eq!(container.wait().await?.code, Some(137), "the code");
    ensure!(begun.elapsed() >= grace, "it was killed before the grace was over");
    container.must_be(ContainerStatus::Stopped).await
}

async fn ended(stop: JoinHandle<runtime_api::Result<ExitStatus>>) -> Checked<ExitStatus> {
    Ok(stop.await.map_err(|error| Violation::new(format!("stop panicked: {error}")))??)
}
