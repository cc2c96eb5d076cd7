//! The life of a container, one file for each step.

mod bury;
mod checkpoint;
mod create;
mod delete;
mod kill;
mod pause;
mod restore;
mod start;
mod state;
mod stop;
mod wait;

pub(crate) use create::Making;
pub(crate) use restore::RestoreSource;
pub(crate) use state::list;
