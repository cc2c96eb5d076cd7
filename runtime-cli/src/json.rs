//! Where a command's text and its JSON document go.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};
use serde_json::Value;

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

    /// Writes text for people. A reader that went away is no failure of the command.
    pub(crate) fn say(&self, text: &str) {
        let _ = match self {
            Self::Stdout => writeln!(std::io::stderr(), "{text}"),
            _ => writeln!(std::io::stdout(), "{text}"),
        };
    }

    /// Writes text that is the command's result: who installs it must know that it is whole. A reader that went away does.
    pub(crate) fn give(&self, text: &str) -> Result<()> {
        let written = match self {
            Self::Stdout => writeln!(std::io::stderr(), "{text}"),
            _ => writeln!(std::io::stdout(), "{text}").and_then(|()| std::io::stdout().flush()),
        };
        match written {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::new(ErrorKind::Unavailable("the result cannot be written".to_owned()))
                    .during_step("write")
                    .caused_by(error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn write(&self, document: &Value) -> Result<()> {
        let text = format!("{document:#}\n");
        match self {
            Self::None => Ok(()),
            Self::Stdout => std::io::stdout()
                .write_all(text.as_bytes())
                .map_err(|error| unwritable(Path::new("standard output"), error)),
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
