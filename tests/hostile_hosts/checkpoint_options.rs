//! What a checkpoint is asked for besides: locks, connections, memory beforehand.

use std::path::Path;

use manyrun_tests::host;
use runtime_api::{
    Capability, CheckpointRequest, ContainerId, ContainerStatus, CreateRequest, DeleteRequest, ErrorKind,
    PortForwardRequest, RestoreRequest, SharedRuntime, StopRequest,
};
use runtime_test::script::{Family, Step, Trap};
use runtime_test::{BundleOptions, Workload};
use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::place::Place;
use crate::wrapper::write_script;
use crate::{LIMIT, on, until, within};

/// Whether this can be asked for here; says so if not.
fn has(runtime: &SharedRuntime, capability: Capability) -> bool {
    let why = runtime.capabilities().why_not(capability);
    if let Some(why) = why {
        println!("SKIPPED: no {}: {why}", capability.id());
    }
    why.is_none()
}

/// A program that says that it is ready after these steps, and ends with code 7 when it is told to.
fn ready_after(steps: impl IntoIterator<Item = Step>) -> Workload {
    let end = [Step::Trap(15, Trap::Exit(7)), Step::Out("ready".to_owned()), Step::Forever];
    Workload::new(steps.into_iter().chain(end))
}

/// A checkpoint without what the program would need is refused, and the container goes on.
async fn must_be_refused(runtime: &SharedRuntime, id: &ContainerId, images: &Path) {
    let request = CheckpointRequest::new(images.join("refused"));
    let error = within(LIMIT, "checkpoint", runtime.checkpoint(id, request)).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Rejected { .. }), "{error:?}");
    assert_eq!(runtime.state(id).await.unwrap().status, ContainerStatus::Running);
    assert_eq!(std::fs::read_dir(images).unwrap().count(), 0);
}

