//! What operations answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{ContainerId, ContainerStatus, ExitStatus, HandlerName, RuntimeKind};

/// Who a runtime value is. Constant for the life of the value.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeInfo {
    /// The kind of backend.
    pub kind: RuntimeKind,
    /// The handler it was opened for.
    pub handler: HandlerName,
    /// The runtime's own name for itself, such as `crun`.
    pub name: String,
    /// The binary, where there is one.
    pub binary: Option<PathBuf>,
    /// The version it reports, where it could be asked.
    pub version: Option<String>,
    /// The process that watches containers, where there is one.
    pub monitor: Option<MonitorInfo>,
}

impl RuntimeInfo {
    /// A runtime without binary, version and monitor.
    pub fn new(kind: RuntimeKind, handler: HandlerName, name: impl Into<String>) -> Self {
        Self { kind, handler, name: name.into(), binary: None, version: None, monitor: None }
    }
}

/// The program that watches containers.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorInfo {
    /// Its name, such as `conmon`.
    pub name: String,
    /// Its binary.
    pub binary: PathBuf,
    /// The version it reports, where it could be asked.
    pub version: Option<String>,
}

impl MonitorInfo {
    /// A monitor of unknown version.
    pub fn new(name: impl Into<String>, binary: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), binary: binary.into(), version: None }
    }
}

/// One container as it stands.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its id.
    pub id: ContainerId,
    /// Where it stands.
    pub status: ContainerStatus,
    /// Whether a stop is under way.
    pub stopping: bool,
    /// The pid of its init as the host sees it, while it lives; see the capability `pid.host-visible`.
    pub pid: Option<u32>,
    /// The bundle it was created from.
    pub bundle: PathBuf,
    /// When it was created.
    #[serde(with = "humantime_serde")]
    pub created_at: SystemTime,
    /// When its program was started.
    #[serde(with = "humantime_serde", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<SystemTime>,
    /// How it ended; present exactly when the status is Stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitStatus>,
    /// The annotations of its `config.json`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// The labels of its create request.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl ContainerState {
    /// A state without pid, start, end, annotations and labels.
    pub fn new(
        id: ContainerId,
        status: ContainerStatus,
        bundle: impl Into<PathBuf>,
        created_at: SystemTime,
    ) -> Self {
        Self {
            id,
            status,
            stopping: false,
            pid: None,
            bundle: bundle.into(),
            created_at,
            started_at: None,
            exit: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// How an exec ended.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecEnd {
    /// With this code, 128 + n for signal n.
    Exited(i32),
    /// It was killed at its time limit.
    TimedOut,
}

/// A collected exec.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutcome {
    /// How it ended.
    pub end: ExecEnd,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether output beyond the limit was dropped.
    pub truncated: bool,
}

impl ExecOutcome {
    /// An end without output.
    #[must_use]
    pub const fn new(end: ExecEnd) -> Self {
        Self { end, stdout: Vec::new(), stderr: Vec::new(), truncated: false }
    }

    /// The exit code, unless it timed out.
    #[must_use]
    pub const fn code(&self) -> Option<i32> {
        match self.end {
            ExecEnd::Exited(code) => Some(code),
            ExecEnd::TimedOut => None,
        }
    }

    /// What a CRI server answers: exit code, standard output, standard error. A time-out is code -1 and the text
    /// "command timed out", which the kubelet's probes rely on.
    #[must_use]
    pub fn into_cri(self) -> (i32, Vec<u8>, Vec<u8>) {
        match self.end {
            ExecEnd::Exited(code) => (code, self.stdout, self.stderr),
            ExecEnd::TimedOut => (-1, Vec::new(), b"command timed out".to_vec()),
        }
    }
}

/// An exec session as it stands.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecSessionState {
    /// Its program runs.
    Running {
        /// The pid, as the host sees it.
        pid: u32,
    },
    /// Its program ended.
    Stopped {
        /// The code; `None` when it was lost.
        code: Option<i32>,
    },
}

/// Why an attach ended.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachEnd {
    /// The program ended.
    Ended,
    /// The client pressed the detach keys.
    Detached,
}

/// Whether the monitor lives.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorHealth {
    /// It lives.
    Alive {
        /// Its pid.
        pid: u32,
    },
    /// It is gone; the exit code will be lost.
    Lost,
}

