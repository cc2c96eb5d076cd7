//! A `config.json` that is not what it seems.

use nix::sys::stat::Mode;
use runtime_api::{CreateRequest, ErrorKind};
use runtime_test::Workload;

use crate::{LIMIT, on, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifo_is_refused_and_not_waited_for() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let bundle = place.bundle("fifo", &Workload::exits(0));
        let file = bundle.join("config.json");
        std::fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let request = CreateRequest::new(place.id("fifo"), &bundle);
        let creator = std::sync::Arc::clone(&runtime);
        // In a task of its own: a read that blocks its thread would block the clock of this test too.
        let create = tokio::spawn(async move { creator.create(request).await });
        let created = tokio::time::timeout(LIMIT, create).await;
        // Whoever waits for a writer gets one, which leaves at once: nobody may wait beyond this test.
        drop(std::fs::File::options().read(true).write(true).open(&file).unwrap());
        let error = created.expect("create waits for the fifo").unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
        assert!(error.report().contains("config.json"), "{}", error.report());
        assert!(place.kept().is_empty(), "{:?}", place.kept());
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_another_type_is_refused() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        for (member, value) in [("linux", "[]"), ("linux", "7"), ("linux", "\"x\""), ("process", "[]")] {
            let bundle = place.bundle("type", &Workload::exits(0));
            let file = bundle.join("config.json");
            let mut config: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            config[member] = serde_json::from_str(value).unwrap();
            std::fs::write(&file, config.to_string()).unwrap();
            let request = CreateRequest::new(place.id("type"), &bundle);
            let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{member} {value}: {error:?}");
            assert!(error.report().contains(member), "{}", error.report());
            assert!(place.kept().is_empty(), "{:?}", place.kept());
        }
        runtime.shutdown().await;
    })
    .await;
}
