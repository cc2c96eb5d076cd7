//! What the facade wants to know of a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime_api::{Container, Error, ErrorKind, HandlerConfig, IdMapping, IdMappings, Result, Volume};
use serde_json::Value;

use crate::{annotation, guard, regular_file};

/// The annotations by which engines mark the container that only holds the namespaces of its sandbox.
const KINDS: &[&str] = &["io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri.container-type"];
/// The annotations by which CRI-O marks a container that is there by name only.
const SPOOFED: &[&str] = &["spoofed.crio.io", "io.kubernetes.cri-o.Spoofed"];
/// Larger specs are no specs.
const LIMIT: u64 = 16 << 20;

/// A bundle that cannot be read has no facts; the backend refuses it.
#[derive(Debug, Default)]
pub(super) struct BundleFacts {
    pub(super) annotations: BTreeMap<String, String>,
    terminal: bool,
    memory_limit: Option<i64>,
    mount_point: Option<PathBuf>,
    volumes: Vec<Volume>,
    id_mappings: IdMappings,
}

impl BundleFacts {
    pub(super) fn read(bundle: &Path) -> Self {
        let spec: Option<Value> = regular_file::read(&bundle.join("config.json"), LIMIT)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        spec.map_or_else(Self::default, |spec| Self::of(&spec, bundle))
    }

    fn of(spec: &Value, bundle: &Path) -> Self {
        let annotations = spec.get("annotations").and_then(Value::as_object);
        let root = spec.pointer("/root/path").and_then(Value::as_str);
        let mounts = spec.get("mounts").and_then(Value::as_array).into_iter().flatten();
        Self {
            annotations: annotations.into_iter().flatten().map(annotation).collect(),
            terminal: spec.pointer("/process/terminal") == Some(&Value::Bool(true)),
            memory_limit: spec.pointer("/linux/resources/memory/limit").and_then(Value::as_i64),
            mount_point: root.map(|path| bundle.join(path)),
            volumes: mounts.filter_map(|mount| volume(mount, bundle)).collect(),
            id_mappings: IdMappings::new(
                mappings(spec, "/linux/uidMappings"),
                mappings(spec, "/linux/gidMappings"),
            ),
        }
    }

    /// Refuses what the handler's policies do not allow.
    pub(super) fn check(&self, config: &HandlerConfig) -> Result<()> {
        annotation::check(&config.annotations, self.annotations.keys().map(String::as_str))?;
        guard::enough_memory(self.memory_limit, config.min_memory)
            .map_err(|what| Error::new(ErrorKind::ConfigInvalid(what)))
    }

    /// Whether it is to be there by name only.
    pub(super) fn is_spoofed(&self) -> bool {
        says(&self.annotations, SPOOFED, "true")
    }

    /// Writes down what belongs to the identity of a container that has its annotations already.
    pub(super) fn describe(self, container: &mut Container) {
        container.infra = says(&container.annotations, KINDS, "sandbox");
        container.spoofed = says(&container.annotations, SPOOFED, "true");
        container.terminal = self.terminal;
        container.mount_point = self.mount_point;
        container.volumes = self.volumes;
        container.id_mappings = self.id_mappings;
    }
}

/// Of two names for one thing the first that is there decides.
fn says(annotations: &BTreeMap<String, String>, names: &[&str], what: &str) -> bool {
    names.iter().find_map(|name| annotations.get(*name)).is_some_and(|value| value == what)
}

/// What is no text is an annotation all the same, which a policy may deny.
fn annotation((name, value): (&String, &Value)) -> (String, String) {
    (name.clone(), value.as_str().unwrap_or_default().to_owned())
}

/// A bind mount of the spec; a relative source is below the bundle.
fn volume(mount: &Value, bundle: &Path) -> Option<Volume> {
    let text = |key: &str| mount.get(key).and_then(Value::as_str);
    let options: Vec<_> = mount
        .get("options")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let is_bind =
        text("type") == Some("bind") || options.iter().any(|each| matches!(*each, "bind" | "rbind"));
    if !is_bind {
        return None;
    }
    // Of "ro" and "rw" the last one counts.
    let access = options.iter().rev().find(|each| matches!(**each, "ro" | "rro" | "rw"));
    let read_only = access.is_some_and(|access| *access != "rw");
    Some(Volume::new(bundle.join(text("source")?), text("destination")?, read_only))
}

fn mappings(spec: &Value, pointer: &str) -> Vec<IdMapping> {
    let rows = spec.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    rows.filter_map(|row| {
        let number = |key: &str| row.get(key)?.as_u64()?.try_into().ok();
        Some(IdMapping::new(number("containerID")?, number("hostID")?, number("size")?))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::HandlerName;
    use serde_json::json;
    use std::time::SystemTime;

    #[test]
    fn a_spec_tells_what_an_engine_keeps() {
        let spec = json!({
            "root": {"path": "rootfs"},
            "process": {"terminal": true},
            "linux": {
                "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 65_536}],
                "gidMappings": [{"containerID": 0, "hostID": 200_000, "size": 1}, {"containerID": "x"}],
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/data", "source": "/srv", "options": ["rbind", "rw"]},
                {"destination": "/own", "type": "bind", "source": "own", "options": ["rw", "ro"]},
            ],
        });
        let mut container = Container::new(
            crate::testing::id("a"),
            "/b",
            HandlerName::new("h").unwrap(),
            "0",
            SystemTime::UNIX_EPOCH,
        );
        container.annotations.insert("io.kubernetes.cri-o.ContainerType".into(), "sandbox".into());
        BundleFacts::of(&spec, Path::new("/b")).describe(&mut container);
        assert_eq!(
            container.volumes,
            [Volume::new("/srv", "/data", false), Volume::new("/b/own", "/own", true)]
        );
        assert_eq!(container.mount_point.as_deref(), Some(Path::new("/b/rootfs")));
        assert_eq!(container.id_mappings.uids, [IdMapping::new(0, 100_000, 65_536)]);
        assert_eq!(container.id_mappings.gids.len(), 1, "what is no mapping is none");
        assert!(container.terminal && container.infra && !container.spoofed);
        container.annotations.insert("io.kubernetes.cri-o.ContainerType".into(), "container".into());
        container.annotations.insert("spoofed.crio.io".into(), "true".into());
        BundleFacts::default().describe(&mut container);
        assert!(container.spoofed && !container.infra && container.volumes.is_empty());
    }
}
