//! A handler table as configuration of containerd, version 3.

use std::fmt::Write as _;

use runtime_api::HandlerConfig;
use serde_json::{Map, Value, json};

use super::toml_text::{key, line};
use super::{Converted, LeftOut, added_by, unusable};
use crate::containerd::{OWN_ANNOTATIONS, shim_options};
use crate::table::{HandlerTable, Note};

const TABLE: &str = "plugins.\"io.containerd.cri.v1.runtime\".containerd";

pub(super) fn write(table: &HandlerTable) -> Converted {
    let mut left_out = unusable(table);
    left_out.extend(added_by("containerd", "runc", table));
    if let Some(zone) = &table.time_zone {
        let text = "time_zone is left out: containerd has no such key";
        left_out.push(Note::new(zone.origin.clone(), text));
    }
    let mut text = format!("version = 3\n\n[{TABLE}]\n");
    if let Some(default) = &table.default {
        text.push_str(&line("default_runtime_name", &json!(default)));
    }
    for config in table.handlers.values() {
        let mut notes = LeftOut::new(config, table);
        if let Some((kind, options)) = kind_and_options(config, &mut notes) {
            let title = format!("{TABLE}.runtimes.{}", key(config.name.as_str()));
            let _ = writeln!(text, "\n[{title}]");
            text.push_str(&line("runtime_type", &json!(kind)));
            if config.kind.as_str() == "vm" && config.paths.first().is_some_and(|path| path.is_absolute()) {
                text.push_str(&line("runtime_path", &json!(config.paths[0])));
            }
            let without = config.privileged_without_host_devices;
            if without {
                text.push_str(&line("privileged_without_host_devices", &json!(without)));
            }
            if let Some(passed) = passed(config, &mut notes) {
                text.push_str(&line("pod_annotations", &json!(passed)));
            }
            if !options.is_empty() {
                let _ = writeln!(text, "\n[{title}.options]");
                text.extend(options.iter().map(|(name, value)| line(&key(name), value)));
            }
            others(config, &mut notes);
        }
        left_out.extend(notes.notes);
    }
    Converted { text, left_out }
}

fn kind_and_options(config: &HandlerConfig, notes: &mut LeftOut<'_>) -> Option<(String, Map<String, Value>)> {
    match config.kind.as_str() {
        "oci" => Some(("io.containerd.runc.v2".to_owned(), runc_options(config, notes))),
        "vm" => vm(config, notes),
        other => {
            notes.key("kind", true, &format!("containerd has no {other:?}, so the whole handler is"));
            None
        }
    }
}

fn runc_options(config: &HandlerConfig, notes: &mut LeftOut<'_>) -> Map<String, Value> {
    let mut options = Map::new();
    match notes.only_path() {
        Some(path) => {
            options.insert("BinaryName".to_owned(), json!(path));
        }
        None if config.name.as_str() != "runc" => {
            options.insert("BinaryName".to_owned(), json!(config.name));
        }
        None => {}
    }
    options.extend(config.root.iter().map(|root| ("Root".to_owned(), json!(root))));
    for (name, value) in &config.options {
        let theirs = match name.as_str() {
            "systemd_cgroup" => "SystemdCgroup",
            "no_pivot" => "NoPivotRoot",
            "no_new_keyring" => "NoNewKeyring",
            _ => {
                notes.key(&format!("options.{name}"), true, "containerd has no such option");
                continue;
            }
        };
        options.insert(theirs.to_owned(), value.clone());
    }
    notes.key("config_path", config.config_path.is_some(), "runc's shim has no such option");
    options
}

