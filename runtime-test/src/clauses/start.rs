use std::time::Duration;

use runtime_api::{ContainerStatus, ErrorKind};

use crate::clause::{clause, ensure_eq, refused};
use crate::{Bench, Checked, Step, Workload};

clause! {
    /// A start runs the program exactly once.
    runs_the_program = "start.runs-the-program", Start
}
async fn runs_the_program(bench: &Bench) -> Checked {
    let container = bench.running(&Workload::says("ran").then(Step::Exit(7))).await?;
    ensure_eq!(container.wait().await?.code, Some(7), "the exit code");
    container.until_said("ran").await?;
    if let Some(output) = container.output()? {
        ensure_eq!(output.stdout, "ran\n", "the output");
    }
    Ok(())
}

clause! {
    /// A second start is refused with `WrongState`, and the program is not run twice.
    twice_is_refused = "start.twice-is-refused", Start
}
async fn twice_is_refused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let before = container.state().await?;
    let again = container.start().await;
    refused!(again, ErrorKind::WrongState { is: ContainerStatus::Running, .. }, "a second start");
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure_eq!(container.state().await?, before, "the container");
    if let Some(output) = container.output()? {
        ensure_eq!(output.stdout, "ready\n", "the output");
    }
    Ok(())
}

clause! {
    /// A start after the program ended is refused with `WrongState`, and the program is not run again.
    after_the_end_is_refused = "start.after-the-end-is-refused", Start
}
async fn after_the_end_is_refused(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::says("ran").then(Step::Exit(7))).await?;
    let before = container.state().await?;
    let again = container.start().await;
    refused!(again, ErrorKind::WrongState { is: ContainerStatus::Stopped, .. }, "a start after the end");
    tokio::time::sleep(Duration::from_millis(300)).await;
    ensure_eq!(container.state().await?, before, "the container");
    container.until_said("ran").await?;
    if let Some(output) = container.output()? {
        ensure_eq!(output.count("ran"), 1, "how often the program ran");
    }
    Ok(())
}
