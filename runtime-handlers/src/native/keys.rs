//! The keys of the native table, as data: what is accepted, and of which type.

use runtime_api::{Error, ErrorKind, Result};

use super::document::{Located, Section, Value};
use crate::nearest::nearest;

/// What a key's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Bool,
    Texts,
    /// A string with a unit, or an integer.
    Quantity,
    /// Free keys, each with a string.
    TextMap,
    /// Free keys with any values.
    Free,
    Table(&'static [Key]),
}

/// One accepted key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, shape }
}

/// The keys of a `[runtimes.NAME]` table.
pub(super) const HANDLER: &[Key] = &[
    key("kind", Shape::Text),
    key("path", Shape::Text),
    key("paths", Shape::Texts),
    key("platform_paths", Shape::TextMap),
    key("root", Shape::Text),
    key("args", Shape::Texts),
    key("config_path", Shape::Text),
    key("options", Shape::Free),
    key("monitor", Shape::Table(MONITOR)),
    key("inherits", Shape::Text),
    key("enabled", Shape::Bool),
    key("annotations", Shape::Table(ANNOTATIONS)),
    key("timeouts", Shape::Table(TIMEOUTS)),
    key("capabilities", Shape::Table(CAPABILITIES)),
    key("min_memory", Shape::Quantity),
    key("privileged_without_host_devices", Shape::Bool),
    key("seccomp_profile", Shape::Text),
    key("pull_image_in_guest", Shape::Bool),
    key("stream_websockets", Shape::Bool),
    key("exec_cpu_affinity", Shape::Text),
];

const MONITOR: &[Key] = &[
    key("path", Shape::Text),
    key("env", Shape::Texts),
    key("cgroup", Shape::Text),
    key("exec_cgroup", Shape::Text),
    key("no_sync_log", Shape::Bool),
];

const ANNOTATIONS: &[Key] =
    &[key("allowed", Shape::Texts), key("denied", Shape::Texts), key("default", Shape::TextMap)];

const TIMEOUTS: &[Key] = &[
    key("create", Shape::Quantity),
    key("start", Shape::Quantity),
    key("stop", Shape::Quantity),
    key("exec", Shape::Quantity),
];

const CAPABILITIES: &[Key] = &[key("disable", Shape::Texts)];

const TOP: &[Key] = &[key("default", Shape::Text), key("runtimes", Shape::Free)];

/// Checks one file before it is merged, so that each complaint names the file that deserves it.
pub(super) fn check_file(document: &Section) -> Result<()> {
    check_section(document, TOP, "top level")?;
    let Some(runtimes) = document.get("runtimes") else { return Ok(()) };
    let Value::Table(handlers) = &runtimes.value else {
        return Err(complain(runtimes, "top level", "key \"runtimes\" must be a table of tables"));
    };
    for (name, handler) in handlers {
        let table = format!("runtimes.{name}");
        let Value::Table(section) = &handler.value else {
            let what = format!("\"{name}\" must be a table, not {}", handler.value.type_name());
            return Err(complain(handler, "runtimes", &what));
        };
        check_section(section, HANDLER, &table)?;
        if let (Some(path), Some(_)) = (section.get("path"), section.get("paths")) {
            return Err(complain(path, &table, "both \"path\" and \"paths\" are given; keep one of them"));
        }
    }
    Ok(())
}

/// An error that names the file, the line and the table of `at`.
pub(super) fn complain(at: &Located, table: &str, what: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid(what.to_owned()))
        .on(at.place.origin(table))
        .during_step("read handlers")
}

/// The dotted names of every accepted key, for documentation and its test.
#[cfg(test)]
pub(super) fn dotted() -> Vec<String> {
    fn walk(keys: &[Key], prefix: &str, into: &mut Vec<String>) {
        for key in keys {
            match key.shape {
                Shape::Table(inner) => walk(inner, &format!("{prefix}{}.", key.name), into),
                _ => into.push(format!("{prefix}{}", key.name)),
            }
        }
    }
    let mut names = Vec::new();
    walk(HANDLER, "", &mut names);
    names
}

fn check_section(section: &Section, keys: &[Key], table: &str) -> Result<()> {
    for (name, item) in section {
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            let mut what = format!("unknown key {name:?}");
            if let Some(close) = nearest(name, keys.iter().map(|key| key.name)) {
                what.push_str(&format!("; did you mean {close:?}?"));
            } else {
                let known: Vec<_> = keys.iter().map(|key| key.name).collect();
                what.push_str(&format!("; known keys are {}", known.join(", ")));
            }
            return Err(complain(item, table, &what));
        };
        check_shape(item, *key, table)?;
    }
    Ok(())
}

fn check_shape(item: &Located, key: Key, table: &str) -> Result<()> {
    let (fits, wanted) = match (key.shape, &item.value) {
        (Shape::Table(keys), Value::Table(section)) => {
            return check_section(section, keys, &format!("{table}.{}", key.name));
        }
        (Shape::TextMap, Value::Table(section)) => {
            let wrong = section.values().find(|each| !matches!(each.value, Value::Text(_)));
            return match wrong {
                None => Ok(()),
                Some(wrong) => Err(wrong_type(wrong, key.name, "a table of strings", table)),
            };
        }
        (Shape::Texts, Value::Array(items)) => {
            let wrong = items.iter().find(|each| !matches!(each.value, Value::Text(_)));
            return match wrong {
                None => Ok(()),
                Some(wrong) => Err(wrong_type(wrong, key.name, "an array of strings", table)),
            };
        }
        (Shape::Text, value) => (matches!(value, Value::Text(_)), "a string"),
        (Shape::Bool, value) => (matches!(value, Value::Bool(_)), "a boolean"),
        (Shape::Quantity, value) => {
            (matches!(value, Value::Text(_) | Value::Integer(_)), "a string or an integer")
        }
        (Shape::Free, value) => (matches!(value, Value::Table(_)), "a table"),
        (Shape::Table(_), _) => (false, "a table"),
        (Shape::TextMap, _) => (false, "a table of strings"),
        (Shape::Texts, _) => (false, "an array of strings"),
    };
    if fits { Ok(()) } else { Err(wrong_type(item, key.name, wanted, table)) }
}

fn wrong_type(item: &Located, name: &str, wanted: &str, table: &str) -> Error {
    let what = format!("key {name:?} must be {wanted}, but there is {}", item.value.type_name());
    complain(item, table, &what)
}
