//! The kind `vm`: containers in virtual machines, behind a containerd shim.
//!
//! [`VmFactory`] opens a [`VmRuntime`] for a handler. Its containers belong to their shim and to the [monitor] that carries
//! what they read and print, not to this process: it can be dropped or killed at any instruction, and another one over the
//! same state directory goes on. How a shim is started is in [`shim`], how it is talked to in [`task`].
//!
//! What is where on disk is drawn in `layout.rs`.
#![forbid(unsafe_code)]

mod backend;
mod capabilities;
mod config;
pub mod connector;
mod events;
mod evidence;
mod exec;
mod factory;
mod layout;
mod lifecycle;
pub mod monitor;
mod observe;
mod record;
mod recovery;
mod resources;
mod runtime;
mod sandbox;
mod saving;
mod sessions;
pub mod shim;
mod shims;
mod streams;
pub mod task;
mod text;

pub use factory::VmFactory;
pub use runtime::VmRuntime;
