//! What is different between two handler tables.

use std::collections::BTreeMap;
use std::fmt;

use runtime_api::{HandlerConfig, HandlerName};
use serde_json::{Value, json};

use crate::convert::{NativeKeys, native_keys};
use crate::table::HandlerTable;

/// One thing that is different. Where things are written makes no difference.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Another handler is meant when none is named.
    Default {
        /// Before.
        old: Option<HandlerName>,
        /// Now.
        new: Option<HandlerName>,
    },
    /// Containers are in another time zone.
    TimeZone {
        /// Before.
        old: Option<String>,
        /// Now.
        new: Option<String>,
    },
    /// A handler is there that was not.
    Added(HandlerName),
    /// A handler is gone. Containers that it made are reached all the same.
    Removed(HandlerName),
    /// A handler can be used that could not, or the other way round.
    Availability {
        /// Which.
        handler: HandlerName,
        /// Why it could not be used before, if it could not.
        old: Option<String>,
        /// Why it cannot be used now, if it cannot.
        new: Option<String>,
    },
    /// A key of a handler.
    Key {
        /// Which handler.
        handler: HandlerName,
        /// The key as the native dialect calls it.
        key: String,
        /// Its value before, if it was set.
        old: Option<Value>,
        /// Its value now, if it is set.
        new: Option<Value>,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &Option<HandlerName>| name.as_ref().map_or("none".to_owned(), ToString::to_string);
        let value = |value: &Option<Value>| value.as_ref().map_or("not set".to_owned(), ToString::to_string);
        let use_ = |why: &Option<String>| {
            why.as_ref().map_or("available".to_owned(), |why| format!("unavailable ({why})"))
        };
        match self {
            Self::Default { old, new } => write!(f, "default: {} -> {}", name(old), name(new)),
            Self::TimeZone { old, new } => {
                let zone =
                    |zone: &Option<String>| zone.clone().unwrap_or_else(|| "that of the image".to_owned());
                write!(f, "time zone: {} -> {}", zone(old), zone(new))
            }
            Self::Added(handler) => write!(f, "+ {handler}"),
            Self::Removed(handler) => write!(f, "- {handler}"),
            Self::Availability { handler, old, new } => {
                write!(f, "~ {handler}: {} -> {}", use_(old), use_(new))
            }
            Self::Key { handler, key, old, new } => {
                write!(f, "~ {handler}: {key}: {} -> {}", value(old), value(new))
            }
        }
    }
}

/// A handler as far as it can differ.
#[derive(PartialEq)]
struct Shape {
    unusable: Option<String>,
    keys: BTreeMap<String, Value>,
}

/// Everything that is different, by handler and key.
#[must_use]
pub fn between(old: &HandlerTable, new: &HandlerTable) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.default != new.default {
        changes.push(Change::Default { old: old.default.clone(), new: new.default.clone() });
    }
    let zones = [old, new].map(|table| table.time_zone.as_ref().map(|zone| zone.name.clone()));
    if zones[0] != zones[1] {
        let [old, new] = zones;
        changes.push(Change::TimeZone { old, new });
    }
    let (before, now) = (shapes(old), shapes(new));
    let mut names: Vec<_> = before.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        match (before.get(name), now.get(name)) {
            (None, _) => changes.push(Change::Added(name.clone())),
            (_, None) => changes.push(Change::Removed(name.clone())),
            (Some(before), Some(now)) => compare(name, before, now, &mut changes),
        }
    }
    changes
}

fn compare(name: &HandlerName, before: &Shape, now: &Shape, changes: &mut Vec<Change>) {
    if before.unusable != now.unusable {
        changes.push(Change::Availability {
            handler: name.clone(),
            old: before.unusable.clone(),
            new: now.unusable.clone(),
        });
    }
    // What cannot be used has no keys to compare.
    if before.unusable.is_some() || now.unusable.is_some() {
        return;
    }
    let mut keys: Vec<_> = before.keys.keys().chain(now.keys.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let (old, new) = (before.keys.get(key), now.keys.get(key));
        if old != new {
            changes.push(Change::Key {
                handler: name.clone(),
                key: key.clone(),
                old: old.cloned(),
                new: new.cloned(),
            });
        }
    }
}

fn shapes(table: &HandlerTable) -> BTreeMap<HandlerName, Shape> {
    let usable = table
        .handlers
        .iter()
        .map(|(name, config)| (name.clone(), Shape { unusable: None, keys: keys(config) }));
    let unusable = |name: &HandlerName, why: String| {
        (name.clone(), Shape { unusable: Some(why), keys: BTreeMap::new() })
    };
    let broken = table.unavailable.iter().map(|(name, broken)| unusable(name, broken.reason.clone()));
    let off = table.switched_off.keys().map(|name| unusable(name, "switched off".to_owned()));
    usable.chain(broken).chain(off).collect()
}

/// Every key of a handler that is set, as the native dialect calls it.
#[must_use]
pub fn keys(config: &HandlerConfig) -> BTreeMap<String, Value> {
    flat(native_keys(config))
}

/// The keys with their tables, such as `monitor.path`. One path and a list of one are the same.
fn flat(keys: NativeKeys) -> BTreeMap<String, Value> {
    let plain = keys.plain.into_iter().map(|(name, value)| match name {
        "path" => ("paths".to_owned(), json!([value])),
        _ => (name.to_owned(), value),
    });
    let inner = keys.tables.into_iter().flat_map(|(table, values)| {
        values.into_iter().map(move |(name, value)| (format!("{table}.{name}"), value))
    });
    plain.chain(inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{self, Source};

    fn read(text: &str) -> HandlerTable {
        native::parse(&[Source::new("f", text)]).unwrap()
    }

    fn told(old: &str, new: &str) -> Vec<String> {
        between(&read(old), &read(new)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_of_change_is_told() {
        let old = "default = 'a'\ntime_zone = 'UTC'\n[runtimes.a]\nkind = 'oci'\npath = '/a'\nmonitor = { path = '/m' }\n[runtimes.b]\nkind = 'oci'\n[runtimes.d]\nkind = 'oci'\n";
        let new = "default = 'c'\n[runtimes.a]\nkind = 'oci'\npaths = ['/b']\nargs = ['-v']\n[runtimes.c]\nkind = 'vm'\n[runtimes.d]\nkind = 'oci'\nenabled = false\n";
        assert_eq!(
            told(old, new),
            [
                "default: a -> c",
                "time zone: UTC -> that of the image",
                "~ a: args: not set -> [\"-v\"]",
                "~ a: monitor.path: \"/m\" -> not set",
                "~ a: paths: [\"/a\"] -> [\"/b\"]",
                "- b",
                "+ c",
                "~ d: available -> unavailable (switched off)",
            ]
        );
    }

    #[test]
    fn places_and_spellings_are_no_change() {
        let one = "[runtimes.a]\nkind = 'oci'\npath = '/a'\n";
        let other = "\n\n[runtimes.a]\npaths = ['/a']\nkind = 'oci'\n";
        assert!(told(one, other).is_empty());
    }
}
