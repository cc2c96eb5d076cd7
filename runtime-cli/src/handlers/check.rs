//! `manyrun handlers check`.

use std::path::{Path, PathBuf};

use runtime_api::{Error, HandlerConfig};
use runtime_handlers::load::{self, Dialect};
use runtime_handlers::resolve::ThisHost;
use runtime_handlers::{HandlerTable, Registry};
use serde_json::json;

use super::inputs::{Found, Input, dialect_name};
use super::show::{document, files};
use crate::json::Output;
use crate::{backends, fail, tell};

/// How thoroughly.
pub(super) struct How<'a> {
    pub(super) strict: bool,
    pub(super) host: bool,
    pub(super) classes: &'a [PathBuf],
}

pub(super) fn check(input: &Input, json: Option<&Path>, how: &How<'_>) -> u8 {
    let output = match Output::open(json) {
        Ok(output) => output,
        Err(error) => return usage(&error),
    };
    let found = match input.read() {
        Ok(found) => found,
        Err(error) if is_unreadable(&error) => return usage(&error),
        Err(error) => return complain(&output, &error),
    };
    let registry = match backends::registry() {
        Ok(registry) => registry,
        Err(error) => return complain(&output, &error),
    };
    let table = if how.host { found.table.resolved(&ThisHost) } else { found.table.clone() };
    let (mut errors, mut notes) = judge(&found, &table, &registry);
    notes.extend(table.notes.iter().map(ToString::to_string));
    if how.host {
        notes.extend(without_systemd(&found, Path::new("/run/systemd/system")));
    }
    for file in how.classes {
        match load::runtime_classes(file) {
            Ok((classes, more)) => {
                notes.extend(more.iter().map(ToString::to_string));
                errors.extend(
                    classes.iter().filter_map(|class| class.resolve(&table).err()).map(|e| e.report()),
                );
            }
            Err(error) if is_unreadable(&error) => return usage(&error),
            Err(error) => errors.push(error.report()),
        }
    }
    output.say(&format!("{}: {}", dialect_name(found.dialect), files(&found.table, true)));
    for note in &notes {
        output.say(&format!("note: {note}"));
    }
    for error in &errors {
        tell(error);
    }
    let handlers = table.handlers.len() + table.unavailable.len();
    let counts = [(handlers, "handler"), (errors.len(), "error"), (notes.len(), "note")];
    output.say(&counts.map(|(many, what)| counted(many, what)).join(", "));
    let mut report = document(&table);
    report["errors"] = json!(errors);
    report["notes"] = json!(notes);
    if let Err(error) = output.write(&report) {
        return usage(&error);
    }
    u8::from(!errors.is_empty() || (how.strict && !notes.is_empty()))
}

/// A table that has systemd make its cgroups, on a host where that does not run: its directory is not there.
fn without_systemd(found: &Found, directory: &Path) -> Option<String> {
    let wants = |config: &&HandlerConfig| {
        config.kind.as_str() == "oci" && config.options.get("systemd_cgroup") == Some(&json!(true))
    };
    if directory.is_dir() {
        return None;
    }
    let all: Vec<_> =
        found.table.handlers.values().filter(wants).map(|config| config.name.as_str()).collect();
    let what = match found.dialect {
        Dialect::Crio => "set cgroup_manager = \"cgroupfs\" in [crio.runtime]",
        _ => "leave systemd_cgroup out, or set it to false",
    };
    (!all.is_empty()).then(|| {
        format!(
            "cgroups are to be made by systemd, which does not run on this host: {what} (handlers: {})",
            all.join(", ")
        )
    })
}

/// `1 note`, `2 notes`
fn counted(many: usize, what: &str) -> String {
    if many == 1 { format!("1 {what}") } else { format!("{many} {what}s") }
}

/// What is an error, and what is a note. In the configuration of another program a handler that cannot be used is a note,
/// as it is there, unless it is the default one.
fn judge(found: &Found, table: &HandlerTable, registry: &Registry) -> (Vec<String>, Vec<String>) {
    let (mut errors, mut notes) = (Vec::new(), Vec::new());
    let is_default = |name| found.table.default.as_ref() == Some(name);
    for (name, broken) in &table.unavailable {
        let text = format!("{}: the handler \"{name}\" is unavailable: {}", broken.origin, broken.reason);
        if is_default(name) { errors.push(text) } else { notes.push(text) }
    }
    let refused = |config: &HandlerConfig| Some(table.refused(config, &registry.check(config).err()?));
    for (config, broken) in table.handlers.values().filter_map(|config| Some((config, refused(config)?))) {
        let text =
            format!("{}: the handler \"{}\" is unavailable: {}", broken.origin, config.name, broken.reason);
        if found.dialect == Dialect::Native || is_default(&config.name) {
            errors.push(text);
        } else {
            notes.push(text);
        }
    }
    (errors, notes)
}

/// Whether the trouble is the file itself and not what it says.
fn is_unreadable(error: &Error) -> bool {
    use runtime_api::ErrorKind::{NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | PermissionDenied) || is_no_text(error)
}

fn is_no_text(error: &Error) -> bool {
    // What the loader refuses names the file alone; what the parser refuses names a line of it.
    error.subject().is_some_and(|subject| Path::new(subject).exists())
}

pub(super) fn usage(error: &Error) -> u8 {
    fail(error);
    2
}

fn complain(output: &Output, error: &Error) -> u8 {
    fail(error);
    let document = json!({"schema": 1, "errors": [error.report()]});
    output.write(&document).map_or_else(|error| usage(&error), |()| 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_systemd_is_noted_where_the_table_wants_it() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("crio.conf");
        let note = |text: &str, directory: &Path| {
            std::fs::write(&file, text).unwrap();
            let table = load::dialect(Dialect::Crio, &file).unwrap();
            without_systemd(&Found { dialect: Dialect::Crio, table, named: true }, directory)
        };
        let nowhere = place.path().join("none");
        let told = note("[crio.runtime]\n", &nowhere).unwrap();
        assert!(told.contains("set cgroup_manager = \"cgroupfs\""), "{told}");
        assert_eq!(note("[crio.runtime]\n", place.path()), None);
        assert_eq!(note("[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n", &nowhere), None);
    }
}
