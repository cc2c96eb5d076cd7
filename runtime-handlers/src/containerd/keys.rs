//! The keys of containerd's configuration that concern runtimes.

use crate::document::schema::{Key, Shape, key};

/// The keys of one runtime, of containerd 1 and 2.
pub(super) const HANDLER: &[Key] = &[
    key("runtime_type", Shape::Text),
    key("runtime_path", Shape::Text),
    key("runtime_engine", Shape::Text),
    key("runtime_root", Shape::Text),
    key("pod_annotations", Shape::Texts),
    key("container_annotations", Shape::Texts),
    key("options", Shape::Free),
    key("privileged_without_host_devices", Shape::Bool),
    key("privileged_without_host_devices_all_devices_allowed", Shape::Bool),
    key("cgroup_writable", Shape::Bool),
    key("base_runtime_spec", Shape::Text),
    key("cni_conf_dir", Shape::Text),
    key("cni_max_conf_num", Shape::Integer),
    key("snapshotter", Shape::Text),
    key("sandbox_mode", Shape::Text),
    key("sandboxer", Shape::Text),
    key("disable_pause_image_pull", Shape::Bool),
    key("io_type", Shape::Text),
];

/// The options of runc's shim.
pub(super) const RUNC_OPTIONS: &[Key] = &[
    key("BinaryName", Shape::Text),
    key("Root", Shape::Text),
    key("SystemdCgroup", Shape::Bool),
    key("NoPivotRoot", Shape::Bool),
    key("NoNewKeyring", Shape::Bool),
    key("ShimCgroup", Shape::Text),
    key("IoUid", Shape::Integer),
    key("IoGid", Shape::Integer),
    key("CriuPath", Shape::Text),
    key("CriuImagePath", Shape::Text),
    key("CriuWorkPath", Shape::Text),
    key("TaskApiAddress", Shape::Text),
    key("TaskApiVersion", Shape::Integer),
];

/// What is about other things than how a container is run, or what this backend does in its own way.
pub(super) const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("runtime_engine", "only shims of containerd 1 for its first runtime knew it"),
    ("runtime_root", "only shims of containerd 1 for its first runtime knew it; see options.Root"),
    ("privileged_without_host_devices_all_devices_allowed", "it is for those who make specs"),
    ("cgroup_writable", "it is for those who make specs"),
    ("base_runtime_spec", "it is for those who make specs"),
    ("cni_conf_dir", "networks are made by others"),
    ("cni_max_conf_num", "networks are made by others"),
    ("snapshotter", "root file systems are made by others"),
    ("disable_pause_image_pull", "images are pulled by others"),
];

/// Options of runc's shim that mean nothing where there is no shim.
pub(super) const OPTIONS_WITHOUT_EFFECT: &[&str] = &[
    "ShimCgroup",
    "IoUid",
    "IoGid",
    "CriuPath",
    "CriuImagePath",
    "CriuWorkPath",
    "TaskApiAddress",
    "TaskApiVersion",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden cases of every key have every key, and whoever reads what became of them finds each of them.
    #[test]
    fn every_key_becomes_something_or_is_noted() {
        for (version, known) in [("1", 8), ("2", HANDLER.len()), ("3", HANDLER.len())] {
            let case = format!("tests/dialects/containerd/every-key-version-{version}");
            let case = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(case);
            let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap();
            let (written, became) = (read("in/config.toml"), read("expected.toml"));
            let all: Vec<_> = HANDLER.iter().chain(RUNC_OPTIONS).map(|key| key.name).collect();
            let is_written = |name: &&str| {
                let inner = format!(".{name}]");
                written.lines().any(|line| {
                    line.trim().starts_with(&format!("{name} = ")) || line.trim().ends_with(&inner)
                })
            };
            let found: Vec<_> = all.iter().copied().filter(|name| is_written(name)).collect();
            assert!(found.len() >= known, "version {version} has only {found:?}");
            if version != "1" {
                assert_eq!(found, all, "of version {version}");
            }
            // The options are told of one by one.
            for name in found.iter().filter(|name| **name != "options") {
                let told = [format!("key {name:?}"), format!("option {name:?}"), format!(" is {name} of ")];
                assert!(told.iter().any(|text| became.contains(text)), "{name} of version {version} is lost");
            }
        }
    }

    #[test]
    fn what_has_no_effect_is_known() {
        let known = |name: &str, keys: &[Key]| keys.iter().any(|key| key.name == name);
        assert!(WITHOUT_EFFECT.iter().all(|(name, _)| known(name, HANDLER)));
        assert!(OPTIONS_WITHOUT_EFFECT.iter().all(|name| known(name, RUNC_OPTIONS)));
    }
}
