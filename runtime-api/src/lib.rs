//! One trait, [`RuntimeImpl`], in front of every container runtime.
//!
//! This crate is the contract and nothing else: traits and plain data, no I/O, no process, no backend's name.
//!
//! Two audiences read it:
//!
//! - **Callers** hold a [`SharedRuntime`], ask [`RuntimeImpl::capabilities`] what it can do, and call the methods.
//!   [`RuntimeExt`] has the conveniences. Start at [`RuntimeImpl`].
//! - **Backend authors** implement [`RuntimeImpl`] and [`RuntimeFactory`], refuse wrong states with
//!   [`Operation::admit`] under their own lock, and prove the result with the crate `runtime-test`.
//!
//! Three tables carry the rules, and guards, suite, fake and docs read them instead of repeating them:
//! [`Operation`] (what is legal when), [`Capability`] (what may be missing) and [`ContainerStatus`] (the states).
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod capability;
mod container;
mod error;
mod event;
mod exit;
mod ext;
mod factory;
mod handler;
mod id;
mod io;
mod operation;
mod outcome;
mod request;
mod runtime;
mod signal;
mod status;
mod store;

pub use capability::{Answer, Capabilities, CapabilitiesBuilder, Capability, Evidence, EvidenceSource};
pub use container::{Container, IdMapping, IdMappings, Volume};
pub use error::{CommandDetail, CriCode, Error, ErrorKind, Peer, Rejection, Result, Retry};
pub use event::{ContainerEvent, EventKind, EventStream};
pub use exit::{ExitCause, ExitStatus};
pub use ext::RuntimeExt;
pub use factory::{OpenContext, RuntimeFactory};
pub use handler::{AnnotationPolicy, HandlerConfig, MonitorConfig, Origin, Timeouts};
pub use id::{ContainerId, ExecId, HandlerName, RuntimeKind, SandboxId};
pub use io::{BoxRead, BoxWrite, DetachKeys, Streams, WindowSize};
pub use operation::{Effect, Operation, OperationRow, Precondition, Repeat};
pub use outcome::{
    AttachEnd, BlockDeviceStats, BlockStats, CheckpointOutcome, ContainerState, CpuStats, DiskStats, ExecEnd,
    ExecOutcome, ExecSessionState, HugePageStats, MemoryStats, MonitorHealth, MonitorInfo, PidStats,
    RuntimeInfo, Stats,
};
pub use request::{
    AttachRequest, CheckpointRequest, CreateRequest, DeleteRequest, ExecRequest, ExecSessionRequest,
    ExecSyncRequest, KillRequest, LogConfig, LogDriver, PortForwardRequest, ProcessRequest, RestoreRequest,
    StdinMode, StopRequest, UpdateRequest,
};
pub use runtime::{RuntimeImpl, SharedRuntime};
pub use signal::Signal;
pub use status::ContainerStatus;
pub use store::{ContainerFilter, ContainerReducer, ContainerStore};
