//! A runtime that keeps the whole contract and runs nothing: a model of containers, processes and signals on the clock
//! of tokio, so that under a paused clock a suite of slow programs takes no time.
//!
//! - [`FakeRuntime`] is the value, [`FakeFactory`] opens it for the kind `fake`, [`Profile`] says what it declares.
//! - It takes ordinary bundles, reads their `config.json`, and looks for the program in the root file system. The only
//!   program that it can play is the [probe](crate::probe).
//! - With a [`Defect`](crate::Defect) it breaks the contract in one named way.
//!
//! Inside, [`model`] is a synchronous state machine without I/O, locks or tasks. It can serve as the oracle for other
//! runtimes: whatever it says of a sequence of operations is what the contract says. The rest gives it a clock, log
//! files and clients. [`program`] reads what it is to run. A fake of something else than a runtime value, such as a shim,
//! is built on these two.
//!
//! What it does not model: shares of the processor, namespaces, mounts. Its containers live in this process: a new value
//! over the same state directory finds them, a new process does not.

mod attach;
mod clients;
mod container;
mod factory;
mod forward;
mod log;
pub mod model;
mod process;
mod profile;
pub mod program;
mod runtime;
mod terminal;
mod world;

pub use factory::FakeFactory;
pub use profile::Profile;
pub use runtime::FakeRuntime;
pub use world::leftovers;
