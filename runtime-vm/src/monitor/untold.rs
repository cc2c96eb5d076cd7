//! What a monitor leaves beside a program when it gives it up: nobody else would find out, where the host sees no process.

use std::path::{Path, PathBuf};

use runtime_host::document::replace;

/// Why a monitor will not tell how a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untold {
    /// The shim is gone.
    Shim,
    /// The shim does not know the program.
    Program,
}

impl Untold {
    fn word(self) -> &'static str {
        match self {
            Self::Shim => "shim",
            Self::Program => "program",
        }
    }

    /// Writes it down in the directory of a program.
    pub(super) fn write(self, dir: &Path) -> std::io::Result<()> {
        replace(&path(dir), self.word().as_bytes())
    }

    /// Reads what was written down, if the program was given up.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        let word = std::fs::read_to_string(path(dir)).ok()?;
        [Self::Shim, Self::Program].into_iter().find(|each| each.word() == word)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("untold")
}
