//! The configuration of containerd, of versions 1 to 4: `config.toml` and what it imports. Parsing does no I/O;
//! [`crate::load`] reads the files and follows the imports.
//!
//! It is read as containerd 2 reads it. Files are laid over each other in the order in which they are met, key by key
//! and as deep as tables go; arrays are replaced. The runtime `runc` is built in. Each version has its own name for the
//! table of runtimes; a table under the name of another version is not read, and a note tells so. A file without
//! `version` is one of version 1, as Docker brings it; it is read as containerd 2 migrates it, and a note tells so.
//!
//! `io.containerd.runc.v1` and `v2` become the kind `oci`, which starts the binary itself; every other type becomes `vm`,
//! which starts the shim. Annotations that no list of the handler names never reach a runtime there, so they are not
//! allowed here; those that containerd itself sets are.

mod handler;
mod keys;
pub(crate) mod shim_options;

use std::collections::BTreeMap;

use runtime_api::{HandlerName, Origin, Result};

use crate::document::schema::{
    Key, Shape, Unknown, check_section, complain, fold_case, inner, key, note_slips, note_strangers, refuse,
};
use crate::document::{self, Located, Section, Value, merge};
use crate::foreign::{did_you_mean, name_of};
use crate::nearest::distance;
use crate::source::Source;
use crate::table::{HandlerTable, Note};

/// The plugin that has the table of runtimes in version 1, which may also use the name of version 2.
const VERY_FIRST: &str = "cri";
/// Where the table of runtimes is in version 2.
const SECOND: &str = "io.containerd.grpc.v1.cri";
/// Where it is from version 3 on.
const THIRD: &str = "io.containerd.cri.v1.runtime";
/// The version of a file that names none.
const FIRST: i64 = 1;
/// The newest version that is known.
const NEWEST: i64 = 4;
/// The annotations that containerd itself sets; they need no list.
pub(crate) const OWN_ANNOTATIONS: &str = "io.kubernetes.cri.";
/// What messages call what stands in no file.
const BUILT_IN: &str = "containerd default";
const RUNC: &str =
    "default_runtime_name = \"runc\"\n[runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n";

/// The keys of a file that are looked at here.
const TOP: &[Key] = &[
    key("version", Shape::Integer),
    key("imports", Shape::Texts),
    key("plugins", Shape::Free),
    key("disabled_plugins", Shape::Texts),
];
const OURS: &[&str] = &["version", "imports", "plugins", "disabled_plugins"];
/// What else stands there.
const OTHERS: &[&str] = &["plugin_dir", "proxy_plugins", "required_plugins", "timeouts"];
const PLUGIN: &[Key] = &[key("containerd", Shape::Free)];
/// The keys of the table `containerd` that concern runtimes. The others are looked at for slips only.
const TABLE: &[Key] = &[
    key("default_runtime_name", Shape::Text),
    key("runtimes", Shape::Free),
    key("default_runtime", Shape::Free),
    key("untrusted_workload_runtime", Shape::Free),
];

/// Reads `config.toml` and what it imports, in the order in which containerd reads them.
///
/// # Errors
/// [`ConfigInvalid`](runtime_api::ErrorKind::ConfigInvalid), which names the file, the line and the table: for a file
/// that is no TOML, a value of the wrong type, a version that is not known, and a default handler that is
/// not there or cannot be used.
pub fn parse(sources: &[Source]) -> Result<HandlerTable> {
    let mut table = HandlerTable::new([]);
    table.sources = sources.iter().map(|source| source.path.clone()).collect();
    let mut merged = document::built_in(BUILT_IN, RUNC)?;
    let mut version = None;
    for source in sources {
        let mut document = document::parse(&source.path, &source.text)?;
        fold_case(&mut document, TOP);
        let first = version_of(&document, source, version, &mut table.notes)?;
        version = Some(first);
        let read = runtimes_table(document, &mut table.notes)?;
        merge(&mut merged, read);
    }
    deprecated_entries(&mut merged, &mut table.notes);
    let default = text(&merged, "default_runtime_name").unwrap_or_default().to_owned();
    for (name, located) in handlers(&merged) {
        add(name, located, &default, &mut table)?;
    }
    set_default(&merged, &default, &mut table)?;
    Ok(table)
}

/// What a file imports: paths and patterns, as they are written.
///
/// # Errors
/// As [`parse`], for this one file.
pub fn imports(source: &Source) -> Result<Vec<String>> {
    let mut document = document::parse(&source.path, &source.text)?;
    fold_case(&mut document, TOP);
    let Some(key) = document.get("imports") else { return Ok(Vec::new()) };
    let not_texts = || complain(key, "key \"imports\" must be an array of strings");
    let Value::Array(items) = &key.value else { return Err(not_texts()) };
    items
        .iter()
        .map(|item| match &item.value {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(not_texts()),
        })
        .collect()
}

