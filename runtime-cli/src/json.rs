//! Where a command's text and its JSON document go.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::print;

/// The place that `--json` names. It is checked before the work begins: a long run must not end with a document that
/// cannot be written.
#[derive(Debug)]
pub(crate) enum Output {
    /// No document is wanted.
    None,
    /// Standard output; text then goes to standard error.
    Stdout,
    /// A file, which is replaced as a whole.
    File(PathBuf),
}

impl Output {
    pub(crate) fn open(json: Option<&Path>) -> Result<Self> {
        let Some(path) = json else { return Ok(Self::None) };
        if path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        let folder = folder(path);
        if path.is_dir() || !folder.is_dir() {
            let what = if path.is_dir() { "it is a directory" } else { "its directory does not exist" };
            return Err(Error::new(ErrorKind::InvalidArgument(what.to_owned()))
                .during_step("write")
                .on(path.display()));
        }
        Ok(Self::File(path.to_owned()))
    }

    /// Whether standard output belongs to the document.
    pub(crate) const fn takes_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// Writes text for people.
    pub(crate) fn say(&self, text: &str) {
        let line = format!("{text}\n");
        match self {
            Self::Stdout => print::err(line.as_bytes()),
            _ => print::out(line.as_bytes()),
        }
    }

    pub(crate) fn write(&self, document: &Value) -> Result<()> {
        let text = format!("{document:#}\n");
        match self {
            Self::None => Ok(()),
            Self::Stdout => {
                print::out(text.as_bytes());
                Ok(())
            }
            // What is no ordinary file, such as /dev/stderr, cannot be replaced.
            Self::File(path) if path.exists() && !path.is_file() => {
                std::fs::write(path, text).map_err(|error| unwritable(path, error))
            }
            Self::File(path) => replace(path, &text).map_err(|error| unwritable(path, error)),
        }
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut aside = tempfile::NamedTempFile::new_in(folder(path))?;
    aside.write_all(text.as_bytes())?;
    aside.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    aside.persist(path).map(drop).map_err(|error| error.error)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn unwritable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::InvalidArgument("the JSON document cannot be written".to_owned()))
        .during_step("write")
        .on(path.display())
        .caused_by(error)
}
