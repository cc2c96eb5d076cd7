//! What a shim answers, as plain data.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::{api, types};
use protobuf::Message as _;
use protobuf::well_known_types::timestamp::Timestamp;

use super::request::TaskIo;

/// How a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskStatus {
    /// It exists and does not run its program yet.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Stopped,
    /// It is frozen.
    Paused,
    /// It is being frozen.
    Pausing,
    /// What has no meaning here: 0 is the shim's own word for not knowing.
    Unknown(i32),
}

impl TaskStatus {
    /// The status with this number in the messages.
    #[must_use]
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Created,
            2 => Self::Running,
            3 => Self::Stopped,
            4 => Self::Paused,
            5 => Self::Pausing,
            other => Self::Unknown(other),
        }
    }

    /// Its number in the messages.
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Created => 1,
            Self::Running => 2,
            Self::Stopped => 3,
            Self::Paused => 4,
            Self::Pausing => 5,
            Self::Unknown(number) => number,
        }
    }
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskExit {
    /// The code, 128 + n for signal n.
    pub code: i32,
    /// When; some shims do not say.
    pub at: Option<SystemTime>,
}

impl TaskExit {
    pub(super) fn new(status: u32, at: Option<&Timestamp>) -> Self {
        // Go's `uint32(-1)` stands for a code that was lost.
        Self { code: i32::try_from(status).unwrap_or(255), at: at.and_then(time) }
    }
}

/// The answer to State.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskState {
    /// The container, or the exec: the runc shim of containerd answers with the name of the latter.
    pub id: String,
    /// The exec; `None` is the init, or that the shim does not say.
    pub exec: Option<String>,
    /// The bundle, as the shim has it.
    pub bundle: PathBuf,
    /// Its pid as the host sees it; some shims answer that of the virtual machine, and 0 is none.
    pub pid: u32,
    /// How it stands.
    pub status: TaskStatus,
    /// Its streams, as they were given.
    pub io: TaskIo,
    /// How it ended; present exactly when it is stopped.
    pub exit: Option<TaskExit>,
}

impl From<api::StateResponse> for TaskState {
    fn from(message: api::StateResponse) -> Self {
        let status = TaskStatus::from_number(message.status.value());
        let exit = TaskExit::new(message.exit_status, message.exited_at.as_ref());
        Self {
            id: message.id,
            exec: Some(message.exec_id).filter(|exec| !exec.is_empty()),
            bundle: message.bundle.into(),
            pid: message.pid,
            status,
            io: TaskIo {
                terminal: message.terminal,
                stdin: message.stdin,
                stdout: message.stdout,
                stderr: message.stderr,
            },
            exit: (status == TaskStatus::Stopped).then_some(exit),
        }
    }
}

/// The answer to Delete, and what the command `delete` of a shim prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// The pid that it had.
    pub pid: u32,
    /// How it ended.
    pub exit: TaskExit,
}

impl Deleted {
    /// Reads what the command `delete` of a shim prints.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        api::DeleteResponse::parse_from_bytes(bytes).map(Self::from).map_err(|error| error.to_string())
    }
}

impl From<api::DeleteResponse> for Deleted {
    fn from(message: api::DeleteResponse) -> Self {
        let exit = TaskExit::new(message.exit_status, message.exited_at.as_ref());
        Self { pid: message.pid, exit }
    }
}

/// The answer to Connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The pid of the shim.
    pub shim: u32,
    /// The pid of the container's init; 0 is none.
    pub task: u32,
    /// What the shim says of its version, often nothing.
    pub version: String,
}

impl From<api::ConnectResponse> for Connected {
    fn from(message: api::ConnectResponse) -> Self {
        Self { shim: message.shim_pid, task: message.task_pid, version: message.version }
    }
}

/// One process of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskProcess {
    /// Its pid as the host sees it.
    pub pid: u32,
    /// The exec whose program it is, where the shim says that.
    pub exec: Option<String>,
}

impl From<types::task::ProcessInfo> for TaskProcess {
    fn from(message: types::task::ProcessInfo) -> Self {
        let info =
            message.info.into_option().filter(|info| info.type_url.ends_with("runc.v1.ProcessDetails"));
        let details = info.and_then(|info| {
            containerd_shim_protos::shim::oci::ProcessDetails::parse_from_bytes(&info.value).ok()
        });
        let exec = details.map(|details| details.exec_id).filter(|exec| !exec.is_empty());
        Self { pid: message.pid, exec }
    }
}

/// A time of the messages. Those before 1970, such as Go's zero, are none.
pub(super) fn time(at: &Timestamp) -> Option<SystemTime> {
    let seconds = u64::try_from(at.seconds).ok().filter(|seconds| *seconds > 0)?;
    let nanos = u32::try_from(at.nanos).unwrap_or_default().min(999_999_999);
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_and_its_number_belong_together() {
        for number in -1..8 {
            assert_eq!(TaskStatus::from_number(number).number(), number);
        }
        assert_eq!(TaskStatus::from_number(0), TaskStatus::Unknown(0));
        assert_eq!(TaskStatus::from_number(6), TaskStatus::Unknown(6));
    }

    #[test]
    fn times_before_the_epoch_are_none() {
        let mut at = Timestamp::new();
        at.seconds = -62_135_596_800;
        assert_eq!(time(&at), None);
        assert_eq!(time(&Timestamp::new()), None);
        at.seconds = i64::MAX;
        at.nanos = i32::MIN;
        // What the clock cannot show is none, and never a panic.
        let _ = time(&at);
        (at.seconds, at.nanos) = (2, 5);
        assert_eq!(time(&at), Some(SystemTime::UNIX_EPOCH + Duration::new(2, 5)));
    }

    #[test]
    fn only_what_is_stopped_has_an_exit() {
        let mut message = api::StateResponse::new();
        message.status = types::task::Status::RUNNING.into();
        message.exit_status = 3;
        let state = TaskState::from(message.clone());
        assert_eq!((state.status, state.exit, state.exec), (TaskStatus::Running, None, None));
        message.status = types::task::Status::STOPPED.into();
        message.exec_id = "one".to_owned();
        let state = TaskState::from(message.clone());
        assert_eq!(state.exit, Some(TaskExit { code: 3, at: None }));
        assert_eq!(state.exec.as_deref(), Some("one"));
        message.exit_status = u32::MAX;
        assert_eq!(TaskState::from(message).exit.unwrap().code, 255);
    }
}
