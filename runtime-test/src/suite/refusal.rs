//! The other side of a claim: what a runtime does not declare, it refuses and changes nothing.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxMemory, LinuxResources};
use runtime_api::{
    AttachRequest, Capability, CheckpointRequest, ContainerId, ErrorKind, ExecId, ExecRequest,
    ExecSessionRequest, ExecSyncRequest, KillRequest, LogConfig, Operation, PortForwardRequest,
    RestoreRequest, Result, Signal, StopRequest, Streams, UpdateRequest, WindowSize,
};

use crate::{Bench, Checked, Subject, Violation, Workload};

/// Uses a capability that is not declared in every way that the trait offers, and expects to be refused each time.
///
/// Some capabilities can only be declared and not asked for, such as `reopen`. For them the declaration with its
/// reason is the refusal.
pub(crate) async fn refusal_of(bench: &Bench, capability: Capability) -> Checked {
    let runtime = bench.runtime();
    match capability {
        Capability::Log | Capability::CgroupParent | Capability::Notify | Capability::Descriptors => {
            return refusal_at_create(bench, capability).await;
        }
        Capability::KillCreated => {
            let created = bench.created(&Workload::forever()).await?;
            return unchanged(bench, &created, capability, created.kill(Signal::USR1)).await;
        }
        Capability::KillPaused => {
            let running = bench.ready(&Workload::ready_forever()).await?;
            running.pause().await?;
            return unchanged(bench, &running, capability, running.kill(Signal::USR1)).await;
        }
        Capability::KillAll => {
            let running = bench.ready(&Workload::ready_forever()).await?;
            let all = runtime.kill(running.id(), KillRequest::new(Signal::USR1).all());
            return unchanged(bench, &running, capability, all).await;
        }
        Capability::KillRealTime => {
            let running = bench.ready(&Workload::ready_forever()).await?;
            unchanged(bench, &running, capability, running.kill(Signal::from_number(40)?)).await?;
            let id = bench.id("stop");
            let bundle = bench.bundle(&Workload::exits(0))?;
            let request = bench.request(&id, &bundle).stop_signal(Signal::from_number(40)?);
            must_name(bench, capability, runtime.create(request).await.map(drop))?;
            return bench.nothing_is_left_of(&id).await;
        }
        Capability::ExecTty => {
            let running = bench.ready(&Workload::ready_forever()).await?;
            let request = ExecRequest::new(Workload::exits(0).process().terminal());
            let exec = async { runtime.exec(running.id(), request, Streams::none()).await.map(drop) };
            return unchanged(bench, &running, capability, exec).await;
        }
        Capability::ExecDescriptors => {
            let running = bench.ready(&Workload::ready_forever()).await?;
            let nothing =
                std::fs::File::open("/dev/null").map_err(|error| Violation::host("/dev/null", &error))?;
            let request = ExecRequest::new(Workload::exits(0).process()).descriptor(nothing);
            let exec = async { runtime.exec(running.id(), request, Streams::none()).await.map(drop) };
            return unchanged(bench, &running, capability, exec).await;
        }
        _ => {}
    }
    for operation in Operation::ALL.iter().filter(|operation| operation.row().needs == Some(capability)) {
        undeclared_is_refused(bench, *operation).await?;
    }
    Ok(())
}

/// Calls an operation whose capability is not declared on a running container.
pub(crate) async fn undeclared_is_refused(bench: &Bench, operation: Operation) -> Checked {
    let Some(capability) = operation.row().needs else { return Ok(()) };
    let running = bench.ready(&Workload::ready_forever()).await?;
    unchanged(bench, &running, capability, call(bench, running.id(), operation)).await?;
    let image = image(bench);
    if image.exists() {
        return Err(Violation::new(format!("{operation} was refused and left {}", image.display())));
    }
    Ok(())
}

/// Breaks the clause unless the call is refused for want of the capability and the container is as it was.
async fn unchanged(
    bench: &Bench,
    subject: &Subject<'_>,
    capability: Capability,
    call: impl Future<Output = Result<()>>,
) -> Checked {
    let before = subject.state().await?;
    must_name(bench, capability, call.await)?;
    let after = subject.state().await?;
    if before == after {
        return Ok(());
    }
    Err(Violation::new(format!("the refusal of {capability} changed the container: {before:?} to {after:?}")))
}

