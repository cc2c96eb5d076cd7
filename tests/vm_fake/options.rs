//! The options of a handler come to the shim as they stand in the handler.

use manyrun_tests::fake_shim::FakeShimHarness;
use manyrun_tests::patience::{LIMIT, within};
use runtime_api::{CreateRequest, DeleteRequest, HandlerConfig, OpenContext};
use runtime_test::{BundleOptions, Workload, bundle};
use runtime_vm::task::any::{Payload, RuntimeOptions};
use serde_json::json;

use crate::place::id;

/// What a shim gets with the create of a container of this handler.
async fn told(handler: &HandlerConfig) -> Payload {
    let (dir, harness) = (tempfile::tempdir().unwrap(), FakeShimHarness::default());
    let name = dir.path().file_name().unwrap().to_string_lossy().into_owned();
    let context = OpenContext::new(dir.path().join("state"), format!("/manyrun/fake/{name}"));
    let runtime = within(LIMIT, "open", harness.open_as(handler, context)).await.unwrap();
    let place = dir.path().join("bundle");
    bundle::write_with(&place, &Workload::forever(), &BundleOptions::new()).unwrap();
    let id = id("one");
    within(LIMIT, "create", runtime.create(CreateRequest::new(id.clone(), place))).await.unwrap();
    let told = harness.shims().options_of(&id).unwrap();
    within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
    runtime.shutdown().await;
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_is_told_its_configuration_file() {
    let mut handler = FakeShimHarness::handler().unwrap();
    // Without one it is told nothing, for it does not bear the name of those that take runc's options.
    assert_eq!(told(&handler).await, Payload::default());
    let path = "/etc/kata/a file.toml";
    handler.config_path = Some(path.into());
    for kind in ["", "io.containerd.runsc.v1.options"] {
        if !kind.is_empty() {
            handler.options.insert("config_type".to_owned(), kind.into());
        }
        let told = told(&handler).await;
        assert_eq!(told.type_name(), "runtimeoptions.v1.Options");
        let read = RuntimeOptions::parse(&told.value).unwrap();
        assert_eq!((read.type_url.as_str(), read.config_path.as_str()), (kind, path));
        assert!(read.config_body.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shim_gets_options_of_any_type() {
    let mut handler = FakeShimHarness::handler().unwrap();
    for (any, value) in [
        (json!({"type_url": "a.b/My.Options", "text": "{\"deep\": 1}"}), b"{\"deep\": 1}".as_slice()),
        (json!({"type_url": "a.b/My.Options", "base64": "AP8BfwA="}), &[0, 255, 1, 127, 0]),
    ] {
        handler.options.insert("any".to_owned(), any);
        assert_eq!(told(&handler).await, Payload::new("a.b/My.Options", value));
    }
}
