//! One merged `[runtimes.NAME]` table to a [`HandlerConfig`]. Names and types of the keys were checked before.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runtime_api::{Capability, HandlerConfig, HandlerName, Result, RuntimeKind};
use serde_json::Value as Json;

use crate::annotation;
use crate::document::schema::{complain, refuse};
use crate::document::view::{View, absolute};
use crate::document::{Located, Section, Value};
use crate::nearest::nearest;

/// Reads the values. `at` is where the handler begins.
pub(super) fn convert(name: HandlerName, section: &Section, at: &Located) -> Result<HandlerConfig> {
    let origin = at.place.inside(name.as_str());
    let view = View::new(section);
    let Some((kind, key)) = view.text("kind") else {
        return Err(refuse(origin, "the key \"kind\" is missing (such as kind = \"oci\")"));
    };
    let kind =
        RuntimeKind::new(kind).map_err(|error| complain(key, &format!("key \"kind\": {}", error.kind())))?;
    let mut config = HandlerConfig::new(name, kind, origin);
    config.paths = view.binaries("path")?;
    config.paths.extend(view.binaries("paths")?);
    config.platform_paths = platform_paths(&view)?;
    config.root = view.path("root")?;
    config.args = view.texts("args").into_iter().map(|(text, _)| text.to_owned()).collect();
    config.config_path = view.path("config_path")?;
    config.options = options(&view)?;
    monitor(&view, &mut config)?;
    annotations(&view, &mut config)?;
    let timeouts = view.inner("timeouts");
    config.timeouts.create = timeouts.time("create")?;
    config.timeouts.start = timeouts.time("start")?;
    config.timeouts.stop = timeouts.time("stop")?;
    config.timeouts.exec = timeouts.time("exec")?;
    config.disabled = disabled(&view.inner("capabilities"))?;
    config.min_memory = view.bytes("min_memory")?;
    config.privileged_without_host_devices = view.flag("privileged_without_host_devices");
    config.seccomp_profile = view.path("seccomp_profile")?;
    config.pull_image_in_guest = view.flag("pull_image_in_guest");
    config.stream_websockets = view.flag("stream_websockets");
    config.exec_cpu_affinity = view.one_of("exec_cpu_affinity", "first")?;
    Ok(config)
}

fn platform_paths(view: &View<'_>) -> Result<BTreeMap<String, PathBuf>> {
    view.map("platform_paths")
        .map(|(platform, text, key)| {
            let parts: Vec<_> = platform.split('/').collect();
            if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty()) {
                let what = format!("key {platform:?} is not a platform such as \"linux/arm64\"");
                return Err(complain(key, &what));
            }
            Ok((platform.to_owned(), absolute(platform, text, key)?))
        })
        .collect()
}

fn options(view: &View<'_>) -> Result<serde_json::Map<String, Json>> {
    let Some(key) = view.get("options") else { return Ok(serde_json::Map::new()) };
    if let Value::Table(options) = &key.value
        && let Some((name, item)) = options.iter().find(|(_, item)| item.value.to_json().is_none())
    {
        return Err(complain(item, &format!("key {name:?}: a number that is not finite reaches no backend")));
    }
    match key.value.to_json() {
        Some(Json::Object(options)) => Ok(options),
        _ => Err(complain(key, "the options hold a number that is not finite")),
    }
}

fn monitor(view: &View<'_>, config: &mut HandlerConfig) -> Result<()> {
    let monitor = view.inner("monitor");
    config.monitor.path = monitor.path("path")?;
    for (pair, key) in monitor.texts("env") {
        if pair.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            return Err(complain(key, &format!("key \"env\": {pair:?} is not of the form KEY=value")));
        }
        config.monitor.env.push(pair.to_owned());
    }
    config.monitor.cgroup = monitor.filled("cgroup")?;
    config.monitor.exec_cgroup = monitor.one_of("exec_cgroup", "container")?;
    config.monitor.no_sync_log = monitor.flag("no_sync_log");
    Ok(())
}

fn annotations(view: &View<'_>, config: &mut HandlerConfig) -> Result<()> {
    let policy = view.inner("annotations");
    for (list, into) in
        [("allowed", &mut config.annotations.allowed), ("denied", &mut config.annotations.denied)]
    {
        if let Some(key) = policy.get(list).filter(|_| list == "allowed" && policy.texts(list).is_empty()) {
            let what = "key \"allowed\" is empty, which would allow every annotation; to allow all leave it out, to allow none write it into \"denied\"";
            return Err(complain(key, what));
        }
        for (rule, key) in policy.texts(list) {
            if let Some(what) = annotation::wrong_rule(rule) {
                return Err(complain(key, &format!("key {list:?}: {what}")));
            }
            into.push(rule.to_owned());
        }
    }
    config.annotations.default =
        policy.map("default").map(|(name, value, _)| (name.to_owned(), value.to_owned())).collect();
    Ok(())
}

fn disabled(view: &View<'_>) -> Result<Vec<(Capability, String)>> {
    view.texts("disable")
        .into_iter()
        .map(|(id, key)| match Capability::ALL.iter().find(|capability| capability.id() == id) {
            Some(capability) => Ok((*capability, key.place.short())),
            None => {
                let close = nearest(id, Capability::ALL.iter().map(|capability| capability.id()));
                let close = close.map_or_else(String::new, |close| format!("; did you mean {close:?}?"));
                Err(complain(key, &format!("key \"disable\": there is no capability {id:?}{close}")))
            }
        })
        .collect()
}
