use std::time::Duration;

use crate::clause::{clause, ensure_eq};
use crate::{Bench, Checked, Workload};

clause! {
    /// The list is empty where nothing was created, and after everything was deleted.
    empty_without_containers = "list.empty-without-containers", List
}
async fn empty_without_containers(bench: &Bench) -> Checked {
    ensure_eq!(bench.runtime().list().await?, [], "the list at the beginning");
    let stopped = bench.stopped(&Workload::exits(0)).await?;
    let created = bench.created(&Workload::exits(0)).await?;
    stopped.delete().await?;
    ensure_eq!(bench.runtime().list().await?.len(), 1, "the length of the list with one container left");
    created.delete().await?;
    ensure_eq!(bench.runtime().list().await?, [], "the list at the end");
    Ok(())
}

clause! {
    /// The order of the list is that of creation, the oldest first.
    oldest_first = "list.oldest-first", List
}
async fn oldest_first(bench: &Bench) -> Checked {
    // Neither the order of the names nor that of the starts may show.
    let bundle = bench.bundle(&Workload::ready_forever())?;
    let mut made = Vec::new();
    for name in ["m", "z", "a", "k"] {
        made.push(bench.create(bench.request(&bench.id(name), &bundle)).await?);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for container in made.iter().rev() {
        container.start().await?;
    }
    let expected: Vec<_> = made.iter().map(|container| container.id().clone()).collect();
    let listed: Vec<_> = bench.runtime().list().await?.into_iter().map(|state| state.id).collect();
    ensure_eq!(listed, expected, "the order of the list");
    Ok(())
}

clause! {
    /// Each entry of the list equals what `state` says.
    agrees_with_state = "list.agrees-with-state", List
}
async fn agrees_with_state(bench: &Bench) -> Checked {
    let created = bench.created(&Workload::exits(0)).await?;
    let running = bench.ready(&Workload::ready_forever()).await?;
    let stopped = bench.stopped(&Workload::exits(7)).await?;
    let mut expected = Vec::new();
    for container in [&created, &running, &stopped] {
        expected.push(container.state().await?);
    }
    ensure_eq!(bench.runtime().list().await?, expected, "the list, and the states one by one");
    Ok(())
}
