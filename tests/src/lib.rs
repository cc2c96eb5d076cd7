//! What the tests of the whole workspace share.

pub mod census;
pub mod host;
pub mod source;
