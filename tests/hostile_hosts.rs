//! What strangers, hung programs and killed helpers on the host may do to a container, and what we may not do to them.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "hostile_hosts/binaries.rs"]
mod binaries;
#[path = "hostile_hosts/bystander.rs"]
mod bystander;
#[path = "hostile_hosts/cgroups.rs"]
mod cgroups;
#[path = "hostile_hosts/checkpoint_options.rs"]
mod checkpoint_options;
#[path = "hostile_hosts/checkpoints.rs"]
mod checkpoints;
#[path = "hostile_hosts/execs.rs"]
mod execs;
#[path = "hostile_hosts/leftovers.rs"]
mod leftovers;
#[path = "hostile_hosts/monitors.rs"]
mod monitors;
#[path = "hostile_hosts/sessions.rs"]
mod sessions;
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

use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::{self, Place};
use manyrun_tests::wrapper;

/// Runs a test on each of these runtimes, or says which of them this host lacks. Afterwards nothing may be left.
async fn on(binaries: &[&'static str], test: impl AsyncFn(&Place)) {
    place::on(binaries, test).await;
}
