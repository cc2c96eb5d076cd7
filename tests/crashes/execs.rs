//! A caller that lets go of an exec at any time, be it in the middle of what the runtime does for it.

use std::time::Duration;

use manyrun_tests::host;
use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::{Place, with_arguments};
use runtime_api::{Capability, ContainerId, DeleteRequest, ExecSyncRequest, SharedRuntime};
use runtime_test::{Step, Workload};

use crate::case::Random;

/// An exec has begun by then, on a host that has nothing else to do.
const LONGEST: u64 = 80;

pub(crate) async fn campaign(binary: &'static str, amount: u64) {
    if let Some(need) = host::lacks(binary) {
        return host::skipped(&need);
    }
    let _alone = crate::ALONE.lock().await;
    let place = Place::new(binary);
    let runtime = place.open(&place.config()).await;
    let id = place.running(&runtime, "execs", &Workload::forever()).await;
    let mut random = Random::new(crate::seed());
    for number in 0..amount {
        let after = Duration::from_millis(random.one_of(LONGEST));
        println!("exec {number} after {after:?}");
        let told = format!("{}-{number}-told", place.token());
        let program = Workload::new([Step::Out(told.clone()), Step::Forever]).process();
        let exec = tokio::time::timeout(after, runtime.exec_sync(&id, ExecSyncRequest::new(program)));
        let ended = within(LIMIT, "the exec", exec).await;
        assert!(ended.is_err(), "{ended:?}");
        until("the end of what an exec began", || is_over(&place, &runtime, &id, &told).then_some(())).await;
    }
    let look = ExecSyncRequest::new(Workload::new([Step::Procs]).process());
    // The init and the one that looks. What was killed in a sandbox may take a moment.
    within(LIMIT, "that nothing runs", async {
        while runtime.exec_sync(&id, look.clone()).await.unwrap().stdout != b"procs 2\n" {}
    })
    .await;
    println!("{amount} execs were let go of on {binary}");
    within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
    runtime.shutdown().await;
    drop(runtime);
    place.assert_nothing_left().await;
}

/// Whether nothing is left of an exec: neither the runtime that was to begin its command, nor that. Where the host does not
/// see into the container the directory of an exec is there until its command has ended.
fn is_over(place: &Place, runtime: &SharedRuntime, id: &ContainerId, told: &str) -> bool {
    let is_kept =
        std::fs::read_dir(place.container(id).join("execs")).is_ok_and(|mut all| all.next().is_some());
    let begins = with_arguments(&["exec", "--detach", id.as_str()]).is_some();
    let command = format!("out:{told}");
    let runs =
        runtime.capabilities().has(Capability::HostVisiblePid) && with_arguments(&[&command]).is_some();
    !is_kept && !begins && !runs
}
