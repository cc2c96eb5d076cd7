//! The keys of CRI-O's configuration that concern runtimes.

use crate::document::schema::{Key, Shape, key};

/// The keys of `[crio.runtime.runtimes.NAME]`.
pub(super) const HANDLER: &[Key] = &[
    key("runtime_path", Shape::Text),
    key("runtime_type", Shape::Text),
    key("runtime_root", Shape::Text),
    key("runtime_config_path", Shape::Text),
    key("privileged_without_host_devices", Shape::Bool),
    key("allowed_annotations", Shape::Texts),
    key("monitor_path", Shape::Text),
    key("monitor_cgroup", Shape::Text),
    key("monitor_env", Shape::Texts),
    key("monitor_exec_cgroup", Shape::Text),
    key("platform_runtime_paths", Shape::TextMap),
    key("runtime_pull_image", Shape::Bool),
    key("container_min_memory", Shape::Text),
    key("no_sync_log", Shape::Bool),
    key("inherit_default_runtime", Shape::Bool),
    key("default_annotations", Shape::TextMap),
    key("stream_websockets", Shape::Bool),
    key("exec_cpu_affinity", Shape::Text),
    key("seccomp_profile", Shape::Text),
    key("container_create_timeout", Shape::Integer),
];

/// The way to `[crio.runtime]`.
pub(super) const TOP: &[Key] = &[key("crio", Shape::Free)];
pub(super) const CRIO: &[Key] = &[key("runtime", Shape::Free)];

/// What else stands in `[crio]`.
pub(super) const OTHERS_OF_CRIO: &[&str] = &[
    "api",
    "image",
    "network",
    "metrics",
    "tracing",
    "nri",
    "stats",
    "checkpoint_restore",
    "root",
    "runroot",
    "runtimes",
];

/// What else stands in `[crio.runtime]`.
pub(super) const OTHERS_OF_RUNTIME: &[&str] = &[
    "absent_mount_sources_to_reject",
    "add_inheritable_capabilities",
    "additional_devices",
    "allowed_devices",
    "apparmor_profile",
    "bind_mount_prefix",
    "blockio_config_file",
    "blockio_reload",
    "container_attach_socket_dir",
    "container_exits_dir",
    "ctr_stop_timeout",
    "decryption_keys_path",
    "default_capabilities",
    "default_env",
    "default_mounts",
    "default_mounts_file",
    "default_sysctls",
    "default_ulimits",
    "device_ownership_from_security_context",
    "disable_hostport_mapping",
    "drop_infra_ctr",
    "enable_criu_support",
    "enable_pod_events",
    "gid_mappings",
    "hooks_dir",
    "hostnetwork_disable_selinux",
    "infra_ctr_cpuset",
    "irqbalance_config_file",
    "irqbalance_config_restore_file",
    "log_filter",
    "log_level",
    "log_size_max",
    "log_to_journald",
    "manage_ns_lifecycle",
    "minimum_mappable_gid",
    "minimum_mappable_uid",
    "namespaces_dir",
    "pids_limit",
    "pinns_path",
    "privileged_seccomp_profile",
    "rdt_config_file",
    "read_only",
    "seccomp_use_default_when_empty",
    "selinux",
    "shared_cpuset",
    "uid_mappings",
    "workloads",
];

/// The keys of `[crio.runtime]` that every handler feels. The others are looked at for slips only.
pub(super) const RUNTIME: &[Key] = &[
    key("default_runtime", Shape::Text),
    key("cgroup_manager", Shape::Text),
    key("no_pivot", Shape::Bool),
    key("seccomp_profile", Shape::Text),
    key("conmon", Shape::Text),
    key("conmon_cgroup", Shape::Text),
    key("conmon_env", Shape::Texts),
    key("timezone", Shape::Text),
    key("runtimes", Shape::Free),
];

/// What a key of CRI-O becomes.
pub(super) const NATIVE: &[(&str, &str)] = &[
    ("runtime_path", "paths"),
    ("runtime_type", "kind"),
    ("runtime_root", "root"),
    ("runtime_config_path", "config_path"),
    ("privileged_without_host_devices", "privileged_without_host_devices"),
    ("allowed_annotations", "annotations.denied"),
    ("monitor_path", "monitor.path"),
    ("monitor_cgroup", "monitor.cgroup"),
    ("monitor_env", "monitor.env"),
    ("monitor_exec_cgroup", "monitor.exec_cgroup"),
    ("platform_runtime_paths", "platform_paths"),
    ("runtime_pull_image", "pull_image_in_guest"),
    ("container_min_memory", "min_memory"),
    ("no_sync_log", "monitor.no_sync_log"),
    ("inherit_default_runtime", "inherits"),
    ("default_annotations", "annotations.default"),
    ("stream_websockets", "stream_websockets"),
    ("exec_cpu_affinity", "exec_cpu_affinity"),
    ("seccomp_profile", "seccomp_profile"),
    ("container_create_timeout", "timeouts.create"),
];

/// The keys that `inherit_default_runtime` takes from the default handler, whatever the handler itself says.
pub(super) const INHERITED: &[&str] =
    &["runtime_path", "runtime_type", "runtime_config_path", "runtime_root"];

/// The keys about the monitor. The types `vm` and `pod` bring their own.
pub(super) const MONITOR: &[&str] = &["monitor_path", "monitor_cgroup", "monitor_env", "monitor_exec_cgroup"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_a_handler_becomes_something() {
        let names: Vec<_> = HANDLER.iter().map(|key| key.name).collect();
        let mapped: Vec<_> = NATIVE.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), 20);
        assert_eq!(names, mapped);
        // The golden case of every key has every key, and tells what became of it.
        let case = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialects/crio/every-key");
        let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap();
        let (written, became) = (read("in/crio.conf"), read("expected.toml"));
        for name in names {
            let inner = format!(".{name}]\n");
            assert!(written.contains(&format!("\n{name} = ")) || written.contains(&inner), "{name}");
            assert!(became.contains(&format!(" is {name} of ")), "{name} is lost");
        }
    }
}
