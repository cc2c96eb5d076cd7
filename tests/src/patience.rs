//! How long tests wait for what must happen on a busy host.

use std::panic::Location;
use std::time::Duration;

/// What is not limited otherwise: long for a busy host, short for somebody who waits for the tests.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Fails the test when `future` takes longer than it may.
///
/// # Panics
/// When it does, with the place of the call.
#[track_caller]
pub fn within<F: Future>(limit: Duration, what: &str, future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        match tokio::time::timeout(limit, future).await {
            Ok(output) => output,
            Err(_late) => panic!("{caller}: {what} is not over after {limit:?}"),
        }
    }
}

/// Looks again and again until `found` gives something.
///
/// # Panics
/// When it has not after [`LIMIT`].
#[track_caller]
pub fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    within(LIMIT, what, async move {
        loop {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}
