//! The built command, as people and scripts call it.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "command/bad_input.rs"]
mod bad_input;
#[path = "command/conformance.rs"]
mod conformance;
#[path = "command/containers.rs"]
mod containers;
#[path = "command/handlers.rs"]
mod handlers;
#[path = "command/host_runtimes.rs"]
mod host_runtimes;
#[path = "command/invoke.rs"]
mod invoke;
#[path = "command/logs.rs"]
mod logs;
#[path = "command/lost_output.rs"]
mod lost_output;
#[path = "command/newcomer.rs"]
mod newcomer;
#[path = "command/probe.rs"]
mod probe;
#[path = "command/run.rs"]
mod run;
#[path = "command/signals.rs"]
mod signals;
