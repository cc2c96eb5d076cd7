use std::path::Path;
use std::time::Duration;

use runtime_api::{Capability, CheckpointRequest, ContainerStatus, ErrorKind, ExitCause};

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::{Bench, Checked, Subject, Violation, Workload};

/// A program whose progress can be seen.
fn ticking() -> Workload {
    Workload::ticks(Duration::from_millis(50))
}

clause! {
    /// A checkpointed container is Stopped with code 0 and the cause Checkpointed, and those who wait are told the same.
    ends_the_container = "checkpoint.ends-the-container", Checkpoint, needs [Checkpoint], deadline 90
}
async fn ends_the_container(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let waiting = container.waiting();
    let image = bench.image("image");
    let outcome = container.checkpoint(CheckpointRequest::new(&image)).await?;
    ensure!(outcome.image.is_dir(), "the image is not at {}", outcome.image.display());
    ensure!(is_filled(&image)?, "the image {} holds nothing", image.display());
    let state = container.state().await?;
    ensure_eq!(state.status, ContainerStatus::Stopped, "the status after it");
    let Some(exit) = state.exit else { return Err(Violation::new("a stopped container without an end")) };
    ensure_eq!((exit.code, exit.cause), (Some(0), ExitCause::Checkpointed), "code and cause");
    let waited = waiting.await.map_err(|error| Violation::new(format!("wait panicked: {error}")))??;
    ensure_eq!(waited, exit, "what one who waited is told");
    ensure_eq!(container.wait().await?, exit, "what a late one is told");
    ensure_eq!(container.stop(Duration::from_secs(1)).await?, exit, "what a stop gives");
    container.delete().await?;
    ensure!(is_filled(&image)?, "the image went with the container");
    Ok(())
}

clause! {
    /// After a reopen a checkpointed container still is Stopped with code 0 and the cause Checkpointed.
    end_survives_a_reopen = "checkpoint.end-survives-a-reopen", Checkpoint, needs [Checkpoint, Reopen], deadline 90
}
async fn end_survives_a_reopen(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    container.checkpoint(CheckpointRequest::new(bench.image("image"))).await?;
    let before = container.state().await?;
    bench.reopen(Duration::from_millis(500)).await?;
    let after = container.state().await?;
    ensure_eq!(after, before, "the state after a reopen");
    let exit = container.wait().await?;
    ensure_eq!((exit.code, exit.cause), (Some(0), ExitCause::Checkpointed), "code and cause after a reopen");
    Ok(())
}

clause! {
    /// A container that is left running is the same process, and goes on.
    leaves_it_running = "checkpoint.leaves-it-running", Checkpoint, needs [Checkpoint, CheckpointLeaveRunning], deadline 90
}
async fn leaves_it_running(bench: &Bench) -> Checked {
    let container = bench.running(&ticking()).await?;
    container.until_said("tick 3").await?;
    let before = container.state().await?;
    let image = bench.image("image");
    container.checkpoint(CheckpointRequest::new(&image).leave_running()).await?;
    ensure!(is_filled(&image)?, "the image {} holds nothing", image.display());
    ensure_eq!(container.state().await?, before, "the state");
    container.goes_on().await
}

clause! {
    /// A paused container that is left running is paused afterwards.
    leaves_it_paused = "checkpoint.leaves-it-paused", Checkpoint, needs [Checkpoint, CheckpointLeaveRunning, Pause], deadline 90
}
async fn leaves_it_paused(bench: &Bench) -> Checked {
    let container = bench.running(&ticking()).await?;
    container.until_said("tick 3").await?;
    container.pause().await?;
    container.checkpoint(CheckpointRequest::new(bench.image("image")).leave_running()).await?;
    container.must_be(ContainerStatus::Paused).await?;
    let frozen = container.last_output().await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure_eq!(container.output()?, frozen, "the output while it is paused");
    container.resume().await?;
    container.goes_on().await
}

clause! {
    /// A checkpoint of a container that is created or stopped is refused with `WrongState`.
    needs_a_running_container = "checkpoint.needs-a-running-container", Checkpoint, needs [Checkpoint]
}
async fn needs_a_running_container(bench: &Bench) -> Checked {
    let created = bench.created(&Workload::exits(7)).await?;
    let stopped = bench.stopped(&Workload::exits(0)).await?;
    for container in [&created, &stopped] {
        let before = container.state().await?;
        let image = bench.image("image");
        let refusal = container.checkpoint(CheckpointRequest::new(&image)).await;
        refused!(refusal, ErrorKind::WrongState { .. }, "a checkpoint of a {} container", before.status);
        ensure_eq!(container.state().await?, before, "the container");
        ensure!(!image.exists(), "a refused checkpoint left an image");
    }
    Ok(())
}

