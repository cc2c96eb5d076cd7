//! What has the name of something that was a container's, and is not.

use std::path::{Path, PathBuf};
use std::process::Command;

use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::on;
use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::Pid;
use runtime_api::DeleteRequest;
use runtime_test::Workload;

use crate::{delete, pid_of, shims};

/// The cgroup in which a process can be frozen.
fn freezer_of(pid: Pid) -> PathBuf {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let of = |wanted: &str| {
        cgroups.lines().find_map(|line| Some(line.split_once(wanted)?.1.trim_start_matches('/').to_owned()))
    };
    match of(":freezer:") {
        Some(path) => Path::new("/sys/fs/cgroup/freezer").join(path),
        None => Path::new("/sys/fs/cgroup").join(of("0::").unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_into_a_cgroup_of_the_same_name_is_left_alone() {
    // crun kills by the name as well, when its own `delete` is called.
    on(&["vm:runc", "vm:runc-rs"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "gone", &Workload::forever()).await;
        let init = runtime.state(&id).await.unwrap().pid.unwrap();
        drop(runtime);
        let init = Pid::from_raw(i32::try_from(init).unwrap());
        let cgroup = freezer_of(init);
        for shim in shims(place) {
            kill(pid_of(&shim, "monitor"), Number::SIGKILL).unwrap();
            kill(pid_of(&shim, "shim"), Number::SIGKILL).unwrap();
        }
        kill(init, Number::SIGKILL).unwrap();
        until("that the cgroup is empty", || std::fs::remove_dir(&cgroup).is_ok().then_some(())).await;
        std::fs::create_dir_all(&cgroup).unwrap();
        let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
        std::fs::write(cgroup.join("cgroup.procs"), stranger.id().to_string()).unwrap();

        let runtime = place.open(&place.config()).await;
        within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
        let lived = stranger.try_wait().unwrap().is_none();
        delete(&runtime, &id, DeleteRequest::force()).await;
        let lives_on = stranger.try_wait().unwrap().is_none();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        let _ = std::fs::remove_dir(&cgroup);
        assert!(lived && lives_on, "a stranger was killed");
    })
    .await;
}