async fn must_end_with_its_code(runtime: &SharedRuntime, id: &ContainerId) {
    let exit = within(LIMIT, "stop", runtime.stop(id, StopRequest::within(LIMIT))).await.unwrap();
    assert_eq!(exit.code, Some(7));
    within(LIMIT, "delete", runtime.delete(id, DeleteRequest::new())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_on_a_file_is_held_after_a_restore() {
    on(&["runc"], async |place| {
        let runtime = place.open(&place.config()).await;
        if !has(&runtime, Capability::CheckpointFileLocks) {
            return;
        }
        let program = ready_after([Step::Lock("/tmp/lock".to_owned())]);
        let (id, bundle) = (place.ready(&runtime, "locks", &program).await, place.path("bundles/locks"));
        let lock = std::fs::File::open(bundle.join("rootfs/tmp/lock")).unwrap();
        let is_held = || flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err();
        assert!(is_held());
        let images = place.path("images");
        std::fs::create_dir(&images).unwrap();
        must_be_refused(&runtime, &id, &images).await;

        let mut request = CheckpointRequest::new(images.join("image"));
        request.file_locks = true;
        within(LIMIT, "checkpoint", runtime.checkpoint(&id, request)).await.unwrap();
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        assert!(!is_held(), "somebody else holds it");
        flock(&lock, FlockOperation::Unlock).unwrap();
        let mut request = RestoreRequest::new(CreateRequest::new(id.clone(), &bundle), images.join("image"));
        request.file_locks = true;
        within(LIMIT, "restore", runtime.restore(request)).await.unwrap();
        assert!(is_held(), "the program has lost its lock");
        must_end_with_its_code(&runtime, &id).await;
        runtime.shutdown().await;
    })
    .await;
}

/// Says a line and waits for its echo.
async fn echo(input: &mut DuplexStream, output: &mut DuplexStream, line: &str) {
    within(LIMIT, "a line", input.write_all(line.as_bytes())).await.unwrap();
    let mut answer = vec![0; line.len()];
    within(LIMIT, "an echo", output.read_exact(&mut answer)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), line);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_goes_on_after_a_checkpoint_that_leaves_it() {
    on(&["runc"], async |place| {
        let runtime = place.open(&place.config()).await;
        let needed = [Capability::CheckpointTcpEstablished, Capability::CheckpointLeaveRunning];
        if !needed.into_iter().all(|each| has(&runtime, each)) {
            return;
        }
        let program = ready_after([Step::Listen(Family::V4, 4711)]);
        let bundle = place.bundle_with("tcp", &program, &BundleOptions::new().network_admin());
        let id = place.ready_over(&runtime, "tcp", &bundle).await;
        let (mut input, from) = tokio::io::duplex(1024);
        let (to, mut output) = tokio::io::duplex(1024);
        let forward = {
            let (runtime, id) = (SharedRuntime::clone(&runtime), id.clone());
            let request = PortForwardRequest::new(4711);
            tokio::spawn(
                async move { runtime.port_forward(&id, request, Box::new(from), Box::new(to)).await },
            )
        };
        echo(&mut input, &mut output, "before\n").await;
        let images = place.path("images");
        std::fs::create_dir(&images).unwrap();
        must_be_refused(&runtime, &id, &images).await;
        echo(&mut input, &mut output, "after a refusal\n").await;

        let mut request = CheckpointRequest::new(images.join("image"));
        (request.tcp_established, request.leave_running) = (true, true);
        let saved = within(LIMIT, "checkpoint", runtime.checkpoint(&id, request)).await;
        echo(&mut input, &mut output, "after a checkpoint\n").await;
        drop((input, output));
        let _ = within(LIMIT, "the end of the connection", forward).await.unwrap();
        must_end_with_its_code(&runtime, &id).await;

        if let Err(error) = saved {
            // Since Linux 6.16 the option SO_PASSCRED cannot be read of a TCP socket, and criu up to 4.1.1 gives up at that.
            let said = &error.command().unwrap().stderr;
            assert!(said.contains("Can't get 1:16 opt: Operation not supported"), "{}", error.report());
            assert_eq!(std::fs::read_dir(&images).unwrap().count(), 0);
        } else {
            let create = CreateRequest::new(id.clone(), &bundle);
            let mut request = RestoreRequest::new(create, images.join("image"));
            request.tcp_established = true;
            within(LIMIT, "restore", runtime.restore(request)).await.unwrap();
            must_end_with_its_code(&runtime, &id).await;
        }
        runtime.shutdown().await;
    })
    .await;
}

/// A runc and a criu on a kernel that tracks changes of memory, as far as this backend looks: criu says so, and a checkpoint
/// that leaves the container running makes an image and notes how it was asked for.
fn with_memory_that_is_tracked(place: &Place) -> (runtime_api::HandlerConfig, std::path::PathBuf) {
    let (bin, asked) = (place.path("bin"), place.path("asked"));
    std::fs::create_dir(&bin).unwrap();
    let real = |name: &str| host::find(name).unwrap_or_else(|| "/nonexistent".into()).display().to_string();
    let criu = format!(
        "#!/bin/sh\n[ \"$*\" = 'check --feature mem_dirty_track' ] && exit 0\nexec {} \"$@\"\n",
        real("criu")
    );
    write_script(&bin.join("criu"), &criu);
    let runc = format!(
        "#!/bin/sh\ncase \" $* \" in *' --help '*) ;; *' checkpoint '*)\necho \"$*\" >> {asked}\nwhile [ $# -gt 0 ]; do\n\
         [ \"$1\" = --image-path ] && mkdir -p \"$2\" && : > \"$2/inventory.img\"\nshift\ndone\nexit ;; esac\n\
         exec {} \"$@\"\n",
        real("runc"),
        asked = asked.display(),
    );
    write_script(&bin.join("runc"), &runc);
    let mut config = place.config();
    let path = std::env::var("PATH").unwrap();
    config.monitor.env = vec![format!("PATH={}:{path}", bin.display())];
    config.paths = vec![bin.join("runc")];
    (config, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_was_copied_beforehand_is_named_to_the_checkpoint() {
    on(&["runc"], async |place| {
        let (config, asked) = with_memory_that_is_tracked(place);
        let runtime = place.open(&config).await;
        if !has(&runtime, Capability::Checkpoint) {
            return;
        }
        runtime.capabilities().require(Capability::CheckpointPreDump).unwrap();
        let id = place.running(&runtime, "memory", &Workload::forever()).await;
        let images = place.path("images");
        std::fs::create_dir(&images).unwrap();
        let mut request = CheckpointRequest::new(images.join("before"));
        request.pre_dump = true;
        within(LIMIT, "checkpoint", runtime.checkpoint(&id, request)).await.unwrap();
        assert!(images.join("before/inventory.img").exists());
        assert_eq!(runtime.state(&id).await.unwrap().status, ContainerStatus::Running);
        let mut request = CheckpointRequest::new(images.join("image"));
        (request.parent, request.leave_running) = (Some(images.join("before")), true);
        within(LIMIT, "checkpoint", runtime.checkpoint(&id, request)).await.unwrap();
        assert!(images.join("image/inventory.img").exists());
        assert_eq!(runtime.state(&id).await.unwrap().status, ContainerStatus::Running);
        let asked = std::fs::read_to_string(asked).unwrap();
        let [first, second] = asked.lines().collect::<Vec<_>>()[..] else { panic!("{asked}") };
        assert!(first.contains(" --pre-dump ") && !first.contains("--parent-path"), "{first}");
        assert!(second.contains(" --parent-path ../before ") && !second.contains("--pre-dump"), "{second}");
        assert!(second.contains(" --leave-running ") && !first.contains("--leave-running"), "{asked}");

        let mut request = CheckpointRequest::new(images.join("other"));
        request.parent = Some(images.join("none"));
        within(LIMIT, "checkpoint", runtime.checkpoint(&id, request)).await.unwrap_err();
        within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::force())).await.unwrap();
        runtime.shutdown().await;
        until("the end of what was made", || {
            (std::fs::read_dir(&images).unwrap().count() == 2).then_some(())
        })
        .await;
    })
    .await;
}
