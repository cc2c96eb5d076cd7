use std::time::Duration;

use runtime_api::{
    Capability, CheckpointRequest, ContainerStatus, ErrorKind, ExitCause, RestoreRequest,
};

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::bench::Output;
use crate::{Bench, Checked, Step, Subject, Violation, Workload};

/// A program whose progress can be seen.
fn ticking() -> Workload {
    Workload::ticks(Duration::from_millis(50))
}

clause! {
    /// The program goes on where it was saved, under another id, twice in a row.
    continues_the_program = "restore.continues-the-program", Restore, needs [Checkpoint, Restore], deadline 120
}
async fn continues_the_program(bench: &Bench) -> Checked {
    let bundle = bench.bundle(&ticking())?;
    let mut container = bench.create(bench.request(&bench.id("first"), &bundle)).await?;
    container.start().await?;
    container.until_said("tick 3").await?;
    for (round, next) in ["second", "third"].into_iter().enumerate() {
        let image = bench.image(&format!("image{round}"));
        container.checkpoint(CheckpointRequest::new(&image)).await?;
        let saved = last_tick(&container)?;
        let request = bench.request(&bench.id(next), &bundle).label("round", next);
        let restored = bench.restore(RestoreRequest::new(request, &image)).await?;
        restored.must_be(ContainerStatus::Running).await?;
        let state = restored.state().await?;
        ensure!(state.started_at.is_some(), "a running container without a start time");
        ensure_eq!(state.labels.get("round").map(String::as_str), Some(next), "the label of the request");
        if bench.has(Capability::HostVisiblePid) {
            ensure!(state.pid.is_some(), "a running container without a pid");
        }
        if let Some(saved) = saved {
            // What it printed in the moment before it was saved may have been lost on the way to nobody.
            restored.until_said(&format!("tick {}", saved + 4)).await?;
            let first = restored.output()?.unwrap_or_default();
            ensure!(first.count("tick 1") == 0, "the program began anew: {:?}", first.stdout);
        }
        container.delete().await?;
        container = restored;
    }
    Ok(())
}

clause! {
    /// A log that exists is continued.
    continues_the_log = "restore.continues-the-log", Restore, needs [Checkpoint, Restore, Log], deadline 90
}
async fn continues_the_log(bench: &Bench) -> Checked {
    let (id, bundle) = (bench.id("one"), bench.bundle(&ticking())?);
    let container = bench.create(bench.request(&id, &bundle)).await?;
    container.start().await?;
    container.until_said("tick 3").await?;
    let image = bench.image("image");
    container.checkpoint(CheckpointRequest::new(&image)).await?;
    let before = container.output()?.unwrap_or_default();
    container.delete().await?;
    let restored = bench.restore(RestoreRequest::new(bench.request(&id, &bundle), &image)).await?;
    let ticks = before.stdout.lines().count();
    restored.until_said(&format!("tick {}", ticks + 4)).await?;
    let after = restored.output()?.unwrap_or_default();
    ensure!(after.stdout.starts_with(&before.stdout), "the log began anew: {:?}", after.stdout);
    Ok(())
}

clause! {
    /// An image can be restored many times, side by side.
    serves_many_times = "restore.serves-many-times", Restore, needs [Checkpoint, Restore], deadline 120
}
async fn serves_many_times(bench: &Bench) -> Checked {
    let (image, bundle) = saved(bench, &Workload::exits_on_term(7)).await?;
    let mut all = Vec::new();
    for name in ["one", "two", "three"] {
        let request = bench.request(&bench.id(name), &bundle);
        all.push(bench.restore(RestoreRequest::new(request, &image)).await?);
    }
    all[0].delete_by_force().await?;
    for container in &all[1..] {
        container.must_be(ContainerStatus::Running).await?;
        let exit = container.stop(Duration::from_secs(20)).await?;
        ensure_eq!((exit.code, exit.cause), (Some(7), ExitCause::Exited), "code and cause of a restored container");
    }
    Ok(())
}

