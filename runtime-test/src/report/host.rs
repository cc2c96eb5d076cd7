//! What a report says about the machine.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine on which a run took place.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The distribution's name for itself.
    pub os: Option<String>,
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The processor's architecture.
    pub arch: String,
    /// How many processors the suite may use.
    pub cpus: usize,
    /// The effective user id.
    pub user_id: u32,
    /// The layout of control groups: `v1`, `v2`, `hybrid`, or `none`.
    pub cgroups: String,
}

impl HostFacts {
    /// Looks at this machine.
    #[must_use]
    pub fn read() -> Self {
        Self {
            os: os_name(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
            arch: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            user_id: rustix::process::geteuid().as_raw(),
            cgroups: cgroup_layout(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
                .to_owned(),
        }
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            os: Some("Toy Linux".to_owned()),
            kernel: Some("6.1.0".to_owned()),
            arch: "x86_64".to_owned(),
            cpus: 2,
            user_id: 0,
            cgroups: "v2".to_owned(),
        }
    }
}

fn os_name(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// Reads the kinds of the mounted file systems, which follow the lone dash of a line.
fn cgroup_layout(mountinfo: &str) -> &'static str {
    let has = |kind: &str| {
        mountinfo
            .lines()
            .filter_map(|line| line.split_once(" - "))
            .any(|(_, rest)| rest.split(' ').next() == Some(kind))
    };
    match (has("cgroup"), has("cgroup2")) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_what_the_system_says() {
        assert_eq!(os_name("ID=x\nPRETTY_NAME=\"Toy 1\"\n").as_deref(), Some("Toy 1"));
        assert_eq!(os_name("ID=x\n"), None);
        let v1 = "30 29 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let v2 = "31 29 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup_layout(v1), "v1");
        assert_eq!(cgroup_layout(v2), "v2");
        assert_eq!(cgroup_layout(&format!("{v1}{v2}")), "hybrid");
        assert_eq!(cgroup_layout(""), "none");
    }
}
