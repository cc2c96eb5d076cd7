//! The times of programs that end at once.

use runtime_api::{CreateRequest, DeleteRequest};
use runtime_test::Workload;

use crate::{LIMIT, on, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_life_ends_before_it_starts() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let bundle = place.bundle("short", &Workload::exits(0));
        for number in 0..10 {
            let id = place.id(&format!("short{number}"));
            let request = CreateRequest::new(id.clone(), &bundle);
            within(LIMIT, "create", runtime.create(request)).await.unwrap();
            within(LIMIT, "start", runtime.start(&id)).await.unwrap();
            let exit = within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
            let state = within(LIMIT, "state", runtime.state(&id)).await.unwrap();
            assert_eq!(state.exit.as_ref(), Some(&exit));
            let started = state.started_at.unwrap();
            assert!(state.created_at <= started, "{state:?}");
            assert!(started <= exit.finished_at, "{state:?}");
            within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        }
        runtime.shutdown().await;
    })
    .await;
}
