//! What is done with an input of each fuzz target. The programs here and the test `corpus` of `runtime-handlers` use it.
//!
//! An input is the text of one file, or of several that are laid over each other, each after a line of `#---`.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each program uses one target, and what goes wrong is what is looked for"
)]

use std::path::Path;

use runtime_handlers::resolve::Host;
use runtime_handlers::{
    HandlerTable, Source, containerd as dialect_containerd, containers as dialect_containers, convert,
    crio as dialect_crio, diff, native as dialect_native, runtime_class as manifests,
};

/// Divides the files of one input.
const DIVIDER: &str = "#---\n";
/// More than this many files show nothing new.
const MOST_FILES: usize = 4;

pub(crate) fn crio(data: &[u8]) {
    let Some(sources) = sources(data) else { return };
    let Ok(table) = dialect_crio::parse(&sources) else { return };
    hold(&table);
    let written = convert::to_crio(&table);
    let mut again = dialect_crio::parse(&[Source::new("again", written.text.as_str())])
        .unwrap_or_else(|error| panic!("{error}\n{}", written.text));
    // What the program has built in is back.
    again.handlers.retain(|name, _| table.handlers.contains_key(name));
    assert_eq!(convert::to_native(&again).text, convert::to_native(&table).text, "{}", written.text);
}

pub(crate) fn containerd(data: &[u8]) {
    let Some(sources) = sources(data) else { return };
    for source in &sources {
        let _ = dialect_containerd::imports(source);
    }
    let Ok(table) = dialect_containerd::parse(&sources) else { return };
    hold(&table);
    let written = convert::to_containerd(&table);
    // Nothing of containerd's own is left out but what cannot be used; runc is there besides.
    assert!(written.left_out.len() <= table.unavailable.len() + 1, "{:?}", written.left_out);
    let mut again = dialect_containerd::parse(&[Source::new("again", written.text.as_str())])
        .unwrap_or_else(|error| panic!("{error}\n{}", written.text));
    // What the program has built in is back.
    again.handlers.retain(|name, _| table.handlers.contains_key(name));
    assert_eq!(convert::to_native(&again).text, convert::to_native(&table).text, "{}", written.text);
}

pub(crate) fn containers(data: &[u8]) {
    let Some(sources) = sources(data) else { return };
    for host in [Crun(true), Crun(false)] {
        if let Ok(table) = dialect_containers::parse(&sources, &host) {
            hold(&table);
        }
    }
}

pub(crate) fn native(data: &[u8]) {
    let Some(sources) = sources(data) else { return };
    if let Ok(table) = dialect_native::parse(&sources) {
        hold(&table);
    }
}

pub(crate) fn runtime_class(data: &[u8]) {
    let Some(sources) = sources(data) else { return };
    let Ok((classes, notes)) = manifests::parse(&sources[0]) else { return };
    assert!(!classes.is_empty());
    for class in &classes {
        assert!(class.handler.fits_runtime_class());
        assert!(!class.name.is_empty() && class.name.len() <= 253);
        let _ = class.resolve(&HandlerTable::built_in());
    }
    assert!(notes.iter().all(|note| !note.text.is_empty()));
}

pub(crate) fn crio_state(data: &[u8]) {
    let Some(sources) = sources(data) else { return };
    let Ok(kept) = dialect_crio::state::parse(&sources[0]) else { return };
    let state = &kept.state;
    assert_eq!(state.exit.is_some(), state.status == runtime_api::ContainerStatus::Stopped);
    assert!(state.exit.is_none() || state.pid.is_none());
    assert!(
        [state.pid, kept.init.map(|init| init.pid), kept.monitor.map(|monitor| monitor.pid)]
            .iter()
            .all(|pid| *pid != Some(0))
    );
}

/// What holds for the table of every dialect.
fn hold(table: &HandlerTable) {
    if let Some(default) = &table.default {
        assert!(table.handlers.contains_key(default), "the default is a handler that can be used");
    }
    for note in &table.notes {
        assert!(!note.text.is_empty() && !note.text.contains('\n'), "{note}");
    }
    for (name, broken) in &table.unavailable {
        assert!(!table.handlers.contains_key(name) && !broken.reason.is_empty(), "{name}");
    }
    assert!(diff::between(table, table).is_empty());
    // What is written in our own dialect says the same again, and what is written in another is of its form at least.
    let text = convert::to_native(table).text;
    let again = dialect_native::parse(&[Source::new("again", text.as_str())])
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(convert::to_native(&again).text, text);
    for written in [convert::to_crio(table), convert::to_containerd(table)] {
        toml::from_str::<toml::Table>(&written.text)
            .unwrap_or_else(|error| panic!("{error}\n{}", written.text));
    }
}

fn sources(data: &[u8]) -> Option<Vec<Source>> {
    let text = std::str::from_utf8(data).ok()?;
    let files = text.split(DIVIDER).take(MOST_FILES).enumerate();
    Some(files.map(|(nth, text)| Source::new(format!("f{nth}"), text)).collect())
}

/// A host that has crun, or nothing.
#[derive(Debug)]
struct Crun(bool);

impl Host for Crun {
    fn has(&self, program: &Path) -> bool {
        self.0 && program == Path::new("/usr/bin/crun")
    }

    fn exists(&self, path: &Path) -> bool {
        self.has(path)
    }
}
