//! Cgroups that a spec, a request or a handler names: those that mean two things, those that others live in, those that are
//! the caller's, and none at all.

use std::path::Path;

use manyrun_tests::census;
use runtime_api::{
    CreateRequest, DeleteRequest, ErrorKind, ExecId, ExecSessionRequest, ExecSessionState, KillRequest,
    MonitorHealth, OpenContext, Rejection, RuntimeExt as _, RuntimeFactory as _, Signal,
};
use runtime_oci::OciFactory;
use runtime_test::{BundleOptions, Workload};

use crate::bystander::Cgroup;
use crate::place::parent_of;
use crate::wrapper::{Hangs, Wrapper, write_script};
use crate::{LIMIT, on, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cgroup_path_that_is_not_plain_is_refused() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let token = place.token();
        // None of them is the root itself: if that were not refused, the test would do the host harm.
        for (number, path) in [
            format!("/{token}-a/../{token}-b"),
            format!("../{token}-c"),
            format!("/../{token}-d"),
            format!("{token}-e"),
            format!("./{token}-f"),
        ]
        .iter()
        .enumerate()
        {
            let options = BundleOptions::new().cgroups_path(path);
            let bundle = place.bundle_with(&format!("odd{number}"), &Workload::exits(0), &options);
            let request = CreateRequest::new(place.id("odd"), bundle);
            let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{path}: {error:?}");
            assert!(error.report().contains("cgroupsPath"), "{path}: {}", error.report());
            assert!(place.kept().is_empty(), "{path}: {:?}", place.kept());
        }
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cgroup_in_which_others_live_is_refused() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let name = format!("{}-home", place.token());
        let home = Cgroup::make(&name);
        let mut bystander = home.inhabit();
        for (number, path) in
            [format!("/{name}"), format!("/{name}/inner"), format!("/{name}/far/inner")].iter().enumerate()
        {
            let options = BundleOptions::new().cgroups_path(path);
            let bundle = place.bundle_with(&format!("nested{number}"), &Workload::exits(0), &options);
            let request = CreateRequest::new(place.id("nested"), bundle);
            let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
            let busy = Rejection::CgroupBusy;
            assert!(
                matches!(error.kind(), ErrorKind::Rejected { class, .. } if *class == busy),
                "{path}: {error:?}"
            );
            bystander.assert_lives();
            assert!(place.kept().is_empty(), "{path}: {:?}", place.kept());
            assert!(home.children().is_empty(), "{path}: {:?}", home.children());
        }
        runtime.shutdown().await;
        drop(bystander);
    })
    .await;
}