/// The version of the first file holds for all; the others may be older, or name none.
fn version_of(document: &Section, source: &Source, first: Option<i64>, notes: &mut Vec<Note>) -> Result<i64> {
    let key = document.get("version");
    let own = match key {
        None => FIRST,
        // containerd takes what nobody wrote for zero.
        Some(Located { value: Value::Integer(version), .. }) if *version == 0 => FIRST,
        Some(Located { value: Value::Integer(version), .. }) => *version,
        Some(key) => {
            let what = format!("key \"version\" must be an integer, but there is {}", key.value.shown());
            return Err(complain(key, &what));
        }
    };
    let origin = key.map_or_else(
        || Origin::other(format!("{} [top level]", source.path.display())),
        |key| key.place.here(),
    );
    match first {
        None if !(FIRST..=NEWEST).contains(&own) => {
            let what = format!("key \"version\" is {own}, which is not known; {FIRST} to {NEWEST} are");
            Err(refuse(origin, &what))
        }
        None => {
            if own == FIRST {
                let how =
                    if key.is_none() { "there is no key \"version\"" } else { "key \"version\" is below 2" };
                let text = format!(
                    "{how}, so that containerd takes this file for one of version 1, in which the table of runtimes is plugins.cri.containerd; write version = 3 and the names of that version"
                );
                notes.push(Note::new(origin, text));
            }
            Ok(own)
        }
        Some(first) if own > first => {
            let what = format!(
                "key \"version\" is {own}, which is higher than that of the first file, {first}; containerd refuses that: write version = {first} and the names of that version"
            );
            Err(refuse(origin, &what))
        }
        Some(first) => Ok(first),
    }
}

/// The table `containerd` of one file, checked.
fn runtimes_table(mut document: Section, notes: &mut Vec<Note>) -> Result<Section> {
    let own = match document.get("version") {
        Some(Located { value: Value::Integer(version), .. }) => Some(*version),
        _ => None,
    };
    note_strangers(&document, "plugins", notes);
    note_slips(&document, OURS, OTHERS, notes);
    note_disabled(&document, notes);
    let mut plugins = inner(&mut document, "plugins")?.unwrap_or_default();
    // The ids of plugins are long, and much alike.
    let is_slip = |name: &str| [SECOND, THIRD].iter().any(|id| *id != name && distance(id, name) < 3);
    for (name, item) in plugins.iter().filter(|(name, _)| is_slip(name)) {
        let close = did_you_mean(name, [SECOND, THIRD]);
        notes.push(Note::new(item.place.here(), format!("unknown key {name:?} has no effect{close}")));
    }
    let mut read = Section::new();
    // A file without a version is one of version 1, be it a drop-in. A file is brought up to date name by name, and a newer
    // name that is there as well keeps what it says.
    let names = [VERY_FIRST, SECOND, THIRD];
    let (wrong, right) = names.split_at(match own.unwrap_or(FIRST) {
        ..2 => 0,
        2 => 1,
        _ => 2,
    });
    if let Some(key) = plugins.get("io").filter(|key| matches!(key.value, Value::Table(_))) {
        let name = if own == Some(2) { SECOND } else { THIRD };
        let text = format!(
            "key \"io\" has no effect: the name of a plugin is one key, and its dots need quotes: [plugins.{name:?}.containerd]"
        );
        notes.push(Note::new(key.place.here(), text));
    }
    for name in wrong {
        if let Some(key) = plugins.get(*name).filter(|key| has_runtimes(key)) {
            let text = format!(
                "key {name:?} is not read: in version {} the table is called plugins.{:?}",
                own.unwrap_or(FIRST),
                right[0]
            );
            notes.push(Note::new(key.place.here(), text));
        }
    }
    for name in right {
        let Some(mut plugin) = inner(&mut plugins, name)? else { continue };
        fold_case(&mut plugin, PLUGIN);
        note_slips(&plugin, &["containerd"], &[], notes);
        let Some(mut table) = inner(&mut plugin, "containerd")? else { continue };
        fold_case(&mut table, TABLE);
        let ours: Vec<_> = TABLE.iter().map(|key| key.name).collect();
        note_slips(&table, &ours, &["snapshotter", "no_pivot"], notes);
        table.retain(|name, _| TABLE.iter().any(|key| key.name == name));
        check_section(&table, TABLE, &mut Unknown::Refused)?;
        check_handlers(&mut table, notes)?;
        read.extend(table);
    }
    Ok(read)
}

