//! What bad input gets: a typed error that names the thing and the file, and nothing left behind.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "bad_input/facade.rs"]
mod facade;
#[path = "bad_input/place.rs"]
mod place;

use std::collections::BTreeSet;
use std::path::Path;

use manyrun_tests::host;
use runtime_api::{
    ContainerId, CreateRequest, DeleteRequest, Error, ErrorKind, HandlerName, LogConfig, LogDriver,
    SharedRuntime,
};
use runtime_test::{Workload, bundle};

use place::Place;

/// Runs a test on runc and on crun, or says which of them this host lacks.
async fn on_each_runtime(test: impl AsyncFn(&Place, &SharedRuntime)) {
    let mut needs = BTreeSet::new();
    for binary in ["runc", "crun"] {
        if let Some(need) = host::lacks(binary) {
            needs.insert(need);
            continue;
        }
        let place = Place::new(binary);
        let runtime = place.open().await;
        let before = place.found();
        test(&place, &runtime).await;
        let left: Vec<_> = runtime.list().await.unwrap();
        assert!(left.is_empty(), "{left:#?}");
        runtime.shutdown().await;
        drop(runtime);
        place.assert_nothing_new(&before).await;
    }
    if !needs.is_empty() {
        host::skipped(&needs.into_iter().collect::<Vec<_>>().join("; "));
    }
}

fn config_invalid(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConfigInvalid(_))
}

#[track_caller]
fn assert_tells(error: &Error, what: impl AsRef<str>) {
    let report = error.report();
    assert!(report.contains(what.as_ref()), "{:?} is not in {report:?}", what.as_ref());
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn ids_that_are_no_ids_never_reach_a_runtime() {
    let long = "x".repeat(300);
    for bad in ["../x", "", long.as_str(), "a\nb", "a\n", "/", "a/b", ".", "-x", "a b", "a\0"] {
        let error = ContainerId::new(bad).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{bad:?}: {error:?}");
        assert_tells(&error, "container id");
        assert!(!error.report().contains('\n'), "{bad:?} spoils a log line: {}", error.report());
        assert!(error.report().len() < 200, "{bad:?} is repeated at length");
    }
    assert!(HandlerName::new("../x").is_err());
}

#[tokio::test]
async fn a_missing_bundle_is_named() {
    on_each_runtime(async |place, runtime| {
        let bundle = place.directory().join("no-such-bundle");
        let request = CreateRequest::new(place.id("missing"), &bundle).log(place.log());
        let error = runtime.create(request).await.unwrap_err();
        assert!(config_invalid(&error), "{error:?}");
        assert_tells(&error, shown(&bundle));
        assert_tells(&error, "create");
    })
    .await;
}

#[tokio::test]
async fn a_bundle_that_cannot_be_read_is_named() {
    on_each_runtime(async |place, runtime| {
        // Root reads every file, so what stands here is of the wrong type.
        let file = place.directory().join("file");
        std::fs::write(&file, "not a directory").unwrap();
        let folder = place.directory().join("folder");
        std::fs::create_dir_all(folder.join("config.json")).unwrap();
        for bundle in [file, folder] {
            let request = CreateRequest::new(place.id("unreadable"), &bundle).log(place.log());
            let error = runtime.create(request).await.unwrap_err();
            assert!(config_invalid(&error), "{error:?}");
            assert_tells(&error, shown(&bundle));
        }
    })
    .await;
}

#[tokio::test]
async fn a_broken_config_is_named_with_the_file() {
    on_each_runtime(async |place, runtime| {
        for (name, text, told) in [
            ("empty", "", "config.json"),
            ("cut", "{\n  \"ociVersion\": \"1.0.2\",\n  \"process\": {", "line 3"),
            ("not-a-spec", "[]", "config.json"),
            ("no-version", "{}", "ociVersion"),
            ("wrong-type", "{\n\"ociVersion\": 7}", "ociVersion"),
            ("binary", "\u{0}\u{1}", "config.json"),
        ] {
            let bundle = place.directory().join(name);
            bundle::write(&bundle, &Workload::exits(0)).unwrap();
            std::fs::write(bundle.join("config.json"), text).unwrap();
            let request = CreateRequest::new(place.id(name), &bundle).log(place.log());
            let error = runtime.create(request).await.unwrap_err();
            assert!(config_invalid(&error), "{name}: {error:?}");
            assert_tells(&error, shown(&bundle));
            assert_tells(&error, told);
        }
    })
    .await;
}

#[tokio::test]
async fn a_spec_without_a_process_or_root_is_refused() {
    on_each_runtime(async |place, runtime| {
        for member in ["process", "root"] {
            let bundle = place.directory().join(format!("no-{member}"));
            bundle::write(&bundle, &Workload::exits(0)).unwrap();
            let file = bundle.join("config.json");
            let mut config: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            config.as_object_mut().unwrap().remove(member).unwrap();
            std::fs::write(&file, config.to_string()).unwrap();
            let request = CreateRequest::new(place.id(member), &bundle).log(place.log());
            let error = runtime.create(request).await.unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::ConfigInvalid(_) | ErrorKind::Rejected { .. }),
                "{member}: {error:?}"
            );
            assert_tells(&error, member);
        }
    })
    .await;
}