/// Without cgroups a container is in that of whoever made it, with all of its neighbours. Here the monitor goes to a
/// cgroup of the test first: should the neighbours be killed after all, the tests themselves are none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_without_cgroups_takes_no_neighbour_along() {
    on(&["crun"], async |place| {
        let street = Cgroup::make(&format!("{}-street", place.token()));
        let mut neighbour = street.inhabit();
        let monitor = place.path("monitor");
        let real = manyrun_tests::host::find("conmon").unwrap();
        let enter = format!("echo $$ > {}", street.procs().display());
        write_script(&monitor, &format!("#!/bin/sh\n{enter}\nexec {} \"$@\"\n", real.display()));

        let mut config = place.config();
        config.args.push("--cgroup-manager=disabled".into());
        config.monitor.path = Some(monitor);
        let runtime = place.open(&config).await;
        for all in [false, true] {
            let id = place.running(&runtime, &format!("lone-{all}"), &Workload::forks_a_tree()).await;
            let pid = runtime.state(&id).await.unwrap().pid.unwrap();
            let members = std::fs::read_to_string(street.procs()).unwrap();
            assert!(members.lines().any(|line| line == pid.to_string()), "{pid} is not among {members:?}");
            if all {
                let request = KillRequest::new(Signal::KILL).all();
                within(LIMIT, "kill", runtime.kill(&id, request)).await.unwrap();
                assert_eq!(within(LIMIT, "wait", runtime.wait(&id)).await.unwrap().code, Some(137));
                neighbour.assert_lives();
            }
            within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
            neighbour.assert_lives();
        }
        runtime.shutdown().await;
        drop(neighbour);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_end_do_not_take_the_parent_from_under_a_create() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let bundle = place.bundle("short", &Workload::exits(0));
        // Another state directory with the same parent cgroup, as two bases with one handler have.
        let parent = format!("/manyrun/{}", place.token());
        let context = OpenContext::new(place.path("other"), parent);
        let config = place.config();
        let ends = tokio::spawn(async move {
            loop {
                drop(OciFactory.open(&config, context.clone()).await.unwrap());
                tokio::task::yield_now().await;
            }
        });
        for number in 0..40 {
            let request = CreateRequest::new(place.id(&format!("life{number}")), &bundle);
            let status = within(LIMIT, "life", runtime.run_to_exit(request)).await.unwrap();
            assert_eq!(status.code, Some(0), "life {number}");
        }
        ends.abort();
        let _ = ends.await;
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_of_the_callers_choice_holds_the_container_and_stays() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let pod = Cgroup::make(&format!("{}-pod", place.token()));
        let id = place.id("parted");
        let bundle = place.bundle("parted", &Workload::forever());
        let request = CreateRequest::new(id.clone(), bundle).cgroup_parent(format!("/{}-pod", place.token()));
        let state = within(LIMIT, "create", runtime.create(request)).await.unwrap();
        let inside = std::fs::read_to_string(pod.child(id.as_str()).join("cgroup.procs")).unwrap();
        assert_eq!(inside.trim(), state.pid.unwrap().to_string());
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        assert!(pod.children().is_empty(), "{:?}", pod.children());
        assert!(pod.procs().exists(), "the parent is the caller's");

        for odd in ["pods", "/a/../b", "/", ""] {
            let bundle = place.bundle("odd", &Workload::exits(0));
            let request = CreateRequest::new(place.id("odd"), bundle).cgroup_parent(odd);
            let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{odd:?}: {error:?}");
        }
        runtime.shutdown().await;
        remove_everywhere(&format!("{}-pod", place.token()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_has_a_cgroup_of_its_own_where_the_handler_wants_that() {
    on(&["runc", "crun"], async |place| {
        let below = format!("/{}-monitors", place.token());
        for (number, cgroup) in ["pod", &below].iter().enumerate() {
            let mut config = place.config();
            config.monitor.cgroup = Some((*cgroup).to_owned());
            let runtime = place.open(&config).await;
            let id = place.running(&runtime, &format!("watched{number}"), &Workload::forever()).await;
            let monitor = match within(LIMIT, "probe", runtime.probe_monitor(&id)).await.unwrap() {
                MonitorHealth::Alive { pid } => pid,
                other => panic!("{other:?}"),
            };
            let parent = if *cgroup == "pod" { format!("/manyrun/{}", place.token()) } else { below.clone() };
            let wanted = format!("{parent}/_conmon-{id}");
            let member_of = std::fs::read_to_string(format!("/proc/{monitor}/cgroup")).unwrap();
            for line in member_of.lines().filter(|line| !line.contains("name=")) {
                assert!(line.ends_with(&wanted), "{line} of {member_of}");
            }
            let init = runtime.state(&id).await.unwrap().pid.unwrap();
            let init = std::fs::read_to_string(format!("/proc/{init}/cgroup")).unwrap();
            assert!(!init.contains("_conmon-"), "{init}");

            within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
            let left = census::settled(id.as_str(), Path::new("/nonexistent"), LIMIT).await;
            assert!(left.is_empty(), "{left:#?}");
            if *cgroup == "pod" {
                // A monitor that cannot be moved there is ended, and nothing of it is left.
                let request = CreateRequest::new(id.clone(), place.bundle("broken", &Workload::exits(0)))
                    .cgroup_parent("/cgroup.procs");
                let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::Exhausted(_)), "{error:?}");
                let left = census::settled(id.as_str(), Path::new("/nonexistent"), LIMIT).await;
                assert!(left.is_empty(), "{left:#?}");
            }
            runtime.shutdown().await;
        }
        remove_everywhere(below.trim_start_matches('/'));
    })
    .await;
}

/// It shares the cgroup, and is no process of the container all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_monitor_of_a_session_is_in_the_containers_cgroup_where_the_handler_wants_that() {
    on(&["runc", "crun", "runsc"], async |place| {
        let mut config = place.config();
        config.monitor.exec_cgroup = Some("container".into());
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "host", &Workload::forever()).await;
        let session = ExecId::new(place.id("inner").as_str()).unwrap();
        let request = ExecSessionRequest::new(session.clone(), Workload::forever().process());
        let started = within(LIMIT, "exec_start", runtime.exec_start(&id, request)).await.unwrap();
        let ExecSessionState::Running { pid } = started else { panic!("it began as {started:?}") };
        let monitor = parent_of(i32::try_from(pid).unwrap()).unwrap();
        let cgroup = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let init = i32::try_from(runtime.state(&id).await.unwrap().pid.unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(format!("/proc/{monitor}/comm")).unwrap().trim(), "conmon");
        // That by which processes are frozen.
        let home = |pid: i32| {
            let all = cgroup(pid);
            let line = |of: &str| all.lines().find(|line| line.contains(of)).map(str::to_owned);
            line(":freezer:").or_else(|| line("0::")).unwrap()
        };
        assert_eq!(home(monitor), home(init));
        assert_ne!(home(monitor), home(i32::try_from(std::process::id()).unwrap()));

        let kill = runtime.kill(&id, KillRequest::new(Signal::KILL).all());
        within(LIMIT, "kill", kill).await.unwrap();
        assert_eq!(within(LIMIT, "wait", runtime.wait(&id)).await.unwrap().code, Some(137));
        let ended = within(LIMIT, "the end of the session", async {
            loop {
                match runtime.exec_state(&id, &session).await.unwrap() {
                    ExecSessionState::Stopped { code } => break code,
                    _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
        });
        assert_eq!(ended.await, Some(137), "its monitor told");
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

/// What a create leaves that is killed before it has looked into the cgroup, where another state directory has the same one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_create_left_over_takes_no_container_of_another_state_directory_along() {
    on(&["runc", "crun"], async |place| {
        let runtime = place.open(&place.config()).await;
        let id = place.running(&runtime, "lives", &Workload::forever()).await;
        let before = runtime.state(&id).await.unwrap();
        let dead = place.path("other/containers").join(id.as_str());
        std::fs::create_dir_all(&dead).unwrap();
        let text = std::fs::read(place.container(&id).join("record.json")).unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(&text).unwrap();
        record["phase"] = "creating".into();
        for process in ["init", "monitor", "own_cgroup"] {
            record[process] = serde_json::Value::Null;
        }
        std::fs::write(dead.join("record.json"), record.to_string()).unwrap();
        std::fs::write(dead.join("lock"), "").unwrap();
        // conmon may have gone on when its caller died, and the runtime found no config.
        for made in ["oci-log", "ctl"] {
            std::fs::write(dead.join(made), "").unwrap();
        }

        let parent = format!("/manyrun/{}", place.token());
        let context = OpenContext::new(place.path("other"), parent);
        let other = within(LIMIT, "open", OciFactory.open(&place.config(), context)).await.unwrap();
        assert!(!dead.exists(), "what was left over is not removed");
        assert_eq!(runtime.state(&id).await.unwrap(), before);
        other.shutdown().await;
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
    })
    .await;
}

/// Both would see an unused cgroup, and what ends one container would end the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cgroup_is_not_given_to_two_containers_that_are_made_at_once() {
    on(&["runc", "crun"], async |place| {
        let name = format!("{}-one", place.token());
        let options = BundleOptions::new().cgroups_path(format!("/{name}"));
        let bundle = place.bundle_with("one", &Workload::forever(), &options);
        let wrapper = Wrapper::new(place, "create", Hangs::Before);
        let mut slow = place.config();
        slow.paths = vec![wrapper.path.clone()];
        let context = OpenContext::new(place.path("other"), format!("/manyrun/{}", place.token()));
        let first = OciFactory.open(&slow, context).await.unwrap();
        let second = place.open(&place.config()).await;
        let (a, b) = (place.id("a"), place.id("b"));
        let create = tokio::spawn({
            let (first, request) = (first.clone(), CreateRequest::new(a.clone(), &bundle));
            async move { first.create(request).await }
        });
        wrapper.hangs().await;
        let request = CreateRequest::new(b.clone(), &bundle);
        let error = within(LIMIT, "create", second.create(request)).await.unwrap_err();
        let busy = Rejection::CgroupBusy;
        assert!(matches!(error.kind(), ErrorKind::Rejected { class, .. } if *class == busy), "{error:?}");
        assert!(place.kept().is_empty(), "{:?}", place.kept());
        wrapper.release();
        let made = within(LIMIT, "create", create).await.unwrap().unwrap();
        assert_eq!(first.state(&a).await.unwrap(), made);
        within(LIMIT, "delete", first.delete(&a, DeleteRequest::force())).await.unwrap();
        // Now it is free.
        within(LIMIT, "create", second.create(CreateRequest::new(b.clone(), &bundle))).await.unwrap();
        within(LIMIT, "delete", second.delete(&b, DeleteRequest::force())).await.unwrap();
        first.shutdown().await;
        second.shutdown().await;
        wrapper.remove();
        remove_everywhere(&name);
    })
    .await;
}

/// A cgroup of a test that a runtime made in every hierarchy.
fn remove_everywhere(name: &str) {
    let root = Path::new("/sys/fs/cgroup");
    for hierarchy in std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).chain([root.into()])
    {
        let _ = std::fs::remove_dir(hierarchy.join(name));
    }
}
