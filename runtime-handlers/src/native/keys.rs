//! The keys of the native table, as data: what is accepted, and of which type.

use runtime_api::Result;

use crate::document::schema::{Key, Shape, Unknown, check_section, complain, key};
use crate::document::{Section, Value};

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

const TOP: &[Key] =
    &[key("default", Shape::Text), key("time_zone", Shape::Text), key("runtimes", Shape::Free)];

/// Checks one file before it is merged, so that each complaint names the file that deserves it.
pub(super) fn check_file(document: &Section) -> Result<()> {
    check_section(document, TOP, &mut Unknown::Refused)?;
    let Some(runtimes) = document.get("runtimes") else { return Ok(()) };
    let Value::Table(handlers) = &runtimes.value else {
        return Err(complain(runtimes, "key \"runtimes\" must be a table of tables"));
    };
    for (name, handler) in handlers {
        let Value::Table(section) = &handler.value else {
            let what = format!("\"{name}\" must be a table, but there is {}", handler.value.shown());
            return Err(complain(handler, &what));
        };
        check_section(section, HANDLER, &mut Unknown::Refused)?;
        if let (Some(path), Some(_)) = (section.get("path"), section.get("paths")) {
            return Err(complain(path, "both \"path\" and \"paths\" are given; keep one of them"));
        }
    }
    Ok(())
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
