//! The configuration of podman: `containers.conf` and its drop-ins. Parsing reads no files; whether binaries are there is
//! asked of the [`Host`], since podman's own answer hangs on it. [`crate::load`] reads the files.
//!
//! It is read as podman reads it. Later files replace single keys; of `[engine.runtimes]` and `[engine.runtimes_flags]`
//! single runtimes. To `conmon_path` and `conmon_env_vars` a file can add with `{append = true}`, which holds for the files
//! after it, too. The runtimes that podman knows are built in, with the places where it looks for them; after those it
//! searches `PATH` for the name. Without `runtime` the default is the first of crun, runc, runj, kata, runsc and ocijail
//! that is in the places which are built in, whatever places a file names, or on `PATH`.
//!
//! Flags for a runtime that is not there are an error, as there. Every runtime is of the kind `oci`.

mod appending;
mod built_in;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runtime_api::{HandlerConfig, HandlerName, Result, RuntimeKind};

use crate::document::schema::{
    Key, Shape, Unknown, check_section, complain, fold_case, inner, key, note_slips, note_strangers,
};
use crate::document::{self, Located, Section, Value, merge};
use crate::foreign::{Broken, Remarks, did_you_mean, name_of};
use crate::resolve::Host;
use crate::source::Source;
use crate::table::{HandlerTable, Note, TimeZone};
use appending::Appending;

/// What messages call what stands in no file.
const BUILT_IN: &str = "containers.conf default";
/// A directory of every host that systemd manages.
const SYSTEMD: &str = "/run/systemd/system";
/// The default runtime is the first of these that is there.
const PREFERRED: &[&str] = &["crun", "runc", "runj", "kata", "runsc", "ocijail"];

/// The keys of `[engine]` that concern runtimes. The others are looked at for slips only.
const ENGINE: &[Key] = &[
    key("runtime", Shape::Text),
    key("runtimes", Shape::Free),
    key("runtimes_flags", Shape::Free),
    key("cgroup_manager", Shape::Text),
    key("no_pivot_root", Shape::Bool),
    key("platform_to_oci_runtime", Shape::TextMap),
    key("runtime_supports_json", Shape::Any),
    key("runtime_supports_kvm", Shape::Any),
    key("runtime_supports_nocgroups", Shape::Any),
];
/// Keys of `[engine]` that a slip may have meant.
const OURS: &[&str] = &[
    "runtime",
    "runtimes",
    "runtimes_flags",
    "conmon_path",
    "conmon_env_vars",
    "cgroup_manager",
    "no_pivot_root",
    "platform_to_oci_runtime",
    "runtime_supports_json",
    "runtime_supports_kvm",
    "runtime_supports_nocgroups",
];
/// What is near to them and means something else.
const OTHERS: &[&str] = &["runtime_path", "conmonrs_path", "cgroup_check"];
const TOP: &[Key] = &[key("containers", Shape::Free), key("engine", Shape::Free)];
/// The other tables of the file.
const TABLES: &[&str] = &["network", "secrets", "machine", "farms", "podmansh", "configmaps"];
const CONTAINERS: &[Key] = &[key("seccomp_profile", Shape::Text), key("tz", Shape::Text)];

/// Reads `containers.conf` and its drop-ins, in the order in which podman reads them. `host` tells which binaries
/// are there.
///
/// # Errors
/// [`ConfigInvalid`](runtime_api::ErrorKind::ConfigInvalid), which names the file, the line and the table: for a file
/// that is no TOML, a value of the wrong type, flags of an unknown runtime, and a default runtime that is not there.
pub fn parse(sources: &[Source], host: &dyn Host) -> Result<HandlerTable> {
    let mut table = HandlerTable::new([]);
    table.sources = sources.iter().map(|source| source.path.clone()).collect();
    let mut merged = Merged::new()?;
    for source in sources {
        merged.lay_over(document::parse(&source.path, &source.text)?, &mut table.notes)?;
    }
    merged.check_flags()?;
    let default = merged.default_runtime(host)?;
    for (name, located) in merged.runtimes() {
        let Some(parsed) = name_of(name, located, &default, &mut table.notes)? else { continue };
        let mut remarks = Remarks::default();
        let config = merged.translate(&parsed, located, host, &mut remarks);
        table.take(parsed, config, remarks);
    }
    if let Some(Located { value: Value::Text(zone), place }) = merged.containers.get("tz")
        && !zone.is_empty()
    {
        table.time_zone = Some(TimeZone { name: zone.clone(), origin: place.here() });
    }
    if let Ok(default) = HandlerName::new(default.as_str()) {
        table.set_default(default)?;
    }
    Ok(table)
}

/// What the files say together.
struct Merged {
    engine: Section,
    containers: Section,
    conmon_path: Appending,
    conmon_env: Appending,
}

