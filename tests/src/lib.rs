//! What the tests of the whole workspace share.

pub mod census;
pub mod fake_shim;
pub mod handler;
pub mod host;
pub mod life;
pub mod patience;
pub mod place;
pub mod recorder;
pub mod source;
pub mod wrapper;

/// The README, so that its code is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
