//! Choosing a container runtime, and reaching containers by their id.
//!
//! - [`HandlerTable`] says which handlers there are; [`native`] reads it from TOML, [`crio`], [`containerd`] and
//!   [`containers`] from the configuration of other programs; [`load`] finds the files, [`convert`] writes tables.
//! - [`Registry`] knows the factories, one per kind of backend. There is no fallback for an unknown kind.
//! - [`stack::standard`] puts the layers [`trace`], [`guard`], [`deadline`] and [`narrow`] in front of a backend; a layer
//!   of your own is an [`intercept::Interceptor`]. The feature `metrics` has one that counts calls for Prometheus.
//! - [`Runtime`] ties it together: it creates containers under a handler, and sends every later call to the
//!   configuration that the container was created with, in whatever process.
//! - [`logs`] reads the log of a container back, whatever backend wrote it.
//!
//! This crate sees no backend. The program that wants them registers their factories.
#![forbid(unsafe_code)]

mod disk_store;
mod document;
mod facade;
mod foreign;
mod glob;
mod memory_store;
mod nearest;
mod quantity;
mod registry;
mod regular_file;
mod replace;
mod reservation;
mod selection;
mod snapshot;
mod source;
mod table;
#[cfg(test)]
mod testing;

pub mod annotation;

pub mod containerd;
pub mod containers;
pub mod convert;
pub mod crio;
pub mod deadline;
pub mod diff;
pub mod guard;
pub mod intercept;
pub mod load;
pub mod logs;
pub mod lookup;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod narrow;
pub mod native;
pub mod resolve;
pub mod runtime_class;
pub mod stack;
pub mod trace;

pub use disk_store::DiskStore;
pub use facade::{Handler, Listed, Listing, MountSupport, Offered, Runtime};
pub use memory_store::MemoryStore;
pub use registry::Registry;
pub use runtime_class::RuntimeClass;
pub use selection::Selected;
pub use snapshot::{Snapshot, default_base};
pub use source::Source;
pub use table::{HandlerTable, Note, TimeZone, Unavailable, Written};
