//! Checkpoints and restores behind shims that lose whoever asked for them, or their shim.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::{Place, on};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime_api::{
    Capability, CheckpointRequest, ContainerId, ContainerStatus, CreateRequest, DeleteRequest,
    ExecSyncRequest, ExitCause, RestoreRequest, SharedRuntime, StopRequest,
};
use runtime_test::Workload;

/// The one shim that saves containers.
const SHIMS: &[&str] = &["vm:runc"];
/// So long after a call somebody goes away, in milliseconds. A checkpoint or a restore takes some tens.
const MOMENTS: [u64; 8] = [0, 3, 10, 20, 35, 50, 80, 120];

fn can(runtime: &SharedRuntime) -> bool {
    let why_not = runtime.capabilities().why_not(Capability::Restore);
    if let Some(why) = why_not {
        println!("SKIPPED: no checkpoints: {why}");
    }
    why_not.is_none()
}

fn images(place: &Place) -> PathBuf {
    let images = place.path("images");
    std::fs::create_dir_all(&images).unwrap();
    images
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Its program has set its traps and leaves with this code when it is told to end.
async fn ready(place: &Place, runtime: &SharedRuntime, name: &str) -> ContainerId {
    let bundle = place.bundle("seven", &Workload::exits_on_term(7));
    place.ready_over(runtime, name, &bundle).await
}

/// It lives, does what it is asked, and ends with its own code.
async fn is_whole(runtime: &SharedRuntime, id: &ContainerId) {
    let request = ExecSyncRequest::new(Workload::says("inside").process());
    assert_eq!(within(LIMIT, "exec", runtime.exec_sync(id, request)).await.unwrap().stdout, b"inside\n");
    let stop = runtime.stop(id, StopRequest::within(Duration::from_secs(20)));
    assert_eq!(within(LIMIT, "stop", stop).await.unwrap().code, Some(7));
}

async fn delete(runtime: &SharedRuntime, id: &ContainerId) {
    within(LIMIT, "delete", runtime.delete(id, DeleteRequest::new())).await.unwrap();
}

async fn end(runtime: SharedRuntime) {
    within(LIMIT, "shutdown", runtime.shutdown()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_whose_value_ends_is_whole_or_nothing() {
    on(SHIMS, async |place| {
        let images = images(place);
        for (number, moment) in MOMENTS.into_iter().enumerate() {
            let runtime = place.open(&place.config()).await;
            if !can(&runtime) {
                return;
            }
            let id = ready(place, &runtime, &format!("one{number}")).await;
            let image = images.join(format!("image{number}"));
            let (own, its, request) =
                (SharedRuntime::clone(&runtime), id.clone(), CheckpointRequest::new(&image));
            let saving = tokio::spawn(async move { own.checkpoint(&its, request).await.map(drop) });
            tokio::time::sleep(Duration::from_millis(moment)).await;
            end(runtime).await;
            // Both hold the value, and its connection goes with the last.
            let _ = within(LIMIT, "the end of the call", saving).await.unwrap();
            let runtime = place.open(&place.config()).await;
            let state = within(LIMIT, "state", runtime.state(&id)).await.unwrap();
            println!("after {moment} ms: {}", state.status);
            assert_eq!(image.exists(), state.status == ContainerStatus::Stopped, "{state:?}");
            if image.exists() {
                assert_eq!(state.exit.unwrap().cause, ExitCause::Checkpointed);
                let other = place.id(&format!("other{number}"));
                let create = CreateRequest::new(other.clone(), place.path("bundles/seven"));
                let restored = runtime.restore(RestoreRequest::new(create, &image));
                within(LIMIT, "restore", restored).await.unwrap();
                is_whole(&runtime, &other).await;
                delete(&runtime, &other).await;
                std::fs::remove_dir_all(&image).unwrap();
            } else {
                assert_eq!(state.status, ContainerStatus::Running, "{state:?}");
                is_whole(&runtime, &id).await;
            }
            assert!(names(&images).is_empty(), "left beside the images: {:?}", names(&images));
            delete(&runtime, &id).await;
            end(runtime).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_whose_shim_dies_is_whole_or_nothing() {
    on(SHIMS, async |place| {
        let images = images(place);
        let runtime = place.open(&place.config()).await;
        if !can(&runtime) {
            return;
        }
        for (number, moment) in MOMENTS.into_iter().enumerate() {
            let id = ready(place, &runtime, &format!("one{number}")).await;
            let image = images.join(format!("image{number}"));
            let shim = shim_of(place, &id);
            let dies = async {
                tokio::time::sleep(Duration::from_millis(moment)).await;
                kill(shim, Signal::SIGKILL).unwrap();
            };
            let call = runtime.checkpoint(&id, CheckpointRequest::new(&image));
            let (saved, ()) = tokio::join!(within(LIMIT, "checkpoint", call), dies);
            println!("after {moment} ms: {saved:?}");
            let status = within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
            assert_eq!(image.exists(), status.cause == ExitCause::Checkpointed, "{status}");
            assert_eq!(saved.is_ok(), image.exists());
            if image.exists() {
                std::fs::remove_dir_all(&image).unwrap();
            }
            assert!(names(&images).is_empty(), "left beside the images: {:?}", names(&images));
            delete(&runtime, &id).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_a_stopped_shim_comes_to_late_is_not_made() {
    on(SHIMS, async |place| {
        let images = images(place);
        for number in 0..3 {
            let runtime = place.open(&place.config()).await;
            if !can(&runtime) {
                return;
            }
            let id = ready(place, &runtime, &format!("late{number}")).await;
            let shim = shim_of(place, &id);
            kill(shim, Signal::SIGSTOP).unwrap();
            let (own, its) = (SharedRuntime::clone(&runtime), id.clone());
            let request = CheckpointRequest::new(images.join("image"));
            let saving = tokio::spawn(async move { own.checkpoint(&its, request).await.map(drop) });
            until("the way to the image", || {
                place.container(&id).join("images/0").is_symlink().then_some(())
            })
            .await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            end(runtime).await;
            within(LIMIT, "the end of the call", saving).await.unwrap().unwrap_err();
            let runtime = place.open(&place.config()).await;
            let state = within(LIMIT, "state", runtime.state(&id)).await.unwrap();
            assert_eq!(state.status, ContainerStatus::Running, "{state:?}");
            kill(shim, Signal::SIGCONT).unwrap();
            is_whole(&runtime, &id).await;
            assert!(names(&images).is_empty(), "left beside the images: {:?}", names(&images));
            delete(&runtime, &id).await;
            end(runtime).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_let_go_of_leaves_nothing() {
    on(&["runc", "vm:runc"], async |place| {
        let images = images(place);
        let runtime = place.open(&place.config()).await;
        if !can(&runtime) {
            return;
        }
        let id = ready(place, &runtime, "saved").await;
        let image = images.join("image");
        let saved = runtime.checkpoint(&id, CheckpointRequest::new(&image));
        within(LIMIT, "checkpoint", saved).await.unwrap();
        delete(&runtime, &id).await;
        end(runtime).await;
        let restore = |name: String| {
            let create = CreateRequest::new(place.id(&name), place.path("bundles/seven"));
            RestoreRequest::new(create, &image)
        };
        for ends in [false, true] {
            for moment in MOMENTS.map(|moment| moment * 2) {
                let runtime = place.open(&place.config()).await;
                let request = restore(format!("let-go-{ends}-{moment}"));
                let id = request.create.id.clone();
                let call = tokio::time::timeout(Duration::from_millis(moment), runtime.restore(request));
                let restored = match call.await {
                    Ok(restored) => {
                        restored.unwrap();
                        true
                    }
                    Err(_late) => false,
                };
                if ends {
                    // What is undone goes with the value as well, and the next one finishes it.
                    end(runtime).await;
                    let runtime = place.open(&place.config()).await;
                    is_as_told(&runtime, &id, restored).await;
                    end(runtime).await;
                } else {
                    is_as_told(&runtime, &id, restored).await;
                    end(runtime).await;
                }
                assert!(place.kept().is_empty(), "{:?}", place.kept());
                // Not what a runtime had mounted somewhere for the moment, either.
                assert!(
                    place.path("bundles/seven/rootfs").join("manyrun-probe").is_file(),
                    "the root is emptied"
                );
            }
        }
    })
    .await;
}

/// It was restored, and goes on, or nothing is left of it in a moment.
async fn is_as_told(runtime: &SharedRuntime, id: &ContainerId, restored: bool) {
    if restored {
        is_whole(runtime, id).await;
        return delete(runtime, id).await;
    }
    let gone = async {
        loop {
            match runtime.state(id).await {
                Err(error) if error.is_not_found() => return,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    within(LIMIT, "the end of what was let go of", gone).await;
}

/// The shim of a container, by its record.
fn shim_of(place: &Place, id: &ContainerId) -> Pid {
    let text = std::fs::read(place.container(id).join("record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap();
    Pid::from_raw(i32::try_from(record["shim"]["process"]["pid"].as_i64().unwrap()).unwrap())
}
