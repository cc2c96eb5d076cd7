//! One runtime of containerd to a [`HandlerConfig`].

use std::path::{Path, PathBuf};

use runtime_api::{HandlerConfig, HandlerName, RuntimeKind};
use serde_json::{Map, Value as Json};

use super::OWN_ANNOTATIONS;
use super::keys::{OPTIONS_WITHOUT_EFFECT, RUNC_OPTIONS, WITHOUT_EFFECT};
use crate::document::schema::{Unknown, check_section, fold_case};
use crate::document::view::View;
use crate::document::{Located, Section, Value};
use crate::foreign::{Broken, Remarks, did_you_mean};
use crate::glob;

/// The ways to make a sandbox that containerd brings along.
const SANDBOXERS: &[&str] = &["", "podsandbox", "shim"];

pub(super) fn translate(
    name: &HandlerName,
    at: &Located,
    section: &Section,
) -> (Result<HandlerConfig, Broken>, Remarks) {
    let mut remarks = Remarks::default();
    let view = View::new(section);
    let config = convert(name, at, view, &mut remarks);
    (config, remarks)
}

fn convert(
    name: &HandlerName,
    at: &Located,
    view: View<'_>,
    remarks: &mut Remarks,
) -> Result<HandlerConfig, Broken> {
    let origin = at.place.inside(name.as_str());
    let Some((kind, key)) = view.text("runtime_type").filter(|(text, _)| !text.is_empty()) else {
        let what = "the key \"runtime_type\" is missing (such as runtime_type = \"io.containerd.runc.v2\")";
        return Err(Broken { what: what.to_owned(), origin });
    };
    if kind == "io.containerd.runtime.v1.linux" {
        let what = "runtime_type \"io.containerd.runtime.v1.linux\" is the first runtime of containerd 1, which is no more; write \"io.containerd.runc.v2\"";
        return Err(Broken::at(key, what));
    }
    remarks.written("kind", "runtime_type", key);
    let is_runc = matches!(kind, "io.containerd.runc.v1" | "io.containerd.runc.v2");
    let backend = RuntimeKind::new(if is_runc { "oci" } else { "vm" })
        .map_err(|error| Broken::at(key, error.kind().to_string()))?;
    let mut config = HandlerConfig::new(name.clone(), backend, origin);
    if is_runc {
        runc(view, &mut config, remarks)?;
    } else {
        config.paths = vec![shim(view, kind, key, remarks)?];
        shim_options(view, &mut config, remarks)?;
    }
    config.annotations.allowed = allowed(view, remarks)?;
    checks(view)?;
    config.privileged_without_host_devices = view.flag("privileged_without_host_devices");
    if let Some(key) = view.get("privileged_without_host_devices") {
        remarks.written("privileged_without_host_devices", "privileged_without_host_devices", key);
    }
    // Any plugin may be one, and whether it is there only containerd knows.
    if let Some((text, key)) = view.text("sandboxer").filter(|(text, _)| !SANDBOXERS.contains(text)) {
        let close = did_you_mean(text, SANDBOXERS.iter().copied());
        remarks.note(
            key,
            format!(
                "key \"sandboxer\" has no effect here: {text:?} is a plugin that makes sandboxes in containerd; the shim is started directly{close}"
            ),
        );
    }
    for name in ["sandboxer", "sandbox_mode"] {
        if let Some((_, key)) = view.text(name).filter(|(text, _)| is_runc && *text == "shim") {
            let why = "the kind oci starts the runtime itself, without a shim";
            remarks.note(key, format!("key {name:?} has no effect here: {why}"));
        }
    }
    if let Some((_, key)) = view.text("io_type").filter(|(text, _)| *text == "streaming") {
        remarks.note(key, "key \"io_type\" has no effect here: streams do not go through containerd");
    }
    for (name, why) in WITHOUT_EFFECT {
        if let Some(key) = view.get(name).filter(|key| says_something(key)) {
            remarks.note(key, format!("key {name:?} has no effect here: {why}"));
        }
    }
    Ok(config)
}

