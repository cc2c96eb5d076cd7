use std::time::Duration;

use runtime_api::{ContainerStatus, ErrorKind, ExitCause, Signal};

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::workload::READY;
use crate::{Bench, Checked, Step, Trap, Workload};

clause! {
    /// The program gets the signal that was sent.
    delivers_the_signal = "kill.delivers-the-signal", Kill
}
async fn delivers_the_signal(bench: &Bench) -> Checked {
    let program = Workload::new([
        Step::Trap(10, Trap::Exit(42)),
        Step::Trap(15, Trap::Exit(43)),
        Step::Out(READY.to_owned()),
        Step::Forever,
    ]);
    let container = bench.ready(&program).await?;
    container.kill(Signal::USR1).await?;
    let exit = container.wait().await?;
    ensure_eq!((exit.code, exit.cause), (Some(42), ExitCause::Exited), "the code that the trap of USR1 gives");
    Ok(())
}

clause! {
    /// Each of many signals arrives as its own number.
    delivers_many_signals = "kill.delivers-many-signals", Kill, deadline 120
}
async fn delivers_many_signals(bench: &Bench) -> Checked {
    // Not 9 and 19, which cannot be caught, nor 17, 18 and 20 to 22, which have other senders and defaults; not in
    // the order of their numbers.
    let signals = [1, 30, 2, 26, 3, 29, 10, 12, 14, 15, 23, 24, 25, 28];
    delivers_each(bench, &signals).await
}

clause! {
    /// Where `kill.real-time` is declared, so does each signal above 31.
    delivers_real_time_signals = "kill.delivers-real-time-signals", Kill, needs [KillRealTime]
}
async fn delivers_real_time_signals(bench: &Bench) -> Checked {
    delivers_each(bench, &[40, 34, 64]).await
}

async fn delivers_each(bench: &Bench, signals: &[i32]) -> Checked {
    if !bench.sees_output() {
        return delivers_each_alone(bench, signals).await;
    }
    let container = bench.ready(&Workload::says_signals(signals)).await?;
    // All at once: none may take another's place.
    for signal in signals {
        container.kill(Signal::from_number(*signal)?).await?;
    }
    for signal in signals {
        container.until_said(&format!("signal {signal}")).await?;
    }
    let output = container.output()?.unwrap_or_default();
    for signal in signals {
        ensure_eq!(output.count(&format!("signal {signal}")), 1, "how often signal {signal} arrived");
    }
    container.must_be(ContainerStatus::Running).await
}

/// Without output the exit code tells, and a program has only one.
async fn delivers_each_alone(bench: &Bench, signals: &[i32]) -> Checked {
    let traps = signals.iter().map(|signal| Step::Trap(*signal, Trap::Exit(exit_code_for(*signal))));
    let bundle = bench.bundle(&Workload::new(traps.chain([Step::Forever])))?;
    for signal in signals {
        let container = bench.create(bench.request(&bench.id(&format!("s{signal}")), &bundle)).await?;
        container.start().await?;
        container.until_ready().await?;
        container.kill(Signal::from_number(*signal)?).await?;
        let code = container.wait().await?.code;
        ensure_eq!(code, Some(i32::from(exit_code_for(*signal))), "the code that the trap of {signal} gives");
        container.delete().await?;
    }
    Ok(())
}

/// Unlike 128 + n, so that dying of the signal is not taken for catching it.
fn exit_code_for(signal: i32) -> u8 {
    20 + u8::try_from(signal).unwrap_or_default()
}

clause! {
    /// KILL ends a program that ignores everything else; the code is 137.
    kill_ends_it = "kill.kill-ends-it", Kill
}
async fn kill_ends_it(bench: &Bench) -> Checked {
    let ignored = [1, 2, 3, 10, 12, 15].map(|signal| Step::Trap(signal, Trap::Ignore));
    let program = Workload::new(ignored.into_iter().chain([Step::Out(READY.to_owned()), Step::Forever]));
    let container = bench.ready(&program).await?;
    container.kill(Signal::TERM).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    container.must_be(ContainerStatus::Running).await?;
    container.kill(Signal::KILL).await?;
    let exit = container.wait().await?;
    ensure_eq!((exit.code, exit.cause), (Some(137), ExitCause::Exited), "code and cause");
    container.must_be(ContainerStatus::Stopped).await
}

clause! {
    /// A signal to a stopped container is refused with `WrongState`.
    stopped_is_refused = "kill.stopped-is-refused", Kill
}
async fn stopped_is_refused(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(7)).await?;
    let before = container.state().await?;
    for signal in [Signal::TERM, Signal::KILL] {
        let sent = container.kill(signal).await;
        refused!(sent, ErrorKind::WrongState { is: ContainerStatus::Stopped, .. }, "{signal}");
    }
    ensure_eq!(container.state().await?, before, "the container");
    Ok(())
}

clause! {
    /// KILL ends a created container.
    created_dies_of_kill = "kill.created-dies-of-kill", Kill
}
async fn created_dies_of_kill(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::says("ran")).await?;
    container.kill(Signal::KILL).await?;
    ensure_eq!(container.wait().await?.code, Some(137), "the code");
    let state = container.state().await?;
    ensure_eq!((state.status, state.started_at), (ContainerStatus::Stopped, None), "status and start time");
    let printed = container.output()?.unwrap_or_default().stdout;
    ensure_eq!(printed, "", "the output of a program that was never started");
    container.delete().await?;
    Ok(())
}

clause! {
    /// Where `kill.created` is declared, a signal to a created container is handed to its init.
    created_accepts_signals = "kill.created-accepts-signals", Kill, needs [KillCreated]
}
async fn created_accepts_signals(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::exits(7)).await?;
    // WINCH, which nobody dies of by default; whether an init that has not run the program reacts at all is the
    // runtime's affair.
    container.kill(Signal::from_number(28)?).await?;
    let state = container.state().await?;
    ensure!(
        matches!(state.status, ContainerStatus::Created | ContainerStatus::Stopped),
        "a signal made a created container {}",
        state.status
    );
    if state.status == ContainerStatus::Created {
        container.start().await?;
        ensure_eq!(container.wait().await?.code, Some(7), "the code of the program");
    }
    Ok(())
}

clause! {
    /// KILL ends a paused container without thawing it for its program.
    paused_dies_of_kill = "kill.paused-dies-of-kill", Kill, needs [Pause], deadline 60
}
async fn paused_dies_of_kill(bench: &Bench) -> Checked {
    let container = bench.running(&Workload::ticks(Duration::from_millis(20))).await?;
    container.until_said("tick 3").await?;
    container.pause().await?;
    let before = container.last_output().await?;
    container.kill(Signal::KILL).await?;
    ensure_eq!(container.wait().await?.code, Some(137), "the code");
    container.must_be(ContainerStatus::Stopped).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    ensure_eq!(container.output()?, before, "the output since the pause");
    Ok(())
}

clause! {
    /// Where `kill.paused` is declared, any other signal to a paused container stays pending until resume.
    paused_keeps_signals_pending = "kill.paused-keeps-signals-pending", Kill, needs [Pause, KillPaused]
}
async fn paused_keeps_signals_pending(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on(10, 42)).await?;
    container.pause().await?;
    container.kill(Signal::USR1).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    container.must_be(ContainerStatus::Paused).await?;
    container.resume().await?;
    ensure_eq!(container.wait().await?.code, Some(42), "the code that the trap of USR1 gives");
    Ok(())
}
