//! What the dialects of other programs share: entries are translated one by one, and a broken one spoils no other.

use runtime_api::{Error, ErrorKind, HandlerConfig, HandlerName, Origin, Result};

use crate::document::schema::refuse;
use crate::document::{Located, Value};
use crate::nearest::nearest;
use crate::table::{HandlerTable, Note, Unavailable, Written};

/// Why a handler cannot be used.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) what: String,
    pub(crate) origin: Origin,
}

impl Broken {
    /// Because of what stands at `at`.
    pub(crate) fn at(at: &Located, what: impl Into<String>) -> Self {
        Self { what: what.into(), origin: at.place.here() }
    }
}

/// What is told of an entry while it is translated.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    notes: Vec<Note>,
    written: Vec<Written>,
}

impl Remarks {
    pub(crate) fn note(&mut self, at: &Located, text: impl Into<String>) {
        self.notes.push(Note::new(at.place.here(), text));
    }

    /// A note that somebody else made.
    pub(crate) fn found(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Says where a key was written. The last place counts.
    pub(crate) fn written(&mut self, native: &str, key: &str, at: &Located) {
        self.written.retain(|each| each.key != native);
        self.also_written(native, key, at);
    }

    /// Says where more of a key was written that has several sources.
    pub(crate) fn also_written(&mut self, native: &str, key: &str, at: &Located) {
        self.written.push(Written::new(native, key, at.place.here()));
    }
}

impl HandlerTable {
    /// Adds what became of an entry.
    pub(crate) fn take(
        &mut self,
        name: HandlerName,
        config: std::result::Result<HandlerConfig, Broken>,
        remarks: Remarks,
    ) {
        self.notes.extend(remarks.notes.into_iter().map(|note| note.about(&name)));
        self.written.insert(name.clone(), remarks.written);
        match config {
            Ok(config) => {
                self.handlers.insert(name, config);
            }
            Err(broken) => {
                self.unavailable.insert(name, Unavailable::new(broken.what, broken.origin));
            }
        }
    }

    /// Sets the default handler, which must be one that can be used.
    ///
    /// # Errors
    /// `ConfigInvalid`, which says what is wrong with it.
    pub(crate) fn set_default(&mut self, name: HandlerName) -> Result<()> {
        if let Some(broken) = self.unavailable.get(&name) {
            return Err(Error::new(ErrorKind::ConfigInvalid(broken.reason.clone()))
                .on(format_args!("{}, the default handler \"{name}\"", broken.origin))
                .during_step("read handlers"));
        }
        self.default = Some(name);
        Ok(())
    }
}

/// The name of an entry, or a note that tells why it is left out; an error if it is the default one.
///
/// # Errors
/// `ConfigInvalid` for the name of the default handler.
pub(crate) fn name_of(
    text: &str,
    at: &Located,
    default: &str,
    notes: &mut Vec<Note>,
) -> Result<Option<HandlerName>> {
    let origin = || match at.value {
        Value::Table(_) => at.place.inside(text),
        _ => at.place.here(),
    };
    match HandlerName::new(text) {
        Ok(name) => Ok(Some(name)),
        Err(error) if text == default => Err(refuse(origin(), &error.kind().to_string())),
        Err(error) => {
            let what = format!("this handler is left out: {}", error.kind());
            notes.push(Note::new(origin(), what));
            Ok(None)
        }
    }
}

/// `; did you mean "crun"?`, or nothing.
pub(crate) fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(typed, known).map_or_else(String::new, |close| format!("; did you mean {close:?}?"))
}