/// What a checkpoint did.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointOutcome {
    /// Where the image is.
    pub image: PathBuf,
}

impl CheckpointOutcome {
    /// An image at this path.
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self { image: image.into() }
    }
}

/// Resource use of a container. What the host does not count is zero where a number is expected and `None` elsewhere.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// When it was read.
    pub read_at: SystemTime,
    /// Processor.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads, where they are counted.
    pub pids: Option<PidStats>,
    /// Block devices, where they are counted.
    pub block: Option<BlockStats>,
    /// Huge pages by their size as the kernel writes it (`2MB`), where they are counted.
    pub huge_pages: BTreeMap<String, HugePageStats>,
}

impl Stats {
    /// Nothing known yet, read at this time.
    #[must_use]
    pub fn new(read_at: SystemTime) -> Self {
        Self {
            read_at,
            cpu: CpuStats::default(),
            memory: MemoryStats::default(),
            pids: None,
            block: None,
            huge_pages: BTreeMap::new(),
        }
    }
}

/// Processor time since the container was created, in nanoseconds, and how its share was enforced.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// In all.
    pub usage_ns: u64,
    /// In user space.
    pub user_ns: u64,
    /// In the kernel.
    pub kernel_ns: u64,
    /// Periods in which a quota was enforced.
    pub periods: u64,
    /// Those of them in which the container had to wait.
    pub throttled_periods: u64,
    /// Spent waiting because of a quota.
    pub throttled_ns: u64,
    /// The weight among neighbours, in the unit of the host's cgroup version: `cpu.shares` or `cpu.weight`.
    pub weight: Option<u64>,
    /// The quota in microseconds per period, where there is one.
    pub quota_us: Option<u64>,
    /// The period of the quota in microseconds.
    pub period_us: Option<u64>,
}

/// Memory in bytes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In all.
    pub usage: u64,
    /// The most that was used at once, where it is recorded.
    pub max_usage: Option<u64>,
    /// Usage less the inactive file cache; never less than zero.
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    /// File cache.
    pub cache: u64,
    /// The part of the file cache that the kernel would give up first.
    pub inactive_file: u64,
    /// The limit, where there is one.
    pub limit: Option<u64>,
    /// Swap in use, where it is counted.
    pub swap: Option<u64>,
    /// The limit of swap alone, where there is one.
    pub swap_limit: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Those of them that had to read from a device.
    pub major_page_faults: u64,
    /// How often the limit was met.
    pub limit_hits: u64,
    /// How many processes the kernel killed for want of memory, where it is counted.
    pub oom_kills: Option<u64>,
}

/// Processes and threads.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be, where there is a limit.
    pub limit: Option<u64>,
}

/// Block devices, in bytes and requests.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Read from all of them.
    pub read: u64,
    /// Written to all of them.
    pub written: u64,
    /// Each of them.
    pub devices: Vec<BlockDeviceStats>,
}

/// One block device.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockDeviceStats {
    /// Its major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
    /// Bytes read.
    pub read: u64,
    /// Bytes written.
    pub written: u64,
    /// Requests to read.
    pub reads: u64,
    /// Requests to write.
    pub writes: u64,
}

/// Huge pages of one size, in bytes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePageStats {
    /// In use.
    pub usage: u64,
    /// The most that was used at once, where it is recorded.
    pub max_usage: Option<u64>,
}

/// The whole file system on which a container's root lies: what `df` says of it. Others may use it too; what this
/// container alone has written is not told.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskStats {
    /// When it was read.
    pub read_at: SystemTime,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes in all.
    pub limit_bytes: u64,
    /// Inodes in use.
    pub used_inodes: u64,
    /// Inodes in all, where the file system has a fixed number of them.
    pub limit_inodes: Option<u64>,
}

impl DiskStats {
    /// These figures, without a limit of inodes.
    #[must_use]
    pub const fn new(read_at: SystemTime, used_bytes: u64, limit_bytes: u64, used_inodes: u64) -> Self {
        Self { read_at, used_bytes, limit_bytes, used_inodes, limit_inodes: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timed_out_exec_says_what_the_kubelet_reads() {
        let (code, out, err) = ExecOutcome::new(ExecEnd::TimedOut).into_cri();
        assert_eq!((code, out.as_slice(), err.as_slice()), (-1, &b""[..], &b"command timed out"[..]));
    }
}