clause! {
    /// Execs, stop, wait and delete work on a restored container as on any other.
    is_a_whole_life = "restore.is-a-whole-life", Restore, needs [Checkpoint, Restore, ExecSync], deadline 90
}
async fn is_a_whole_life(bench: &Bench) -> Checked {
    let (image, bundle) = saved(bench, &Workload::exits_on_term(7)).await?;
    let restored = bench.restore(RestoreRequest::new(bench.request(&bench.id("one"), &bundle), &image)).await?;
    let waiting = restored.waiting();
    let listed = bench.runtime().list().await?;
    ensure!(listed.iter().any(|state| state.id == *restored.id()), "it is not listed");
    refused!(restored.start().await, ErrorKind::WrongState { .. }, "a start of a restored container");
    let outcome = restored.exec(&Workload::new([Step::Out("inside".to_owned()), Step::Exit(3)])).await?;
    ensure_eq!(String::from_utf8_lossy(&outcome.stdout), "inside\n", "the output of an exec");
    let exit = restored.stop(Duration::from_secs(20)).await?;
    ensure_eq!((exit.code, exit.cause), (Some(7), ExitCause::Exited), "code and cause of its end");
    let waited = waiting.await.map_err(|error| Violation::new(format!("wait panicked: {error}")))??;
    ensure_eq!(waited, exit, "what wait gives");
    restored.delete().await?;
    bench.nothing_is_left_of(restored.id()).await
}

clause! {
    /// A known id is refused with `AlreadyExists`, and the container stays as it was.
    rejects_a_known_id = "restore.rejects-a-known-id", Restore, needs [Checkpoint, Restore], deadline 60
}
async fn rejects_a_known_id(bench: &Bench) -> Checked {
    let (image, bundle) = saved(bench, &Workload::ready_forever()).await?;
    let other = bench.ready(&Workload::exits_on_term(5)).await?;
    let before = other.state().await?;
    let request = RestoreRequest::new(bench.request(other.id(), &bundle), &image);
    refused!(bench.runtime().restore(request).await, ErrorKind::AlreadyExists, "a restore under a known id");
    ensure_eq!(other.state().await?, before, "the container");
    ensure_eq!(other.stop(Duration::from_secs(20)).await?.code, Some(5), "the code of its later end");
    Ok(())
}

clause! {
    /// An image that is missing, incomplete or damaged is refused with `ConfigInvalid` and leaves nothing behind.
    rejects_broken_images = "restore.rejects-broken-images", Restore, needs [Checkpoint, Restore], deadline 120
}
async fn rejects_broken_images(bench: &Bench) -> Checked {
    let (image, bundle) = saved(bench, &Workload::ready_forever()).await?;
    let host = |error: std::io::Error| Violation::host("a broken image", &error);
    let empty = bench.image("empty");
    std::fs::create_dir(&empty).map_err(host)?;
    let damaged = bench.image("damaged");
    std::fs::create_dir(&damaged).map_err(host)?;
    for entry in std::fs::read_dir(&image).map_err(host)? {
        let name = entry.map_err(host)?.file_name();
        std::fs::write(damaged.join(name), [b"no such thing ", &[0xa5; 200][..]].concat()).map_err(host)?;
    }
    for (what, image) in [("a missing", bench.image("missing")), ("an empty", empty), ("a damaged", damaged)] {
        let id = bench.id("broken");
        let request = bench.request(&id, &bundle);
        let refusal = bench.runtime().restore(RestoreRequest::new(request, &image)).await;
        let error = refused!(refusal, ErrorKind::ConfigInvalid(_), "{what} image");
        ensure!(error.report().contains(&*image.to_string_lossy()), "{what} image is not named: {}", error.report());
        bench.nothing_is_left_of(&id).await?;
    }
    // The id and the whole image are as good as before.
    let request = bench.request(&bench.id("broken"), &bundle);
    bench.restore(RestoreRequest::new(request, &image)).await?.must_be(ContainerStatus::Running).await?;
    Ok(())
}

/// The image of a container that was ready when it was saved and is deleted, and its bundle.
async fn saved(bench: &Bench, workload: &Workload) -> Checked<(std::path::PathBuf, std::path::PathBuf)> {
    let bundle = bench.bundle(workload)?;
    let container = bench.create(bench.request(&bench.id("saved"), &bundle)).await?;
    container.start().await?;
    container.until_ready().await?;
    let image = bench.image("image");
    container.checkpoint(CheckpointRequest::new(&image)).await?;
    container.delete().await?;
    Ok((image, bundle))
}

/// The number of the last tick; nothing where output cannot be seen.
fn last_tick(container: &Subject<'_>) -> Checked<Option<u64>> {
    let last = |output: Output| output.stdout.lines().last()?.strip_prefix("tick ")?.parse().ok();
    Ok(container.output()?.and_then(last))
}