fn vm(config: &HandlerConfig, notes: &mut LeftOut<'_>) -> Option<(String, Map<String, Value>)> {
    let named = format!("containerd-shim-{}-v2", config.name);
    let binary = notes
        .only_path()
        .and_then(|path| path.file_name())
        .map_or(named.into(), |name| name.to_string_lossy());
    let is_absolute = config.paths.first().is_some_and(|path| path.is_absolute());
    let is_part = |text: &str| !text.is_empty() && !text.contains('.');
    // Whichever hyphen divides name and version, the type means this binary.
    let rest = binary.strip_prefix("containerd-shim-").unwrap_or_default();
    let mut divided = rest.rmatch_indices('-').map(|(at, _)| (&rest[..at], &rest[at + 1..]));
    let type_of = divided.find(|(name, version)| is_part(name) && is_part(version));
    let whole =
        config.options.contains_key("any") || config.config_path.is_some() || config.options.is_empty();
    let kind = match type_of {
        // The shim of runc under another type: to its own containerd says what the options are in another way. Only the last
        // two parts of a type name the binary.
        Some(("runc", version @ ("v1" | "v2"))) if whole => format!("io.containerd.shim.runc.{version}"),
        Some((name, version)) => format!("io.containerd.{name}.{version}"),
        // With runtime_path the type is a name and no more.
        None if is_absolute => format!("io.containerd.{}-shim.v2", config.name.as_str().replace('.', "-")),
        None => {
            notes.key(
                "paths",
                true,
                "the shim is not called containerd-shim-NAME-vN, so the whole handler is",
            );
            return None;
        }
    };
    let mut options = Map::new();
    options.extend(config.config_path.iter().map(|path| ("ConfigPath".to_owned(), json!(path))));
    for (name, value) in &config.options {
        let whole = (name == "any" && config.config_path.is_none()).then(|| shim_options::decode(value));
        if let Some(all) = whole.flatten() {
            options.extend(all);
        } else if name == "any" {
            notes.key("options.any", true, "containerd can only say options that are one TOML document");
        } else if name == "config_type" {
            options.insert("TypeUrl".to_owned(), value.clone());
        } else if config.config_path.is_none()
            && matches!(name.as_str(), "BinaryName" | "SystemdCgroup" | "NoPivotRoot" | "NoNewKeyring")
        {
            options.insert(name.clone(), value.clone());
        } else {
            notes.key(&format!("options.{name}"), true, "containerd has no such option");
        }
    }
    notes.key("root", config.root.is_some(), "containerd has no such key for shims");
    Some((kind, options))
}

/// What containerd lets through; all it can say is that.
fn passed(config: &HandlerConfig, notes: &mut LeftOut<'_>) -> Option<Vec<String>> {
    let policy = &config.annotations;
    let everything_but = !policy.denied.is_empty() && policy.allowed.is_empty();
    notes.key(
        "annotations.denied",
        !policy.denied.is_empty(),
        if everything_but {
            "containerd has lists of what is allowed only, so that nothing is let through"
        } else {
            "containerd has lists of what is allowed only"
        },
    );
    notes.key("annotations.default", !policy.default.is_empty(), "containerd has no such key");
    if everything_but {
        return None;
    }
    if policy.allowed.is_empty() {
        return Some(vec!["*".to_owned(), "*/*".to_owned()]);
    }
    let mut passed = Vec::new();
    for rule in policy.allowed.iter().filter(|rule| *rule != OWN_ANNOTATIONS) {
        if let Some(name) = rule.strip_prefix('=') {
            passed.push(name.to_owned());
        } else if crate::glob::is_pattern(rule) {
            passed.push(rule.clone());
        } else {
            passed.extend([format!("{rule}*"), format!("{rule}*/*")]);
        }
    }
    (!passed.is_empty()).then_some(passed)
}

/// What has no place there.
fn others(config: &HandlerConfig, notes: &mut LeftOut<'_>) {
    let monitor = &config.monitor;
    let times = &config.timeouts;
    for (name, is_set) in [
        ("args", !config.args.is_empty()),
        ("platform_paths", !config.platform_paths.is_empty()),
        ("monitor", *monitor != runtime_api::MonitorConfig::default()),
        ("timeouts", *times != runtime_api::Timeouts::default()),
        ("capabilities.disable", !config.disabled.is_empty()),
        ("min_memory", config.min_memory.is_some()),
        ("seccomp_profile", config.seccomp_profile.is_some()),
        ("pull_image_in_guest", config.pull_image_in_guest),
        ("stream_websockets", config.stream_websockets),
        ("exec_cpu_affinity", config.exec_cpu_affinity.is_some()),
    ] {
        notes.key(name, is_set, "containerd has no such key");
    }
}
