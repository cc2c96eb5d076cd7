//! All handlers behind one value, on real runtimes and on the fake: what becomes of containers whose handler cannot be used
//! any more, what a handler says that its mounts can be, and where its execs begin.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

mod affinity;
mod mounts;
mod unavailable;

use std::sync::Arc;

use manyrun_tests::place::Place;
use runtime_handlers::{DiskStore, HandlerTable, Registry, Runtime};
use runtime_oci::OciFactory;
use runtime_test::FakeFactory;

/// A facade as a process of its own would have it: every call gives another one, over the same state and the same store.
fn facade(place: &Place, table: HandlerTable) -> Runtime {
    let registry = Registry::new().register(FakeFactory::new().unwrap()).unwrap();
    let registry = registry.register(OciFactory).unwrap();
    let store = Arc::new(DiskStore::new(place.path("store")));
    Runtime::new(table, registry, place.path("base")).with_store(store)
}
