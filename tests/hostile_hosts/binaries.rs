//! Binaries: a runtime that fails before it does anything is asked again; one that vanished leaves containers that can
//! be ended; a monitor that is missing or too old is told with what to install.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_api::{
    ContainerStatus, CreateRequest, DeleteRequest, ErrorKind, ExecId, ExecRequest, ExecSessionRequest,
    ExecSyncRequest, HandlerConfig, LogConfig, StdinMode, StopRequest, Streams,
};
use runtime_test::{BundleOptions, Step, Workload};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::wrapper::{copy_program, write_script};
use crate::{LIMIT, Place, on, within};

/// A runtime that says that it did nothing, and does not, as often as there are files for a verb.
struct Busy {
    path: PathBuf,
    failures: PathBuf,
}

impl Busy {
    fn new(place: &Place) -> Self {
        let busy = Self { path: place.path("busy"), failures: place.path("failures") };
        std::fs::create_dir(&busy.failures).unwrap();
        let real = manyrun_tests::host::find(place.binary).unwrap();
        let (real, failures) = (real.display(), busy.failures.display());
        write_script(
            &busy.path,
            &format!(
                "#!/bin/sh\nfor word; do\nfor file in {failures}/$word.*; do\nif rm \"$file\" 2>/dev/null; then\n\
                printf 'Error: failed to seal /proc/self/exe\\n\\nCaused by:\\n    Device or resource busy \
                (os error 16)\\n' >&2\nexit 1\nfi\ndone\ndone\nexec {real} \"$@\"\n"
            ),
        );
        busy
    }

    /// The next `count` runs of a verb fail.
    fn fail(&self, verb: &str, count: usize) {
        for number in 0..count {
            std::fs::write(self.failures.join(format!("{verb}.{number}")), "").unwrap();
        }
    }

    /// How many failures are still to come.
    fn left(&self) -> usize {
        std::fs::read_dir(&self.failures).unwrap().count()
    }
}

