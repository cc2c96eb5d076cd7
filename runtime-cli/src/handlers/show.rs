//! `manyrun handlers show`.

use runtime_api::{HandlerConfig, Result};
use runtime_handlers::diff;
use runtime_handlers::resolve::ThisHost;
use runtime_handlers::{HandlerTable, Written};
use serde_json::{Value, json};

use super::inputs::{Found, dialect_name};
use crate::backends;
use crate::json::Output;

pub(super) fn show(found: &Found, origin: bool, output: &Output) -> Result<()> {
    let table = &found.table;
    let here = table.resolved(&ThisHost);
    let registry = backends::registry()?;
    output.say(&format!("{}: {}", dialect_name(found.dialect), files(table, origin)));
    for config in table.handlers.values() {
        let mark = if table.default.as_ref() == Some(&config.name) { "*" } else { " " };
        // What a kind of backend does not accept is as good as missing.
        let missing = here.unavailable.get(&config.name).map(|broken| broken.reason.clone());
        let refused = || registry.check(config).err().map(|error| error.kind().to_string());
        let state = missing
            .or_else(refused)
            .map_or_else(|| binaries(config), |reason| format!("unavailable: {reason}"));
        let written = if origin { format!("  {}", config.origin) } else { String::new() };
        let (name, kind) = (config.name.as_str(), config.kind.as_str());
        output.say(&format!("{mark} {name:<20} {kind:<6} {state}{written}"));
        if origin {
            keys(table, config, output);
        }
    }
    for (name, broken) in &table.unavailable {
        let written = if origin { format!("  {}", broken.origin) } else { String::new() };
        output.say(&format!("! {:<20} {:<6} unavailable: {}{written}", name.as_str(), "", broken.reason));
    }
    if let Some(zone) = &table.time_zone {
        let written = if origin { format!("  {}", zone.origin) } else { String::new() };
        output.say(&format!("time zone of containers: {}{written}", zone.name));
    }
    if origin {
        for (name, place) in &table.switched_off {
            output.say(&format!("- {:<20} off    {place}", name.as_str()));
        }
        for note in &table.notes {
            output.say(&format!("note: {note}"));
        }
    }
    if let (false, name @ ("crio" | "containerd" | "containers")) = (found.named, dialect_name(found.dialect))
    {
        output.say(&format!(
            "hint: these are not the handlers of `manyrun run`, which reads only Manyrun's own unless --{name} PATH is given"
        ));
    }
    output.write(&document(table))
}

/// How many files are named where not all are wanted.
const NAMED: usize = 3;

/// Which files were read, in the order in which they were laid over each other.
pub(super) fn files(table: &HandlerTable, all: bool) -> String {
    let names: Vec<_> = table.sources.iter().map(|path| path.display().to_string()).collect();
    match names.len() {
        0 => "no file, the built-in handlers".to_owned(),
        many if many > NAMED && !all => {
            format!("{} and {} more (--origin names all)", names[..NAMED].join(", "), many - NAMED)
        }
        _ => names.join(", "),
    }
}

/// Every key that is set, and where it was written.
fn keys(table: &HandlerTable, config: &HandlerConfig, output: &Output) {
    let written = table.written.get(&config.name);
    for (key, value) in diff::keys(config) {
        let places = written.into_iter().flatten().filter(|each| {
            each.key == key
                || key.starts_with(&format!("{}.", each.key))
                || (key == "paths" && each.key == "path")
        });
        let places: Vec<_> = places
            .map(|each| match &each.written_as {
                same if *same == each.key || each.key.ends_with(&format!(".{same}")) => {
                    each.origin.to_string()
                }
                other => format!("{} {other}", each.origin),
            })
            .collect();
        let place = if places.is_empty() { "default".to_owned() } else { places.join(", ") };
        output.say(&format!("    {key} = {}  {place}", shortened(&value)));
    }
}

/// A value without the middle of a long list, such as that of all annotations which CRI-O denies.
fn shortened(value: &Value) -> String {
    const MOST: usize = 8;
    match value {
        Value::Array(items) if items.len() > MOST => {
            let first: Vec<_> = items.iter().take(2).map(ToString::to_string).collect();
            format!("[{}, ...] ({} in all, --json has them)", first.join(","), items.len())
        }
        _ => value.to_string(),
    }
}

pub(super) fn binaries(config: &HandlerConfig) -> String {
    let paths: Vec<_> = config.paths.iter().map(|path| path.display().to_string()).collect();
    match (paths.is_empty(), config.kind.as_str()) {
        (true, "oci") => format!("{} on PATH", config.name),
        (true, _) => String::new(),
        (false, _) => paths.join(", "),
    }
}

/// The place of each key; where it has several, the others as `also`.
fn places(keys: &[Written]) -> Value {
    let mut all = serde_json::Map::new();
    for each in keys {
        let place = json!({"origin": each.origin, "written_as": each.written_as});
        match all.get_mut(&each.key).and_then(Value::as_object_mut) {
            None => {
                all.insert(each.key.clone(), place);
            }
            Some(first) => {
                let also = first.entry("also").or_insert_with(|| json!([]));
                if let Some(also) = also.as_array_mut() {
                    also.push(place);
                }
            }
        }
    }
    Value::Object(all)
}

pub(super) fn document(table: &HandlerTable) -> Value {
    let written: serde_json::Map<_, _> =
        table.written.iter().map(|(name, keys)| (name.to_string(), places(keys))).collect();
    let unavailable: serde_json::Map<_, _> = table
        .unavailable
        .iter()
        .map(|(name, broken)| (name.to_string(), json!({"reason": broken.reason, "origin": broken.origin})))
        .collect();
    json!({
        "schema": 1,
        "default": table.default,
        "sources": table.sources,
        "time_zone": table.time_zone,
        "handlers": table.handlers,
        "unavailable": unavailable,
        "switched_off": table.switched_off,
        "written": written,
        "notes": table.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
