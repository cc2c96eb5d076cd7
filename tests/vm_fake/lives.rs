//! Lives behind a fake shim that behaves.

use runtime_api::{ContainerStatus, DeleteRequest};
use runtime_test::Workload;

use crate::place::{Place, id};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_life() {
    let place = Place::new().await;
    let id = id("one");
    let state = place.runtime.create(place.request(&id, &Workload::says("hello"))).await.unwrap();
    assert_eq!(state.status, ContainerStatus::Created);
    place.runtime.start(&id).await.unwrap();
    let exit = place.runtime.wait(&id).await.unwrap();
    assert_eq!(exit.code, Some(0));
    let log = std::fs::read_to_string(place.log(&id)).unwrap();
    assert!(log.ends_with(" stdout F hello\n"), "{log}");
    place.runtime.delete(&id, DeleteRequest::new()).await.unwrap();
    place.end(&id).await;
}
