//! Which keys a table may have, as data, and what is said about others.

use runtime_api::{Error, ErrorKind, Origin, Result};

use super::{Located, Section, Value};
use crate::nearest::nearest;
use crate::table::Note;

/// What a key's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Bool,
    Integer,
    Texts,
    /// A string with a unit, or an integer.
    Quantity,
    /// Free keys, each with a string.
    TextMap,
    /// Free keys with any values.
    Free,
    Table(&'static [Key]),
    /// Anything: the key is known, and its value has no effect.
    Any,
}

/// One accepted key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
}

pub(crate) const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, shape }
}

/// An error that names the file, the line and the table that `at` stands in.
pub(crate) fn complain(at: &Located, what: &str) -> Error {
    refuse(at.place.here(), what)
}

/// An error about what is at `origin`.
pub(crate) fn refuse(origin: Origin, what: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid(what.to_owned())).on(origin).during_step("read handlers")
}

/// What becomes of a key that nobody knows.
#[derive(Debug)]
pub(crate) enum Unknown<'a> {
    /// It is an error: the file is ours.
    Refused,
    /// It is told: the program whose file it is takes no notice of it either.
    Noted(&'a mut Vec<Note>),
}

/// Checks names and types.
///
/// # Errors
/// `ConfigInvalid` for a value of the wrong type, and for an unknown key where such are refused.
pub(crate) fn check_section(section: &Section, keys: &[Key], unknown: &mut Unknown<'_>) -> Result<()> {
    for (name, item) in section {
        if let Some(key) = keys.iter().find(|key| key.name == name) {
            check_shape(item, *key, unknown)?;
            continue;
        }
        match unknown {
            Unknown::Refused => return Err(complain(item, &unknown_key(name, "", keys))),
            Unknown::Noted(notes) => {
                notes.push(Note::new(item.place.here(), unknown_key(name, " has no effect", keys)));
            }
        }
    }
    Ok(())
}

/// Notes keys that are as near to one of `ours` as a slip is, where others may stand beside them: those of `others`, and those
/// that only newer releases know.
pub(crate) fn note_slips(section: &Section, ours: &[&str], others: &[&str], notes: &mut Vec<Note>) {
    let known = |name: &str| ours.iter().chain(others).any(|each| each.eq_ignore_ascii_case(name));
    for (name, item) in section.iter().filter(|(name, _)| !known(name)) {
        if let Some(close) = nearest(name, ours.iter().copied()) {
            let text = format!("unknown key {name:?} has no effect; did you mean {close:?}?");
            notes.push(Note::new(item.place.here(), text));
        }
    }
}

/// Notes tables of another program, which are at home in a file of its own.
pub(crate) fn note_strangers(document: &Section, own: &str, notes: &mut Vec<Note>) {
    const HOMES: [(&str, &str); 3] = [
        ("crio", "CRI-O, in /etc/crio/crio.conf"),
        ("plugins", "containerd, in /etc/containerd/config.toml"),
        ("engine", "podman, in /etc/containers/containers.conf"),
    ];
    for (name, home) in HOMES.iter().filter(|(name, _)| *name != own) {
        if let Some(item) = document.get(*name).filter(|item| matches!(item.value, Value::Table(_))) {
            let text = format!("table {name:?} has no effect here: it is for {home}");
            notes.push(Note::new(item.place.here(), text));
        }
    }
}

/// Gives keys their written form where a reader does not mind capital letters.
pub(crate) fn fold_case(section: &mut Section, keys: &[Key]) {
    let folded: Vec<_> = section
        .keys()
        .filter_map(|name| {
            let key = keys.iter().find(|key| key.name.eq_ignore_ascii_case(name))?;
            (key.name != name).then(|| (name.clone(), key.name.to_owned()))
        })
        .collect();
    for (typed, meant) in folded {
        if let Some(item) = section.remove(&typed) {
            section.entry(meant).or_insert(item);
        }
    }
}

/// Takes the table of this name out of another.
///
/// # Errors
/// `ConfigInvalid` where it is no table.
pub(crate) fn inner(section: &mut Section, name: &str) -> Result<Option<Section>> {
    match section.remove(name) {
        None => Ok(None),
        Some(Located { value: Value::Table(inner), .. }) => Ok(Some(inner)),
        Some(other) => {
            let what = format!("key {name:?} must be a table, but there is {}", other.value.shown());
            Err(complain(&other, &what))
        }
    }
}

fn unknown_key(name: &str, consequence: &str, keys: &[Key]) -> String {
    if let Some(close) = nearest(name, keys.iter().map(|key| key.name)) {
        return format!("unknown key {name:?}{consequence}; did you mean {close:?}?");
    }
    let known: Vec<_> = keys.iter().map(|key| key.name).collect();
    format!("unknown key {name:?}{consequence}; known keys are {}", known.join(", "))
}

fn check_shape(item: &Located, key: Key, unknown: &mut Unknown<'_>) -> Result<()> {
    let (fits, wanted) = match (key.shape, &item.value) {
        (Shape::Table(keys), Value::Table(section)) => {
            return check_section(section, keys, unknown);
        }
        (Shape::TextMap, Value::Table(section)) => {
            let wrong = section.iter().find(|(_, each)| !matches!(each.value, Value::Text(_)));
            return wrong.map_or(Ok(()), |(name, wrong)| Err(wrong_type(wrong, name, "a string")));
        }
        (Shape::Texts, Value::Array(items)) => {
            let wrong = items.iter().find(|each| !matches!(each.value, Value::Text(_)));
            return wrong
                .map_or(Ok(()), |wrong| Err(wrong_type(wrong, key.name, "an array of strings only")));
        }
        (Shape::Any, _) => (true, "anything"),
        (Shape::Text, value) => (matches!(value, Value::Text(_)), "a string"),
        (Shape::Bool, value) => (matches!(value, Value::Bool(_)), "a boolean"),
        (Shape::Integer, value) => (matches!(value, Value::Integer(_)), "an integer"),
        (Shape::Quantity, value) => {
            (matches!(value, Value::Text(_) | Value::Integer(_)), "a string or an integer")
        }
        (Shape::Free, value) => (matches!(value, Value::Table(_)), "a table"),
        (Shape::Table(_), _) => (false, "a table"),
        (Shape::TextMap, _) => (false, "a table of strings"),
        (Shape::Texts, _) => (false, "an array of strings"),
    };
    match (fits, key.shape) {
        (true, _) => Ok(()),
        // A variable of an environment may be a secret.
        (false, Shape::Texts | Shape::TextMap) => Err(wrong_type(item, key.name, wanted)),
        (false, _) => {
            let what = format!("key {:?} must be {wanted}, but there is {}", key.name, item.value.shown());
            Err(complain(item, &what))
        }
    }
}

fn wrong_type(item: &Located, name: &str, wanted: &str) -> Error {
    let what = format!("key {name:?} must be {wanted}, but there is {}", item.value.type_name());
    complain(item, &what)
}
