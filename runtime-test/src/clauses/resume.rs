use runtime_api::ErrorKind;

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, Checked, Workload};

clause! {
    /// A resume of a container that is not paused is refused with `WrongState`.
    needs_a_paused_container = "resume.needs-a-paused-container", Resume, needs [Pause]
}
async fn needs_a_paused_container(bench: &Bench) -> Checked {
    let created = bench.created(&Workload::exits(0)).await?;
    let running = bench.ready(&Workload::ready_forever()).await?;
    let stopped = bench.stopped(&Workload::exits(0)).await?;
    for container in [&created, &running, &stopped] {
        let before = container.state().await?;
        let resumed = container.resume().await;
        let error = refused!(resumed, ErrorKind::WrongState { .. }, "a resume of a {} container", before.status);
        let names = matches!(error.kind(), ErrorKind::WrongState { is, .. } if *is == before.status);
        ensure!(names, "the refusal names another state: {error}");
        ensure_eq!(container.state().await?, before, "the container");
    }
    running.pause().await?;
    running.resume().await?;
    refused!(running.resume().await, ErrorKind::WrongState { .. }, "a second resume");
    Ok(())
}
