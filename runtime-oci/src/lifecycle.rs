//! The life of a container, one file for each step.

mod checkpoint;
mod create;
mod delete;
mod kill;
mod pause;
mod placement;
mod platform;
mod restore;
mod start;
mod state;
mod stop;
mod wait;

pub(crate) use create::Making;
pub(crate) use delete::Patience;
pub(crate) use restore::RestoreSource;
