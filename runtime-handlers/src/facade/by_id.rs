//! The operations on a container that exists: each goes to the container's own runtime value.

use runtime_api::{
    AttachEnd, AttachRequest, BoxRead, BoxWrite, CheckpointOutcome, CheckpointRequest, ContainerId,
    ContainerState, DiskStats, ExecId, ExecOutcome, ExecRequest, ExecSessionRequest, ExecSessionState,
    ExecSyncRequest, ExitStatus, KillRequest, MonitorHealth, Operation, PortForwardRequest, Result, Stats,
    StopRequest, Streams, UpdateRequest, WindowSize,
};

use super::Runtime;

macro_rules! by_id {
    ($($method:ident: $operation:ident ($($name:ident: $type:ty),*) -> $out:ty;)+) => {
        impl Runtime {$(
            #[doc = concat!(
                "[`", stringify!($method), "`](runtime_api::RuntimeImpl::", stringify!($method),
                ") of the container's own runtime value."
            )]
            ///
            /// # Errors
            /// Those of the method, and those of [`Runtime::of`].
            pub async fn $method(&self, id: &ContainerId $(, $name: $type)*) -> Result<$out> {
                self.of(id, Operation::$operation).await?.$method(id $(, $name)*).await
            }
        )+}
    };
}

by_id! {
    state: State() -> ContainerState;
    kill: Kill(request: KillRequest) -> ();
    stop: Stop(request: StopRequest) -> ExitStatus;
    wait: Wait() -> ExitStatus;
    exec: Exec(request: ExecRequest, streams: Streams) -> ExitStatus;
    exec_sync: ExecSync(request: ExecSyncRequest) -> ExecOutcome;
    exec_start: ExecStart(request: ExecSessionRequest) -> ExecSessionState;
    exec_attach: ExecAttach(session: &ExecId, request: AttachRequest, streams: Streams) -> AttachEnd;
    exec_state: ExecState(session: &ExecId) -> ExecSessionState;
    exec_stop: ExecStop(session: &ExecId, request: StopRequest) -> ExecSessionState;
    exec_cleanup: ExecCleanup(session: &ExecId) -> ();
    exec_resize: ExecResize(session: &ExecId, size: WindowSize) -> ();
    attach: Attach(request: AttachRequest, streams: Streams) -> AttachEnd;
    attach_resize: AttachResize(size: WindowSize) -> ();
    pause: Pause() -> ();
    resume: Resume() -> ();
    update: Update(request: UpdateRequest) -> ();
    stats: Stats() -> Stats;
    disk_stats: DiskStats() -> DiskStats;
    checkpoint: Checkpoint(request: CheckpointRequest) -> CheckpointOutcome;
    reopen_log: ReopenLog() -> ();
    port_forward: PortForward(request: PortForwardRequest, from: BoxRead, to: BoxWrite) -> ();
    probe_monitor: ProbeMonitor() -> MonitorHealth;
}
