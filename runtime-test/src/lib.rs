//! For authors of backends: prove that a runtime keeps the contract of [`runtime_api`].
//!
//! - [`script`], [`probe`], [`workload`] and [`bundle`] make containers that do exactly what a test needs.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod probe;
pub mod script;
pub mod workload;

pub use bundle::BundleOptions;
pub use script::{Life, Step, Trap};
pub use workload::Workload;
