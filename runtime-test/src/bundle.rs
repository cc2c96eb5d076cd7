//! Makes OCI bundles whose program is the probe.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::{Workload, probe};

/// What else a bundle says.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleOptions {
    /// Whether the program gets a terminal.
    pub terminal: bool,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `KEY=value` pairs after `PATH`.
    pub env: Vec<String>,
    /// The working directory; it is made in the root file system.
    pub cwd: String,
    /// The cgroup. Without one the runtime chooses.
    pub cgroups_path: Option<String>,
    /// A command line in place of the workload's, as for a program that does not exist.
    pub argv: Option<Vec<String>>,
    /// The most memory in bytes, without any swap.
    pub memory_limit: Option<i64>,
    /// The most processes and threads.
    pub pids_limit: Option<i64>,
    /// Whether the program may change its network, as it must to bring up the loopback.
    pub network_admin: bool,
}

impl Default for BundleOptions {
    fn default() -> Self {
        Self {
            terminal: false,
            annotations: BTreeMap::new(),
            env: Vec::new(),
            cwd: "/".to_owned(),
            cgroups_path: None,
            argv: None,
            memory_limit: None,
            pids_limit: None,
            network_admin: false,
        }
    }
}

impl BundleOptions {
    /// No terminal, no annotations, only `PATH`, the working directory `/`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the program a terminal.
    #[must_use]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push(format!("{key}={value}"));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.cwd = cwd.into();
        self
    }

    /// Sets the cgroup.
    #[must_use]
    pub fn cgroups_path(mut self, path: impl Into<String>) -> Self {
        self.cgroups_path = Some(path.into());
        self
    }

    /// Limits memory, without any swap.
    #[must_use]
    pub const fn memory_limit(mut self, bytes: i64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Limits the number of processes and threads.
    #[must_use]
    pub const fn pids_limit(mut self, most: i64) -> Self {
        self.pids_limit = Some(most);
        self
    }

    /// Lets the program change its network.
    #[must_use]
    pub const fn network_admin(mut self) -> Self {
        self.network_admin = true;
        self
    }

    /// Sets a command line in place of the workload's.
    #[must_use]
    pub fn argv<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.argv = Some(argv.into_iter().map(Into::into).collect());
        self
    }
}

/// Writes a bundle for `workload` into `dir`, which is made if it is missing.
///
/// # Errors
/// Those of making directories and files there.
pub fn write(dir: &Path, workload: &Workload) -> io::Result<()> {
    write_with(dir, workload, &BundleOptions::new())
}

/// [`write()`] with more to say.
///
/// # Errors
/// As [`write()`].
pub fn write_with(dir: &Path, workload: &Workload, options: &BundleOptions) -> io::Result<()> {
    let rootfs = dir.join("rootfs");
    // Runtimes make mount points themselves, but not in a bundle that they may not write to.
    for place in ["proc", "dev", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(place))?;
    }
    fs::create_dir_all(rootfs.join(options.cwd.trim_start_matches('/')))?;
    probe::install(&rootfs)?;
    let config = serde_json::to_vec_pretty(&spec(workload, options))?;
    fs::write(dir.join("config.json"), config)
}

/// A spec that unprivileged limits, cgroup v1 and every runtime of the last years accept: no rlimits, no pids limit, few
/// capabilities, version 1.0.2.
fn spec(workload: &Workload, options: &BundleOptions) -> Value {
    let mut env = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
    env.extend(options.env.iter().cloned());
    let mut few = vec!["CAP_KILL", "CAP_NET_BIND_SERVICE"];
    if options.network_admin {
        few.push("CAP_NET_ADMIN");
    }
    let mut linux = json!({
        "namespaces": [
            {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}
        ],
        "resources": {"devices": [{"allow": false, "access": "rwm"}]},
        "maskedPaths": [
            "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
            "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"
        ],
        "readonlyPaths": [
            "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
        ]
    });
    if let Some(path) = &options.cgroups_path {
        linux["cgroupsPath"] = json!(path);
    }
    if let Some(limit) = options.memory_limit {
        linux["resources"]["memory"] = json!({"limit": limit, "swap": limit});
    }
    if let Some(limit) = options.pids_limit {
        linux["resources"]["pids"] = json!({"limit": limit});
    }
    json!({
        "ociVersion": "1.0.2",
        "hostname": "probe",
        "root": {"path": "rootfs"},
        "process": {
            "terminal": options.terminal,
            "user": {"uid": 0, "gid": 0},
            "args": options.argv.clone().unwrap_or_else(|| workload.argv()),
            "env": env,
            "cwd": options.cwd,
            "capabilities": {"bounding": few, "effective": few, "permitted": few},
            "noNewPrivileges": true
        },
        "mounts": mounts(),
        "annotations": options.annotations,
        "linux": linux
    })
}

fn mounts() -> Value {
    let mount = |at: &str, kind: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    let quiet = ["nosuid", "noexec", "nodev"];
    let shm = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    json!([
        mount("/proc", "proc", &quiet),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", &shm),
        mount("/dev/mqueue", "mqueue", &quiet),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_complete_and_says_what_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        let options = BundleOptions::new()
            .terminal()
            .annotation("a", "b")
            .env("KEY", "value")
            .cwd("/some/where")
            .cgroups_path("/x")
            .memory_limit(1 << 26)
            .pids_limit(50);
        write_with(dir.path(), &Workload::says("hi"), &options).unwrap();
        let text = fs::read_to_string(dir.path().join("config.json")).unwrap();
        let spec: oci_spec::runtime::Spec = serde_json::from_str(&text).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.args().as_ref().unwrap()[1], "out:hi");
        assert_eq!(process.terminal(), Some(true));
        assert!(process.env().as_ref().unwrap().contains(&"KEY=value".to_owned()));
        let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
        assert_eq!(resources.memory().as_ref().unwrap().limit(), Some(1 << 26));
        assert_eq!(resources.pids().as_ref().unwrap().limit(), 50);
        assert_eq!(spec.annotations().as_ref().unwrap()["a"], "b");
        assert!(dir.path().join("rootfs/some/where").is_dir());
        assert_eq!(fs::read(dir.path().join("rootfs/manyrun-probe")).unwrap(), probe::BYTES);
    }

    #[test]
    fn a_command_line_can_replace_the_workloads() {
        let value = spec(&Workload::forever(), &BundleOptions::new().argv(["/nowhere"]));
        assert_eq!(value["process"]["args"], json!(["/nowhere"]));
        assert!(value["linux"].get("cgroupsPath").is_none());
    }
}
