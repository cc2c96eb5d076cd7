//! How a runtime is configured: the normal form into which every dialect is read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Capability, HandlerName, RuntimeKind};

/// One runtime handler: a name, a kind of backend, and what the backend needs to know.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandlerConfig {
    /// Its name.
    pub name: HandlerName,
    /// Which factory opens it.
    pub kind: RuntimeKind,
    /// Candidates for the binary; the first that exists is used. Empty: the handler's name on `PATH`.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    /// Binaries for images of another platform (`linux/arm64`).
    #[serde(default)]
    pub platform_paths: BTreeMap<String, PathBuf>,
    /// The runtime's own state directory; below the handler's state directory unless given.
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// Arguments before the verb.
    #[serde(default)]
    pub args: Vec<String>,
    /// The runtime's own configuration file.
    #[serde(default)]
    pub config_path: Option<PathBuf>,
    /// What only this kind of backend understands; its factory reads it strictly.
    #[serde(default)]
    pub options: serde_json::Map<String, serde_json::Value>,
    /// The process that watches containers.
    #[serde(default)]
    pub monitor: MonitorConfig,
    /// Which annotations may be used.
    #[serde(default)]
    pub annotations: AnnotationPolicy,
    /// Deadlines; the operation table's where not given.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Capabilities that are taken away, each with the place that says so.
    #[serde(default)]
    pub disabled: Vec<(Capability, String)>,
    /// The smallest memory limit a container may have, in bytes.
    #[serde(default)]
    pub min_memory: Option<u64>,
    /// Privileged containers do not get the host's devices.
    #[serde(default)]
    pub privileged_without_host_devices: bool,
    /// The seccomp profile for generated specs.
    #[serde(default)]
    pub seccomp_profile: Option<PathBuf>,
    /// The runtime pulls images by itself.
    #[serde(default)]
    pub pull_image_in_guest: bool,
    /// Streams are served as websockets by the monitor.
    #[serde(default)]
    pub stream_websockets: bool,
    /// `first`: execs begin on the first processor of the container's set.
    #[serde(default)]
    pub exec_cpu_affinity: Option<String>,
    /// Where this was written.
    pub origin: Origin,
}

impl HandlerConfig {
    /// A handler with nothing but a name, a kind and an origin.
    #[must_use]
    pub fn new(name: HandlerName, kind: RuntimeKind, origin: Origin) -> Self {
        Self {
            name,
            kind,
            paths: Vec::new(),
            platform_paths: BTreeMap::new(),
            root: None,
            args: Vec::new(),
            config_path: None,
            options: serde_json::Map::new(),
            monitor: MonitorConfig::default(),
            annotations: AnnotationPolicy::default(),
            timeouts: Timeouts::default(),
            disabled: Vec::new(),
            min_memory: None,
            privileged_without_host_devices: false,
            seccomp_profile: None,
            pull_image_in_guest: false,
            stream_websockets: false,
            exec_cpu_affinity: None,
            origin,
        }
    }
}

/// The process that watches containers.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorConfig {
    /// Its binary; its name on `PATH` unless given.
    pub path: Option<PathBuf>,
    /// `KEY=value` pairs of its environment, which is otherwise empty but for `PATH` and `XDG_RUNTIME_DIR`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Where it gets a cgroup of its own: `pod` is beside its container's, an absolute path is a parent of the caller's
    /// choice. Without, or with an empty one, it stays in the cgroup of the process that creates the container.
    pub cgroup: Option<String>,
    /// `container`: exec sessions are monitored from inside the container's cgroup.
    pub exec_cgroup: Option<String>,
    /// The log is not synced to disk when the container ends.
    #[serde(default)]
    pub no_sync_log: bool,
}

/// Which annotations a container of this handler may carry.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationPolicy {
    /// Allowed: prefixes, `=name` for one name, patterns with `*`, `?` or `[`. Empty: all.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// Denied, in the same form; they win.
    #[serde(default)]
    pub denied: Vec<String>,
    /// Set unless the container sets them.
    #[serde(default)]
    pub default: BTreeMap<String, String>,
}

/// Deadlines per operation.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// For create.
    #[serde(with = "humantime_serde", default)]
    pub create: Option<Duration>,
    /// For start.
    #[serde(with = "humantime_serde", default)]
    pub start: Option<Duration>,
    /// After the KILL of a stop.
    #[serde(with = "humantime_serde", default)]
    pub stop: Option<Duration>,
    /// For the start of an exec.
    #[serde(with = "humantime_serde", default)]
    pub exec: Option<Duration>,
}

/// Where a piece of configuration was written.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// The table in it.
        table: String,
        /// The line on which the table starts, counted from 1.
        line: Option<u32>,
    },
    /// Not in a file: a default, a command line.
    Other(String),
}

impl Origin {
    /// A table of a file.
    pub fn file(path: impl Into<PathBuf>, table: impl Into<String>, line: Option<u32>) -> Self {
        Self::File { path: path.into(), table: table.into(), line }
    }

    /// A place that is no file.
    pub fn other(what: impl Into<String>) -> Self {
        Self::Other(what.into())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, table, line: Some(line) } => write!(f, "{}:{line} [{table}]", path.display()),
            Self::File { path, table, line: None } => write!(f, "{} [{table}]", path.display()),
            Self::Other(what) => f.write_str(what),
        }
    }
}
