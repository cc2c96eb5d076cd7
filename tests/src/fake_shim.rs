//! A shim without a binary: the Task service over the model of the fake runtime, as tasks of this process.
//!
//! [`FakeShims`] takes the place of the processes of the host in a `VmFactory`. Everything else is what it always is: the
//! client and its connections, the monitor with its fifos and logs, the records, the ladder of a stop, the recovery. What is
//! made up is the shim itself: it listens at an abstract socket, keeps its containers in a
//! [`Model`](runtime_test::fake::model::Model), and says that every program is this process, as a shim does whose machine is
//! one.
//!
//! ```text
//!   VmRuntime ──── ttrpc over a socket ────► wire ──► service ──► world: the model and its clock
//!       │                                                           │
//!       └── control, attach ──► monitor (live) ◄── real fifos ── streams
//! ```
//!
//! Each shim has a thread with a tokio runtime of its own, in which its monitor lives as well, so that it goes on when the
//! value that started it is gone. On command it misbehaves: see [`Misdeed`].

mod connector;
mod events;
mod harness;
mod launch;
mod methods;
mod misdeeds;
mod refusal;
mod saving;
mod service;
mod streams;
mod wire;
mod world;

pub use connector::FakeShims;
pub use harness::FakeShimHarness;
pub use misdeeds::{Misdeed, Misdeeds};
