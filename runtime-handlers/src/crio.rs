//! The configuration of CRI-O: `crio.conf` and what lies in `crio.conf.d`. Parsing does no I/O; [`crate::load`] reads the
//! files.
//!
//! It is read as CRI-O reads it. Of `[crio.runtime]` a later file replaces single keys; of
//! `[crio.runtime.runtimes.NAME]` it replaces the *whole* entry, and a note tells which keys got lost that way. The entry
//! `crun` is built in until a file names one. `default_runtime` must be there, or be empty for `crun`.
//!
//! What makes CRI-O drop a handler makes it [`Unavailable`](crate::Unavailable) here; where it is the default handler, that is an error, as
//! there. Unknown keys of a handler are noted; of those outside the tables of runtimes, those that look like a slip. Whether files
//! exist is not asked here.
//!
//! Handlers of the type `pod` are unavailable. Monitors get no cgroup of their own under systemd.

mod annotations;
mod command_line;
mod handler;
mod keys;
mod memory;
pub mod state;

use std::collections::BTreeMap;

use runtime_api::{HandlerName, Result};

use crate::document::schema::{
    Unknown, check_section, complain, fold_case, inner, note_slips, note_strangers,
};
use crate::document::{self, Located, Section, Value};
use crate::foreign::{did_you_mean, name_of};
use crate::source::Source;
use crate::table::{HandlerTable, Note, TimeZone};

pub(crate) use annotations::known as known_annotations;

/// The default handler unless a file names another one.
const DEFAULT: &str = "crun";
/// What messages call the entry that stands in no file.
const BUILT_IN: &str = "CRI-O default";
/// The entry `crun` that is there before any file is read.
const CRUN: &str = r#"
runtime_type = "oci"
runtime_root = "/run/crun"
allowed_annotations = ["io.containers.trace-syscall", "devices.crio.io"]
monitor_env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
container_min_memory = "500KiB"
container_create_timeout = 240
"#;

/// Reads `crio.conf` and its drop-ins, in the order in which CRI-O reads them.
///
/// # Errors
/// [`ConfigInvalid`](runtime_api::ErrorKind::ConfigInvalid), which names the file, the line and the table: for a file
/// that is no TOML, for a value of the wrong type, and for a default handler that cannot be used.
pub fn parse(sources: &[Source]) -> Result<HandlerTable> {
    parse_with(sources, &[])
}

