//! Choosing a container runtime, and reaching containers by their id.
//!
//! - [`HandlerTable`] says which handlers there are; [`native`] reads it from TOML, [`load`] finds the files.
//! - [`Registry`] knows the factories, one per kind of backend. There is no fallback for an unknown kind.
//! - [`stack::standard`] puts the layers [`trace`], [`guard`], [`deadline`] and [`narrow`] in front of a backend; a layer
//!   of your own is an [`intercept::Interceptor`].
//!
//! This crate sees no backend. The program that wants them registers their factories.
#![forbid(unsafe_code)]

mod nearest;
mod quantity;
mod registry;
mod snapshot;
mod table;
#[cfg(test)]
mod testing;

pub mod deadline;
pub mod guard;
pub mod intercept;
pub mod load;
pub mod narrow;
pub mod native;
pub mod stack;
pub mod trace;

pub use registry::Registry;
pub use snapshot::{Snapshot, default_base};
pub use table::{HandlerTable, Note};
