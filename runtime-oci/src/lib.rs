//! Host OCI runtimes, such as runc and crun, through conmon.
//!
//! [`OciFactory`] opens an [`OciRuntime`] for a handler. Containers belong to their monitor (conmon), not to this
//! process: it can be dropped or killed at any instruction, and another one over the same state directory goes on.
//! Any number of processes may share a state directory.
//!
//! What is where on disk is drawn in `layout.rs`.

mod archive;
mod attach;
mod backend;
mod capabilities;
mod command;
mod complaint;
mod config;
mod conmon;
mod control;
mod dialect;
mod events;
mod evidence;
mod exec;
mod factory;
mod known;
mod layout;
mod leftover;
mod lifecycle;
mod log;
mod observe;
mod port_forward;
mod reaper;
mod record;
mod recovery;
mod runtime;
mod sessions;
mod spawn;
mod stats;
mod tries;
mod update;

pub use archive::{CheckpointArchive, CheckpointDetails};
pub use config::{MonitorCgroup, OciConfig};
pub use factory::OciFactory;
pub use runtime::OciRuntime;
