//! A runtime's root that others use too.

use std::path::Path;
use std::process::{Command, Stdio};

use runtime_api::{CreateRequest, DeleteRequest, ErrorKind};
use runtime_test::{BundleOptions, Workload};

use crate::{LIMIT, Place, on, within};

/// Runs the bare runtime, without us.
fn bare(place: &Place, root: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new(place.binary);
    // The container keeps what it inherits, so that nothing here may be a pipe.
    command.arg("--root").arg(root).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

fn says_running(place: &Place, root: &Path, id: &str) -> bool {
    let said = Command::new(place.binary).arg("--root").arg(root).args(["state", id]).output().unwrap();
    let state: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    state["status"] == "running"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_container_of_the_same_name_survives() {
    on(&["runc", "crun"], async |place| {
        let root = place.path("shared");
        let id = place.id("web");
        let options = BundleOptions::new().cgroups_path(format!("/{}-stranger", place.token()));
        let theirs = place.bundle_with("theirs", &Workload::forever(), &options);
        assert!(bare(place, &root, &["create", "--bundle", theirs.to_str().unwrap(), id.as_str()]));
        assert!(bare(place, &root, &["start", id.as_str()]));
        assert!(says_running(place, &root, id.as_str()));

        let mut config = place.config();
        config.root = Some(root.clone());
        let runtime = place.open(&config).await;
        let ours = place.bundle("ours", &Workload::exits(0));
        let request = CreateRequest::new(id.clone(), ours);
        let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::AlreadyExists, "{error:?}");
        assert!(says_running(place, &root, id.as_str()));

        // It is none of ours, so there is nothing to force either.
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        assert!(runtime.state(&id).await.unwrap_err().is_not_found());
        assert!(says_running(place, &root, id.as_str()));
        runtime.shutdown().await;
        drop(runtime);

        // Nor does a new value take it for a leftover.
        place.open(&config).await.shutdown().await;
        assert!(says_running(place, &root, id.as_str()));
        assert!(bare(place, &root, &["delete", "--force", id.as_str()]));
    })
    .await;
}
