//! What was called, in a form that is the same on every run.

use std::fmt::Write as _;
use std::path::PathBuf;

use manyrun_tests::place::Place;
use manyrun_tests::recorder::Recorder;
use manyrun_tests::source;

pub(crate) struct Sheet {
    recorder: Recorder,
    binary: &'static str,
    /// Longest first, so that a part of a path does not hide the whole.
    names: Vec<(String, String)>,
    sections: Vec<(String, Vec<String>)>,
}

impl Sheet {
    pub(crate) fn new(place: &Place, recorder: Recorder) -> Self {
        let path = |name: &str| place.path(name).to_string_lossy().into_owned();
        let names = [
            (path("recorders"), "BIN".to_owned()),
            (path("state"), "STATE".to_owned()),
            (place.path("").to_string_lossy().trim_end_matches('/').to_owned(), "DIR".to_owned()),
            (format!("{}-", place.token()), String::new()),
            (place.token(), "TOKEN".to_owned()),
        ];
        Self { recorder, binary: place.binary, names: names.into(), sections: Vec::new() }
    }

    /// Writes down what was called since the last time.
    pub(crate) fn note(&mut self, title: &str) {
        let calls = self.recorder.take().iter().map(|call| self.normal(call)).collect();
        self.sections.push((title.to_owned(), calls));
    }

    /// The same for calls that are made side by side.
    pub(crate) fn note_in_any_order(&mut self, title: &str) {
        self.note(title);
        if let Some((_, calls)) = self.sections.last_mut() {
            calls.sort();
        }
    }

    /// What was called since the last time is on the sheet already, in another section.
    pub(crate) fn forget(&self) {
        let _ = self.recorder.take();
    }

    /// Whether a section is about this operation.
    pub(crate) fn has(&self, operation: &str) -> bool {
        self.sections.iter().any(|(title, _)| title.split(' ').next() == Some(operation))
    }

    fn normal(&self, call: &str) -> String {
        let named = self.names.iter().fold(call.to_owned(), |text, (from, to)| text.replace(from, to));
        let words: Vec<String> = named.split(' ').map(without_what_changes).collect();
        words.join(" ")
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (title, calls) in &self.sections {
            let _ = writeln!(text, "== {title}");
            for call in calls {
                let _ = writeln!(text, "{call}");
            }
        }
        text
    }

    /// Fails the test when the file says something else, or writes it.
    pub(crate) fn compare(&self) {
        let file: PathBuf = source::root().join("tests/goldens/argv").join(format!("{}.txt", self.binary));
        let found = self.text();
        if std::env::var_os("MANYRUN_UPDATE_GOLDENS").is_some() {
            return std::fs::write(file, found).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        let pairs = golden.lines().zip(found.lines()).enumerate();
        let different = pairs.filter(|(_, (golden, found))| golden != found).map(|(at, _)| at + 1).next();
        assert!(
            golden == found,
            "{} differs, first in line {different:?} (MANYRUN_UPDATE_GOLDENS=1 writes it anew); found:\n{found}",
            file.display()
        );
    }
}

/// Names of files that have a number or a random part.
const CHANGING: &[&str] = &["/execs/", "/.probe-log.", "/.image-", "/conmon-term."];

fn without_what_changes(word: &str) -> String {
    for name in CHANGING {
        if let Some((before, after)) = word.split_once(name) {
            let rest = after.find('/').map_or("", |at| &after[at..]);
            return format!("{before}{name}N{rest}");
        }
    }
    word.to_owned()
}
