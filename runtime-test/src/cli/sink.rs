//! Where text and JSON go.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};
use tempfile::NamedTempFile;

/// The code of a command whose output was lost.
const LOST: u8 = 125;

/// Text goes to standard output, or to standard error when standard output is for JSON.
pub(super) struct Sink {
    json: Json,
    /// The first error of standard output that is no reader's leave-taking.
    failed: Cell<Option<io::Error>>,
}

enum Json {
    Nowhere,
    Stdout,
    /// A file beside the one that is wanted, renamed when it is complete.
    File(Box<NamedTempFile>, PathBuf),
    /// Something that is no ordinary file, such as `/dev/stderr`, and cannot be replaced.
    Special(PathBuf),
}

impl Sink {
    /// Opens where JSON is to go: `-` is standard output.
    pub(super) fn open(json: Option<&Path>) -> Result<Self> {
        Json::open(json).map(|json| Self { json, failed: Cell::new(None) })
    }

    /// Whether JSON is wanted at all.
    pub(super) const fn is_wanted(&self) -> bool {
        !matches!(self.json, Json::Nowhere)
    }

    /// Writes text for people.
    pub(super) fn say(&self, text: &str) {
        match self.json {
            Json::Stdout => complain(text),
            _ => self.out(text),
        }
    }

    fn out(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        // A reader that went away has seen what it wanted.
        if let Some(error) = written.err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            self.failed.set(self.failed.take().or(Some(error)));
        }
    }

    /// Writes the document, if one is wanted. Gives the code to end with: that of the work, or another one when output was
    /// lost.
    pub(super) fn finish(self, document: &str, code: u8) -> Result<u8> {
        if matches!(self.json, Json::Stdout) {
            self.out(document);
        }
        self.json.write(document)?;
        let Some(error) = self.failed.into_inner() else { return Ok(code) };
        let cause = error.to_string();
        tell(&format!("write standard output: {}", cause.split(" (os error").next().unwrap_or(&cause)));
        Ok(LOST)
    }
}

impl Json {
    fn open(json: Option<&Path>) -> Result<Self> {
        let Some(path) = json else { return Ok(Self::Nowhere) };
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        if path.is_dir() {
            return Err(unwritable(path, io::ErrorKind::IsADirectory.into()));
        }
        if path.exists() && !path.is_file() {
            return Ok(Self::Special(path.to_owned()));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        if !parent.is_dir() {
            let what = "its directory does not exist".to_owned();
            return Err(Error::new(ErrorKind::InvalidArgument(what)).during_step("write").on(path.display()));
        }
        let file = NamedTempFile::new_in(parent);
        Ok(Self::File(Box::new(file.map_err(|error| unwritable(path, error))?), path.to_owned()))
    }

    fn write(self, document: &str) -> Result<()> {
        match self {
            Self::Nowhere | Self::Stdout => Ok(()),
            Self::Special(path) => std::fs::write(&path, document).map_err(|error| unwritable(&path, error)),
            Self::File(mut file, path) => file
                .write_all(document.as_bytes())
                .and_then(|()| readable_as_usual(file.as_file()))
                .and_then(|()| file.persist(&path).map(drop).map_err(|error| error.error))
                .map_err(|error| unwritable(&path, error)),
        }
    }
}

/// Writes a line of trouble to standard error, under the name that this program was called by.
pub(super) fn tell(text: &str) {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(Path::file_name).unwrap_or("conformance".as_ref());
    complain(&format!("{}: {text}\n", name.display()));
}

/// That nobody reads it must not keep the command from its work.
fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// A temporary file is for its owner alone; a report is for everybody.
fn readable_as_usual(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::InvalidArgument("the JSON file cannot be written".to_owned()))
        .during_step("write")
        .on(path.display())
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_replaces_the_old_one_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        std::fs::write(&path, "old").unwrap();
        let sink = Sink::open(Some(&path)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(sink.finish("new", 3).unwrap(), 3);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told_before_the_run() {
        let dir = tempfile::tempdir().unwrap();
        for path in [dir.path().to_owned(), dir.path().join("missing/report.json")] {
            let Err(error) = Sink::open(Some(&path)) else { panic!("{}", path.display()) };
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        }
    }
}
