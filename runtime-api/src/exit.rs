//! How a container ended.

use std::fmt;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Why a container is no longer running.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitCause {
    /// The program ended by itself or by a signal.
    Exited,
    /// The kernel killed the program for want of memory.
    OomKilled,
    /// It was checkpointed and not left running.
    Checkpointed,
    /// The program could not be started.
    StartFailed,
    /// The monitor died before it could record the code.
    MonitorLost,
    /// The state is gone, as after a reboot of the host.
    StateLost,
}

impl ExitCause {
    /// The name in reports: `exited`, `oom_killed`, ...
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::OomKilled => "oom_killed",
            Self::Checkpointed => "checkpointed",
            Self::StartFailed => "start_failed",
            Self::MonitorLost => "monitor_lost",
            Self::StateLost => "state_lost",
        }
    }
}

impl fmt::Display for ExitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The final status of a container. Once one has been given out it never changes.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit code, 128 + n for death by signal n. `None` when it was lost: never a made-up 0.
    pub code: Option<i32>,
    /// Why it ended.
    pub cause: ExitCause,
    /// When it ended, as exactly as the backend knows.
    #[serde(with = "humantime_serde")]
    pub finished_at: SystemTime,
}

impl ExitStatus {
    /// A program that ended with `code` at `finished_at`.
    #[must_use]
    pub const fn exited(code: i32, finished_at: SystemTime) -> Self {
        Self { code: Some(code), cause: ExitCause::Exited, finished_at }
    }

    /// An end with another cause.
    #[must_use]
    pub const fn new(code: Option<i32>, cause: ExitCause, finished_at: SystemTime) -> Self {
        Self { code, cause, finished_at }
    }

    /// Whether the program ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0) && self.cause == ExitCause::Exited
    }

    /// The code for the CRI, which has no word for "unknown" and uses 255.
    #[must_use]
    pub fn cri_code(&self) -> i32 {
        self.code.unwrap_or(255)
    }

    /// The reason for the CRI: `OOMKilled`, `Completed` or `Error`.
    #[must_use]
    pub fn cri_reason(&self) -> &'static str {
        match self.cause {
            ExitCause::OomKilled => "OOMKilled",
            _ if self.success() => "Completed",
            _ => "Error",
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{}, code {code}", self.cause),
            None => write!(f, "{}, code unknown", self.cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_code_is_never_zero() {
        let lost = ExitStatus::new(None, ExitCause::MonitorLost, SystemTime::UNIX_EPOCH);
        assert!(!lost.success());
        assert_eq!((lost.cri_code(), lost.cri_reason()), (255, "Error"));
        let text = serde_json::to_string(&lost).unwrap();
        assert_eq!(serde_json::from_str::<ExitStatus>(&text).unwrap(), lost);
    }
}
