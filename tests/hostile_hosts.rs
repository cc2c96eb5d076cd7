//! What strangers, hung programs and killed helpers on the host may do to a container, and what we may not do to them.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "hostile_hosts/bystander.rs"]
mod bystander;
#[path = "hostile_hosts/cgroups.rs"]
mod cgroups;
#[path = "hostile_hosts/execs.rs"]
mod execs;
#[path = "hostile_hosts/monitors.rs"]
mod monitors;
#[path = "hostile_hosts/place.rs"]
mod place;
#[path = "hostile_hosts/shared_root.rs"]
mod shared_root;
#[path = "hostile_hosts/specs.rs"]
mod specs;
#[path = "hostile_hosts/starts.rs"]
mod starts;
#[path = "hostile_hosts/times.rs"]
mod times;
#[path = "hostile_hosts/values.rs"]
mod values;
#[path = "hostile_hosts/watchers.rs"]
mod watchers;
#[path = "hostile_hosts/wrapper.rs"]
mod wrapper;

use std::collections::BTreeSet;
use std::time::Duration;

use manyrun_tests::host;

use place::Place;

/// What is not limited otherwise: long for a busy host, short for somebody who waits for the tests.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs a test on each of these runtimes, or says which of them this host lacks. Afterwards nothing may be left.
async fn on(binaries: &[&'static str], test: impl AsyncFn(&Place)) {
    let mut needs = BTreeSet::new();
    for binary in binaries {
        if let Some(need) = host::lacks(binary) {
            needs.insert(need);
            continue;
        }
        let place = Place::new(binary);
        within(Duration::from_secs(120), "the test", test(&place)).await;
        place.assert_nothing_left().await;
    }
    if !needs.is_empty() {
        host::skipped(&needs.into_iter().collect::<Vec<_>>().join("; "));
    }
}

/// Fails the test when `future` takes longer than it may.
#[track_caller]
fn within<F: Future>(limit: Duration, what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(limit, future).await {
            Ok(output) => output,
            Err(_late) => panic!("{caller}: {what} is not over after {limit:?}"),
        }
    }
}

/// Looks again and again until `found` gives something.
async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(10), what, async {
        loop {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}