clause! {
    /// A place where no image can be is refused; the container goes on, and no image is left.
    failure_changes_nothing = "checkpoint.failure-changes-nothing", Checkpoint, needs [Checkpoint], deadline 60
}
async fn failure_changes_nothing(bench: &Bench) -> Checked {
    let container = bench.running(&ticking()).await?;
    container.until_said("tick 2").await?;
    let before = container.state().await?;
    let taken = bench.image("taken");
    let host = |error: std::io::Error| Violation::host(taken.display(), &error);
    std::fs::create_dir(&taken).map_err(host)?;
    std::fs::write(taken.join("mine"), "mine").map_err(host)?;
    let refusal = container.checkpoint(CheckpointRequest::new(&taken)).await;
    refused!(refusal, ErrorKind::AlreadyExists, "an image that exists");
    let nowhere = bench.image("nowhere");
    let refusal = container.checkpoint(CheckpointRequest::new(nowhere.join("image"))).await;
    refused!(refusal, ErrorKind::ConfigInvalid(_), "an image in a directory that does not exist");
    ensure!(!nowhere.exists(), "the missing directory was made");
    ensure_eq!(names(&taken)?, ["mine"], "what was in the way");
    ensure_eq!(container.state().await?, before, "the container");
    container.goes_on().await
}

clause! {
    /// An option that is not declared is refused with `Unsupported` and changes nothing.
    undeclared_options_are_refused = "checkpoint.undeclared-options-are-refused", Checkpoint, needs [Checkpoint]
}
async fn undeclared_options_are_refused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let before = container.state().await?;
    let image = bench.image("image");
    let plain = || CheckpointRequest::new(&image);
    let options = [
        (Capability::CheckpointLeaveRunning, plain().leave_running()),
        (Capability::CheckpointTcpEstablished, plain().tcp_established()),
        (Capability::CheckpointFileLocks, plain().file_locks()),
        (Capability::CheckpointPreDump, plain().pre_dump()),
        (Capability::CheckpointPreDump, plain().parent(bench.image("earlier"))),
    ];
    for (capability, request) in options {
        if bench.has(capability) {
            continue;
        }
        let refusal = container.checkpoint(request).await;
        let named = |of: &Capability| *of == capability;
        refused!(refusal, ErrorKind::Unsupported { capability, .. } if named(capability), "the option {capability}");
        ensure!(!image.exists(), "a refused checkpoint left an image");
        ensure_eq!(container.state().await?, before, "the container");
    }
    Ok(())
}

clause! {
    /// Of a checkpoint whose caller goes away either all is done or nothing.
    dropped_is_whole_or_nothing = "checkpoint.dropped-is-whole-or-nothing", Checkpoint, needs [Checkpoint], deadline 120
}
async fn dropped_is_whole_or_nothing(bench: &Bench) -> Checked {
    for (number, patience) in [0_u64, 1, 20].into_iter().enumerate() {
        let container = bench.ready(&Workload::exits_on_term(7)).await?;
        let image = bench.image(&format!("image{number}"));
        let call = container.checkpoint(CheckpointRequest::new(&image));
        let _ = tokio::time::timeout(Duration::from_millis(patience), call).await;
        // A second one finds the first at work, or done, or never begun: it is there to wait for it.
        let other = bench.image(&format!("other{number}"));
        let again = container.checkpoint(CheckpointRequest::new(&other)).await;
        let exit = match again {
            Ok(_) => {
                ensure!(!image.exists(), "the container went on, and the first image is there");
                container.wait().await?
            }
            Err(error) if error.is_wrong_state() => {
                ensure!(is_filled(&image)?, "the container was checkpointed without an image");
                ensure!(!other.exists(), "a refused checkpoint left an image");
                container.wait().await?
            }
            Err(error) => return Err(error.into()),
        };
        ensure_eq!((exit.code, exit.cause), (Some(0), ExitCause::Checkpointed), "code and cause");
        let left = names(&bench.images_dir())?;
        let hidden: Vec<_> = left.iter().filter(|name| name.starts_with('.')).collect();
        ensure!(hidden.is_empty(), "left beside the images: {hidden:?}");
    }
    Ok(())
}

/// Whether an image is there and holds something.
fn is_filled(image: &Path) -> Checked<bool> {
    Ok(image.is_dir() && !names(image)?.is_empty())
}

fn names(dir: &Path) -> Checked<Vec<String>> {
    let host = |error: std::io::Error| Violation::host(dir.display(), &error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(host)? {
        names.push(entry.map_err(host)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

impl Subject<'_> {
    /// Breaks the clause unless a ticking program goes on.
    async fn goes_on(&self) -> Checked {
        let ticks = self.output()?.map_or(0, |output| output.stdout.lines().count());
        self.until_said(&format!("tick {}", ticks + 3)).await?;
        self.must_be(ContainerStatus::Running).await
    }
}