/// runc's options for a backend that starts the binary itself.
fn runc(view: View<'_>, config: &mut HandlerConfig, remarks: &mut Remarks) -> Result<(), Broken> {
    if let Some((_, key)) = view.text("runtime_path").filter(|(path, _)| !path.is_empty()) {
        remarks.note(key, "key \"runtime_path\" has no effect here: it is a shim, and the kind oci starts the runtime itself; see options.BinaryName");
    }
    let mut options = match view.get("options") {
        Some(Located { value: Value::Table(options), .. }) => options.clone(),
        _ => Section::new(),
    };
    fold_case(&mut options, RUNC_OPTIONS);
    let mut unknown = Vec::new();
    let checked = check_section(&options, RUNC_OPTIONS, &mut Unknown::Noted(&mut unknown));
    for note in unknown {
        remarks.found(note);
    }
    checked.map_err(|error| wrong_type(&error, &options))?;
    let options = View::new(&options);
    match options.text("BinaryName").filter(|(text, _)| !text.is_empty()) {
        Some((text, key)) if text.contains('/') && !Path::new(text).is_absolute() => {
            return Err(Broken::at(
                key,
                format!("BinaryName {text:?} is neither absolute nor a name for PATH"),
            ));
        }
        Some((text, key)) => {
            remarks.written("paths", "BinaryName", key);
            config.paths = vec![PathBuf::from(text)];
        }
        None if config.name.as_str() == "runc" => {}
        None => config.paths = vec![PathBuf::from("runc")],
    }
    if let Some((text, key)) = options.text("Root").filter(|(text, _)| !text.is_empty()) {
        if !Path::new(text).is_absolute() {
            return Err(Broken::at(key, format!("Root {text:?} is not absolute")));
        }
        remarks.written("root", "Root", key);
        config.root = Some(text.into());
    }
    for (theirs, ours) in
        [("SystemdCgroup", "systemd_cgroup"), ("NoPivotRoot", "no_pivot"), ("NoNewKeyring", "no_new_keyring")]
    {
        if let Some(key) = options.get(theirs).filter(|_| options.flag(theirs)) {
            remarks.written(&format!("options.{ours}"), theirs, key);
            config.options.insert(ours.to_owned(), true.into());
        }
    }
    for name in OPTIONS_WITHOUT_EFFECT {
        if let Some(key) = options.get(name).filter(|key| says_something(key)) {
            remarks.note(
                key,
                format!("option {name:?} has no effect here: there is no shim that would heed it"),
            );
        }
    }
    Ok(())
}

/// The error of an option that has the wrong type, at that option.
fn wrong_type(error: &runtime_api::Error, options: &Section) -> Broken {
    let what = error.kind().to_string();
    let named = options.iter().find(|(name, _)| what.contains(&format!("{name:?}")));
    match named {
        Some((_, at)) => Broken::at(at, what),
        None => Broken {
            what,
            origin: runtime_api::Origin::other(error.subject().unwrap_or_default().to_owned()),
        },
    }
}

/// The binary of a shim: its path, or what the type means.
fn shim(view: View<'_>, kind: &str, at: &Located, remarks: &mut Remarks) -> Result<PathBuf, Broken> {
    if let Some((path, key)) = view.text("runtime_path").filter(|(path, _)| !path.is_empty()) {
        if !Path::new(path).is_absolute() {
            return Err(Broken::at(key, format!("runtime_path {path:?} is not absolute")));
        }
        remarks.written("paths", "runtime_path", key);
        return Ok(path.into());
    }
    remarks.written("paths", "runtime_type", at);
    if Path::new(kind).is_absolute() {
        return Ok(kind.into());
    }
    let parts: Vec<_> = kind.split('.').collect();
    match parts.as_slice() {
        [first, .., name, version]
            if !kind.contains('/') && ![first, name, version].iter().any(|part| part.is_empty()) =>
        {
            Ok(format!("containerd-shim-{name}-{version}").into())
        }
        _ => {
            let name = kind.trim_start_matches("containerd-shim-");
            let close = if name.is_empty() || name.contains(['.', '/']) {
                String::new()
            } else {
                format!("; did you mean \"io.containerd.{name}.v2\"?")
            };
            let what = format!("runtime_type {kind:?} is no type such as \"io.containerd.kata.v2\"{close}");
            Err(Broken::at(at, what))
        }
    }
}

