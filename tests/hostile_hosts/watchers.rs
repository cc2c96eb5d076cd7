//! An operator who follows a file of a container.

use runtime_api::{CreateRequest, DeleteRequest, ErrorKind};
use runtime_test::{BundleOptions, Workload};

use crate::bystander::Bystander;
use crate::{LIMIT, on, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_follows_a_file_of_a_container_survives_it() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.id("followed");
        let directory = place.container(&id);
        let mut followers: Vec<_> = ["oci-log", "record.json"]
            .iter()
            .map(|name| Bystander::run("tail", &["-F", directory.join(name).to_str().unwrap()]))
            .collect();
        // One that names the directory itself. It is not there yet, so this one goes on with its other file.
        followers.push(Bystander::run("tail", &["-f", "/dev/null", directory.to_str().unwrap()]));
        let mut all_live = || followers.iter_mut().for_each(Bystander::assert_lives);

        let options = BundleOptions::new().argv(["/no/such/program"]);
        let missing = place.bundle_with("missing", &Workload::exits(0), &options);
        let error = within(LIMIT, "create", runtime.create(CreateRequest::new(id.clone(), missing)))
            .await
            .unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Rejected { .. }), "{error:?}");
        assert!(place.kept().is_empty(), "{:?}", place.kept());
        all_live();

        for force in [false, true] {
            let bundle = place.bundle("good", &Workload::forever());
            within(LIMIT, "create", runtime.create(CreateRequest::new(id.clone(), bundle))).await.unwrap();
            let request = if force {
                within(LIMIT, "start", runtime.start(&id)).await.unwrap();
                DeleteRequest::force()
            } else {
                DeleteRequest::new()
            };
            within(LIMIT, "delete", runtime.delete(&id, request)).await.unwrap();
            all_live();
        }
        runtime.shutdown().await;
    })
    .await;
}
