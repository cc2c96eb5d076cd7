//! The native dialect: one strict TOML table, with drop-ins. Parsing does no I/O; [`crate::load`] reads the files.
//!
//! ```toml
//! default = "crun"
//!
//! [runtimes.crun]
//! kind = "oci"
//! paths = ["/usr/local/bin/crun", "/usr/bin/crun"]
//! ```
//!
//! Later files are merged over earlier ones: tables key by key, everything else (arrays too) is replaced. An unknown key,
//! a wrong type, a broken file, an unknown or circular `inherits` are errors that name the file, the line and the table.

mod handler;
mod keys;

use std::collections::BTreeMap;

use runtime_api::{HandlerName, Result};

use crate::document::schema::complain;
use crate::document::{self, Located, Section, Value, merge};
use crate::nearest::nearest;
pub use crate::source::Source;
use crate::table::{HandlerTable, Note, Written};

/// Reads the native dialect: a file and its drop-ins, the first one lowest.
///
/// # Errors
/// [`ConfigInvalid`](runtime_api::ErrorKind::ConfigInvalid), which names the file, the line and the table.
pub fn parse(sources: &[Source]) -> Result<HandlerTable> {
    let mut merged = Section::new();
    let mut notes = Vec::new();
    for source in sources {
        let document = document::parse(&source.path, &source.text)?;
        keys::check_file(&document)?;
        note_changes(&merged, &document, &mut notes);
        for (name, (_, later)) in runtimes(&document) {
            forget_other_spelling(&mut merged, name, later);
        }
        merge(&mut merged, document);
    }
    let mut table = HandlerTable::new([]);
    table.sources = sources.iter().map(|source| source.path.clone()).collect();
    let written = runtimes(&merged);
    for name in written.keys() {
        add_handler(name, &written, &mut table, &mut notes)?;
    }
    table.default = default_handler(&merged, &table)?;
    table.notes = notes;
    Ok(table)
}

/// The `[runtimes.NAME]` tables. That they are tables was checked file by file.
fn runtimes(document: &Section) -> BTreeMap<&str, (&Located, &Section)> {
    let Some(Located { value: Value::Table(runtimes), .. }) = document.get("runtimes") else {
        return BTreeMap::new();
    };
    runtimes
        .iter()
        .filter_map(|(name, located)| match &located.value {
            Value::Table(section) => Some((name.as_str(), (located, section))),
            _ => None,
        })
        .collect()
}

fn forget_other_spelling(merged: &mut Section, name: &str, later: &Section) {
    let Some(Value::Table(runtimes)) = merged.get_mut("runtimes").map(|key| &mut key.value) else { return };
    let Some(Value::Table(earlier)) = runtimes.get_mut(name).map(|key| &mut key.value) else { return };
    forget_path(earlier, later);
}

/// `path` and `paths` are two spellings of one setting: a later one replaces either.
fn forget_path(earlier: &mut Section, later: &Section) {
    for (key, other) in [("path", "paths"), ("paths", "path")] {
        if later.contains_key(key) {
            earlier.remove(other);
        }
    }
}

fn note_changes(before: &Section, document: &Section, notes: &mut Vec<Note>) {
    let earlier = runtimes(before);
    for (name, (located, _)) in runtimes(document) {
        if let Some((first, _)) = earlier.get(name) {
            let text = format!("it changes the handler that {} begins", first.place.short());
            let note = Note::new(located.place.origin(&format!("runtimes.{name}")), text);
            notes.push(Note { handler: HandlerName::new(name).ok(), ..note });
        }
    }
}

fn add_handler(
    name: &str,
    written: &BTreeMap<&str, (&Located, &Section)>,
    table: &mut HandlerTable,
    notes: &mut Vec<Note>,
) -> Result<()> {
    let (located, own) = written[name];
    let title = format!("runtimes.{name}");
    let parsed =
        HandlerName::new(name).map_err(|error| complain(located, &title, &error.kind().to_string()))?;
    let origin = located.place.origin(&title);
    let section = inherit(name, written)?;
    let config = handler::convert(parsed.clone(), &section, located)?;
    if let Some(Located { value: Value::Bool(false), place }) = own.get("enabled") {
        table.switched_off.insert(parsed, place.origin(&title));
        return Ok(());
    }
    if !parsed.fits_runtime_class() {
        let text = "a Kubernetes RuntimeClass cannot name this handler: it is not a DNS label";
        notes.push(Note::new(origin, text).about(&parsed));
    }
    let mut written = Vec::new();
    note_places(&section, "", &mut written);
    table.written.insert(parsed.clone(), written);
    table.handlers.insert(parsed, config);
    Ok(())
}

/// Where each key was written, inner tables included.
fn note_places(section: &Section, prefix: &str, into: &mut Vec<Written>) {
    for (name, item) in section {
        let key = format!("{prefix}{name}");
        match &item.value {
            Value::Table(inner) => note_places(inner, &format!("{key}."), into),
            _ => into.push(Written::new(key, name, item.place.here())),
        }
    }
}

/// A handler's keys laid over those of its parents. `inherits` and `enabled` themselves are not inherited, so that a
/// handler that is switched off can serve as a pattern.
fn inherit(name: &str, written: &BTreeMap<&str, (&Located, &Section)>) -> Result<Section> {
    let mut line = vec![name];
    let mut current = name;
    while let Some(key) = written[current].1.get("inherits") {
        let Value::Text(parent) = &key.value else { break };
        let title = format!("runtimes.{current}");
        let Some((&parent, _)) = written.get_key_value(parent.as_str()) else {
            let close = nearest(parent, written.keys().copied())
                .map_or_else(String::new, |close| format!("; did you mean {close:?}?"));
            return Err(complain(key, &title, &format!("it inherits {parent:?}, which is not there{close}")));
        };
        if line.contains(&parent) {
            line.push(parent);
            return Err(complain(key, &title, &format!("it inherits itself: {}", line.join(" -> "))));
        }
        line.push(parent);
        current = parent;
    }
    let mut section = Section::new();
    for ancestor in line.iter().rev() {
        let mut own = written[ancestor].1.clone();
        own.remove("inherits");
        own.remove("enabled");
        forget_path(&mut section, &own);
        merge(&mut section, own);
    }
    Ok(section)
}

fn default_handler(document: &Section, table: &HandlerTable) -> Result<Option<HandlerName>> {
    let Some(key) = document.get("default") else { return Ok(None) };
    let Value::Text(text) = &key.value else { return Ok(None) };
    let name =
        HandlerName::new(text.as_str()).map_err(|e| complain(key, "top level", &e.kind().to_string()))?;
    table.select(Some(&name)).map(|config| Some(config.name.clone())).map_err(|error| {
        let advice = error.advice().unwrap_or_default().to_owned();
        complain(key, "top level", &format!("the default {text:?} is no handler that can be used"))
            .hint(advice)
    })
}

#[cfg(test)]
mod tests;
