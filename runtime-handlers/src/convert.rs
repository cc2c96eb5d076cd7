//! A handler table as text in one of the dialects.
//!
//! What the other dialect cannot say is left out, and a note tells so. Text of the native dialect says everything but what
//! made a handler unavailable.

mod containerd;
mod crio;
mod toml_text;

use std::fmt::Write as _;
use std::path::PathBuf;

use runtime_api::{HandlerConfig, Origin};
use serde_json::{Map, Value, json};

use crate::table::{HandlerTable, Note};
pub(crate) use toml_text::quoted;
use toml_text::{key, line};

/// What became of a table.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The text of one file.
    pub text: String,
    /// What it does not say, and what the other program adds.
    pub left_out: Vec<Note>,
}

/// For `/etc/manyrun/handlers.toml`.
#[must_use]
pub fn to_native(table: &HandlerTable) -> Converted {
    let mut text = String::new();
    if let Some(default) = &table.default {
        text.push_str(&line("default", &json!(default)));
    }
    if let Some(zone) = &table.time_zone {
        text.push_str(&line("time_zone", &json!(zone.name)));
    }
    for config in table.handlers.values() {
        let title = format!("runtimes.{}", key(config.name.as_str()));
        let NativeKeys { plain, tables } = native_keys(config);
        let _ = writeln!(text, "\n[{title}]");
        text.extend(plain.iter().map(|(name, value)| line(name, value)));
        for (name, values) in tables.iter().filter(|(_, values)| !values.is_empty()) {
            let _ = writeln!(text, "\n[{title}.{name}]");
            text.extend(values.iter().map(|(name, value)| line(&key(name), value)));
        }
    }
    Converted { text, left_out: unusable(table) }
}

/// For `/etc/crio/crio.conf.d`.
#[must_use]
pub fn to_crio(table: &HandlerTable) -> Converted {
    crio::write(table)
}

/// For `/etc/containerd/config.toml`, in version 3.
#[must_use]
pub fn to_containerd(table: &HandlerTable) -> Converted {
    containerd::write(table)
}

