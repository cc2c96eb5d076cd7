//! The life of a container, one file for each step.

mod checkpoint;
mod create;
mod delete;
mod kill;
mod pause;
mod placement;
mod restore;
mod start;
mod state;
mod stop;
mod wait;

pub(crate) use create::{DELETE_LIMIT, Making};
pub(crate) use restore::RestoreSource;
