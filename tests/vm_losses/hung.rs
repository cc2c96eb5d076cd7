//! Shims that hang, and others who are at work on theirs: nobody waits for them in turn.

use std::fs::File;

use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::on;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::Pid;
use runtime_api::{ContainerStatus, DeleteRequest};
use runtime_test::Workload;

use crate::{delete, pid_of, shims};

/// One after the other they would take longer than the test lets them.
const MANY: usize = 5;

/// How the kernel says that a process stands; nothing when there is none.
fn stage(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

async fn end(pid: Pid) {
    kill(pid, Number::SIGKILL).unwrap();
    until("the end of a process", || matches!(stage(pid), None | Some('Z')).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shims_that_hang_hold_up_neither_an_open_nor_a_list() {
    on(&["vm:runc"], async |place| {
        let runtime = place.open(&place.config()).await;
        let mut ids = Vec::new();
        for number in 0..MANY {
            ids.push(place.running(&runtime, &format!("hung{number}"), &Workload::forever()).await);
        }
        let hung = shims(place);
        let fine = place.running(&runtime, "fine", &Workload::forever()).await;
        let mut inits = Vec::new();
        for id in &ids {
            let init = runtime.state(id).await.unwrap().pid.unwrap();
            inits.push(Pid::from_raw(i32::try_from(init).unwrap()));
        }
        drop(runtime);
        // Now only the shims could tell what became of these.
        for shim in &hung {
            end(pid_of(shim, "monitor")).await;
        }
        for shim in &hung {
            let pid = pid_of(shim, "shim");
            kill(pid, Number::SIGSTOP).unwrap();
            until("that the shim stands still", || (stage(pid) == Some('T')).then_some(())).await;
        }
        for init in inits {
            end(init).await;
        }

        let runtime = place.open(&place.config()).await;
        let listed = within(LIMIT, "list", runtime.list()).await.unwrap();
        assert_eq!(listed.len(), MANY + 1);
        assert!(listed.iter().any(|state| state.id == fine && state.status == ContainerStatus::Running));
        for shim in &hung {
            kill(pid_of(shim, "shim"), Number::SIGCONT).unwrap();
        }
        for id in &ids {
            assert_eq!(within(LIMIT, "wait", runtime.wait(id)).await.unwrap().code, Some(137));
            delete(&runtime, id, DeleteRequest::new()).await;
        }
        delete(&runtime, &fine, DeleteRequest::force()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shims_that_others_are_at_work_on_do_not_hold_up_an_open() {
    on(&["vm:runc"], async |place| {
        drop(place.open(&place.config()).await);
        let mut held = Vec::new();
        for number in 0..MANY {
            let shim = place.path("state/shims").join(format!("busy{number}"));
            std::fs::create_dir_all(shim.join("members")).unwrap();
            let lock = File::create(shim.join("lock")).unwrap();
            held.push(
                Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error).unwrap(),
            );
        }
        drop(place.open(&place.config()).await);
        assert_eq!(std::fs::read_dir(place.path("state/shims")).unwrap().count(), MANY);
        // Left behind, they go.
        drop(held);
        drop(place.open(&place.config()).await);
        assert_eq!(std::fs::read_dir(place.path("state/shims")).unwrap().count(), 0);
    })
    .await;
}