/// Every key that is set, as the native dialect calls it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NativeKeys {
    pub(crate) plain: Vec<(&'static str, Value)>,
    pub(crate) tables: Vec<(&'static str, Map<String, Value>)>,
}

/// The keys of one handler. Origins are none of them.
pub(crate) fn native_keys(config: &HandlerConfig) -> NativeKeys {
    let mut plain = vec![("kind", json!(config.kind))];
    match config.paths.as_slice() {
        [] => {}
        [only] => plain.push(("path", json!(only))),
        several => plain.push(("paths", json!(several))),
    }
    let mut set = |name, is_set: bool, value: Value| {
        if is_set {
            plain.push((name, value));
        }
    };
    set("root", config.root.is_some(), json!(config.root));
    set("args", !config.args.is_empty(), json!(config.args));
    set("config_path", config.config_path.is_some(), json!(config.config_path));
    set("min_memory", config.min_memory.is_some(), json!(config.min_memory));
    let without = config.privileged_without_host_devices;
    set("privileged_without_host_devices", without, json!(without));
    set("seccomp_profile", config.seccomp_profile.is_some(), json!(config.seccomp_profile));
    set("pull_image_in_guest", config.pull_image_in_guest, json!(true));
    set("stream_websockets", config.stream_websockets, json!(true));
    set("exec_cpu_affinity", config.exec_cpu_affinity.is_some(), json!(config.exec_cpu_affinity));
    let mut tables = vec![("options", config.options.clone())];
    let mut add = |name, values: Vec<(&str, bool, Value)>| {
        let set = values.into_iter().filter(|(_, set, _)| *set);
        tables.push((name, set.map(|(name, _, value)| (name.to_owned(), value)).collect()));
    };
    let platforms: Vec<_> =
        config.platform_paths.iter().map(|(name, path)| (name.as_str(), true, json!(path))).collect();
    add("platform_paths", platforms);
    let monitor = &config.monitor;
    add(
        "monitor",
        vec![
            ("path", monitor.path.is_some(), json!(monitor.path)),
            ("env", !monitor.env.is_empty(), json!(monitor.env)),
            ("cgroup", monitor.cgroup.is_some(), json!(monitor.cgroup)),
            ("exec_cgroup", monitor.exec_cgroup.is_some(), json!(monitor.exec_cgroup)),
            ("no_sync_log", monitor.no_sync_log, json!(true)),
        ],
    );
    let policy = &config.annotations;
    add(
        "annotations",
        vec![
            ("allowed", !policy.allowed.is_empty(), json!(policy.allowed)),
            ("denied", !policy.denied.is_empty(), json!(policy.denied)),
            ("default", !policy.default.is_empty(), json!(policy.default)),
        ],
    );
    let times = &config.timeouts;
    let time = |name, time: Option<std::time::Duration>| {
        (name, time.is_some(), json!(time.map(|time| humantime::format_duration(time).to_string())))
    };
    add(
        "timeouts",
        vec![
            time("create", times.create),
            time("start", times.start),
            time("stop", times.stop),
            time("exec", times.exec),
        ],
    );
    let disabled: Vec<_> = config.disabled.iter().map(|(capability, _)| capability.id()).collect();
    add("capabilities", vec![("disable", !disabled.is_empty(), json!(disabled))]);
    NativeKeys { plain, tables }
}

/// A TOML document of these keys, inner tables on one line.
pub(crate) fn toml(keys: &Map<String, Value>) -> String {
    keys.iter().map(|(name, value)| line(&key(name), value)).collect()
}

/// A note on a handler that another program has whether or not it is written.
fn added_by(program: &str, name: &str, table: &HandlerTable) -> Option<Note> {
    let is_there = table.handlers.keys().any(|each| each.as_str() == name);
    let text = format!("the handler {name:?} is there besides: {program} has it built in");
    (!is_there).then(|| Note::new(Origin::other(format!("{program} default")), text))
}

/// Notes on the handlers that no dialect gets.
fn unusable(table: &HandlerTable) -> Vec<Note> {
    let unavailable = table.unavailable.iter().map(|(name, broken)| {
        let text = format!("the handler \"{name}\" is left out: {}", broken.reason);
        Note::new(broken.origin.clone(), text).about(name)
    });
    let switched_off = table.switched_off.iter().map(|(name, origin)| {
        let text = format!("the handler \"{name}\" is left out: it is switched off");
        Note::new(origin.clone(), text).about(name)
    });
    unavailable.chain(switched_off).collect()
}

/// The notes of one handler.
struct LeftOut<'a> {
    config: &'a HandlerConfig,
    table: &'a HandlerTable,
    notes: Vec<Note>,
}

impl<'a> LeftOut<'a> {
    fn new(config: &'a HandlerConfig, table: &'a HandlerTable) -> Self {
        Self { config, table, notes: Vec::new() }
    }

    /// Notes a key, at the place where it was written.
    fn key(&mut self, key: &str, is_set: bool, why: &str) {
        if is_set {
            let text = format!("{key} of the handler \"{}\" is left out: {why}", self.config.name);
            self.notes.push(Note::new(self.place(key), text).about(&self.config.name));
        }
    }

    fn place(&self, key: &str) -> Origin {
        let written = self.table.written.get(&self.config.name).into_iter().flatten();
        let inner = format!("{key}.");
        written
            .filter(|each| each.key == key || each.key.starts_with(&inner))
            .map(|each| each.origin.clone())
            .next()
            .unwrap_or_else(|| self.config.origin.clone())
    }

    /// The binary, where the dialect has place for one.
    fn only_path(&mut self) -> Option<&'a PathBuf> {
        if let [first, rest @ ..] = self.config.paths.as_slice()
            && !rest.is_empty()
        {
            let text = format!(
                "of the {} candidates for the binary of the handler \"{}\" only {} is kept: there is place for one",
                rest.len() + 1,
                self.config.name,
                first.display()
            );
            self.notes.push(Note::new(self.place("paths"), text).about(&self.config.name));
        }
        self.config.paths.first()
    }
}

#[cfg(test)]
mod tests;