#[tokio::test]
async fn a_log_that_cannot_be_is_named() {
    on_each_runtime(async |place, runtime| {
        let bundle = place.good_bundle();
        let nowhere = place.directory().join("no-such-directory").join("log");
        let request = CreateRequest::new(place.id("log"), &bundle).log(LogConfig::cri_file(&nowhere));
        let error = runtime.create(request).await.unwrap_err();
        assert!(config_invalid(&error), "{error:?}");
        assert_tells(&error, shown(&nowhere));

        let target = place.directory().join("target");
        let link = place.directory().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let request = CreateRequest::new(place.id("log"), &bundle).log(LogConfig::cri_file(&link));
        let error = runtime.create(request).await.unwrap_err();
        assert!(config_invalid(&error), "{error:?}");
        assert_tells(&error, shown(&link));
        assert!(!target.exists());

        // conmon leaves when it is to log to the journal under a short id.
        let mut journal = LogConfig::none();
        journal.driver = LogDriver::Journald;
        let request = CreateRequest::new(ContainerId::new("twelve-chars").unwrap(), &bundle).log(journal);
        let error = runtime.create(request).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{error:?}");
        assert_tells(&error, "12");
    })
    .await;
}

#[tokio::test]
async fn a_duplicate_id_leaves_the_first_alone() {
    on_each_runtime(async |place, runtime| {
        let bundle = place.good_bundle();
        let id = place.id("twice");
        let first = runtime.create(CreateRequest::new(id.clone(), &bundle)).await.unwrap();
        let error = runtime.create(CreateRequest::new(id.clone(), &bundle)).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::AlreadyExists);
        assert_tells(&error, id.as_str());
        assert_eq!(runtime.state(&id).await.unwrap(), first);
        runtime.delete(&id, DeleteRequest::new()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_was_never_created_is_not_found() {
    on_each_runtime(async |place, runtime| {
        let id = place.id("never");
        for error in [
            runtime.start(&id).await.unwrap_err(),
            runtime.state(&id).await.unwrap_err(),
            runtime.wait(&id).await.unwrap_err(),
            runtime.delete(&id, DeleteRequest::new()).await.unwrap_err(),
        ] {
            assert!(error.is_not_found(), "{error:?}");
            assert_tells(&error, id.as_str());
        }
    })
    .await;
}

#[tokio::test]
async fn a_missing_binary_is_unavailable_and_named() {
    on_each_runtime(async |place, _| {
        let mut config = place.config();
        config.paths = vec!["/no/such/place/runtime".into()];
        let degraded = place.open_with(&config, "degraded").await.unwrap();
        let error =
            degraded.create(CreateRequest::new(place.id("none"), place.good_bundle())).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
        assert_tells(&error, "/no/such/place/runtime");
        assert!(degraded.list().await.unwrap().is_empty());
        degraded.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_missing_monitor_is_unavailable_and_named() {
    on_each_runtime(async |place, _| {
        let mut config = place.config();
        config.monitor.path = Some("/no/such/place/conmon".into());
        let degraded = place.open_with(&config, "no-monitor").await.unwrap();
        let error =
            degraded.create(CreateRequest::new(place.id("none"), place.good_bundle())).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
        assert_tells(&error, "/no/such/place/conmon");
        degraded.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn an_unknown_option_is_named_with_its_place() {
    on_each_runtime(async |place, _| {
        let mut config = place.config();
        config.options.insert("no_such_option".to_owned(), true.into());
        let error = place.open_with(&config, "option").await.unwrap_err();
        assert!(config_invalid(&error), "{error:?}");
        assert_tells(&error, "no_such_option");
    })
    .await;
}
