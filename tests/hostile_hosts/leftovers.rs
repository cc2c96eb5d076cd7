//! Verbs whose caller is gone: whoever takes the lock next ends them, and nothing else.

use std::time::Duration;

use runtime_api::{ContainerStatus, DeleteRequest, ErrorKind};
use runtime_test::Workload;

use crate::wrapper::{Hangs, Wrapper};
use crate::{LIMIT, on, within};

/// A runtime may hand what it was told before the verb on to the process that is the container. It is no verb for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_not_taken_for_a_verb_that_was_left_over() {
    on(&["runc", "crun", "runsc"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "alive", &Workload::forever()).await;
        let before = runtime.state(&id).await.unwrap();
        // As a caller leaves it who is gone in the middle of a verb.
        let mark = place.container(&id).join("verb");
        std::fs::write(&mark, "").unwrap();
        let refused = within(LIMIT, "start", runtime.start(&id)).await.unwrap_err();
        let running = ContainerStatus::Running;
        let wrong = matches!(refused.kind(), ErrorKind::WrongState { is, .. } if *is == running);
        assert!(wrong, "{}: {refused:?}", place.binary);
        assert!(!mark.exists(), "the mark was not seen");
        assert_eq!(runtime.state(&id).await.unwrap(), before, "{}", place.binary);
        within(Duration::from_secs(20), "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_delete_does_without_a_runtime_that_hangs_in_its_delete() {
    on(&["runc", "crun", "runsc"], async |place| {
        let wrapper = Wrapper::new(place, "delete", Hangs::Before);
        let mut config = place.config();
        config.paths = vec![wrapper.path.clone()];
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "kept", &Workload::forever()).await;
        let delete = runtime.delete(&id, DeleteRequest::force());
        // The runtime gets five seconds once, and not three times thirty.
        within(Duration::from_secs(20), "delete", delete).await.unwrap();
        assert!(runtime.state(&id).await.unwrap_err().is_not_found(), "{}", place.binary);
        assert!(place.kept().is_empty(), "{}: {:?}", place.binary, place.kept());
        runtime.shutdown().await;
    })
    .await;
}
