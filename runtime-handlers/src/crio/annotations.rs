//! The annotations that CRI-O knows. A handler allows some of them; the rest of these is denied, and all others are free.

/// Names of the second version with those of the first that mean the same. Allowing either allows both.
const VERSIONED: &[(&str, &str)] = &[
    ("cgroup2-mount-hierarchy-rw.crio.io", "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw"),
    ("cpu-c-states.crio.io", "cpu-c-states.crio.io"),
    ("cpu-freq-governor.crio.io", "cpu-freq-governor.crio.io"),
    ("cpu-load-balancing.crio.io", "cpu-load-balancing.crio.io"),
    ("cpu-quota.crio.io", "cpu-quota.crio.io"),
    ("cpu-shared.crio.io", "cpu-shared.crio.io"),
    ("devices.crio.io", "io.kubernetes.cri-o.Devices"),
    ("disable-fips.crio.io", "io.kubernetes.cri-o.DisableFIPS"),
    ("irq-load-balancing.crio.io", "irq-load-balancing.crio.io"),
    ("link-logs.crio.io", "io.kubernetes.cri-o.LinkLogs"),
    ("platform-runtime-path.crio.io", "io.kubernetes.cri-o.PlatformRuntimePath"),
    ("pod-linux-overhead.crio.io", "io.kubernetes.cri-o.PodLinuxOverhead"),
    ("pod-linux-resources.crio.io", "io.kubernetes.cri-o.PodLinuxResources"),
    ("seccomp-notifier-action.crio.io", "io.kubernetes.cri-o.seccompNotifierAction"),
    ("seccomp-profile.crio.io", "seccomp-profile.kubernetes.cri-o.io"),
    ("shm-size.crio.io", "io.kubernetes.cri-o.ShmSize"),
    ("skip-gomaxprocs.crio.io", "skip-gomaxprocs.crio.io"),
    ("spoofed.crio.io", "io.kubernetes.cri-o.Spoofed"),
    ("try-skip-volume-selinux-label.crio.io", "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel"),
    ("umask.crio.io", "io.kubernetes.cri-o.umask"),
    ("unified-cgroup.crio.io", "io.kubernetes.cri-o.UnifiedCgroup"),
    ("userns-mode.crio.io", "io.kubernetes.cri-o.userns-mode"),
];

/// Names that others gave. Those with a dot at the end are prefixes.
const EXTERNAL: &[&str] = &[
    "bundle",
    "io.containers.trace-syscall",
    "io.kubernetes.cri.container-type",
    "io.kubernetes.cri.rdt-class",
    "module.wasm.image/variant",
    "org.criu.config",
    "org.opencontainers.image.stopSignal",
    "org.systemd.property.",
    "run.oci.",
];

/// Every name, sorted, each once.
pub(crate) fn known() -> Vec<&'static str> {
    let mut names: Vec<_> = VERSIONED
        .iter()
        .flat_map(|(second, first)| [*second, *first])
        .chain(EXTERNAL.iter().copied())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What a handler denies that allows these.
pub(super) fn denied(allowed: &[&str]) -> Vec<String> {
    let twin = |name: &str| {
        VERSIONED.iter().find_map(|(second, first)| {
            (*second == name).then_some(*first).or_else(|| (*first == name).then_some(*second))
        })
    };
    known()
        .into_iter()
        .filter(|name| !allowed.contains(name) && !twin(name).is_some_and(|twin| allowed.contains(&twin)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_version_of_a_name_allows_both() {
        let both = ["devices.crio.io", "io.kubernetes.cri-o.Devices"];
        for one in both {
            let denied = denied(&[one]);
            assert_eq!(denied.len(), known().len() - 2, "{one}");
            assert!(both.iter().all(|name| !denied.iter().any(|each| each == name)), "{one}");
        }
    }

    #[test]
    fn no_name_hides_another() {
        let names = known();
        for name in &names {
            let hidden: Vec<_> =
                names.iter().filter(|other| other != &name && other.starts_with(name)).collect();
            assert!(hidden.is_empty(), "{name} hides {hidden:?}");
        }
    }
}
