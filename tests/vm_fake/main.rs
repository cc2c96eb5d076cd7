//! `VmRuntime` over fake shims: a life, and what becomes of it when the shim misbehaves.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

mod calls;
mod checkpoints;
mod lies;
mod lives;
mod options;
mod orphans;
mod place;
