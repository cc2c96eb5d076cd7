use runtime_api::{ContainerStatus, ErrorKind};

use super::attach::size;
use crate::clause::{clause, ensure_eq, refused};
use crate::{Bench, Checked, Workload};

clause! {
    /// The program is told of a resize, and finds the new size.
    reaches_the_program = "attach.resize.reaches-the-program", AttachResize, needs [AttachResize]
}
async fn reaches_the_program(bench: &Bench) -> Checked {
    let container = bench.created_on_a_terminal(&Workload::tells_sizes()).await?;
    container.start().await?;
    container.until_ready().await?;
    for (rows, columns) in [(24, 80), (50, 132), (1, 1)] {
        bench.runtime().attach_resize(container.id(), size(rows, columns)?).await?;
        container.until_said(&format!("winsize {rows} {columns}")).await?;
    }
    Ok(())
}

clause! {
    /// However fast sizes come, the last one stays.
    last_of_a_burst_wins = "attach.resize.last-of-a-burst-wins", AttachResize, needs [AttachResize], deadline 60
}
async fn last_of_a_burst_wins(bench: &Bench) -> Checked {
    let container = bench.created_on_a_terminal(&Workload::tells_sizes()).await?;
    container.start().await?;
    container.until_ready().await?;
    for rows in 1..=100 {
        bench.runtime().attach_resize(container.id(), size(rows, 200)?).await?;
    }
    container.until_said("winsize 100 200").await?;
    let said = container.output()?.unwrap_or_default().stdout;
    let last = said.lines().rfind(|line| line.starts_with("winsize"));
    ensure_eq!(last, Some("winsize 100 200"), "the last size that the program was told of");
    Ok(())
}

clause! {
    /// A resize of a container without a terminal is refused with `Rejected`.
    needs_a_terminal = "attach.resize.needs-a-terminal", AttachResize, needs [AttachResize]
}
async fn needs_a_terminal(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::exits_on_term(7)).await?;
    let resized = bench.runtime().attach_resize(container.id(), size(24, 80)?).await;
    refused!(resized, ErrorKind::Rejected { .. }, "a resize without a terminal");
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// A resize of a stopped container is refused with `WrongState`.
    stopped_is_refused = "attach.resize.stopped-is-refused", AttachResize, needs [AttachResize]
}
async fn stopped_is_refused(bench: &Bench) -> Checked {
    let container = bench.created_on_a_terminal(&Workload::exits(7)).await?;
    container.start().await?;
    container.wait().await?;
    let resized = bench.runtime().attach_resize(container.id(), size(24, 80)?).await;
    refused!(resized, ErrorKind::WrongState { is: ContainerStatus::Stopped, .. }, "a resize after the end");
    Ok(())
}
