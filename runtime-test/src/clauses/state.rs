use std::time::{Duration, SystemTime};

use runtime_api::{ContainerStatus, ErrorKind, Signal};

use super::exec::until_stopping;
use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, BundleOptions, Checked, Violation, Workload};

clause! {
    /// An unknown id is `NotFound`, never a default value.
    unknown_is_not_found = "state.unknown-is-not-found", State
}
async fn unknown_is_not_found(bench: &Bench) -> Checked {
    let known = bench.created(&Workload::exits(0)).await?;
    let never = bench.id("never");
    refused!(bench.runtime().state(&never).await, ErrorKind::NotFound, "an id that was never created");
    // A known id is not found by its beginning.
    let text = known.id().as_str();
    let shorter = runtime_api::ContainerId::new(&text[..text.len() - 2])?;
    refused!(bench.runtime().state(&shorter).await, ErrorKind::NotFound, "the beginning of a known id");
    known.must_be(ContainerStatus::Created).await
}

clause! {
    /// The status follows the life: Created, Running, Stopped.
    follows_the_life = "state.follows-the-life", State
}
async fn follows_the_life(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::exits_on_term(7)).await?;
    container.must_be(ContainerStatus::Created).await?;
    container.start().await?;
    container.must_be(ContainerStatus::Running).await?;
    container.until_ready().await?;
    container.must_be(ContainerStatus::Running).await?;
    container.stop(Duration::from_secs(20)).await?;
    container.must_be(ContainerStatus::Stopped).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let state = container.state().await?;
    ensure_eq!(state.status, ContainerStatus::Stopped, "the status some time later");
    ensure_eq!(state.pid, None, "the pid of a stopped container");
    container.delete().await?;
    container.must_be_unknown().await
}

clause! {
    /// Created, started and finished times are in order, each is set by its own operation, and once set they stay.
    times_are_ordered = "state.times-are-ordered", State
}
async fn times_are_ordered(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::exits_after(Duration::from_millis(100), 0)).await?;
    let created = container.state().await?;
    ensure!(created.created_at > SystemTime::UNIX_EPOCH, "the time of creation is not set");
    ensure_eq!((created.started_at, &created.exit), (None, &None), "start and end after the create");
    container.start().await?;
    let started = container.state().await?;
    ensure_eq!(started.created_at, created.created_at, "the time of creation after the start");
    let Some(start) = started.started_at else { return Err(Violation::new("a start sets the start time")) };
    ensure!(start >= created.created_at, "started {start:?} before it was created {:?}", created.created_at);
    let end = container.wait().await?.finished_at;
    ensure!(end >= start, "finished {end:?} before it was started {start:?}");
    for pause in [0, 300] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let state = container.state().await?;
        ensure_eq!(state.created_at, created.created_at, "the time of creation after the end");
        ensure_eq!(state.started_at, Some(start), "the time of the start after the end");
        ensure_eq!(state.exit.map(|exit| exit.finished_at), Some(end), "the time of the end");
    }
    Ok(())
}

clause! {
    /// The exit status is there exactly when the container is Stopped, and equals what `wait` gives.
    exit_equals_wait = "state.exit-equals-wait", State
}
async fn exit_equals_wait(bench: &Bench) -> Checked {
    let container = bench.created(&Workload::exits_on_term(7)).await?;
    ensure_eq!(container.state().await?.exit, None, "the exit status of a created container");
    container.start().await?;
    container.until_ready().await?;
    ensure_eq!(container.state().await?.exit, None, "the exit status of a running container");
    let waiting = container.waiting();
    container.stop(Duration::from_secs(20)).await?;
    let state = container.state().await?;
    ensure_eq!(state.status, ContainerStatus::Stopped, "the status after the stop");
    let waited = waiting.await.map_err(|error| Violation::new(format!("wait panicked: {error}")))??;
    ensure_eq!(state.exit.as_ref(), Some(&waited), "the exit status in the state, and the one that wait gave");
    ensure_eq!(container.wait().await?, waited, "a later wait");
    ensure_eq!(waited.code, Some(7), "the code");
    Ok(())
}

clause! {
    /// The annotations of `config.json` and the labels of the request come back unchanged.
    keeps_annotations_and_labels = "state.keeps-annotations-and-labels", State
}
async fn keeps_annotations_and_labels(bench: &Bench) -> Checked {
    let options = BundleOptions::new()
        .annotation("org.example.plain", "value")
        .annotation("org.example.empty", "")
        .annotation("org.example.odd", "a=b, \"c\"\nd é");
    let bundle = bench.bundle_with(&Workload::exits(0), &options)?;
    let request = bench.request(&bench.id("a"), &bundle).label("app", "web").label("odd", "x y\n=é").label("none", "");
    let labels = request.labels.clone();
    let container = bench.create(request).await?;
    for when in ["created", "stopped"] {
        let state = container.state().await?;
        for (key, value) in &options.annotations {
            ensure_eq!(state.annotations.get(key), Some(value), "the annotation {key} when {when}");
        }
        ensure_eq!(state.labels, labels, "the labels when {when}");
        if when == "created" {
            container.start().await?;
            container.wait().await?;
        }
    }
    Ok(())
}

clause! {
    /// `state` answers while a stop is under way, and says so.
    answers_during_a_stop = "state.answers-during-a-stop", State, deadline 60
}
async fn answers_during_a_stop(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ignores_term()).await?;
    ensure!(!container.state().await?.stopping, "nobody stops the container yet");
    let stopping = container.stopping(Duration::from_secs(600));
    let Ok(seen) = tokio::time::timeout(Duration::from_secs(20), until_stopping(&container)).await else {
        return Err(Violation::new("state waits for the stop"));
    };
    seen?;
    container.must_be(ContainerStatus::Running).await?;
    ensure!(!stopping.is_finished(), "the stop ended before its grace was over");
    container.kill(Signal::KILL).await?;
    stopping.await.map_err(|error| Violation::new(format!("stop panicked: {error}")))??;
    let state = container.state().await?;
    ensure_eq!((state.status, state.stopping), (ContainerStatus::Stopped, false), "status and stopping afterwards");
    Ok(())
}