impl Merged {
    fn new() -> Result<Self> {
        let mut engine = document::built_in(BUILT_IN, built_in::RUNTIMES)?;
        let conmon_path = Appending::new(engine.remove("conmon_path"));
        let conmon_env = Appending::new(engine.remove("conmon_env_vars"));
        Ok(Self { engine, containers: Section::new(), conmon_path, conmon_env })
    }

    fn lay_over(&mut self, mut document: Section, notes: &mut Vec<Note>) -> Result<()> {
        fold_case(&mut document, TOP);
        note_strangers(&document, "engine", notes);
        note_slips(&document, &["containers", "engine"], TABLES, notes);
        if let Some(mut containers) = inner(&mut document, "containers")? {
            fold_case(&mut containers, CONTAINERS);
            note_slips(&containers, &["seccomp_profile"], &["apparmor_profile"], notes);
            containers.retain(|name, _| CONTAINERS.iter().any(|key| key.name == name));
            check_section(&containers, CONTAINERS, &mut Unknown::Refused)?;
            self.containers.extend(containers);
        }
        let Some(mut engine) = inner(&mut document, "engine")? else { return Ok(()) };
        for (name, list) in
            [("conmon_path", &mut self.conmon_path), ("conmon_env_vars", &mut self.conmon_env)]
        {
            if let Some(item) = engine.remove(name) {
                list.lay_over(name, item)?;
            }
        }
        fold_case(&mut engine, ENGINE);
        note_slips(&engine, OURS, OTHERS, notes);
        engine.retain(|name, _| ENGINE.iter().any(|key| key.name == name));
        check_section(&engine, ENGINE, &mut Unknown::Refused)?;
        for name in ["runtimes", "runtimes_flags"] {
            check_lists(&engine, name)?;
        }
        if let Some(key) = engine.get("platform_to_oci_runtime") {
            let text =
                "key \"platform_to_oci_runtime\" has no effect here: who runs an image names the handler";
            notes.push(Note::new(key.place.here(), text));
        }
        merge(&mut self.engine, engine);
        Ok(())
    }

    fn runtimes(&self) -> BTreeMap<&str, &Located> {
        lists(&self.engine, "runtimes")
    }

    /// podman refuses flags of a runtime that it does not know.
    fn check_flags(&self) -> Result<()> {
        let known = self.runtimes();
        match lists(&self.engine, "runtimes_flags").into_iter().find(|(name, _)| !known.contains_key(name)) {
            None => Ok(()),
            Some((name, at)) => {
                let close = did_you_mean(name, known.keys().copied());
                let what =
                    format!("key {name:?} gives flags to a runtime that is not in [engine.runtimes]{close}");
                Err(complain(at, &what))
            }
        }
    }

    /// The name of the default runtime. A path is a runtime of its own, called by its last part.
    fn default_runtime(&mut self, host: &dyn Host) -> Result<String> {
        let given = self
            .engine
            .get("runtime")
            .filter(|key| matches!(&key.value, Value::Text(text) if !text.is_empty()));
        let Some(key @ Located { value: Value::Text(text), .. }) = given else {
            let built_in = document::built_in(BUILT_IN, built_in::RUNTIMES)?;
            let known = lists(&built_in, "runtimes");
            let found = PREFERRED.iter().find(|name| {
                let places = known.get(*name).map(|at| texts(at)).unwrap_or_default();
                places.iter().any(|path| host.exists(Path::new(path))) || host.has(Path::new(name))
            });
            return Ok(found.map_or_else(String::new, |name| (*name).to_owned()));
        };
        if let Some(name) = Path::new(text).file_name().filter(|_| text.contains('/')) {
            let name = name.to_string_lossy().into_owned();
            let candidate = Located { value: Value::Text(text.clone()), place: key.place.clone() };
            let list = Located { value: Value::Array(vec![candidate]), place: key.place.clone() };
            if let Some(Located { value: Value::Table(runtimes), .. }) = self.engine.get_mut("runtimes") {
                runtimes.insert(name.clone(), list);
            }
            return Ok(name);
        }
        let known = self.runtimes();
        if known.contains_key(text.as_str()) {
            return Ok(text.clone());
        }
        let close = did_you_mean(text, known.keys().copied());
        Err(complain(key, &format!("key \"runtime\" is {text:?}, which is not in [engine.runtimes]{close}")))
    }