fn with_path(place: &Place, path: &Path) -> HandlerConfig {
    let mut config = place.config();
    config.paths = vec![path.to_owned()];
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_did_nothing_is_asked_again() {
    on(&["youki"], async |place| {
        let busy = Busy::new(place);
        busy.fail("--version", 2);
        let runtime = place.open(&with_path(place, &busy.path)).await;
        assert_eq!(runtime.info().name, "youki");
        let (id, log) = (place.id("a"), place.path("a.log"));
        for verb in ["create", "start", "exec", "delete"] {
            busy.fail(verb, 2);
        }
        let bundle = place.bundle("a", &Workload::exits_on_term(7));
        let request = CreateRequest::new(id.clone(), bundle).log(LogConfig::cri_file(&log));
        within(LIMIT, "create", runtime.create(request)).await.unwrap();
        within(LIMIT, "start", runtime.start(&id)).await.unwrap();

        let said = Workload::new([Step::Out("said".into()), Step::Exit(3)]);
        let outcome = within(LIMIT, "exec", runtime.exec_sync(&id, ExecSyncRequest::new(said.process())));
        let outcome = outcome.await.unwrap();
        assert_eq!((outcome.stdout.as_slice(), outcome.stderr.as_slice()), (&b"said\n"[..], &b""[..]));

        // The client's streams are whole, though it does not wait with what it has to say.
        busy.fail("exec", 2);
        let (mut ours, stdin) = tokio::io::duplex(64);
        let (stdout, mut out) = tokio::io::duplex(64);
        let (stderr, mut err) = tokio::io::duplex(64);
        ours.write_all(b"hello\n").await.unwrap();
        drop(ours);
        let streams = Streams::none().stdin(stdin).stdout(stdout).stderr(stderr);
        let request = ExecRequest::new(Workload::echoes().then(Step::Exit(4)).process());
        let status = within(LIMIT, "exec", runtime.exec(&id, request, streams)).await.unwrap();
        assert_eq!(status.code, Some(4));
        let (mut text, mut errors) = (String::new(), String::new());
        out.read_to_string(&mut text).await.unwrap();
        err.read_to_string(&mut errors).await.unwrap();
        assert_eq!((text.as_str(), errors.as_str()), ("hello\n", ""));

        busy.fail("exec", 2);
        let session = ExecId::new("s").unwrap();
        let request =
            ExecSessionRequest::new(session.clone(), Workload::echoes().process()).stdin(StdinMode::Once);
        within(LIMIT, "session", runtime.exec_start(&id, request)).await.unwrap();
        let stop = runtime.exec_stop(&id, &session, StopRequest::within(Duration::ZERO));
        within(LIMIT, "the end of the session", stop).await.unwrap();
        within(LIMIT, "cleanup", runtime.exec_cleanup(&id, &session)).await.unwrap();

        within(LIMIT, "stop", runtime.stop(&id, StopRequest::within(Duration::from_secs(20)))).await.unwrap();
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        assert_eq!(busy.left(), 0, "failures that nobody met");
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_never_does_anything_is_not_asked_for_ever() {
    on(&["youki"], async |place| {
        let busy = Busy::new(place);
        let runtime = place.open(&with_path(place, &busy.path)).await;
        busy.fail("create", 100);
        let id = place.id("a");
        let request = CreateRequest::new(id.clone(), place.bundle("a", &Workload::exits(0)));
        let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
        let ErrorKind::Rejected { message, .. } = error.kind() else { panic!("{error:?}") };
        assert!(message.contains("failed to seal") && message.contains("busy"), "{message}");
        assert!((90..100).contains(&busy.left()), "{} of 100 are left", busy.left());
        assert!(runtime.state(&id).await.unwrap_err().is_not_found());
        assert!(place.kept().is_empty(), "{:?}", place.kept());
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_of_another_platform_has_a_binary_of_its_own_for_all_its_life() {
    on(&["runc", "crun"], async |place| {
        let (foreign, said) = (place.path("foreign"), place.path("said"));
        let real = manyrun_tests::host::find(place.binary).unwrap();
        let script =
            format!("#!/bin/sh\necho \"$*\" >> {}\nexec {} \"$@\"\n", said.display(), real.display());
        write_script(&foreign, &script);
        let stranger = place.path("stranger");
        write_script(&stranger, "#!/bin/sh\necho stranger version 1\n");
        let mut config = place.config();
        config.platform_paths.insert("linux/arm64".to_owned(), foreign.clone());
        config.platform_paths.insert("linux/riscv64".to_owned(), stranger.clone());
        let runtime = place.open(&config).await;
        let told = |verb: &str| {
            let said = std::fs::read_to_string(&said).unwrap_or_default();
            said.lines().any(|line| line.split(' ').any(|word| word == verb))
        };
        let request = |name: &str, key: &str, value: &str| {
            let options = BundleOptions::new().annotation(key, value);
            let bundle = place.bundle_with(name, &Workload::forever(), &options);
            CreateRequest::new(place.id(name), bundle)
        };
        let architecture = "org.opencontainers.image.architecture";
        let native = request("native", architecture, "amd64");
        within(LIMIT, "create", runtime.create(native)).await.unwrap();
        within(LIMIT, "delete", runtime.delete(&place.id("native"), DeleteRequest::new())).await.unwrap();
        assert!(!said.exists());

        let (crio, path) = ("io.kubernetes.cri-o.PlatformRuntimePath", foreign.to_string_lossy());
        for (name, key, value) in [("image", architecture, "arm64"), ("crio", crio, path.as_ref())] {
            let id = place.id(name);
            within(LIMIT, "create", runtime.create(request(name, key, value))).await.unwrap();
            within(LIMIT, "start", runtime.start(&id)).await.unwrap();
            let exec = ExecSyncRequest::new(Workload::exits(3).process());
            assert_eq!(within(LIMIT, "exec", runtime.exec_sync(&id, exec)).await.unwrap().code(), Some(3));
            let session = ExecSessionRequest::new(ExecId::new("s").unwrap(), Workload::forever().process());
            within(LIMIT, "exec_start", runtime.exec_start(&id, session)).await.unwrap();
            assert!(told("exec") && !told("delete"));
            let again = place.open(&config).await;
            within(LIMIT, "delete", again.delete(&id, DeleteRequest::force())).await.unwrap();
            for verb in ["create", "start", "delete"] {
                assert!(told(verb), "{verb} was run by another binary");
            }
            again.shutdown().await;
            std::fs::remove_file(&said).unwrap();
        }

        let refused = [
            (crio, stranger.parent().unwrap().join("evil").to_string_lossy().into_owned(), "evil"),
            (architecture, "riscv64".to_owned(), "calls itself stranger"),
        ];
        for (key, value, why) in refused {
            let create = runtime.create(request("refused", key, &value));
            let error = within(LIMIT, "create", create).await.unwrap_err();
            assert!(error.report().contains(why), "{}", error.report());
            assert!(place.kept().is_empty(), "{why}: {:?}", place.kept());
        }
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_a_runtime_that_vanished_can_be_ended() {
    on(&["runc", "crun", "runsc"], async |place| {
        let copy = place.path(place.binary);
        let config = with_path(place, &copy);
        copy_program(&manyrun_tests::host::find(place.binary).unwrap(), &copy);
        let runtime = place.open(&config).await;
        let id = place.running(&runtime, "a", &Workload::forever()).await;
        runtime.shutdown().await;
        drop(runtime);
        std::fs::remove_file(&copy).unwrap();

        let runtime = place.open(&config).await;
        let listed = within(LIMIT, "list", runtime.list()).await.unwrap();
        assert_eq!(listed.iter().map(|state| &state.id).collect::<Vec<_>>(), [&id]);
        let state = within(LIMIT, "state", runtime.state(&id)).await.unwrap();
        assert_eq!(state.status, ContainerStatus::Running);
        let request = CreateRequest::new(place.id("b"), place.bundle("b", &Workload::exits(0)));
        let error = within(LIMIT, "create", runtime.create(request)).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
        assert!(error.report().contains("install"), "{}", error.report());
        let stop = runtime.stop(&id, StopRequest::within(Duration::ZERO));
        assert_eq!(within(LIMIT, "stop", stop).await.unwrap().code, Some(137));
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        assert!(runtime.state(&id).await.unwrap_err().is_not_found());
        runtime.shutdown().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_monitor_that_cannot_be_used_is_told_with_what_to_install() {
    on(&["crun"], async |place| {
        let monitor = place.path("conmon");
        let mut config = place.config();
        config.monitor.path = Some(monitor.clone());
        let id = place.id("a");
        let bundle = place.bundle("a", &Workload::exits(0));
        for (script, why) in [(None, "conmon"), (Some("#!/bin/sh\necho conmon version 2.0.9\n"), "2.0.9")] {
            if let Some(script) = script {
                write_script(&monitor, script);
            }
            let runtime = place.open(&config).await;
            let error = runtime.create(CreateRequest::new(id.clone(), bundle.clone())).await.unwrap_err();
            let ErrorKind::Unavailable(what) = error.kind() else { panic!("{why}: {error:?}") };
            assert!(what.contains(why), "{what}");
            assert!(error.report().contains("install conmon"), "{}", error.report());
            assert!(place.kept().is_empty(), "{why}: {:?}", place.kept());
            runtime.shutdown().await;
        }
    })
    .await;
}
