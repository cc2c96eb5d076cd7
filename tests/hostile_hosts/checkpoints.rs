//! Checkpoints that fail, hang, and lose their caller.

use std::path::Path;
use std::sync::Arc;

use manyrun_tests::host;
use runtime_api::{
    Capability, CheckpointRequest, ContainerStatus, CreateRequest, DeleteRequest, ErrorKind, ExitCause,
    HandlerConfig, LogConfig, OpenContext, RestoreRequest, RuntimeImpl as _, SharedRuntime, StopRequest,
};
use runtime_oci::{CheckpointArchive, OciFactory};
use runtime_test::Workload;
use serde_json::{Value, json};

use crate::place::Place;
use crate::wrapper::{Hangs, Wrapper, refusing, write_script};
use crate::{LIMIT, on, until, within};

/// Whether checkpoints can be tested here; says so if not.
fn checkpoints(runtime: &SharedRuntime) -> bool {
    match runtime.capabilities().why_not(Capability::Checkpoint) {
        None => true,
        Some(why) => {
            println!("SKIPPED: no checkpoints: {why}");
            false
        }
    }
}

/// A handler whose criu finds no program to stop a network with once it is at work.
fn with_a_crippled_criu(place: &Place) -> HandlerConfig {
    let bin = place.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let real = host::find("criu").unwrap_or_else(|| "/nonexistent".into());
    let text =
        format!("#!/bin/sh\n[ \"$1\" = swrk ] && export PATH=/nonexistent\nexec {} \"$@\"\n", real.display());
    write_script(&bin.join("criu"), &text);
    let mut config = place.config();
    let path = std::env::var("PATH").unwrap();
    config.monitor.env = vec![format!("PATH={}:{path}", bin.display())];
    config
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_fails_leaves_the_container_and_tells_what_criu_said() {
    on(&["runc"], async |place| {
        let runtime = place.open(&with_a_crippled_criu(place)).await;
        if !checkpoints(&runtime) {
            return;
        }
        let id = place.running(&runtime, "fails", &Workload::forever()).await;
        let images = place.path("images");
        std::fs::create_dir(&images).unwrap();
        for paused in [false, true] {
            if paused {
                within(LIMIT, "pause", runtime.pause(&id)).await.unwrap();
            }
            let before = runtime.state(&id).await.unwrap();
            let request = CheckpointRequest::new(images.join("image"));
            let error = within(LIMIT, "checkpoint", runtime.checkpoint(&id, request)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Rejected { .. }), "{error:?}");
            let report = error.report();
            assert!(report.contains("iptables-restore"), "{report}");
            assert!(error.command().unwrap().stderr.contains("Dumping FAILED"), "{report}");
            assert_eq!(runtime.state(&id).await.unwrap(), before);
            assert!(entries(&images).is_empty(), "{:?}", entries(&images));
        }
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_a_runtime_refuses_changes_nothing() {
    on(&["runc", "runsc"], async |place| {
        let mut config = place.config();
        config.paths = vec![refusing(place, "checkpoint", "not today")];
        let runtime = place.open(&config).await;
        if !checkpoints(&runtime) {
            return;
        }
        let id = place.running(&runtime, "refused", &Workload::forever()).await;
        let images = place.path("images");
        std::fs::create_dir(&images).unwrap();
        let before = runtime.state(&id).await.unwrap();
        let request = CheckpointRequest::new(images.join("image"));
        let error = within(LIMIT, "checkpoint", runtime.checkpoint(&id, request)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Rejected { .. }), "{error:?}");
        assert!(error.report().contains("not today"), "{}", error.report());
        assert_eq!(runtime.state(&id).await.unwrap(), before);
        assert!(entries(&images).is_empty(), "{:?}", entries(&images));
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_whose_value_is_gone_is_finished_by_the_next() {
    on(&["runc"], async |place| {
        let images = place.path("images");
        std::fs::create_dir(&images).unwrap();
        for (hangs, name) in [(Hangs::After, "after"), (Hangs::Before, "before")] {
            let wrapper = Wrapper::new(place, "checkpoint", hangs);
            let mut config = place.config();
            config.paths = vec![wrapper.path.clone()];
            // The probes ask for the help of the verb, which must not hang.
            wrapper.mend();
            let runtime = place.open(&config).await;
            if !checkpoints(&runtime) {
                return;
            }
            wrapper.arm();
            let id = place.running(&runtime, name, &Workload::forever()).await;
            let image = images.join(name);
            let call = {
                let (runtime, id, image) = (Arc::clone(&runtime), id.clone(), image.clone());
                tokio::spawn(async move { runtime.checkpoint(&id, CheckpointRequest::new(image)).await })
            };
            wrapper.hangs().await;
            // As if the process had been killed: the value's tasks end in the middle.
            runtime.shutdown().await;
            drop(within(LIMIT, "the call", call).await.unwrap().unwrap_err());
            drop(runtime);
            let opening = async {
                let opened = place.open(&config);
                let released = async { wrapper.release() };
                tokio::join!(opened, released).0
            };
            let runtime = within(LIMIT, "open", opening).await;
            let exit = within(LIMIT, "wait", runtime.wait(&id)).await.unwrap();
            assert_eq!((exit.code, exit.cause), (Some(0), ExitCause::Checkpointed), "{name}");
            assert!(image.join("inventory.img").exists(), "{name}");
            assert_eq!(entries(&images).iter().filter(|entry| entry.starts_with('.')).count(), 0);
            within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
            runtime.shutdown().await;
            wrapper.remove();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_that_hangs_can_be_deleted_and_leaves_no_image() {
    on(&["runc"], async |place| {
        let images = place.path("images");
        std::fs::create_dir(&images).unwrap();
        let wrapper = Wrapper::new(place, "checkpoint", Hangs::Before);
        let mut config = place.config();
        config.paths = vec![wrapper.path.clone()];
        wrapper.mend();
        let runtime = place.open(&config).await;
        if !checkpoints(&runtime) {
            return;
        }
        wrapper.arm();
        let id = place.running(&runtime, "hangs", &Workload::forever()).await;
        let call = {
            let (runtime, id, image) = (Arc::clone(&runtime), id.clone(), images.join("image"));
            tokio::spawn(async move { runtime.checkpoint(&id, CheckpointRequest::new(image)).await })
        };
        wrapper.hangs().await;
        assert_eq!(runtime.state(&id).await.unwrap().status, ContainerStatus::Running);
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        within(LIMIT, "the call", call).await.unwrap().unwrap_err();
        until("the end of the image", || entries(&images).is_empty().then_some(())).await;
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_another_container_ends_nobody() {
    on(&["runc", "crun", "runsc"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "other", &Workload::forever()).await;
        let image = place.path("image");
        std::fs::create_dir(&image).unwrap();
        std::fs::write(image.join("inventory.img"), "x").unwrap();
        let file = place.container(&id).join("record.json");
        // What callers leave that are killed before they made the hidden directory, and after they removed it.
        for saved in [Value::Null, json!(false)] {
            let mut record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            // A process that no longer lives: no process has this start time.
            let owner = json!({"process": {"pid": std::process::id(), "start": 1}, "value": 0});
            let image = json!({"path": image, "hidden": place.path(".image.1.0")});
            record["checkpoint"] =
                json!({"owner": owner, "place": image, "was_paused": false, "ends": true, "saved": saved});
            std::fs::write(&file, record.to_string()).unwrap();
            within(LIMIT, "pause", runtime.pause(&id)).await.unwrap();
            within(LIMIT, "resume", runtime.resume(&id)).await.unwrap();
            let record: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            assert_eq!(record["checkpoint"], Value::Null, "{saved}");
            assert_eq!(runtime.state(&id).await.unwrap().status, ContainerStatus::Running, "{saved}");
        }
        assert_eq!(entries(&image), ["inventory.img"]);
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_was_packed_and_unpacked_continues() {
    on(&["runc", "runsc"], async |place| {
        let context = OpenContext::new(place.path("state"), format!("/manyrun/{}", place.token()));
        let config = place.config();
        let opening = OciFactory.open_oci(&config, context);
        let runtime = within(LIMIT, "open", Box::pin(opening)).await.unwrap();
        if let Some(why) = runtime.capabilities().why_not(Capability::Restore) {
            println!("SKIPPED: no checkpoints: {why}");
            return;
        }
        let id = place.id("packed");
        let (bundle, log) = (place.bundle("packed", &Workload::exits_on_term(7)), place.path("log"));
        let request = CreateRequest::new(id.clone(), &bundle).log(LogConfig::cri_file(&log));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();
        let ready = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("ready")).then_some(());
        until("that the program is ready", ready).await;
        let (image, archive) = (place.path("image"), place.path("packed.tar"));
        within(LIMIT, "checkpoint", runtime.checkpoint(&id, CheckpointRequest::new(&image))).await.unwrap();
        let export = runtime.export_checkpoint(&id, &image, &archive, true);
        within(LIMIT, "export", export).await.unwrap();
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        std::fs::remove_dir_all(&image).unwrap();

        let unpacked = CheckpointArchive::unpack(&archive, &place.path("unpacked"), 1 << 30).unwrap();
        assert_eq!(unpacked.details.id, id);
        let runtime_is = format!("{} ", place.binary);
        assert!(unpacked.details.runtime.starts_with(&runtime_is), "{:?}", unpacked.details);
        assert!(std::fs::read_to_string(unpacked.log.unwrap()).unwrap().contains("ready"));
        let other = place.id("unpacked");
        let request = RestoreRequest::new(CreateRequest::new(other.clone(), &bundle), &unpacked.image);
        within(LIMIT, "restore", runtime.restore(request)).await.unwrap();
        let exit = within(LIMIT, "stop", runtime.stop(&other, StopRequest::within(LIMIT))).await.unwrap();
        assert_eq!(exit.code, Some(7));
        within(LIMIT, "delete", runtime.delete(&other, DeleteRequest::new())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}