/// A shim gets a configuration file, or else all options as one text.
fn shim_options(view: View<'_>, config: &mut HandlerConfig, remarks: &mut Remarks) -> Result<(), Broken> {
    let Some(at @ Located { value: Value::Table(section), .. }) = view.get("options") else { return Ok(()) };
    let options = View::new(section);
    let kind = options.text("TypeUrl").filter(|(text, _)| !text.is_empty());
    match options.text("ConfigPath").filter(|(text, _)| !text.is_empty()) {
        Some((path, key)) => {
            if !Path::new(path).is_absolute() {
                return Err(Broken::at(key, format!("ConfigPath {path:?} is not absolute")));
            }
            remarks.written("config_path", "ConfigPath", key);
            config.config_path = Some(path.into());
            if let Some((kind, key)) = kind {
                remarks.written("options.config_type", "TypeUrl", key);
                config.options.insert("config_type".to_owned(), kind.into());
            }
            for (name, other) in
                section.iter().filter(|(name, _)| !matches!(name.as_str(), "ConfigPath" | "TypeUrl"))
            {
                remarks.note(other, format!("option {name:?} has no effect: the shim gets ConfigPath"));
            }
        }
        None if section.is_empty() => {}
        None => {
            let infinite = section.iter().find(|(_, item)| item.value.to_json().is_none());
            let (None, Some(Json::Object(all))) = (infinite, at.value.to_json()) else {
                let (name, at) = infinite.map_or(("options", at), |(name, item)| (name.as_str(), item));
                return Err(Broken::at(
                    at,
                    format!("key {name:?}: a number that is not finite reaches no shim"),
                ));
            };
            remarks.written("options.any", "options", at);
            let any = super::shim_options::encode(kind.map(|(text, _)| text), &all);
            config.options = Map::from_iter([("any".to_owned(), any)]);
        }
    }
    Ok(())
}

/// What containerd sets, and what the lists let through. A name without a wildcard is that name only.
fn allowed(view: View<'_>, remarks: &mut Remarks) -> Result<Vec<String>, Broken> {
    let mut rules = vec![OWN_ANNOTATIONS.to_owned()];
    for list in ["pod_annotations", "container_annotations"] {
        for (pattern, key) in view.texts(list) {
            if glob::matches(pattern, "").is_none() {
                return Err(Broken::at(key, format!("{list}: {pattern:?} is no pattern")));
            }
            let rule = if glob::is_pattern(pattern) { pattern.to_owned() } else { format!("={pattern}") };
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        if let Some(key) = view.get(list).filter(|key| says_something(key)) {
            remarks.also_written("annotations.allowed", list, key);
        }
    }
    Ok(rules)
}

/// What containerd refuses.
fn checks(view: View<'_>) -> Result<(), Broken> {
    let all = "privileged_without_host_devices_all_devices_allowed";
    let needed = view.flag("privileged_without_host_devices");
    if let Some(key) = view.get(all).filter(|_| view.flag(all) && !needed) {
        return Err(Broken::at(key, format!("{all} requires privileged_without_host_devices")));
    }
    let sets: [(&str, &[&str]); 2] =
        [("io_type", &["", "fifo", "streaming"]), ("sandbox_mode", &["", "podsandbox", "shim"])];
    for (name, values) in sets {
        if let Some((text, key)) = view.text(name).filter(|(text, _)| !values.contains(text)) {
            return Err(Broken::at(key, format!("{name} {text:?} is none of {}", values[1..].join(", "))));
        }
    }
    Ok(())
}

/// Whether a value is more than what containerd writes for nothing.
fn says_something(item: &Located) -> bool {
    match &item.value {
        Value::Text(text) => !text.is_empty(),
        Value::Integer(number) => *number != 0,
        Value::Bool(flag) => *flag,
        Value::Array(items) => !items.is_empty(),
        Value::Table(section) => !section.is_empty(),
        Value::Float(_) | Value::Time(_) => true,
    }
}
