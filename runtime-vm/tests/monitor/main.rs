//! The monitor as a task of the test's process, with real fifos and sockets, and a shim that does what the test says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod attach;
mod control;
mod ends;
mod field;
mod input;
mod life;
mod output;
mod process;
mod real;
