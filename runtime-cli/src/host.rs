//! What this host has and lacks, and the command that would help.

use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// One thing that containers need from the host.
#[derive(Debug)]
pub(crate) struct Need {
    /// What it is.
    pub(crate) name: &'static str,
    /// What was found; the reason where nothing was.
    pub(crate) found: Result<String, String>,
    /// What it is good for.
    pub(crate) purpose: &'static str,
    /// The command that would help.
    pub(crate) remedy: Option<String>,
}

/// Programs, what they are good for, and how Debian's users get them.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("conmon", "watches the containers of every oci handler", "apt-get install conmon"),
    ("runc", "runs containers (oci:runc)", "apt-get install runc"),
    ("crun", "runs containers (oci:crun)", "apt-get install crun"),
    (
        "youki",
        "runs containers (oci:youki)",
        "apt-get install libseccomp-dev pkg-config && cargo install youki --version 0.7.0 --features v1 --locked",
    ),
    ("runsc", "runs containers on a kernel of their own (oci:runsc)", "apt-get install runsc"),
    ("criu", "checkpoint and restore", "apt-get install criu"),
    ("containerd-shim-runc-v2", "runs containers behind a shim (vm:runc)", "apt-get install containerd"),
    (
        "containerd-shim-runc-v2-rs",
        "the same, written in Rust (vm:runc-rs)",
        "cargo install containerd-runc-shim --version 0.2.0 --locked",
    ),
];

/// What carries the output of programs behind shims.
pub(crate) const SHIM_MONITOR: &str = "manyrun-vm-io";
const SHIM_MONITOR_REMEDY: &str = "cargo install --path runtime-vm";

/// How to get a program: by its name or its path.
pub(crate) fn remedy(program: Option<&str>) -> Option<&'static str> {
    let name = Path::new(program?).file_name()?.to_str()?;
    (name == SHIM_MONITOR)
        .then_some(SHIM_MONITOR_REMEDY)
        .or_else(|| PROGRAMS.iter().find(|row| row.0 == name).map(|row| row.2))
}

/// Everything that is looked at, in the order in which people would repair it.
pub(crate) fn needs() -> Vec<Need> {
    let root = geteuid().is_root();
    let mut needs = vec![Need {
        name: "root",
        found: if root { Ok("yes".to_owned()) } else { Err(format!("user {}", geteuid().as_raw())) },
        purpose: "oci handlers make namespaces, mounts and cgroups",
        remedy: (!root).then(|| "run it with sudo".to_owned()),
    }];
    for (name, purpose, remedy) in PROGRAMS {
        let found = which::which(name);
        needs.push(Need {
            name,
            remedy: found.is_err().then(|| (*remedy).to_owned()),
            found: found.map(|path| path.display().to_string()).map_err(|_| "not on PATH".to_owned()),
            purpose,
        });
    }
    let found = runtime_vm::monitor::find::find(None);
    needs.push(Need {
        name: SHIM_MONITOR,
        remedy: found.is_err().then(|| SHIM_MONITOR_REMEDY.to_owned()),
        found: found.map(|path| path.display().to_string()).map_err(|_| "not installed".to_owned()),
        purpose: "carries the output of programs behind shims (vm:...)",
    });
    needs.push(cgroups(&Cgroups::read()));
    needs
}

/// Why the suite cannot be run on this binary here, with the command that would help.
pub(crate) fn unmet(binary: &Path) -> Option<String> {
    if which::which(binary).is_err() {
        let remedy = remedy(binary.to_str()).map(|remedy| format!(": {remedy}"));
        return Some(format!("{} is not installed{}", binary.display(), remedy.unwrap_or_default()));
    }
    if which::which("conmon").is_err() {
        return Some("conmon is not installed: apt-get install conmon".to_owned());
    }
    if !geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let cgroups = Cgroups::read();
    let is_crun = binary.file_name().is_some_and(|name| name == "crun");
    (is_crun && cgroups.has_leftovers())
        .then(|| format!("crun cannot use the hybrid cgroup layout as it is: {}", cgroups.remedy()))
}

/// How the cgroup hierarchies are mounted.
#[derive(Debug, Default)]
struct Cgroups {
    v1: Vec<String>,
    v2: Option<PathBuf>,
    /// Controllers that the v2 hierarchy holds although v1 hierarchies are mounted too.
    leftovers: Vec<String>,
}

impl Cgroups {
    fn read() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut layout = Self::of(&mounts);
        if let (false, Some(v2)) = (layout.v1.is_empty(), &layout.v2) {
            let held = std::fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
            layout.leftovers = held.split_whitespace().map(str::to_owned).collect();
        }
        layout
    }

    fn of(mounts: &str) -> Self {
        let mut layout = Self::default();
        for line in mounts.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            match fields[..] {
                [_, at, "cgroup", ..] => layout.v1.push(at.rsplit('/').next().unwrap_or(at).to_owned()),
                [_, at, "cgroup2", ..] => layout.v2 = Some(PathBuf::from(at)),
                _ => {}
            }
        }
        layout
    }

    fn has_leftovers(&self) -> bool {
        !self.leftovers.is_empty()
    }

    fn remedy(&self) -> String {
        let mounts: Vec<_> = self
            .leftovers
            .iter()
            .map(|name| {
                let at = format!("/sys/fs/cgroup/{name}");
                format!("mkdir -p {at} && mount -t cgroup -o {name} cgroup {at}")
            })
            .collect();
        mounts.join(" && ")
    }
}

fn cgroups(layout: &Cgroups) -> Need {
    let found = match (layout.v1.is_empty(), &layout.v2) {
        (true, None) => Err("no cgroup hierarchy is mounted".to_owned()),
        (true, Some(_)) => Ok("version 2".to_owned()),
        (false, None) => Ok("version 1".to_owned()),
        (false, Some(_)) if layout.has_leftovers() => {
            Err(format!("hybrid, and version 2 holds {}; crun refuses that", layout.leftovers.join(", ")))
        }
        (false, Some(_)) => Ok("hybrid: version 1 with version 2 beside it".to_owned()),
    };
    let remedy = match (&found, layout.v2.is_some()) {
        (Ok(_), _) => None,
        (Err(_), true) => Some(layout.remedy()),
        (Err(_), false) => Some("mount -t cgroup2 cgroup2 /sys/fs/cgroup".to_owned()),
    };
    Need { name: "cgroups", found, purpose: "limits, statistics, pause", remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_read_from_the_mounts() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let mut layout = Cgroups::of(hybrid);
        assert_eq!((layout.v1.as_slice(), layout.v2.is_some()), (&["memory".to_owned()][..], true));
        assert!(cgroups(&layout).found.unwrap().starts_with("hybrid"));
        layout.leftovers = vec!["hugetlb".to_owned()];
        let need = cgroups(&layout);
        assert!(need.found.unwrap_err().contains("hugetlb"));
        assert!(need.remedy.unwrap().contains("mount -t cgroup -o hugetlb"));
        assert!(cgroups(&Cgroups::of("")).found.is_err());
        assert_eq!(cgroups(&Cgroups::of("c /sys/fs/cgroup cgroup2 rw 0 0")).found.unwrap(), "version 2");
    }

    #[test]
    fn a_missing_binary_is_an_unmet_need_with_its_remedy() {
        assert_eq!(
            unmet(Path::new("/nonexistent/bin/runc")).unwrap(),
            "/nonexistent/bin/runc is not installed: apt-get install runc"
        );
    }
}