fn must_name(bench: &Bench, wanted: Capability, result: Result<()>) -> Checked {
    let error = match result {
        Err(error) => error,
        Ok(()) => return Err(Violation::new(format!("{wanted} is not declared, and its use succeeded"))),
    };
    let ErrorKind::Unsupported { capability, why } = error.kind() else {
        return Err(Violation::new(format!(
            "{wanted} is not declared, and its use gave: {}",
            error.report()
        )));
    };
    if *capability != wanted {
        return Err(Violation::new(format!("the refusal of {wanted} names {capability}")));
    }
    let declared = bench.runtime().capabilities().why_not(wanted).unwrap_or_default().to_owned();
    if *why != declared {
        return Err(Violation::new(format!(
            "{wanted} is refused because of {why:?}, and declared to be missing because of {declared:?}"
        )));
    }
    Ok(())
}

/// Asks for something at create that is not declared, and expects that nothing is made.
pub(crate) async fn refusal_at_create(bench: &Bench, capability: Capability) -> Checked {
    let id = bench.id("refused");
    let bundle = bench.bundle(&Workload::exits(0))?;
    let request = bench.request(&id, &bundle);
    let request = match capability {
        Capability::Log => request.log(LogConfig::cri_file(bench.log_path(&id))),
        Capability::CgroupParent => request.cgroup_parent(format!("/manyrun/{}", bench.scratch().token())),
        Capability::Notify => request.notify_socket(bench.scratch().root().join("notify.sock")),
        Capability::Descriptors => {
            let null =
                std::fs::File::open("/dev/null").map_err(|error| Violation::host("/dev/null", &error))?;
            request.descriptor(null)
        }
        _ => return Ok(()),
    };
    let created = bench.runtime().create(request).await.map(drop);
    must_name(bench, capability, created)?;
    bench.nothing_is_left_of(&id).await
}

/// One call of each gated operation, with arguments that would be right if it were declared.
pub(crate) async fn call(bench: &Bench, id: &ContainerId, operation: Operation) -> Result<()> {
    let runtime = bench.runtime();
    let image = image(bench);
    let session = ExecId::new("session")?;
    let process = Workload::exits(0).process();
    let size = WindowSize::new(24, 80);
    match operation {
        Operation::Exec => runtime.exec(id, ExecRequest::new(process), Streams::none()).await.map(drop),
        Operation::ExecSync => runtime.exec_sync(id, ExecSyncRequest::new(process)).await.map(drop),
        Operation::ExecStart => {
            runtime.exec_start(id, ExecSessionRequest::new(session, process)).await.map(drop)
        }
        Operation::ExecAttach => {
            let attach = runtime.exec_attach(id, &session, AttachRequest::new(), Streams::none());
            attach.await.map(drop)
        }
        Operation::ExecState => runtime.exec_state(id, &session).await.map(drop),
        Operation::ExecStop => {
            let stop = StopRequest::within(std::time::Duration::ZERO);
            runtime.exec_stop(id, &session, stop).await.map(drop)
        }
        Operation::ExecCleanup => runtime.exec_cleanup(id, &session).await,
        Operation::ExecResize => match size {
            Some(size) => runtime.exec_resize(id, &session, size).await,
            None => Ok(()),
        },
        Operation::Attach => runtime.attach(id, AttachRequest::new(), Streams::none()).await.map(drop),
        Operation::AttachResize => match size {
            Some(size) => runtime.attach_resize(id, size).await,
            None => Ok(()),
        },
        Operation::Pause => runtime.pause(id).await,
        Operation::Resume => runtime.resume(id).await,
        Operation::Update => {
            let mut memory = LinuxMemory::default();
            memory.set_limit(Some(1 << 30));
            let mut resources = LinuxResources::default();
            resources.set_memory(Some(memory));
            runtime.update(id, UpdateRequest::new(resources)).await
        }
        Operation::Stats => runtime.stats(id).await.map(drop),
        Operation::DiskStats => runtime.disk_stats(id).await.map(drop),
        Operation::Checkpoint => runtime.checkpoint(id, CheckpointRequest::new(image)).await.map(drop),
        Operation::Restore => {
            let create = bench.request(&bench.id("restored"), &bench.scratch().bundles_dir());
            runtime.restore(RestoreRequest::new(create, image)).await.map(drop)
        }
        Operation::ReopenLog => runtime.reopen_log(id).await,
        Operation::PortForward => {
            let (from, to) = (Box::new(tokio::io::empty()), Box::new(tokio::io::sink()));
            runtime.port_forward(id, PortForwardRequest::new(80), from, to).await
        }
        Operation::ProbeMonitor => runtime.probe_monitor(id).await.map(drop),
        Operation::Events => runtime.events().await.map(drop),
        // Core operations need no capability, and a newer trait's operations are not known here.
        _ => Err(runtime.refuse(operation)),
    }
}

/// Where an image of a checkpoint would be.
fn image(bench: &Bench) -> PathBuf {
    bench.scratch().root().join("image")
}
