use std::time::Duration;

use runtime_api::{
    Capability, ContainerStatus, ErrorKind, ExecSyncRequest, KillRequest, ProcessRequest, RuntimeKind,
    Signal, StopRequest,
};

use super::*;
use crate::DiskStore;
use crate::testing::{ToyFactory, id, toy_config};

fn name(text: &str) -> HandlerName {
    HandlerName::new(text).unwrap()
}

fn table(handlers: &[&str]) -> HandlerTable {
    HandlerTable::new(handlers.iter().map(|each| toy_config(each))).with_default(name(handlers[0]))
}

fn over(base: &Path, table: HandlerTable) -> Runtime {
    Runtime::new(table, Registry::new().register(ToyFactory).unwrap(), base)
}

fn request(text: &str) -> CreateRequest {
    CreateRequest::new(id(text), "/nonexistent/bundle").label("owner", "test")
}

#[test]
fn calls_can_be_spawned() {
    fn spawnable<T: Send>(_: &T) {}
    let runtime = over(Path::new("/nonexistent"), table(&["one"]));
    let (a, container) = (request("a"), id("a"));
    spawnable(&runtime.create(None, a));
    spawnable(&runtime.delete(&container, DeleteRequest::force()));
    spawnable(&runtime.readopt());
}

/// Everything below the base that has to do with an id.
fn traces(base: &Path, text: &str) -> usize {
    std::fs::read_dir(base.join(".ids")).map_or(0, |entries| {
        entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(text)).count()
    })
}

#[tokio::test]
async fn a_container_lives_under_the_handler_that_was_named() {
    let base = tempfile::tempdir().unwrap();
    let runtime = over(base.path(), table(&["one", "two"]));
    runtime.create(None, request("a")).await.unwrap();
    runtime.create(Some(&name("two")), request("b")).await.unwrap();
    assert_eq!(runtime.of(&id("a"), Operation::State).await.unwrap().info().handler, name("one"));
    assert_eq!(runtime.of(&id("b"), Operation::State).await.unwrap().info().handler, name("two"));
    runtime.start(&id("b")).await.unwrap();
    assert_eq!(runtime.state(&id("b")).await.unwrap().status, ContainerStatus::Running);
    runtime.exec_sync(&id("b"), ExecSyncRequest::new(ProcessRequest::new(["x"]))).await.unwrap();
    runtime.kill(&id("b"), KillRequest::new(Signal::KILL)).await.unwrap();
    runtime.wait(&id("b")).await.unwrap();
    runtime.delete(&id("b"), DeleteRequest::new()).await.unwrap();
    assert!(runtime.state(&id("b")).await.unwrap_err().is_not_found());
    assert_eq!(traces(base.path(), "b"), 0);
    let stored = runtime.store().list().unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].name.as_str(), &stored[0].handler), ("a", &name("one")));
    assert_eq!(stored[0].labels["owner"], "test");
}

