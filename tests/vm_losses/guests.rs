//! Containers that share the shim of their sandbox: one of them goes, the others stay.

use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::{Place, on};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use runtime_api::{
    ContainerId, ContainerStatus, CreateRequest, DeleteRequest, SandboxId, SharedRuntime, StopRequest,
};
use runtime_test::Workload;

use crate::{SHIMS, delete, shims, wrapped};

/// Two containers of one sandbox that run; the first is the one that started the shim.
async fn two(place: &Place, runtime: &SharedRuntime) -> [ContainerId; 2] {
    let bundle = place.bundle("forever", &Workload::ready_forever());
    let sandbox = SandboxId::new(place.token()).unwrap();
    let ids = [place.id("first"), place.id("guest")];
    for id in &ids {
        let request = CreateRequest::new(id.clone(), &bundle).sandbox(sandbox.clone());
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(id)).await.unwrap();
    }
    assert_eq!(shims(place).len(), 1);
    ids
}

async fn status(runtime: &SharedRuntime, id: &ContainerId) -> ContainerStatus {
    within(LIMIT, "state", runtime.state(id)).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_its_shim_does_not_forget_is_not_forgotten() {
    on(SHIMS, async |place| {
        let stuck = place.path("stuck");
        let refuses = format!("[ -e {} ] && case \"$*\" in *' delete '*) exit 1;; esac", stuck.display());
        let runtime = place.open(&wrapped(place, &refuses, "")).await;
        let [first, guest] = two(place, &runtime).await;
        let stopped = runtime.stop(&guest, StopRequest::within(std::time::Duration::ZERO));
        within(LIMIT, "stop", stopped).await.unwrap();
        std::fs::write(&stuck, "").unwrap();
        let deleted = runtime.delete(&guest, DeleteRequest::force());
        let error = within(LIMIT, "delete", deleted).await.unwrap_err();
        assert!(error.report().contains("delete it again"), "{}", error.report());
        assert_eq!(status(&runtime, &guest).await, ContainerStatus::Stopped);
        std::fs::remove_file(&stuck).unwrap();
        // The next who opens goes on with it.
        let next = place.open(&wrapped(place, &refuses, "")).await;
        assert!(runtime.state(&guest).await.unwrap_err().is_not_found());
        assert_eq!(status(&next, &first).await, ContainerStatus::Running);
        delete(&next, &first, DeleteRequest::force()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_with_a_damaged_record_is_deleted_with_force() {
    on(SHIMS, async |place| {
        let runtime = place.open(&place.config()).await;
        let [first, guest] = two(place, &runtime).await;
        let init = runtime.state(&guest).await.unwrap().pid.unwrap();
        std::fs::write(place.container(&guest).join("record.json"), "{").unwrap();
        delete(&runtime, &guest, DeleteRequest::force()).await;
        let init = Pid::from_raw(i32::try_from(init).unwrap());
        until("the end of the init", || kill(init, None).is_err().then_some(())).await;
        assert!(runtime.state(&guest).await.unwrap_err().is_not_found());
        assert_eq!(status(&runtime, &first).await, ContainerStatus::Running);
        delete(&runtime, &first, DeleteRequest::force()).await;
    })
    .await;
}
