//! A containerd shim as a program: how it is found, started, reached and cleaned up after.
//!
//! A shim is started in its container's bundle. It says on standard output where it listens, leaves a process there, and
//! ends. That process belongs to whoever is the subreaper, and is talked to by [`task`](crate::task).

pub mod address;
mod command;
pub mod delete;
pub mod dial;
pub mod find;
pub mod log_pipe;
pub mod reply;
pub mod start;

pub use address::Address;
pub use command::ShimCommand;
pub use find::find;
pub use log_pipe::LogPipe;
pub use reply::StartReply;
