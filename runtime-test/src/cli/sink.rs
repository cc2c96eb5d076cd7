//! Where text and JSON go.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};
use tempfile::NamedTempFile;

/// Text goes to standard output, or to standard error when standard output is for JSON.
pub(super) struct Sink(Json);

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
        let Some(path) = json else { return Ok(Self(Json::Nowhere)) };
        if path == Path::new("-") {
            return Ok(Self(Json::Stdout));
        }
        if path.is_dir() {
            return Err(unwritable(path, std::io::ErrorKind::IsADirectory.into()));
        }
        if path.exists() && !path.is_file() {
            return Ok(Self(Json::Special(path.to_owned())));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = NamedTempFile::new_in(parent.unwrap_or(Path::new(".")));
        Ok(Self(Json::File(Box::new(file.map_err(|error| unwritable(path, error))?), path.to_owned())))
    }

    /// Whether JSON is wanted at all.
    pub(super) const fn is_wanted(&self) -> bool {
        !matches!(self.0, Json::Nowhere)
    }

    /// Writes text for people. A reader that went away does not spoil the run.
    pub(super) fn say(&self, text: &str) {
        let _ = match self.0 {
            Json::Stdout => std::io::stderr().lock().write_all(text.as_bytes()),
            _ => std::io::stdout().lock().write_all(text.as_bytes()),
        };
    }

    /// Writes the document, if one is wanted.
    pub(super) fn finish(self, document: &str) -> Result<()> {
        match self.0 {
            Json::Nowhere => Ok(()),
            Json::Stdout => std::io::stdout()
                .lock()
                .write_all(document.as_bytes())
                .map_err(|error| unwritable(Path::new("standard output"), error)),
            Json::Special(path) => std::fs::write(&path, document).map_err(|error| unwritable(&path, error)),
            Json::File(mut file, path) => file
                .write_all(document.as_bytes())
                .and_then(|()| readable_as_usual(file.as_file()))
                .and_then(|()| file.persist(&path).map(drop).map_err(|error| error.error))
                .map_err(|error| unwritable(&path, error)),
        }
    }
}

/// A temporary file is for its owner alone; a report is for everybody.
fn readable_as_usual(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
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
        sink.finish("new").unwrap();
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