/// Docker brings a file that switches the plugin off which these tables are for.
fn note_disabled(document: &Section, notes: &mut Vec<Note>) {
    let Some(Located { value: Value::Array(items), .. }) = document.get("disabled_plugins") else { return };
    let ours = |item: &&Located| matches!(&item.value, Value::Text(text) if [VERY_FIRST, SECOND, THIRD].contains(&text.as_str()));
    if let Some(item) = items.iter().find(ours) {
        let text = "key \"disabled_plugins\" switches off the CRI of containerd, so that containerd itself offers none of these handlers";
        notes.push(Note::new(item.place.here(), text));
    }
}

/// Whether a plugin's table would say something about runtimes.
fn has_runtimes(plugin: &Located) -> bool {
    let Value::Table(plugin) = &plugin.value else { return false };
    matches!(plugin.get("containerd"), Some(Located { value: Value::Table(table), .. }) if table.contains_key("runtimes"))
}

fn check_handlers(table: &mut Section, notes: &mut Vec<Note>) -> Result<()> {
    for name in ["default_runtime", "untrusted_workload_runtime"] {
        if let Some(item) = table.get_mut(name) {
            check_handler(name, item, None, notes)?;
        }
    }
    let Some(Located { value: Value::Table(runtimes), .. }) = table.get_mut("runtimes") else {
        return Ok(());
    };
    for (name, item) in runtimes {
        let handler = HandlerName::new(name.as_str()).ok();
        check_handler(name, item, handler.as_ref(), notes)?;
    }
    Ok(())
}

fn check_handler(
    name: &str,
    item: &mut Located,
    handler: Option<&HandlerName>,
    notes: &mut Vec<Note>,
) -> Result<()> {
    let Value::Table(section) = &mut item.value else {
        let table = item.place.inside(name);
        let what = format!("{name:?} must be a table, but there is {}: {table}", item.value.shown());
        return Err(complain(item, &what));
    };
    fold_case(section, keys::HANDLER);
    let mut unknown = Vec::new();
    for key in keys::RUNC_OPTIONS {
        let typed = section.keys().find(|name| name.eq_ignore_ascii_case(key.name)).cloned();
        if let Some(item) = typed.and_then(|name| section.remove(&name)) {
            let text = format!(
                "key {:?} has no effect here: it is an option, and belongs into the table options of this runtime",
                key.name
            );
            unknown.push(Note::new(item.place.here(), text));
        }
    }
    check_section(section, keys::HANDLER, &mut Unknown::Noted(&mut unknown))?;
    notes.extend(unknown.into_iter().map(|note| Note { handler: handler.cloned(), ..note }));
    Ok(())
}

/// Two tables of containerd 1 that are handlers as soon as they have a type.
fn deprecated_entries(merged: &mut Section, notes: &mut Vec<Note>) {
    for (key, name) in [("default_runtime", "default"), ("untrusted_workload_runtime", "untrusted")] {
        let Some(item) = merged.remove(key) else { continue };
        let Value::Table(section) = &item.value else { continue };
        if text(section, "runtime_type").is_none_or(str::is_empty) {
            continue;
        }
        let note = format!("the table {key:?} is deprecated; it is read as the handler {name:?}");
        notes.push(Note::new(item.place.here(), note));
        if key == "default_runtime" {
            let default = Located { value: Value::Text(name.to_owned()), place: item.place.clone() };
            merged.insert("default_runtime_name".to_owned(), default);
        }
        if let Some(Located { value: Value::Table(runtimes), .. }) = merged.get_mut("runtimes") {
            runtimes.insert(name.to_owned(), item);
        }
    }
}

fn text<'a>(section: &'a Section, name: &str) -> Option<&'a str> {
    match section.get(name) {
        Some(Located { value: Value::Text(text), .. }) => Some(text),
        _ => None,
    }
}

fn handlers(merged: &Section) -> BTreeMap<&str, &Located> {
    match merged.get("runtimes") {
        Some(Located { value: Value::Table(runtimes), .. }) => {
            runtimes.iter().map(|(name, located)| (name.as_str(), located)).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn add(name: &str, located: &Located, default: &str, table: &mut HandlerTable) -> Result<()> {
    let Some(parsed) = name_of(name, located, default, &mut table.notes)? else { return Ok(()) };
    let Value::Table(section) = &located.value else { return Ok(()) };
    let (config, remarks) = handler::translate(&parsed, located, section);
    table.take(parsed, config, remarks);
    Ok(())
}

fn set_default(merged: &Section, name: &str, table: &mut HandlerTable) -> Result<()> {
    let known = handlers(merged);
    if known.contains_key(name) {
        return HandlerName::new(name).map_or(Ok(()), |name| table.set_default(name));
    }
    let what = if name.is_empty() {
        "key \"default_runtime_name\" is empty".to_owned()
    } else {
        let close = did_you_mean(name, known.keys().copied());
        format!("key \"default_runtime_name\" is {name:?}, but no such runtime is configured{close}")
    };
    match merged.get("default_runtime_name") {
        Some(key) => Err(complain(key, &what)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
