//! A handler table as a drop-in of CRI-O.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use runtime_api::HandlerConfig;
use serde_json::{Value, json};

use super::toml_text::{key, line};
use super::{Converted, LeftOut, added_by, unusable};
use crate::crio::known_annotations;
use crate::table::{HandlerTable, Note};

/// The shortest time that CRI-O gives a create, in seconds.
const SHORTEST_CREATE: u64 = 30;

pub(super) fn write(table: &HandlerTable) -> Converted {
    let mut left_out = unusable(table);
    left_out.extend(added_by("CRI-O", "crun", table));
    let mut text = String::from("[crio.runtime]\n");
    let default = table.default.as_ref().map(ToString::to_string).unwrap_or_default();
    text.push_str(&line("default_runtime", &json!(default)));
    let systemd = for_all(table, "systemd_cgroup", &mut left_out);
    text.push_str(&line("cgroup_manager", &json!(if systemd { "systemd" } else { "cgroupfs" })));
    if for_all(table, "no_pivot", &mut left_out) {
        text.push_str(&line("no_pivot", &json!(true)));
    }
    if let Some(zone) = &table.time_zone {
        text.push_str(&line("timezone", &json!(zone.name)));
    }
    for config in table.handlers.values() {
        let mut notes = LeftOut::new(config, table);
        let kind = config.kind.as_str();
        if !matches!(kind, "oci" | "vm") {
            notes.key("kind", true, &format!("CRI-O has no {kind:?}, so the whole handler is"));
        } else {
            let _ = writeln!(text, "\n[crio.runtime.runtimes.{}]", key(config.name.as_str()));
            text.extend(keys(config, table, &mut notes).iter().map(|(name, value)| line(name, value)));
        }
        left_out.extend(notes.notes);
    }
    Converted { text, left_out }
}

/// An option that CRI-O has once for all handlers of the kind `oci`.
fn for_all(table: &HandlerTable, option: &str, left_out: &mut Vec<Note>) -> bool {
    let says = |config: &&HandlerConfig| config.options.get(option) == Some(&Value::Bool(true));
    let (with, without): (Vec<_>, Vec<_>) =
        table.handlers.values().filter(|config| config.kind.as_str() == "oci").partition(says);
    if let (Some(first), false) = (with.first(), without.is_empty()) {
        let text = format!(
            "options.{option} holds for all handlers in CRI-O, but here for some only; it is left out"
        );
        left_out.push(Note::new(first.origin.clone(), text).about(&first.name));
        return false;
    }
    !with.is_empty()
}

fn keys(config: &HandlerConfig, table: &HandlerTable, notes: &mut LeftOut<'_>) -> Vec<(&'static str, Value)> {
    let is_vm = config.kind.as_str() == "vm";
    let mut keys = vec![];
    if inherits(config, table) {
        keys.push(("inherit_default_runtime", json!(true)));
    } else {
        if let Some(path) = notes.only_path() {
            if path.is_absolute() {
                keys.push(("runtime_path", json!(path)));
            } else {
                let why = format!("CRI-O takes a path, and {} is none", path.display());
                notes.key("paths", true, &why);
            }
        }
        keys.push(("runtime_type", json!(config.kind)));
        keys.extend(config.root.iter().map(|root| ("runtime_root", json!(root))));
        keys.extend(config.config_path.iter().map(|path| ("runtime_config_path", json!(path))));
    }
    let mut set = |name, is_set: bool, value: Value| {
        if is_set {
            keys.push((name, value));
        }
    };
    let flag = config.privileged_without_host_devices;
    set("privileged_without_host_devices", flag, json!(flag));
    set("runtime_pull_image", config.pull_image_in_guest, json!(true));
    set("stream_websockets", config.stream_websockets, json!(true));
    set("exec_cpu_affinity", config.exec_cpu_affinity.is_some(), json!(config.exec_cpu_affinity));
    set("seccomp_profile", config.seccomp_profile.is_some(), json!(config.seccomp_profile));
    set("platform_runtime_paths", !config.platform_paths.is_empty(), json!(config.platform_paths));
    let defaults = &config.annotations.default;
    set("default_annotations", !defaults.is_empty(), json!(defaults));
    set("container_min_memory", true, json!(size(config.min_memory.unwrap_or(0))));
    let seconds = config.timeouts.create.map_or(0, |time| time.as_secs());
    set("container_create_timeout", seconds >= SHORTEST_CREATE, json!(seconds));
    let short = config.timeouts.create.is_some() && seconds < SHORTEST_CREATE;
    notes.key("timeouts.create", short, "CRI-O gives a create at least 30 seconds");
    let monitor = &config.monitor;
    set("monitor_path", monitor.path.is_some(), json!(monitor.path));
    set("monitor_env", !monitor.env.is_empty(), json!(monitor.env));
    let cgroup = monitor.cgroup.as_deref();
    set("monitor_cgroup", cgroup == Some("pod"), json!(cgroup));
    notes.key(
        "monitor.cgroup",
        cgroup.is_some_and(|cgroup| cgroup != "pod"),
        "CRI-O knows \"pod\" and slices",
    );
    set("monitor_exec_cgroup", monitor.exec_cgroup.is_some(), json!(monitor.exec_cgroup));
    set("no_sync_log", monitor.no_sync_log, json!(true));
    keys.extend(allowed(config, notes).map(|allowed| ("allowed_annotations", json!(allowed))));
    let none = "CRI-O has no such key";
    notes.key("args", !config.args.is_empty(), none);
    notes.key("capabilities.disable", !config.disabled.is_empty(), none);
    for (name, time) in
        [("start", config.timeouts.start), ("stop", config.timeouts.stop), ("exec", config.timeouts.exec)]
    {
        notes.key(&format!("timeouts.{name}"), time.is_some(), none);
    }
    for option in config.options.keys() {
        let known = !is_vm && matches!(option.as_str(), "systemd_cgroup" | "no_pivot");
        notes.key(&format!("options.{option}"), !known, none);
    }
    keys
}

/// Whether it is the default handler's binary, searched for by the name of that.
fn inherits(config: &HandlerConfig, table: &HandlerTable) -> bool {
    let Some(default) = table.default.as_ref().filter(|name| **name != config.name) else { return false };
    let Some(theirs) = table.handlers.get(default) else { return false };
    let [only] = config.paths.as_slice() else { return false };
    only.as_os_str() == default.as_str()
        && theirs.paths.is_empty()
        && (&theirs.kind, &theirs.root, &theirs.config_path)
            == (&config.kind, &config.root, &config.config_path)
}

/// CRI-O denies what it knows and the handler does not allow. Other policies cannot be written.
fn allowed(config: &HandlerConfig, notes: &mut LeftOut<'_>) -> Option<Vec<&'static str>> {
    let denied: BTreeSet<_> = config.annotations.denied.iter().map(String::as_str).collect();
    let known = known_annotations();
    let fits = config.annotations.allowed.is_empty() && denied.iter().all(|name| known.contains(name));
    notes.key("annotations", !fits, "CRI-O allows and denies the annotations it knows, and no others");
    fits.then(|| known.into_iter().filter(|name| !denied.contains(name)).collect())
}

/// A size in the largest unit that says it exactly.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.iter().find(|(shift, _)| bytes > 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, name)| format!("{}{name}", bytes >> shift))
}
