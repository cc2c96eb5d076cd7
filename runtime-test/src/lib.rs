//! For authors of backends: prove that a runtime keeps the contract of [`runtime_api`].
//!
//! - [`script`], [`probe`], [`workload`] and [`bundle`] make containers that do exactly what a test needs.
//! - [`fake`] is a runtime that keeps the contract without running anything, or breaks it on demand ([`Defect`]).
//! - [`clauses`] are the sentences of the contract, each with the code that holds a runtime to it.
//! - [`Harness`] is what a backend's author writes; [`conformance_tests!`] and [`cli`] run every clause over it.
#![forbid(unsafe_code)]

pub mod audit;
pub mod bench;
pub mod bundle;
pub mod clause;
pub mod clauses;
pub mod cli;
mod defect;
pub mod fake;
mod harness;
pub mod known;
mod macros;
pub mod probe;
mod reference;
pub mod report;
mod scratch;
pub mod script;
pub mod suite;
mod verdict;
pub mod workload;

pub use bench::{Bench, Subject};
pub use bundle::BundleOptions;
pub use clause::{Checked, Clause, Level, Violation};
pub use defect::Defect;
pub use fake::{FakeFactory, FakeRuntime, Profile};
pub use harness::{FakeHarness, Harness};
pub use reference::RuntimeRef;
pub use report::Report;
pub use scratch::Scratch;
pub use script::{Life, Step, Trap};
pub use verdict::{Summary, Verdict};
pub use workload::Workload;
