//! The configuration of containerd, of versions 2, 3 and 4: `config.toml` and what it imports. Parsing does no I/O;
//! [`crate::load`] reads the files and follows the imports.
//!
//! It is read as containerd 2 reads it. Files are laid over each other in the order in which they are met, key by key
//! and as deep as tables go; arrays are replaced. The runtime `runc` is built in. Each version has its own name for the
//! table of runtimes; a table under the name of another version is not read, and a note tells so. A file without
//! `version` would be one of version 1, whose tables have other names; it is an error.
//!
//! `io.containerd.runc.v1` and `v2` become the kind `oci`, which starts the binary itself; every other type becomes `vm`,
//! which starts the shim. Annotations that no list of the handler names never reach a runtime there, so they are not
//! allowed here; those that containerd itself sets are.

mod handler;
mod keys;

use std::collections::BTreeMap;

use runtime_api::{Error, ErrorKind, HandlerName, Result};

use crate::document::schema::{Key, Shape, Unknown, check_section, complain, fold_case, key};
use crate::document::{self, Located, Section, Value, merge};
use crate::foreign::{did_you_mean, name_of};
use crate::source::Source;
use crate::table::{HandlerTable, Note};

/// Where the table of runtimes is in version 2.
const SECOND: &str = "io.containerd.grpc.v1.cri";
/// Where it is from version 3 on.
const THIRD: &str = "io.containerd.cri.v1.runtime";
/// The newest version that is known.
const NEWEST: i64 = 4;
/// The annotations that containerd itself sets; they need no list.
pub(crate) const OWN_ANNOTATIONS: &str = "io.kubernetes.cri.";
/// What messages call what stands in no file.
const BUILT_IN: &str = "containerd default";
const RUNC: &str =
    "default_runtime_name = \"runc\"\n[runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n";

/// The keys of the table `containerd` that concern runtimes. The others are not looked at.
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
/// that is no TOML, a value of the wrong type, a version that is missing or unknown, and a default handler that is
/// not there or cannot be used.
pub fn parse(sources: &[Source]) -> Result<HandlerTable> {
    let mut table = HandlerTable::new([]);
    table.sources = sources.iter().map(|source| source.path.clone()).collect();
    let mut merged = document::built_in(BUILT_IN, RUNC)?;
    let mut version = None;
    for source in sources {
        let document = document::parse(&source.path, &source.text)?;
        version = Some(version_of(&document, source, version)?);
        let read = runtimes_table(document, version, &mut table.notes)?;
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
    let document = document::parse(&source.path, &source.text)?;
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
fn version_of(document: &Section, source: &Source, first: Option<i64>) -> Result<i64> {
    let own = match document.get("version") {
        None => 1,
        Some(Located { value: Value::Integer(version), .. }) => *version,
        Some(key) => return Err(complain(key, "key \"version\" must be an integer")),
    };
    let key = document.get("version");
    let wrong = |what: &str| match key {
        Some(key) => complain(key, what),
        None => Error::new(ErrorKind::ConfigInvalid(what.to_owned()))
            .on(format_args!("{} [top level]", source.path.display()))
            .during_step("read handlers"),
    };
    match first {
        None if own < 2 => Err(wrong(
            "key \"version\" is missing or below 2: containerd takes the file for version 1, and its tables of runtimes are not read; write version = 2 or version = 3",
        )),
        None if own > NEWEST => Err(wrong(&format!("the version {own} is not known; 2 to {NEWEST} are"))),
        None => Ok(own),
        Some(first) if own > first => Err(wrong(&format!(
            "the version {own} is higher than that of the first file, {first}; containerd refuses that"
        ))),
        Some(first) => Ok(first),
    }
}

/// The table `containerd` of one file, checked.
fn runtimes_table(mut document: Section, first: Option<i64>, notes: &mut Vec<Note>) -> Result<Section> {
    let own = match document.get("version") {
        Some(Located { value: Value::Integer(version), .. }) => Some(*version),
        _ => None,
    };
    let mut plugins = document::schema::inner(&mut document, "plugins")?.unwrap_or_default();
    let mut read = Section::new();
    // A drop-in without a version may use either name.
    let (right, other) =
        if own.or(first).is_some_and(|version| version < 3) { (SECOND, THIRD) } else { (THIRD, SECOND) };
    for name in [other, right] {
        let Some(mut plugin) = document::schema::inner(&mut plugins, name)? else { continue };
        let Some(mut table) = document::schema::inner(&mut plugin, "containerd")? else { continue };
        fold_case(&mut table, TABLE);
        if name == other && own.is_some() {
            if let Some(key) = table.get("runtimes") {
                let text = format!(
                    "it is not read: in version {} the table is called plugins.{right:?}",
                    own.unwrap_or_default()
                );
                notes.push(Note::new(key.place.here(), text));
            }
            continue;
        }
        table.retain(|name, _| TABLE.iter().any(|key| key.name == name));
        check_section(&table, TABLE, &mut Unknown::Refused)?;
        check_handlers(&mut table, notes)?;
        merge(&mut read, table);
    }
    Ok(read)
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
        let what = format!("{name:?} must be a table, not {}", item.value.type_name());
        return Err(complain(item, &what));
    };
    fold_case(section, keys::HANDLER);
    let mut unknown = Vec::new();
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
