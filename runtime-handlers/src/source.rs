//! Text of configuration files, before anybody has looked at it.

use std::path::PathBuf;

/// The text of one file.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, for messages; it is not opened.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

impl Source {
    /// `text`, as read from `path`.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into() }
    }
}
