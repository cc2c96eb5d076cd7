//! Containers that share the shim of their sandbox: one of them goes, the others stay.

use std::os::unix::fs::PermissionsExt as _;

use manyrun_tests::host;
use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::{Place, on};
use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::Pid;
use runtime_api::{
    ContainerId, ContainerStatus, CreateRequest, DeleteRequest, ExitCause, SandboxId, SharedRuntime,
    StopRequest,
};
use runtime_test::Workload;

use crate::{SHIMS, as_if_in_a_machine, delete, pid_of, shims, wrapped};

/// Two containers of one sandbox that run; the first is the one that started the shim.
async fn two(place: &Place, runtime: &SharedRuntime) -> [ContainerId; 2] {
    let bundle = place.bundle("forever", &Workload::forever());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_shim_that_is_killed_takes_all_its_containers_along() {
    on(SHIMS, async |place| {
        for (looks, with_monitor) in [(true, false), (false, false), (false, true)] {
            let mut runtime = Some(place.open(&place.config()).await);
            let ids = two(place, runtime.as_ref().unwrap()).await;
            runtime = runtime.filter(|_| looks);
            let [shim] = shims(place).try_into().unwrap();
            if with_monitor {
                kill(pid_of(&shim, "monitor"), Number::SIGKILL).unwrap();
            }
            kill(pid_of(&shim, "shim"), Number::SIGKILL).unwrap();
            let runtime = match runtime {
                Some(runtime) => runtime,
                None => place.open(&place.config()).await,
            };
            for id in &ids {
                let status = within(LIMIT, "wait", runtime.wait(id)).await.unwrap();
                assert_eq!((status.code, status.cause), (Some(137), ExitCause::MonitorLost));
                assert_eq!(runtime.state(id).await.unwrap().exit, Some(status));
            }
            for id in &ids {
                delete(&runtime, id, DeleteRequest::new()).await;
            }
            assert!(!place.socket_of(&ids[0]).exists(), "the shim's socket is left");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_shims_command_can_clean_up_is_not_forgotten_when_that_fails() {
    on(&["vm:runc"], async |place| {
        let (shim, stuck) = (place.path("containerd-shim-runc-v2"), place.path("stuck"));
        let real = host::find("containerd-shim-runc-v2").unwrap();
        let script = format!(
            "#!/bin/sh\n[ -e {} ] && case \" $* \" in *' delete '*) exit 1;; esac\nexec {} \"$@\"\n",
            stuck.display(),
            real.display()
        );
        std::fs::write(&shim, script).unwrap();
        std::fs::set_permissions(&shim, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = place.config();
        config.paths = vec![shim];
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "machine", &Workload::forever()).await;
        drop(runtime);
        as_if_in_a_machine(place, &id);
        for shim in shims(place) {
            kill(pid_of(&shim, "monitor"), Number::SIGKILL).unwrap();
            kill(pid_of(&shim, "shim"), Number::SIGKILL).unwrap();
        }
        std::fs::write(&stuck, "").unwrap();
        let runtime = place.open(&config).await;
        within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
        let deleted = runtime.delete(&id, DeleteRequest::new());
        let error = within(LIMIT, "delete", deleted).await.unwrap_err();
        assert!(error.report().contains("delete it again"), "{}", error.report());
        assert_eq!(status(&runtime, &id).await, ContainerStatus::Stopped);
        std::fs::remove_file(&stuck).unwrap();
        delete(&runtime, &id, DeleteRequest::new()).await;
    })
    .await;
}
