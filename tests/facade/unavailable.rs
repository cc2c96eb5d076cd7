//! Handlers that were good when containers were created with them, and are not any more.

use std::time::Duration;

use manyrun_tests::census;
use manyrun_tests::patience::{LIMIT, within};
use manyrun_tests::place::{Place, on};
use manyrun_tests::wrapper::copy_program;
use runtime_api::{ContainerStatus, CreateRequest, DeleteRequest, ErrorKind, HandlerName, StopRequest};
use runtime_handlers::resolve::ThisHost;
use runtime_handlers::{HandlerTable, Runtime, Source, crio, native};
use runtime_test::{Workload, bundle};

use crate::facade;

/// What becomes of the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// What the configuration says of it cannot be used.
    Broken,
    /// The configuration does not name it any more.
    Gone,
    /// Its binary is not there any more.
    Vanished,
}

const HANDLER: &str = "mine";

fn good(kind: &str) -> HandlerTable {
    native::parse(&[Source::new("handlers.toml", format!("[runtimes.{HANDLER}]\n{kind}\n"))]).unwrap()
}

impl Fate {
    /// The table that is read after it.
    fn table(self, kind: &str) -> HandlerTable {
        match self {
            Self::Broken => {
                let text = format!("[crio.runtime.runtimes.{HANDLER}]\nruntime_type = 'none'\n");
                crio::parse(&[Source::new("crio.conf", text)]).unwrap()
            }
            Self::Gone => HandlerTable::built_in(),
            Self::Vanished => good(kind).resolved(&ThisHost),
        }
    }

    /// What is told to who wants it all the same.
    fn reason(self) -> &'static str {
        match self {
            Self::Broken => "runtime_type \"none\" is none of \"oci\", \"vm\", \"pod\"",
            Self::Gone => "known handlers are",
            Self::Vanished => "no executable",
        }
    }
}

/// Containers that run, wait and ended live on under the handler, in the process that made them and in the next one.
async fn endure(place: &Place, kind: &str, fate: Fate, strike: impl FnOnce()) {
    let handler = HandlerName::new(HANDLER).unwrap();
    let request = |name: &str, workload: &Workload| {
        let at = place.path("bundles").join(name);
        bundle::write(&at, workload).unwrap();
        CreateRequest::new(place.id(name), at)
    };
    let before = facade(place, good(kind));
    let all = [("runs", Workload::forever()), ("waits", Workload::forever()), ("ended", Workload::exits(3))];
    for (name, workload) in &all {
        let create = before.create(Some(&handler), request(name, workload));
        within(LIMIT, "create", create).await.unwrap();
    }
    for name in ["runs", "ended"] {
        within(LIMIT, "start", before.start(&place.id(name))).await.unwrap();
    }
    within(LIMIT, "wait", before.wait(&place.id("ended"))).await.unwrap();
    strike();

    let table = fate.table(kind);
    assert_eq!(table.unavailable.contains_key(&handler), fate != Fate::Gone, "{fate:?}");
    before.reload(|| Ok(table.clone())).unwrap();
    assert_all_there(place, &before, fate).await;
    before.shutdown().await;
    drop(before);

    let after = facade(place, table);
    let listing = within(LIMIT, "readopt", after.readopt()).await.unwrap();
    assert_eq!(listing.notes, [], "{fate:?}");
    assert_all_there(place, &after, fate).await;
    let offered = after.handlers().into_iter().find(|each| each.name == handler);
    assert_eq!(offered.is_some_and(|each| each.unavailable.is_some()), fate != Fate::Gone, "{fate:?}");
    let again = after.create(Some(&handler), request("again", &Workload::exits(0))).await.unwrap_err();
    assert_eq!(again.is_not_found(), fate == Fate::Gone, "{again:?}");
    assert_eq!(matches!(again.kind(), ErrorKind::Unavailable(_)), fate != Fate::Gone, "{again:?}");
    assert!(again.report().contains(fate.reason()), "{}", again.report());

    let runs = place.id("runs");
    let stop = after.stop(&runs, StopRequest::within(Duration::ZERO));
    assert_eq!(within(LIMIT, "stop", stop).await.unwrap().code, Some(137), "{fate:?}");
    for name in ["runs", "waits", "ended"] {
        let id = place.id(name);
        within(LIMIT, "delete", after.delete(&id, DeleteRequest::new())).await.unwrap();
        assert!(after.state(&id).await.unwrap_err().is_not_found(), "{name}");
    }
    assert!(after.list().await.unwrap().containers.is_empty());
    assert!(after.store().list().unwrap().is_empty());
    after.shutdown().await;
    let token = format!("{}-", place.token());
    let mut left = census::entries(&place.path("base"));
    left.retain(|entry| entry.contains(&token));
    assert!(left.is_empty(), "{fate:?}: {left:#?}");
}

async fn assert_all_there(place: &Place, runtime: &Runtime, fate: Fate) {
    let wanted = [
        ("runs", ContainerStatus::Running),
        ("waits", ContainerStatus::Created),
        ("ended", ContainerStatus::Stopped),
    ];
    let listing = within(LIMIT, "list", runtime.list()).await.unwrap();
    assert_eq!((listing.containers.len(), listing.notes.len()), (wanted.len(), 0), "{fate:?}: {listing:#?}");
    for (name, status) in wanted {
        let id = place.id(name);
        let listed = listing.containers.iter().find(|each| each.state.id == id).unwrap();
        assert_eq!((listed.handler.as_str(), listed.state.status), (HANDLER, status), "{fate:?}: {name}");
        let state = within(LIMIT, "state", runtime.state(&id)).await.unwrap();
        assert_eq!(state.status, status, "{fate:?}: {name}");
        assert_eq!(state.exit.and_then(|exit| exit.code), (name == "ended").then_some(3), "{fate:?}: {name}");
        let stored = runtime.store().get(&id).unwrap().unwrap();
        assert_eq!(stored.handler.as_str(), HANDLER);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_containers_are_listed_stopped_and_deleted() {
    on(&["runc", "crun"], async |place| {
        let copy = place.path(place.binary);
        copy_program(&manyrun_tests::host::find(place.binary).unwrap(), &copy);
        let kind = format!("kind = 'oci'\npath = '{}'", copy.display());
        for fate in [Fate::Broken, Fate::Gone] {
            endure(place, &kind, fate, || ()).await;
        }
        endure(place, &kind, Fate::Vanished, || std::fs::remove_file(&copy).unwrap()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_containers_on_the_fake_are_listed_stopped_and_deleted() {
    let place = Place::new("fake");
    for fate in [Fate::Broken, Fate::Gone] {
        endure(&place, "kind = 'fake'", fate, || ()).await;
    }
}
