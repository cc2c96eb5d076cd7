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

use std::collections::{BTreeMap, BTreeSet};

use runtime_api::{HandlerName, Result};

use crate::document::schema::{complain, refuse};
use crate::document::view::View;
use crate::document::{self, Located, Section, Value, merge};
use crate::foreign::did_you_mean;
pub use crate::source::Source;
use crate::table::{HandlerTable, Note, TimeZone, Written};

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
    for (name, section) in &inherit(&written)? {
        add_handler(name, written[name], section, &mut table, &mut notes)?;
    }
    table.default = default_handler(&merged, &table)?;
    let view = View::new(&merged);
    table.time_zone = view
        .filled("time_zone")?
        .zip(view.text("time_zone"))
        .map(|(name, (_, key))| TimeZone { name, origin: key.place.here() });
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
    let Some(Value::Table(earlier)) = before.get("runtimes").map(|key| &key.value) else { return };
    for (name, (located, _)) in runtimes(document) {
        if let Some(first) = earlier.get(name) {
            let text = format!("it changes the handler that {} begins", first.place.short());
            let note = Note::new(located.place.inside(name), text);
            notes.push(Note { handler: HandlerName::new(name).ok(), ..note });
        }
    }
}

fn add_handler(
    name: &str,
    (located, own): (&Located, &Section),
    section: &Section,
    table: &mut HandlerTable,
    notes: &mut Vec<Note>,
) -> Result<()> {
    let origin = located.place.inside(name);
    let parsed = HandlerName::new(name).map_err(|error| refuse(origin.clone(), &error.kind().to_string()))?;
    let config = handler::convert(parsed.clone(), section, located)?;
    if let Some(Located { value: Value::Bool(false), place }) = own.get("enabled") {
        table.switched_off.insert(parsed, place.here());
        return Ok(());
    }
    if !parsed.fits_runtime_class() {
        let text = "a Kubernetes RuntimeClass cannot name this handler: it is not a DNS label";
        notes.push(Note::new(origin, text).about(&parsed));
    }
    let mut written = Vec::new();
    note_places(section, "", &mut written);
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

/// A handler's keys laid over those of its parents, for every handler. `inherits` and `enabled` themselves are not inherited,
/// so that a handler that is switched off can serve as a pattern. What was put together is kept: each handler is laid over
/// its parent once, however long the line is.
fn inherit<'a>(
    written: &BTreeMap<&'a str, (&'a Located, &'a Section)>,
) -> Result<BTreeMap<&'a str, Section>> {
    let mut whole: BTreeMap<&str, Section> = BTreeMap::new();
    for name in written.keys() {
        // From the handler up to the first that is put together already, or has no parent.
        let mut line: Vec<&str> = Vec::new();
        let mut in_line = BTreeSet::new();
        let mut next = Some(*name);
        while let Some(current) = next.filter(|current| !whole.contains_key(current)) {
            line.push(current);
            in_line.insert(current);
            next = parent(current, written)?;
            if let (Some(again), Some(key)) =
                (next.filter(|next| in_line.contains(next)), written[current].1.get("inherits"))
            {
                line.push(again);
                let what = format!("key \"inherits\": it inherits itself: {}", shortened(&line));
                return Err(complain(key, &what));
            }
        }
        for current in line.into_iter().rev() {
            let above = parent(current, written)?.and_then(|parent| whole.get(parent));
            let mut section = above.cloned().unwrap_or_default();
            let mut own = written[current].1.clone();
            own.remove("inherits");
            own.remove("enabled");
            forget_path(&mut section, &own);
            merge(&mut section, own);
            whole.insert(current, section);
        }
    }
    Ok(whole)
}

/// The handler that this one inherits from.
fn parent<'a>(
    name: &str,
    written: &BTreeMap<&'a str, (&'a Located, &'a Section)>,
) -> Result<Option<&'a str>> {
    let Some(key) = written[name].1.get("inherits") else { return Ok(None) };
    let Value::Text(parent) = &key.value else { return Ok(None) };
    if let Some((parent, _)) = written.get_key_value(parent.as_str()) {
        return Ok(Some(parent));
    }
    let close = did_you_mean(parent, written.keys().copied().filter(|other| *other != name));
    Err(complain(key, &format!("key \"inherits\" is {parent:?}, and there is no such handler{close}")))
}

/// A line of handlers, without its middle where it is long.
fn shortened(line: &[&str]) -> String {
    const ENDS: usize = 5;
    if line.len() <= 2 * ENDS {
        return line.join(" -> ");
    }
    let (first, last) = (line[..ENDS].join(" -> "), line[line.len() - ENDS..].join(" -> "));
    format!("{first} -> ... -> {last}")
}

fn default_handler(document: &Section, table: &HandlerTable) -> Result<Option<HandlerName>> {
    let Some(key) = document.get("default") else { return Ok(None) };
    let Value::Text(text) = &key.value else { return Ok(None) };
    let name = HandlerName::new(text.as_str())
        .map_err(|e| complain(key, &format!("key \"default\": {}", e.kind())))?;
    table.select(Some(&name)).map(|config| Some(config.name.clone())).map_err(|error| {
        let advice = error.advice().unwrap_or_default().to_owned();
        complain(key, &format!("key \"default\" is {text:?}, which is no handler that can be used"))
            .hint(advice)
    })
}

#[cfg(test)]
mod tests;
