//! Two runtime values over one state directory, as in a program that replaces one by another.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runtime_api::{CreateRequest, DeleteRequest, KillRequest, LogConfig, Signal, StopRequest};
use runtime_test::Workload;

use crate::{LIMIT, on, until, within};

const TERM: i32 = 15;

/// How often the program said that TERM came.
fn arrivals(log: &Path) -> usize {
    std::fs::read_to_string(log).unwrap_or_default().matches("signal 15").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_with_the_value_that_began_it() {
    on(&["runc", "crun"], async |place| {
        let first = place.open(&place.config()).await;
        let second = place.open(&place.config()).await;
        let (id, log) = (place.id("two"), place.path("log"));
        let bundle = place.bundle("two", &Workload::says_signals(&[TERM]));
        let request = CreateRequest::new(id.clone(), bundle).log(LogConfig::cri_file(&log));
        within(LIMIT, "create", first.create(request)).await.unwrap();
        within(LIMIT, "start", first.start(&id)).await.unwrap();
        let said =
            |text: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(text).then_some(());
        until("that the program is ready", || said("ready")).await;

        let stop = {
            let (first, id) = (Arc::clone(&first), id.clone());
            tokio::spawn(async move { first.stop(&id, StopRequest::within(Duration::from_secs(600))).await })
        };
        until("the first signal", || said("signal 15")).await;
        assert!(within(LIMIT, "state", second.state(&id)).await.unwrap().stopping);
        stop.abort();
        assert!(stop.await.unwrap_err().is_cancelled());
        assert!(within(LIMIT, "state", second.state(&id)).await.unwrap().stopping, "a dropped stop goes on");
        drop(first);
        assert!(!within(LIMIT, "state", second.state(&id)).await.unwrap().stopping);

        let stop = second.stop(&id, StopRequest::within(Duration::from_secs(600)));
        let killed = async {
            until("the second signal", || (arrivals(&log) == 2).then_some(())).await;
            second.kill(&id, KillRequest::new(Signal::KILL)).await.unwrap();
        };
        let (stopped, ()) = within(LIMIT, "stop", async { tokio::join!(stop, killed) }).await;
        assert_eq!(stopped.unwrap().code, Some(137));
        assert_eq!(arrivals(&log), 2);
        within(LIMIT, "delete", second.delete(&id, DeleteRequest::new())).await.unwrap();
        second.shutdown().await;
    })
    .await;
}
