//! One call of each operation, with a plain request.

use runtime_api::*;

use super::id;

/// Makes one call of `operation` on the container `a`. How it ends is not looked at.
pub(crate) async fn perform(runtime: &SharedRuntime, operation: Operation) {
    let a = id("a");
    let session = ExecId::new("s").unwrap();
    let process = ProcessRequest::new(["x"]);
    let size = WindowSize::new(24, 80).unwrap();
    let create = CreateRequest::new(a.clone(), "/b");
    let ended = match operation {
        Operation::Create => runtime.create(create).await.err(),
        Operation::Start => runtime.start(&a).await.err(),
        Operation::State => runtime.state(&a).await.err(),
        Operation::List => runtime.list().await.err(),
        Operation::Kill => runtime.kill(&a, KillRequest::new(Signal::TERM)).await.err(),
        Operation::Stop => runtime.stop(&a, StopRequest::unlimited()).await.err(),
        Operation::Wait => runtime.wait(&a).await.err(),
        Operation::Delete => runtime.delete(&a, DeleteRequest::new()).await.err(),
        Operation::Exec => runtime.exec(&a, ExecRequest::new(process), Streams::none()).await.err(),
        Operation::ExecSync => runtime.exec_sync(&a, ExecSyncRequest::new(process)).await.err(),
        Operation::ExecStart => runtime.exec_start(&a, ExecSessionRequest::new(session, process)).await.err(),
        Operation::ExecAttach => {
            runtime.exec_attach(&a, &session, AttachRequest::new(), Streams::none()).await.err()
        }
        Operation::ExecState => runtime.exec_state(&a, &session).await.err(),
        Operation::ExecStop => runtime.exec_stop(&a, &session, StopRequest::unlimited()).await.err(),
        Operation::ExecCleanup => runtime.exec_cleanup(&a, &session).await.err(),
        Operation::ExecResize => runtime.exec_resize(&a, &session, size).await.err(),
        Operation::Attach => runtime.attach(&a, AttachRequest::new(), Streams::none()).await.err(),
        Operation::AttachResize => runtime.attach_resize(&a, size).await.err(),
        Operation::Pause => runtime.pause(&a).await.err(),
        Operation::Resume => runtime.resume(&a).await.err(),
        Operation::Update => runtime.update(&a, UpdateRequest::new(Default::default())).await.err(),
        Operation::Stats => runtime.stats(&a).await.err(),
        Operation::DiskStats => runtime.disk_stats(&a).await.err(),
        Operation::Checkpoint => runtime.checkpoint(&a, CheckpointRequest::new("/i")).await.err(),
        Operation::Restore => runtime.restore(RestoreRequest::new(create, "/i")).await.err(),
        Operation::ReopenLog => runtime.reopen_log(&a).await.err(),
        Operation::PortForward => {
            let (from, to) = (Box::new(tokio::io::empty()), Box::new(tokio::io::sink()));
            runtime.port_forward(&a, PortForwardRequest::new(80), from, to).await.err()
        }
        Operation::ProbeMonitor => runtime.probe_monitor(&a).await.err(),
        Operation::Events => runtime.events().await.err(),
        other => panic!("{other} is new: make a call of it here"),
    };
    drop(ended);
}
