//! Checkpoints by shims that come to them late, or fail, and those that nobody can finish.

use std::path::{Path, PathBuf};

use manyrun_tests::fake_shim::Misdeed;
use manyrun_tests::patience::{LIMIT, until, within};
use runtime_api::{
    CheckpointRequest, ContainerId, ContainerStatus, DeleteRequest, ErrorKind, ExitCause, SharedRuntime,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use ttrpc::Code;

use crate::place::{Bystander, PATIENT, Place, id, program};

/// A directory for images, and the one in it that is asked for.
fn images() -> (TempDir, PathBuf) {
    let images = tempfile::tempdir().unwrap();
    let image = images.path().join("image");
    (images, image)
}

fn names(images: &TempDir) -> Vec<PathBuf> {
    std::fs::read_dir(images.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Asks for a checkpoint that the shim does not come to.
async fn asked(place: &Place, id: &ContainerId, image: &Path) -> JoinHandle<runtime_api::Result<()>> {
    place.misdeeds().always("Checkpoint", Misdeed::Hesitates);
    let (own, id, request) =
        (SharedRuntime::clone(&place.runtime), id.clone(), CheckpointRequest::new(image));
    let saving = tokio::spawn(async move { own.checkpoint(&id, request).await.map(drop) });
    until("the call", || (place.misdeeds().hesitating() == 1).then_some(())).await;
    saving
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_was_taken_back_is_never_made() {
    let (mut place, id, (images, image)) = (Place::new().await, id("one"), images());
    place.running(&id, &program()).await;
    for _ in 0..2 {
        let saving = asked(&place, &id, &image).await;
        within(PATIENT, "reopen", place.reopen()).await;
        assert!(within(LIMIT, "the call", saving).await.unwrap().is_err());
        let state = within(LIMIT, "state", place.runtime.state(&id)).await.unwrap();
        assert_eq!(state.status, ContainerStatus::Running);
        assert!(names(&images).is_empty(), "{:?}", names(&images));
        // Now the shim comes to it.
        place.misdeeds().none();
        until("what the shim does", || (place.misdeeds().hesitating() == 0).then_some(())).await;
        assert_eq!(place.truth(&id), Some(ContainerStatus::Running));
        assert!(names(&images).is_empty(), "{:?}", names(&images));
    }
    // The next one is not kept from it.
    let saved = place.runtime.checkpoint(&id, CheckpointRequest::new(&image));
    within(LIMIT, "checkpoint", saved).await.unwrap();
    assert_eq!(names(&images), [image]);
    assert_eq!(place.runtime.wait(&id).await.unwrap().cause, ExitCause::Checkpointed);
    place.end(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_is_not_over_says_first_why_it_failed() {
    let (place, id, (images, image)) = (Place::new().await, id("one"), images());
    place.running(&id, &program()).await;
    let broke = Misdeed::Refuses(Code::UNKNOWN, "something broke".to_owned());
    place.misdeeds().always("Checkpoint", broke);
    // It works where criu would, and is told so as a runtime is.
    let mut saver = Bystander::new(place.container(&id).join("criu"));
    let saved = place.runtime.checkpoint(&id, CheckpointRequest::new(&image));
    let error = within(PATIENT, "checkpoint", saved).await.unwrap_err();
    assert!(error.report().contains("something broke"), "{}", error.report());
    // What still saves goes with the container.
    let deleted = place.runtime.delete(&id, DeleteRequest::force());
    within(LIMIT, "delete", deleted).await.unwrap();
    until("the end of the saver", || (!saver.lives()).then_some(())).await;
    assert!(names(&images).is_empty(), "{:?}", names(&images));
    place.end(&id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_delete_gives_up_a_checkpoint_that_cannot_be_finished() {
    let (place, id, (images, image)) = (Place::new().await, id("one"), images());
    place.running(&id, &program()).await;
    let hidden = images.path().join(".image");
    for (path, file) in [(&image, "other"), (&hidden, "inventory.img")] {
        std::fs::create_dir(path).unwrap();
        std::fs::write(path.join(file), "x").unwrap();
    }
    // It was made, by somebody who died before it got its name; and that is another's by now.
    place.note(&id, |record| {
        record["checkpoint"] = serde_json::json!({
            "owner": {"process": {"pid": i32::MAX, "start": 1}, "value": 0},
            "place": {"path": image, "hidden": hidden},
            "was_paused": false,
            "ends": true,
            "saved": true,
        });
    });
    let deleted = place.runtime.delete(&id, DeleteRequest::force());
    within(LIMIT, "delete", deleted).await.unwrap();
    let unknown = place.runtime.state(&id).await.unwrap_err();
    assert_eq!(unknown.kind(), &ErrorKind::NotFound);
    // Both are whole.
    assert!(image.join("other").exists() && hidden.join("inventory.img").exists());
    place.end(&id).await;
}
