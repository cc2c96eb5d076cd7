//! What backends share of the host. It knows no runtime, no monitor and no shim.
//!
//! Everything here is about processes, directories and descriptors of the machine that a backend works on: who a process
//! is, who may change a container, how a file is replaced so that no reader sees half of it. Two backends that write the
//! same files can be looked at, locked and recovered by the same code.

pub mod apart;
pub mod attach;
pub mod cgroup;
pub mod criu;
pub mod descriptor;
pub mod document;
pub mod events;
pub mod exec;
pub mod exits;
pub mod image;
pub mod ladder;
pub mod lock;
pub mod mounts;
pub mod owner;
pub mod port_forward;
pub mod process;
pub mod reserve;
pub mod spec;
pub mod stats;
pub mod tasks;