    fn translate(
        &self,
        name: &HandlerName,
        at: &Located,
        host: &dyn Host,
        remarks: &mut Remarks,
    ) -> std::result::Result<HandlerConfig, Broken> {
        let kind = RuntimeKind::new("oci").map_err(|error| Broken::at(at, error.kind().to_string()))?;
        let mut config = HandlerConfig::new(name.clone(), kind, at.place.here());
        remarks.written("paths", name.as_str(), at);
        config.paths = texts(at).into_iter().map(PathBuf::from).collect();
        if let Some(relative) = config.paths.iter().find(|path| !path.is_absolute()) {
            return Err(Broken::at(
                at,
                format!(
                    "key {:?}: the path {:?} is not absolute",
                    name.as_str(),
                    relative.display().to_string()
                ),
            ));
        }
        // podman searches PATH for the name of the runtime where none of its places has it.
        if !config.paths.is_empty() {
            config.paths.push(name.as_str().into());
        }
        if let Some(Located { value: Value::Table(lists), .. }) = self.engine.get("runtimes_flags")
            && let Some(flags) = lists.get(name.as_str())
        {
            remarks.written("args", name.as_str(), flags);
            for flag in texts(flags).into_iter().filter(|flag| flag.starts_with('-')) {
                let text =
                    format!("the flag {flag:?} gets two dashes more, as podman does it; write it without");
                remarks.note(flags, text);
            }
            config.args = texts(flags).into_iter().map(|flag| format!("--{flag}")).collect();
        }
        self.monitor(&mut config, host, remarks)?;
        if self.is_systemd(host)? {
            config.options.insert("systemd_cgroup".to_owned(), true.into());
            if let Some(key) = self.engine.get("cgroup_manager") {
                remarks.written("options.systemd_cgroup", "cgroup_manager", key);
            }
        }
        if let Some(key @ Located { value: Value::Bool(true), .. }) = self.engine.get("no_pivot_root") {
            config.options.insert("no_pivot".to_owned(), true.into());
            remarks.written("options.no_pivot", "no_pivot_root", key);
        }
        if let Some(key @ Located { value: Value::Text(path), .. }) = self.containers.get("seccomp_profile")
            && !path.is_empty()
        {
            if Path::new(path).is_absolute() {
                config.seccomp_profile = Some(path.into());
                remarks.written("seccomp_profile", "seccomp_profile", key);
            } else if path != "unconfined" {
                // Containers may bring a profile of their own, so podman complains only when one is made that does not.
                let text = format!(
                    "key \"seccomp_profile\": the path {path:?} is not absolute, so there is no profile; write the whole path, or \"unconfined\""
                );
                remarks.note(key, text);
            }
        }
        Ok(config)
    }

    /// The first monitor that is there; without one the name is looked up on `PATH`.
    fn monitor(
        &self,
        config: &mut HandlerConfig,
        host: &dyn Host,
        remarks: &mut Remarks,
    ) -> std::result::Result<(), Broken> {
        let found = self.conmon_path.values().iter().find(|(path, _)| host.has(Path::new(path)));
        if let Some((path, at)) = found {
            if !Path::new(path).is_absolute() {
                return Err(Broken::at(
                    at,
                    format!("key \"conmon_path\": the path {path:?} is not absolute"),
                ));
            }
            config.monitor.path = Some(path.into());
            remarks.written("monitor.path", "conmon_path", at);
        }
        for (pair, at) in self.conmon_env.values() {
            if pair.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                return Err(Broken::at(
                    at,
                    format!("key \"conmon_env_vars\": {pair:?} is not of the form KEY=value"),
                ));
            }
            config.monitor.env.push(pair.clone());
            remarks.written("monitor.env", "conmon_env_vars", at);
        }
        Ok(())
    }

    fn is_systemd(&self, host: &dyn Host) -> std::result::Result<bool, Broken> {
        match self.engine.get("cgroup_manager") {
            Some(Located { value: Value::Text(text), .. }) if text == "systemd" => Ok(true),
            Some(Located { value: Value::Text(text), .. }) if text == "cgroupfs" => Ok(false),
            Some(at @ Located { value: Value::Text(text), .. }) if !text.is_empty() => Err(Broken::at(
                at,
                format!("cgroup_manager {text:?} is neither \"systemd\" nor \"cgroupfs\""),
            )),
            _ => Ok(host.exists(Path::new(SYSTEMD))),
        }
    }
}

/// The lists of a table in a table, by name.
fn lists<'a>(engine: &'a Section, name: &str) -> BTreeMap<&'a str, &'a Located> {
    match engine.get(name) {
        Some(Located { value: Value::Table(lists), .. }) => {
            lists.iter().map(|(name, item)| (name.as_str(), item)).collect()
        }
        _ => BTreeMap::new(),
    }
}

/// Whether each value of a table is an array of strings.
fn check_lists(engine: &Section, name: &str) -> Result<()> {
    let Some(Located { value: Value::Table(lists), .. }) = engine.get(name) else { return Ok(()) };
    let wrong = lists.iter().find(|(_, item)| match &item.value {
        Value::Array(items) => !items.iter().all(|item| matches!(item.value, Value::Text(_))),
        _ => true,
    });
    match wrong {
        None => Ok(()),
        Some((key, item)) => {
            let what = format!("key {key:?} must be an array of strings");
            Err(complain(item, &what))
        }
    }
}

fn texts(list: &Located) -> Vec<&str> {
    match &list.value {
        Value::Array(items) => items
            .iter()
            .filter_map(|item| match &item.value {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
