use std::time::Duration;

use runtime_api::{ContainerStatus, ErrorKind};

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, Checked, Workload};

clause! {
    /// A paused container is Paused and its program stands still until resume.
    freezes_until_resume = "pause.freezes-until-resume", Pause, needs [Pause], deadline 60
}
async fn freezes_until_resume(bench: &Bench) -> Checked {
    let container = bench.running(&Workload::ticks(Duration::from_millis(20))).await?;
    container.until_said("tick 3").await?;
    container.pause().await?;
    container.must_be(ContainerStatus::Paused).await?;
    let frozen = container.last_output().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    container.must_be(ContainerStatus::Paused).await?;
    ensure_eq!(container.output()?, frozen, "the output while it is paused");
    container.resume().await?;
    container.must_be(ContainerStatus::Running).await?;
    if let Some(frozen) = frozen {
        let ticks = frozen.stdout.lines().count();
        container.until_said(&format!("tick {}", ticks + 3)).await?;
    }
    Ok(())
}

clause! {
    /// A pause of a paused container is refused with `WrongState`.
    twice_is_refused = "pause.twice-is-refused", Pause, needs [Pause]
}
async fn twice_is_refused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    container.pause().await?;
    let before = container.state().await?;
    let again = container.pause().await;
    refused!(again, ErrorKind::WrongState { is: ContainerStatus::Paused, .. }, "a second pause");
    ensure_eq!(container.state().await?, before, "the container");
    // One resume undoes it, however often a pause was tried.
    container.resume().await?;
    ensure_eq!(container.stop(Duration::from_secs(20)).await?.code, Some(7), "the code of its later end");
    Ok(())
}

clause! {
    /// A pause of a container that is created or stopped is refused with `WrongState`.
    needs_a_running_container = "pause.needs-a-running-container", Pause, needs [Pause]
}
async fn needs_a_running_container(bench: &Bench) -> Checked {
    let created = bench.created(&Workload::exits(7)).await?;
    let stopped = bench.stopped(&Workload::exits(0)).await?;
    for container in [&created, &stopped] {
        let before = container.state().await?;
        let paused = container.pause().await;
        let error = refused!(paused, ErrorKind::WrongState { .. }, "a pause of a {} container", before.status);
        let names = matches!(error.kind(), ErrorKind::WrongState { is, .. } if *is == before.status);
        ensure!(names, "the refusal names another state: {error}");
        ensure_eq!(container.state().await?, before, "the container");
    }
    created.start().await?;
    ensure_eq!(created.wait().await?.code, Some(7), "the code of the created container");
    Ok(())
}
