//! What bad configuration gets, and what a bad request gets that goes through the facade.

use std::path::Path;

use manyrun_tests::{census, host};
use runtime_api::{
    ContainerId, CreateRequest, DeleteRequest, Error, ErrorKind, HandlerName, Result, RuntimeKind,
};
use runtime_handlers::{Registry, Runtime, load};
use runtime_oci::OciFactory;
use runtime_test::{FakeFactory, Workload, bundle};

use crate::{assert_tells, config_invalid, shown};

/// Reads `text` as a handler table from a file; gives the file's path too.
fn table(place: &Path, text: &str) -> (String, Result<runtime_handlers::HandlerTable>) {
    let file = place.join("handlers.toml");
    std::fs::write(&file, text).unwrap();
    (shown(&file), load::file(&file))
}

fn facade(place: &Path, text: &str) -> Result<Runtime> {
    let registry = Registry::new().register(FakeFactory::new()?)?.register(OciFactory)?;
    Ok(Runtime::new(table(place, text).1?, registry, place.join("state")))
}

fn place() -> tempfile::TempDir {
    let place = tempfile::Builder::new().prefix("facade").rand_bytes(8).tempdir().unwrap();
    bundle::write(&place.path().join("bundle"), &Workload::exits(0)).unwrap();
    place
}

fn request(place: &Path, id: &str) -> CreateRequest {
    CreateRequest::new(ContainerId::new(id).unwrap(), place.join("bundle"))
}

#[track_caller]
fn assert_no_state(place: &Path) {
    let found = census::entries(&place.join("state"));
    let files: Vec<_> = found.iter().filter(|entry| !entry.starts_with("directory ")).collect();
    assert!(files.is_empty(), "left: {files:#?}");
}

#[tokio::test]
async fn an_unknown_handler_is_named_with_the_file_and_the_known_ones() {
    let place = place();
    let runtime = facade(place.path(), "[runtimes.one]\nkind = \"fake\"\n").unwrap();
    let name = HandlerName::new("two").unwrap();
    let error = runtime.create(Some(&name), request(place.path(), "a")).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    for told in ["two", "one", "handlers.toml"] {
        assert_tells(&error, told);
    }
    assert_no_state(place.path());
}

#[tokio::test]
async fn an_unknown_kind_is_named_with_the_table_and_the_known_ones() {
    let place = place();
    let runtime = facade(place.path(), "\n[runtimes.one]\nkind = \"jail\"\n").unwrap();
    let name = HandlerName::new("one").unwrap();
    let error = runtime.create(Some(&name), request(place.path(), "a")).await.unwrap_err();
    assert!(config_invalid(&error), "{error:?}");
    for told in ["jail", "runtimes.one", "handlers.toml:2", "fake", "oci"] {
        assert_tells(&error, told);
    }
    assert_no_state(place.path());
    assert!(RuntimeKind::new("No Kind").is_err());
}

#[test]
fn broken_toml_is_named_with_its_line() {
    let place = place();
    for (text, line) in [
        ("[runtimes.one\n", 1),
        ("default = \"one\"\n[runtimes.one]\nkind = \n", 3),
        ("\n\n[runtimes.one]\nkind = \"fake\"\nkind = \"oci\"\n", 5),
    ] {
        let (file, read) = table(place.path(), text);
        let error = read.unwrap_err();
        assert!(config_invalid(&error), "{error:?}");
        assert_tells(&error, format!("{file}:{line}"));
    }
}

#[test]
fn an_unknown_key_or_a_wrong_type_is_named_with_its_line() {
    let place = place();
    for (text, key, line) in [
        ("[runtimes.one]\nkind = \"fake\"\ncolour = 1\n", "colour", 3),
        ("colour = 1\n", "colour", 1),
        ("[runtimes.one]\nkind = \"oci\"\n[runtimes.one.monitor]\npat = \"/x\"\n", "pat", 4),
        ("[runtimes.one]\nkind = 7\n", "kind", 2),
        ("[runtimes.one]\nkind = \"oci\"\n[runtimes.one.capabilities]\nenable = []\n", "enable", 4),
    ] {
        let (file, read) = table(place.path(), text);
        let error = read.unwrap_err();
        assert!(config_invalid(&error), "{error:?}");
        assert_tells(&error, key);
        assert_tells(&error, format!("{file}:{line}"));
    }
}

#[test]
fn a_table_that_is_not_there_is_named() {
    let error: Error = load::file(Path::new("/no/such/handlers.toml")).unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
    assert_tells(&error, "/no/such/handlers.toml");
}

#[tokio::test]
async fn a_missing_bundle_leaves_nothing_through_the_facade_either() {
    let place = place();
    let mut handlers = vec!["fake"];
    match host::lacks("crun") {
        Some(need) => host::skipped(&need),
        None => handlers.push("crun"),
    }
    let text = "[runtimes.fake]\nkind = \"fake\"\n[runtimes.crun]\nkind = \"oci\"\n";
    let runtime = facade(place.path(), text).unwrap();
    let token = place.path().file_name().unwrap().to_string_lossy().into_owned();
    for handler in handlers {
        let name = HandlerName::new(handler).unwrap();
        let id = ContainerId::new(format!("{token}-{handler}")).unwrap();
        let nowhere = place.path().join("nowhere");
        let error = runtime.create(Some(&name), CreateRequest::new(id.clone(), &nowhere)).await.unwrap_err();
        assert!(config_invalid(&error), "{handler}: {error:?}");
        assert_tells(&error, shown(&nowhere));

        // The id was never taken: a good create may have it.
        runtime.create(Some(&name), request(place.path(), id.as_str())).await.unwrap();
        let error = runtime.create(Some(&name), request(place.path(), id.as_str())).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::AlreadyExists, "{handler}");
        runtime.delete(&id, DeleteRequest::new()).await.unwrap();
        let error = runtime.start(&id).await.unwrap_err();
        assert!(error.is_not_found(), "{handler}: {error:?}");
    }
    runtime.shutdown().await;
    let limit = std::time::Duration::from_secs(10);
    let found = census::settled(&format!("{token}-"), &place.path().join("state"), limit).await;
    assert!(found.is_empty(), "{found:#?}");
}