#[tokio::test]
async fn unknown_handlers_are_refused_before_anything_is_made() {
    let base = tempfile::tempdir().unwrap();
    let runtime = over(base.path(), table(&["one"]));
    let error = runtime.create(Some(&name("nope")), request("a")).await.unwrap_err();
    assert!(error.is_not_found() && error.report().contains("known handlers are: one"), "{error:?}");
    let mut stranger = toy_config("vm");
    stranger.kind = RuntimeKind::new("vmm").unwrap();
    let runtime = over(base.path(), HandlerTable::new([stranger]));
    let error = runtime.create(Some(&name("vm")), request("a")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
    assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_id_is_one_container_across_handlers_and_processes() {
    let base = tempfile::tempdir().unwrap();
    let first = over(base.path(), table(&["one", "two"]));
    let second = over(base.path(), table(&["one", "two"]));
    first.create(Some(&name("one")), request("a")).await.unwrap();
    for (runtime, handler) in [(&first, "two"), (&second, "two"), (&first, "one"), (&second, "one")] {
        let error = runtime.create(Some(&name(handler)), request("a")).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::AlreadyExists, "{handler}");
    }
    assert_eq!(first.list().await.unwrap().containers.len(), 1);
    second.delete(&id("a"), DeleteRequest::force()).await.unwrap();
    second.create(Some(&name("two")), request("a")).await.unwrap();
    let moved = first.of(&id("a"), Operation::State).await.unwrap();
    assert_eq!(moved.info().handler, name("two"), "the first process follows");
}

#[tokio::test]
async fn a_failed_create_frees_the_id() {
    let base = tempfile::tempdir().unwrap();
    let runtime = over(base.path(), table(&["one", "two"]));
    let broken = CreateRequest::new(id("a"), "/nonexistent/broken");
    runtime.create(None, broken).await.unwrap_err();
    assert_eq!(traces(base.path(), "a"), 0);
    assert!(runtime.store().list().unwrap().is_empty());
    runtime.create(Some(&name("two")), request("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_create_frees_the_id() {
    let base = tempfile::tempdir().unwrap();
    let mut stuck = toy_config("stuck");
    stuck.options.insert("stuck".into(), true.into());
    let runtime = over(base.path(), HandlerTable::new([stuck, toy_config("one")]));
    let stuck = name("stuck");
    let create = runtime.create(Some(&stuck), request("a"));
    assert!(tokio::time::timeout(Duration::from_secs(1), create).await.is_err());
    assert_eq!(traces(base.path(), "a"), 0);
    runtime.create(Some(&name("one")), request("a")).await.unwrap();
}

#[tokio::test]
async fn a_container_keeps_the_configuration_it_was_created_with() {
    let base = tempfile::tempdir().unwrap();
    over(base.path(), table(&["one"])).create(None, request("a")).await.unwrap();
    let mut changed = toy_config("one");
    changed.args.push("--debug".into());
    let later = over(base.path(), HandlerTable::new([changed]).with_default(name("one")));
    later.create(None, request("b")).await.unwrap();
    let listing = later.list().await.unwrap();
    assert_eq!(listing.notes, []);
    let names: Vec<_> = listing.containers.iter().map(|each| each.state.id.as_str()).collect();
    assert_eq!(names, ["a", "b"], "the oldest first");
    assert_ne!(listing.containers[0].snapshot, listing.containers[1].snapshot);
    later.start(&id("a")).await.unwrap();
    later.delete(&id("a"), DeleteRequest::force()).await.unwrap();
}

#[tokio::test]
async fn a_new_process_readopts_what_an_earlier_one_left() {
    let base = tempfile::tempdir().unwrap();
    let earlier = over(base.path(), table(&["one", "two"]));
    earlier.create(None, request("a")).await.unwrap();
    earlier.create(Some(&name("two")), request("b")).await.unwrap();
    earlier.shutdown().await;
    let later = over(base.path(), HandlerTable::new([]));
    let gone =
        Container::new(id("gone"), "/b", name("one"), earlier_snapshot(&later).await, SystemTime::now());
    later.store().add(gone).unwrap();
    let listing = later.readopt().await.unwrap();
    assert_eq!(listing.containers.len(), 2);
    let stored: Vec<_> = later.store().list().unwrap().into_iter().map(|each| each.name).collect();
    assert_eq!(stored, ["b", "a"]);
    later.start(&id("b")).await.unwrap();
    assert_eq!(later.store().get(&id("a")).unwrap().unwrap().labels["owner"], "test");
}

#[tokio::test]
async fn why_a_start_failed_is_kept_until_one_succeeds() {
    let base = tempfile::tempdir().unwrap();
    let runtime = over(base.path(), table(&["one"]));
    let a = id("unstartable");
    runtime.create(None, request("unstartable")).await.unwrap();
    runtime.start(&a).await.unwrap_err();
    let kept = |runtime: &Runtime| runtime.store().get(&id("unstartable")).unwrap().unwrap().start_failure;
    assert!(kept(&runtime).unwrap().contains("no such program"));
    let mut tries = 0;
    while runtime.start(&a).await.is_err() {
        tries += 1;
        assert!(tries < 10, "it fails once only");
    }
    assert_eq!(kept(&runtime), None);
    runtime.start(&id("nobody")).await.unwrap_err();
    assert!(runtime.store().get(&id("nobody")).unwrap().is_none());
}

/// A store in which, between two looks at it, somebody deletes a container and creates another one under the same id.
#[derive(Debug)]
struct Swapping {
    inner: MemoryStore,
    swap_at: usize,
    looks: std::sync::atomic::AtomicUsize,
}

impl ContainerStore for Swapping {
    fn add(&self, container: Container) -> Result<()> {
        self.inner.add(container)
    }
    fn get(&self, id: &ContainerId) -> Result<Option<Container>> {
        let found = self.inner.get(id)?;
        if self.looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == self.swap_at
            && let Some(mut other) = found.clone()
        {
            other.created_at += Duration::from_secs(1);
            other.name = "another".to_owned();
            self.inner.add(other)?;
        }
        Ok(found)
    }
    fn delete(&self, id: &ContainerId) -> Result<()> {
        self.inner.delete(id)
    }
    fn list(&self) -> Result<Vec<Container>> {
        self.inner.list()
    }
}

#[tokio::test]
async fn what_is_told_of_a_container_is_not_told_of_the_next_one_of_its_id() {
    let a = id("unstartable");
    for swap_at in [1, 2] {
        let base = tempfile::tempdir().unwrap();
        let store = Arc::new(Swapping { inner: MemoryStore::new(), swap_at, looks: Default::default() });
        let runtime = over(base.path(), table(&["one"])).with_store(store.clone());
        runtime.create(None, request("unstartable")).await.unwrap();
        runtime.start(&a).await.unwrap_err();
        let kept = store.inner.get(&a).unwrap().unwrap();
        assert_eq!((kept.name.as_str(), kept.start_failure), ("another", None), "at look {swap_at}");
    }
    let base = tempfile::tempdir().unwrap();
    let store = Arc::new(Swapping { inner: MemoryStore::new(), swap_at: 1, looks: Default::default() });
    let runtime = over(base.path(), table(&["one"])).with_store(store.clone());
    runtime.create(None, request("a")).await.unwrap();
    runtime.delete(&id("a"), DeleteRequest::force()).await.unwrap();
    assert_eq!(store.inner.get(&id("a")).unwrap().unwrap().name, "another");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_of_an_id_that_somebody_creates_or_deletes() {
    let base = tempfile::tempdir().unwrap();
    let runtime = over(base.path(), table(&["one"]));
    let a = id("unstartable");
    runtime.create(None, request("unstartable")).await.unwrap();
    let Taken::Given(_, held) = reservation::take(base.path(), &a).await.unwrap() else {
        panic!("it is ours")
    };
    runtime.start(&a).await.unwrap_err();
    assert_eq!(runtime.store().get(&a).unwrap().unwrap().start_failure, None);
    drop(held);
    assert_eq!(traces(base.path(), "unstartable"), 1);
}

#[tokio::test]
async fn what_was_continued_from_an_image_says_so() {
    let base = tempfile::tempdir().unwrap();
    let mut config = toy_config("one");
    config.options.insert("boundless".into(), true.into());
    let runtime = over(base.path(), HandlerTable::new([config]).with_default(name("one")));
    runtime.restore(None, RestoreRequest::new(request("a"), "/images/a")).await.unwrap();
    let restored_from = |text| runtime.store().get(&id(text)).unwrap().unwrap().restored_from;
    assert_eq!(restored_from("a").as_deref(), Some(Path::new("/images/a")));
    runtime.create(None, request("b")).await.unwrap();
    assert_eq!(restored_from("b"), None);
}

#[tokio::test]
async fn a_damaged_record_is_made_anew_and_told() {
    let base = tempfile::tempdir().unwrap();
    let store = Arc::new(DiskStore::new(base.path().join("store")));
    let runtime = over(&base.path().join("state"), table(&["one"])).with_store(store.clone());
    runtime.create(None, request("a")).await.unwrap();
    std::fs::write(base.path().join("store/a.json"), "{").unwrap();
    std::fs::write(base.path().join("store/gone.json"), "{").unwrap();
    let listing = runtime.readopt().await.unwrap();
    assert_eq!((listing.containers.len(), listing.notes.len()), (1, 2), "{:?}", listing.notes);
    assert!(listing.notes.iter().all(|note| note.text.contains("damaged")), "{:?}", listing.notes);
    assert_eq!(store.list().unwrap()[0].name, "a");
    assert_eq!(store.damaged().unwrap().len(), 1, "nothing is known of the other");
}

async fn earlier_snapshot(runtime: &Runtime) -> String {
    let listing = runtime.list().await.unwrap();
    listing.containers.into_iter().find(|each| each.handler == name("one")).unwrap().snapshot
}

#[tokio::test]
async fn a_snapshot_of_an_unknown_kind_does_not_hide_the_others() {
    let base = tempfile::tempdir().unwrap();
    let mut stranger = toy_config("vm");
    stranger.kind = RuntimeKind::new("vmm").unwrap();
    Snapshot::of(&stranger).write(base.path(), &stranger).unwrap();
    let runtime = over(base.path(), table(&["one"]));
    runtime.create(None, request("a")).await.unwrap();
    let listing = runtime.list().await.unwrap();
    assert_eq!(listing.containers.len(), 1);
    assert_eq!(listing.notes.len(), 1);
    assert!(listing.notes[0].text.contains("unknown kind \"vmm\""), "{}", listing.notes[0]);
    let error = runtime.state(&id("nobody")).await.unwrap_err();
    assert!(error.is_not_found() && error.advice().unwrap().contains("vmm"), "{error:?}");
}

#[tokio::test]
async fn a_container_that_was_made_past_the_facade_is_found() {
    let base = tempfile::tempdir().unwrap();
    let runtime = over(base.path(), table(&["one"]));
    let value = runtime.runtime(None).await.unwrap();
    value.create(request("a")).await.unwrap();
    assert_eq!(runtime.state(&id("a")).await.unwrap().status, ContainerStatus::Created);
    runtime.delete(&id("a"), DeleteRequest::new()).await.unwrap();
    runtime.delete(&id("a"), DeleteRequest::force()).await.unwrap();
    assert!(runtime.delete(&id("a"), DeleteRequest::new()).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_left_over_file_does_not_block_its_id() {
    let base = tempfile::tempdir().unwrap();
    let runtime = over(base.path(), table(&["one", "two"]));
    runtime.create(None, request("a")).await.unwrap();
    let value = runtime.runtime(None).await.unwrap();
    value.delete(&id("a"), DeleteRequest::force()).await.unwrap();
    assert_eq!(traces(base.path(), "a"), 1, "deleted past the facade");
    runtime.create(Some(&name("two")), request("a")).await.unwrap();
    assert_eq!(runtime.of(&id("a"), Operation::State).await.unwrap().info().handler, name("two"));
}

#[tokio::test]
async fn a_file_that_names_a_lost_snapshot_does_not_block_its_id() {
    let base = tempfile::tempdir().unwrap();
    let earlier = over(base.path(), table(&["one"]));
    earlier.create(None, request("a")).await.unwrap();
    std::fs::remove_dir_all(base.path().join("one")).unwrap();
    let later = over(base.path(), table(&["two"]));
    assert!(later.state(&id("a")).await.unwrap_err().is_not_found());
    later.create(None, request("a")).await.unwrap();
    assert_eq!(later.state(&id("a")).await.unwrap().status, ContainerStatus::Created);
}

#[tokio::test]
async fn a_memory_limit_below_the_handlers_smallest_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let bundle = tempfile::tempdir().unwrap();
    let spec = r#"{"ociVersion":"1.0.2","linux":{"resources":{"memory":{"limit":1048576}}}}"#;
    std::fs::write(bundle.path().join("config.json"), spec).unwrap();
    let mut roomy = toy_config("roomy");
    roomy.min_memory = Some(12 << 20);
    let runtime = over(base.path(), HandlerTable::new([roomy, toy_config("small")]));
    let request = CreateRequest::new(id("a"), bundle.path());
    let error = runtime.create(Some(&name("roomy")), request.clone()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
    assert!(error.to_string().contains("1048576"), "{error}");
    assert_eq!(traces(base.path(), "a"), 0);
    runtime.create(Some(&name("small")), request).await.unwrap();
}

#[tokio::test]
async fn annotations_that_are_not_allowed_are_refused() {
    let base = tempfile::tempdir().unwrap();
    let bundle = tempfile::tempdir().unwrap();
    let spec = r#"{"ociVersion":"1.0.2","process":{"terminal":true},"annotations":{"run.oci.hooks.x":"1"}}"#;
    std::fs::write(bundle.path().join("config.json"), spec).unwrap();
    let mut strict = toy_config("strict");
    strict.annotations.denied.push("run.oci.hooks.".into());
    let runtime = over(base.path(), HandlerTable::new([strict, toy_config("open")]));
    let request = CreateRequest::new(id("a"), bundle.path());
    let error = runtime.create(Some(&name("strict")), request.clone()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
    assert!(error.report().contains("run.oci.hooks.x"), "{}", error.report());
    runtime.create(Some(&name("open")), request).await.unwrap();
    assert!(runtime.store().get(&id("a")).unwrap().unwrap().terminal);
}

#[tokio::test]
async fn a_reload_tells_what_is_different_and_leaves_containers_where_they_are() {
    let base = tempfile::tempdir().unwrap();
    let runtime = over(base.path(), table(&["one", "two"]));
    runtime.create(None, request("a")).await.unwrap();
    let before = runtime.table();
    let mut changed = toy_config("one");
    changed.args = vec!["--debug".into()];
    let new = HandlerTable::new([changed, toy_config("three")]).with_default(name("three"));
    let changes = runtime.reload(|| Ok(new)).unwrap();
    let told: Vec<_> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["default: one -> three", "~ one: args: not set -> [\"--debug\"]", "+ three", "- two"]);
    assert_eq!(runtime.of(&id("a"), Operation::State).await.unwrap().info().handler, name("one"));
    runtime.create(None, request("b")).await.unwrap();
    assert_eq!(runtime.of(&id("b"), Operation::State).await.unwrap().info().handler, name("three"));
    assert!(runtime.create(Some(&name("two")), request("c")).await.unwrap_err().is_not_found());
    assert_eq!(before.default, Some(name("one")), "what was got stays as it is");
}

#[tokio::test]
async fn what_a_reload_disables_is_refused_from_the_next_call_on() {
    let base = tempfile::tempdir().unwrap();
    let runtime = over(base.path(), table(&["one"]));
    runtime.create(None, request("a")).await.unwrap();
    let request = || ExecSyncRequest::new(ProcessRequest::new(["x"]));
    assert!(!matches!(runtime.exec_sync(&id("a"), request()).await, Err(error) if error.is_unsupported()));
    let mut changed = toy_config("one");
    changed.disabled.push((Capability::ExecSync, "/etc/h.toml:7".to_owned()));
    let changed = HandlerTable::new([changed]).with_default(name("one"));
    assert_eq!(runtime.reload(|| Ok(changed)).unwrap().len(), 1);
    let refused = runtime.exec_sync(&id("a"), request()).await.unwrap_err();
    assert!(refused.to_string().contains("/etc/h.toml:7"), "{refused}");
    // A handler that is gone keeps what it had.
    runtime.reload(|| Ok(HandlerTable::new([toy_config("two")]))).unwrap();
    assert!(runtime.exec_sync(&id("a"), request()).await.unwrap_err().is_unsupported());
}

#[tokio::test]
async fn a_bad_reload_keeps_the_handlers_of_before() {
    let runtime = over(Path::new("/nonexistent"), table(&["one"]));
    let bad = crate::native::Source::new("bad.toml", "[runtimes.one\n");
    let error = runtime.reload(|| crate::native::parse(&[bad])).unwrap_err();
    assert_eq!(error.subject(), Some("bad.toml:1"));
    assert!(error.report().contains("the handlers of before stay in use"), "{}", error.report());
    assert_eq!(runtime.table().default, Some(name("one")));
}

#[tokio::test]
async fn the_first_handler_that_can_is_chosen_and_says_why() {
    let base = tempfile::tempdir().unwrap();
    let mut stranger = toy_config("alien");
    stranger.kind = RuntimeKind::new("vmm").unwrap();
    let mut handlers = table(&["one", "two"]);
    handlers.handlers.insert(name("alien"), stranger);
    handlers.default = Some(name("alien"));
    let runtime = over(base.path(), handlers);
    let found = runtime.select_capable(&[Capability::ExecSync]).await.unwrap();
    assert_eq!(found.config.name, name("one"));
    assert!(found.why.contains("not alien: unknown kind"), "{}", found.why);
    let error = runtime.select_capable(&[Capability::ExecSync, Capability::Checkpoint]).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("one: not supported (checkpoint)") && text.contains("two: "), "{text}");
}

/// A bundle of a container that is marked as spoofed, by the newer or the older name.
fn spoofed_bundle(place: &Path, name: &str) -> PathBuf {
    let bundle = place.join(name);
    std::fs::create_dir_all(&bundle).unwrap();
    let spec = format!(r#"{{"ociVersion":"1.0.2","annotations":{{"{name}":"true"}}}}"#);
    std::fs::write(bundle.join("config.json"), spec).unwrap();
    bundle
}

/// Its handler cannot be opened at all: nobody may try.
fn unopened(base: &Path) -> Runtime {
    let mut config = toy_config("one");
    config.kind = RuntimeKind::new("vmm").unwrap();
    let store = Arc::new(DiskStore::new(base.join("store")));
    over(&base.join("state"), HandlerTable::new([config]).with_default(name("one"))).with_store(store)
}

#[tokio::test]
async fn a_spoofed_container_lives_without_a_runtime_and_in_every_process() {
    for mark in ["spoofed.crio.io", "io.kubernetes.cri-o.Spoofed"] {
        let place = tempfile::tempdir().unwrap();
        let bundle = spoofed_bundle(place.path(), mark);
        let (first, second) = (unopened(place.path()), unopened(place.path()));
        let a = id("a");
        let request = CreateRequest::new(a.clone(), &bundle).label("owner", "test");
        let state = first.create(None, request.clone()).await.unwrap();
        assert_eq!((state.status, state.pid), (ContainerStatus::Created, None));
        assert_eq!(second.create(None, request).await.unwrap_err().kind(), &ErrorKind::AlreadyExists);
        second.start(&a).await.unwrap();
        assert!(matches!(first.start(&a).await.unwrap_err().kind(), ErrorKind::WrongState { .. }));
        let state = first.state(&a).await.unwrap();
        assert!(state.status == ContainerStatus::Running && state.started_at >= Some(state.created_at));
        assert_eq!((state.annotations[mark].as_str(), state.labels["owner"].as_str()), ("true", "test"));
        second.store().delete(&a).unwrap();
        let listing = second.readopt().await.unwrap();
        assert_eq!(listing.containers.len(), 1, "{listing:?}");
        assert_eq!((&listing.containers[0].state, &listing.containers[0].handler), (&state, &name("one")));
        let stored = second.store().get(&a).unwrap().unwrap();
        assert!(stored.spoofed && !stored.infra, "{stored:?}");
        // Nothing runs in it, and nothing else was made of it.
        let exec = ExecSyncRequest::new(ProcessRequest::new(["x"]));
        let refused = first.exec_sync(&a, exec).await.unwrap_err();
        assert!(refused.is_unsupported() && refused.to_string().contains("spoofed"), "{refused}");
        assert!(first.pause(&a).await.unwrap_err().is_unsupported());
        assert!(first.stats(&a).await.unwrap_err().is_unsupported());
        assert!(!place.path().join("state/one").exists());
        first.kill(&a, KillRequest::new(Signal::TERM)).await.unwrap();
        assert!(matches!(
            first.delete(&a, DeleteRequest::new()).await.unwrap_err().kind(),
            ErrorKind::WrongState { .. }
        ));
        let (end, stop) = tokio::join!(second.wait(&a), first.stop(&a, StopRequest::unlimited()));
        let end = end.unwrap();
        assert_eq!((&end, end.code), (&stop.unwrap(), Some(0)));
        assert_eq!(second.stop(&a, StopRequest::unlimited()).await.unwrap(), end, "nothing changes");
        first.delete(&a, DeleteRequest::new()).await.unwrap();
        for runtime in [&first, &second] {
            assert!(runtime.state(&a).await.unwrap_err().is_not_found());
            assert!(runtime.list().await.unwrap().containers.is_empty());
            assert!(runtime.store().list().unwrap().is_empty());
        }
        assert_eq!(traces(&place.path().join("state"), "a"), 0);
    }
}

#[tokio::test]
async fn a_spoofed_container_is_killed_forced_away_and_forgotten_by_the_store() {
    let place = tempfile::tempdir().unwrap();
    let bundle = spoofed_bundle(place.path(), "spoofed.crio.io");
    let runtime = unopened(place.path());
    let create = |text: &str| runtime.create(None, CreateRequest::new(id(text), &bundle));
    for text in ["killed", "created", "forced", "lost", "damaged"] {
        create(text).await.unwrap();
    }
    runtime.kill(&id("killed"), KillRequest::new(Signal::KILL)).await.unwrap();
    assert_eq!(runtime.wait(&id("killed")).await.unwrap().code, Some(137));
    let forced = id("forced");
    runtime.start(&forced).await.unwrap();
    let (end, deleted) = tokio::join!(runtime.wait(&forced), runtime.delete(&forced, DeleteRequest::force()));
    deleted.unwrap();
    assert_eq!(end.unwrap().code, Some(137));
    runtime.delete(&id("created"), DeleteRequest::new()).await.unwrap();
    runtime.delete(&id("killed"), DeleteRequest::new()).await.unwrap();
    let file = |text: &str| place.path().join("state/.spoofed").join(text);
    std::fs::remove_file(file("lost")).unwrap();
    std::fs::write(file("damaged"), "{").unwrap();
    let listing = runtime.readopt().await.unwrap();
    assert_eq!((listing.containers.len(), listing.notes.len()), (0, 1), "{listing:?}");
    assert!(listing.notes[0].text.contains("damaged"), "{:?}", listing.notes);
    let left: Vec<_> = runtime.store().list().unwrap().into_iter().map(|each| each.name).collect();
    assert_eq!(left, ["damaged"], "what cannot be read may be there");
    let error = runtime.state(&id("damaged")).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
    runtime.delete(&id("damaged"), DeleteRequest::force()).await.unwrap();
    assert!(runtime.state(&id("damaged")).await.unwrap_err().is_not_found());
    create("damaged").await.unwrap();
}

#[tokio::test]
async fn who_may_not_spoof_does_not() {
    let place = tempfile::tempdir().unwrap();
    let bundle = spoofed_bundle(place.path(), "spoofed.crio.io");
    let mut strict = toy_config("strict");
    strict.annotations.denied.push("spoofed.crio.io".into());
    let runtime = over(&place.path().join("state"), HandlerTable::new([strict]));
    let error =
        runtime.create(Some(&name("strict")), CreateRequest::new(id("a"), &bundle)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
    assert!(runtime.list().await.unwrap().containers.is_empty());
}
