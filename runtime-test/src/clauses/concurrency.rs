use std::time::Duration;

use runtime_api::{ContainerStatus, CreateRequest, DeleteRequest, ErrorKind, SharedRuntime};
use tokio::task::JoinSet;

use crate::clause::{clause, ensure, ensure_eq};
use crate::{Bench, Checked, Violation, Workload};

clause! {
    /// Operations on different containers do not wait for each other.
    lives_side_by_side = "concurrency.lives-side-by-side", Start, deadline 120
}
async fn lives_side_by_side(bench: &Bench) -> Checked {
    // One container is being stopped for a long time, and nobody else may notice.
    let stubborn = bench.ready(&Workload::ignores_term()).await?;
    let stop = stubborn.stopping(Duration::from_secs(600));
    let mut lives = JoinSet::new();
    for code in 1..=8_u8 {
        let bundle = bench.bundle(&Workload::exits_after(Duration::from_millis(100), code))?;
        let request = bench.request(&bench.id(&format!("n{code}")), &bundle);
        lives.spawn(one_life(bench.runtime(), request, i32::from(code)));
    }
    while let Some(life) = lives.join_next().await {
        life.map_err(|error| Violation::new(format!("a life panicked: {error}")))??;
    }
    ensure!(!stop.is_finished(), "the stop ended before its grace was over");
    ensure!(stubborn.state().await?.stopping, "the stop is under way");
    Ok(())
}

async fn one_life(runtime: SharedRuntime, request: CreateRequest, code: i32) -> Checked {
    let id = request.id.clone();
    runtime.create(request).await?;
    runtime.start(&id).await?;
    ensure_eq!(runtime.wait(&id).await?.code, Some(code), "the code of \"{id}\"");
    ensure_eq!(runtime.state(&id).await?.status, ContainerStatus::Stopped, "the status of \"{id}\"");
    runtime.delete(&id, DeleteRequest::new()).await?;
    Ok(())
}

clause! {
    /// Of several creates of one id at the same time exactly one succeeds.
    one_create_wins = "concurrency.one-create-wins", Create, deadline 60
}
async fn one_create_wins(bench: &Bench) -> Checked {
    let id = bench.id("a");
    let mut creates = JoinSet::new();
    for code in 1..=8_u8 {
        let bundle = bench.bundle(&Workload::exits(code))?;
        let (runtime, request) = (bench.runtime(), bench.request(&id, &bundle));
        creates.spawn(async move { runtime.create(request).await });
    }
    let mut winners = Vec::new();
    while let Some(created) = creates.join_next().await {
        match created.map_err(|error| Violation::new(format!("create panicked: {error}")))? {
            Ok(state) => winners.push(state),
            Err(error) => ensure!(
                matches!(error.kind(), ErrorKind::AlreadyExists),
                "the losers must be told that the id exists: {}",
                error.report()
            ),
        }
    }
    ensure_eq!(winners.len(), 1, "how many creates succeeded");
    let listed = bench.runtime().list().await?;
    ensure_eq!(listed, winners, "the list");
    // What runs is the winner's program, not that of a loser.
    let number = winners[0].bundle.clone();
    bench.runtime().start(&id).await?;
    let code = bench.runtime().wait(&id).await?.code.unwrap_or_default();
    let expected = format!("exit:{code}\"");
    let config = std::fs::read_to_string(number.join("config.json"))
        .map_err(|error| Violation::host(number.display(), &error))?;
    ensure!(config.contains(&expected), "code {code} is not that of {}", number.display());
    Ok(())
}

clause! {
    /// A state asked for while the container is being deleted is a state or `NotFound`, nothing else.
    delete_against_state = "concurrency.delete-against-state", Delete, deadline 120
}
async fn delete_against_state(bench: &Bench) -> Checked {
    let bundle = bench.bundle(&Workload::ready_forever())?;
    for round in 1..=5 {
        let id = bench.id(&format!("r{round}"));
        let container = bench.create(bench.request(&id, &bundle)).await?;
        container.start().await?;
        let (runtime, asked) = (bench.runtime(), id.clone());
        let asking = tokio::spawn(async move {
            loop {
                match runtime.state(&asked).await {
                    Ok(_) => tokio::time::sleep(Duration::from_micros(200)).await,
                    Err(error) => return error,
                }
                let listed = runtime.list().await;
                if let Err(error) = listed {
                    return error;
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        container.delete_by_force().await?;
        let end = asking.await.map_err(|error| Violation::new(format!("state panicked: {error}")))?;
        ensure!(matches!(end.kind(), ErrorKind::NotFound), "state says: {}", end.report());
    }
    Ok(())
}