/// Reads the same with what `crio` was given on its command line: each of `runtimes` is what stands behind one `--runtimes`,
/// `NAME:PATH:ROOT[:TYPE[:PRIVILEGED_WITHOUT_HOST_DEVICES[:CONFIG_PATH[:MIN_MEMORY]]]]`, or several of those with commas
/// between them. Such a handler replaces that of the files as a later file would.
///
/// # Errors
/// Those of [`parse`]; [`InvalidArgument`](runtime_api::ErrorKind::InvalidArgument) for another form.
pub fn parse_with(sources: &[Source], runtimes: &[String]) -> Result<HandlerTable> {
    let mut table = HandlerTable::new([]);
    table.sources = sources.iter().map(|source| source.path.clone()).collect();
    let mut merged = Merged::default();
    for source in sources {
        let document = document::parse(&source.path, &source.text)?;
        merged.lay_over(document, &mut table.notes)?;
    }
    for text in runtimes.iter().flat_map(|text| text.split(',')) {
        let (name, entry) = command_line::entry(text.trim())?;
        merged.replace(name, entry, &mut table.notes)?;
    }
    let crun = document::built_in(BUILT_IN, CRUN)?;
    let default = merged.default_handler(&crun)?;
    for (name, located) in &merged.handlers {
        merged.add(name, located, &default, &mut table)?;
    }
    if let Some(Located { value: Value::Text(zone), place }) = merged.runtime.get("timezone")
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
#[derive(Default)]
struct Merged {
    /// `[crio.runtime]` without its handlers.
    runtime: Section,
    handlers: BTreeMap<String, Located>,
}

impl Merged {
    fn lay_over(&mut self, mut document: Section, notes: &mut Vec<Note>) -> Result<()> {
        fold_case(&mut document, keys::TOP);
        note_misplaced(&document, notes);
        note_strangers(&document, "crio", notes);
        note_slips(&document, &["crio"], &["runtimes"], notes);
        let Some(mut crio) = inner(&mut document, "crio")? else { return Ok(()) };
        fold_case(&mut crio, keys::CRIO);
        note_misplaced(&crio, notes);
        note_slips(&crio, &["runtime"], keys::OTHERS_OF_CRIO, notes);
        let Some(mut runtime) = inner(&mut crio, "runtime")? else { return Ok(()) };
        fold_case(&mut runtime, keys::RUNTIME);
        let ours: Vec<_> = keys::RUNTIME.iter().map(|key| key.name).collect();
        note_slips(&runtime, &ours, keys::OTHERS_OF_RUNTIME, notes);
        runtime.retain(|name, _| keys::RUNTIME.iter().any(|key| key.name == name));
        check_section(&runtime, keys::RUNTIME, &mut Unknown::Refused)?;
        let handlers = inner(&mut runtime, "runtimes")?.unwrap_or_default();
        self.runtime.extend(runtime);
        for (name, located) in handlers {
            self.replace(name, located, notes)?;
        }
        Ok(())
    }

    fn replace(&mut self, name: String, mut located: Located, notes: &mut Vec<Note>) -> Result<()> {
        let Value::Table(section) = &mut located.value else {
            let what = format!(
                "{name:?} must be a table, [{}], but there is {}",
                title(&name),
                located.value.shown()
            );
            return Err(complain(&located, &what));
        };
        fold_case(section, keys::HANDLER);
        let handler = HandlerName::new(name.as_str()).ok();
        let mut unknown = Vec::new();
        check_section(section, keys::HANDLER, &mut Unknown::Noted(&mut unknown))?;
        if let Some(Located { value: Value::Table(earlier), place }) = self.handlers.get(&name) {
            let lost: Vec<_> =
                earlier.keys().filter(|key| !section.contains_key(*key)).map(String::as_str).collect();
            let keys = match lost.as_slice() {
                [] => String::new(),
                lost => format!("; what that says of {} is gone", lost.join(", ")),
            };
            let text = format!("it replaces the whole entry of {}{keys}", place.short());
            unknown.push(Note::new(located.place.inside(&name), text));
        }
        notes.extend(unknown.into_iter().map(|note| Note { handler: handler.clone(), ..note }));
        self.handlers.insert(name, located);
        Ok(())
    }

    /// The name of the default handler. Adds the built-in entry where no file has one.
    fn default_handler(&mut self, crun: &Section) -> Result<String> {
        if !self.handlers.contains_key(DEFAULT) {
            let place = crun["runtime_type"].place.clone();
            self.handlers.insert(DEFAULT.to_owned(), Located { value: Value::Table(crun.clone()), place });
        }
        let Some(key) = self.runtime.get("default_runtime") else { return Ok(DEFAULT.to_owned()) };
        let Value::Text(name) = &key.value else { return Ok(DEFAULT.to_owned()) };
        if name.is_empty() {
            return Ok(DEFAULT.to_owned());
        }
        if self.handlers.contains_key(name) {
            return Ok(name.clone());
        }
        let close = did_you_mean(name, self.handlers.keys().map(String::as_str));
        let what =
            format!("key \"default_runtime\" is {name:?}, but there is no table [{}]{close}", title(name));
        Err(complain(key, &what))
    }

    fn add(&self, name: &str, located: &Located, default: &str, table: &mut HandlerTable) -> Result<()> {
        let Some(parsed) = name_of(name, located, default, &mut table.notes)? else {
            return Ok(());
        };
        let (Value::Table(own), Some(Value::Table(defaults))) =
            (&located.value, self.handlers.get(default).map(|default| &default.value))
        else {
            return Ok(());
        };
        let translation = handler::Translation::new(&parsed, located, &self.runtime);
        let (config, remarks) = translation.run(own, (default, defaults));
        table.take(parsed, config, remarks);
        Ok(())
    }
}

/// Tells of handlers that stand where nobody reads them.
fn note_misplaced(section: &Section, notes: &mut Vec<Note>) {
    if let Some(key) = section.get("runtimes") {
        let text = "key \"runtimes\" has no effect here: handlers are read from [crio.runtime.runtimes.NAME]";
        notes.push(Note::new(key.place.here(), text));
    }
}

fn title(handler: &str) -> String {
    document::inner_name("crio.runtime.runtimes", handler)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_files_there_is_what_is_built_in() {
        let table = parse(&[]).unwrap();
        let crun = table.select(None).unwrap();
        assert_eq!((crun.name.as_str(), crun.origin.to_string().as_str()), (DEFAULT, BUILT_IN));
        assert_eq!(crun.min_memory, Some(500 << 10));
    }

    #[test]
    fn a_later_file_replaces_single_keys_of_the_runtime_table() {
        let first = Source::new("a", "[crio.runtime]\nno_pivot = true\ncgroup_manager = 'cgroupfs'\n");
        let second = Source::new("b", "[crio.runtime]\nCgroup_Manager = 'systemd'\n");
        let table = parse(&[first, second]).unwrap();
        let options = &table.select(None).unwrap().options;
        assert_eq!(options["no_pivot"], true);
        assert_eq!(options["systemd_cgroup"], true);
    }

    #[test]
    fn what_is_no_table_is_refused_where_it_stands() {
        for (text, place) in [
            ("crio = 1", "f:1 [top level]"),
            ("[crio]\nruntime = 1", "f:2 [crio]"),
            ("[crio.runtime]\nruntimes = 1", "f:2 [crio.runtime]"),
            ("[crio.runtime.runtimes]\nx = 1", "f:2 [crio.runtime.runtimes]"),
        ] {
            let error = parse(&[Source::new("f", text)]).unwrap_err();
            assert_eq!(error.subject(), Some(place), "{text}: {error}");
        }
    }

    #[test]
    fn slips_on_the_way_to_the_handlers_are_noted() {
        let told = |text: &str| -> Vec<String> {
            parse(&[Source::new("f", text)]).unwrap().notes.iter().map(ToString::to_string).collect()
        };
        for (text, wanted) in [
            (
                "[crioo.runtime]",
                "f:1 [top level]: unknown key \"crioo\" has no effect; did you mean \"crio\"?",
            ),
            (
                "[runtimes.x]",
                "f:1 [top level]: key \"runtimes\" has no effect here: handlers are read from [crio.runtime.",
            ),
            ("[crio.runtimes.x]", "f:1 [crio]: key \"runtimes\" has no effect here"),
            ("[crio.runtme]", "f:1 [crio]: unknown key \"runtme\" has no effect; did you mean \"runtime\"?"),
            ("[crio.runtime.runtime.x]", "did you mean \"runtimes\"?"),
            ("[crio.runtime]\ndefault_runtme = 'x'", "f:2 [crio.runtime]: unknown key \"default_runtme\""),
        ] {
            let notes = told(text);
            assert!(notes.len() == 1 && notes[0].contains(wanted), "{text}: {notes:?}");
        }
        let all = keys::OTHERS_OF_RUNTIME.iter().map(|name| format!("{name} = 1\n")).collect::<String>();
        assert!(told(&format!("[crio.runtime]\n{all}")).is_empty());
        assert_eq!(
            parse(&[Source::new("f", "[Crio.Runtime]\nNo_Pivot = true")])
                .unwrap()
                .select(None)
                .unwrap()
                .options["no_pivot"],
            true
        );
    }

    #[test]
    fn the_command_line_replaces_what_files_say() {
        let file = Source::new("f", "[crio.runtime.runtimes.a]\nruntime_path = '/f/a'\nno_sync_log = true\n");
        let given = ["a:/c/a:/run/a", "k:/bin/containerd-shim-kata-v2::vm:true:/etc/kata.toml:1MiB,b:/c/b:"];
        let table = parse_with(&[file], &given.map(str::to_owned)).unwrap();
        let handler = |name: &str| &table.handlers[&HandlerName::new(name).unwrap()];
        let (a, b, kata) = (handler("a"), handler("b"), handler("k"));
        assert_eq!((a.paths.len(), a.root.as_deref()), (1, Some("/run/a".as_ref())));
        assert!(!a.monitor.no_sync_log, "the whole entry is replaced");
        assert_eq!(
            table.notes[0].to_string(),
            "--runtimes: it replaces the whole entry of f:1; what that says of no_sync_log is gone"
        );
        assert_eq!((b.root.as_deref(), b.kind.as_str()), (None, "oci"));
        assert_eq!((kata.kind.as_str(), kata.min_memory), ("vm", Some(1 << 20)));
        assert!(kata.privileged_without_host_devices && kata.config_path.is_some());
        assert_eq!(kata.origin.to_string(), "--runtimes");
        for (bad, what) in [
            ("a:/x", "it has 2 parts"),
            ("a:/x:/y:oci:true:/c:1:2", "it has 8 parts"),
            (":/x:/y", "the name is empty"),
            ("a:/x:/y:oci:yes", "the fifth part is \"yes\""),
        ] {
            let error = parse_with(&[], &[bad.to_owned()]).unwrap_err();
            assert!(
                error.report().contains(what) && error.report().contains("the form is"),
                "{}",
                error.report()
            );
        }
    }
}
