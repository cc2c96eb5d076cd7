//! What backends share of an exec whose caller waits for it: what is run, how its streams are carried, and how much of
//! them is kept. How a command is run and killed is the backend's own affair.

mod carry;
mod course;
mod output;
mod settings;

use runtime_api::{ContainerStatus, Error, ErrorKind};

pub use carry::{Input, Sink, Source, alongside, feed, pump};
pub use course::Course;
pub use output::{Kept, Room};
pub use settings::{check, merged, read_process, read_spec};

/// The refusal of an exec once a stop has turned to KILL.
#[must_use]
pub fn being_killed() -> Error {
    let allowed = &[ContainerStatus::Running];
    Error::new(ErrorKind::WrongState { is: ContainerStatus::Running, stopping: true, allowed })
}
