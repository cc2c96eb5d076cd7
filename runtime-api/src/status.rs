//! The states of a container, and which change leads from one to the next.
//!
//! ```text
//!            create           start                pause
//!  (unknown) ------> Creating ----> Created ----> Running <------> Paused
//!      ^                               |       |      |     resume    |
//!      |                               | kill  |      | exit, kill    | kill, stop
//!      |                               v       v      v               v
//!      |                            Stopped <-------------------------+
//!      |   delete                      |
//!      +-------------------------------+   (delete also from Created, and with force from anywhere)
//! ```
//!
//! - *Creating* is only ever seen in a list: a create is under way, here or in another process.
//! - *restore* leads from unknown to Running; *checkpoint* from Running or Paused to Stopped or back.
//! - A container that is being stopped keeps its status and carries the flag `stopping`.
//! - *Stopped* is final: its exit status never changes again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a container stands. The diagram is at the top of this file; [`ContainerStatus::may_become`] is the same in code.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerStatus {
    /// A create is under way. Seen in lists only; every call but a forced delete answers `WrongState`.
    Creating,
    /// The process exists and has not run the program.
    Created,
    /// The program runs.
    Running,
    /// The processes are frozen.
    Paused,
    /// The program has ended; the exit status is known, or known to be lost.
    Stopped,
}

impl ContainerStatus {
    /// Every status, in the order of a life.
    pub const ALL: &[Self] = &[Self::Creating, Self::Created, Self::Running, Self::Paused, Self::Stopped];

    /// Whether an observer may see `next` directly after `self`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        use ContainerStatus::{Created, Creating, Paused, Running, Stopped};
        matches!(
            (self, next),
            (Creating, Created | Running | Stopped)
                | (Created, Running | Stopped)
                | (Running, Paused | Stopped)
                | (Paused, Running | Stopped)
        )
    }

    /// The name in lower case, as in OCI state documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for ContainerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerStatus;

    #[test]
    fn stopped_is_final_and_nothing_returns_to_creating() {
        for status in ContainerStatus::ALL {
            assert!(!ContainerStatus::Stopped.may_become(*status));
            assert!(!status.may_become(ContainerStatus::Creating));
            assert!(!status.may_become(*status));
        }
    }
}
