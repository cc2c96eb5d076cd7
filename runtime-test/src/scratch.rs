//! The directory in which one clause works.

use std::fs;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};

/// A fresh directory for one clause: `state/` for the runtime, `bundles/` and `logs/` for the clause.
///
/// Its name ends in a token that no other scratch has. Ids of containers carry the token too, so that whatever is
/// found later with the token in its name, command line, mount or cgroup belongs to this clause.
///
/// It is not removed when the value is dropped: the suite removes it once the clause has passed, and keeps it
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    root: PathBuf,
    token: String,
}

const PREFIX: &str = "mr-";

impl Scratch {
    /// Makes a fresh directory below the system's directory for temporary files.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when it cannot be made.
    pub fn new() -> Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    /// Makes a fresh directory in memory where the host has such a place, and otherwise as [`Scratch::new`] does. It is
    /// for runtimes on virtual time, which run no program from it.
    ///
    /// # Errors
    /// As [`Scratch::new`].
    pub fn new_in_memory() -> Result<Self> {
        Self::new_in(Path::new("/dev/shm")).or_else(|_| Self::new())
    }

    fn new_in(parent: &Path) -> Result<Self> {
        // A short name: runtimes put sockets below it, and their paths are limited to 108 bytes.
        let made = tempfile::Builder::new().prefix(PREFIX).rand_bytes(10).tempdir_in(parent);
        let dir = made.map_err(|error| unusable(parent, error))?;
        let scratch = Self::open(&dir.keep())?;
        for part in [scratch.state_dir(), scratch.bundles_dir(), scratch.logs_dir()] {
            fs::create_dir(&part).map_err(|error| unusable(&part, error))?;
        }
        Ok(scratch)
    }

    /// The scratch at a directory that [`Scratch::new`] made, perhaps in another process.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] when it is not one.
    pub fn open(root: &Path) -> Result<Self> {
        let resolved = root.canonicalize().map_err(|error| unusable(root, error))?;
        let name = resolved.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let token = name.strip_prefix(PREFIX).filter(|token| token.len() >= 10);
        match token.map(str::to_owned) {
            Some(token) => Ok(Self { root: resolved, token }),
            None => Err(Error::new(ErrorKind::InvalidArgument(format!(
                "{} is not a scratch directory of this suite",
                root.display()
            )))),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// For the runtime's records. A reopened runtime gets the same one.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("state")
    }

    /// For bundles.
    #[must_use]
    pub fn bundles_dir(&self) -> PathBuf {
        self.root.join("bundles")
    }

    /// For logs.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What marks everything that belongs to this scratch: letters and digits, unique.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Makes a directory below `bundles/` that nobody uses yet.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when it cannot be made.
    pub fn fresh_bundle_dir(&self) -> Result<PathBuf> {
        let parent = self.bundles_dir();
        for number in 1..10_000 {
            let path = parent.join(number.to_string());
            match fs::create_dir(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unusable(&path, error)),
            }
        }
        Err(Error::new(ErrorKind::Exhausted("10000 bundles in one scratch".to_owned())))
    }

    /// Removes the directory and everything below it.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] with the file that could not be removed.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.root).map_err(|error| unusable(&self.root, error))
    }
}

fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Internal("the scratch directory cannot be used".to_owned()))
        .during_step("prepare a clause")
        .on(path.display())
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_is_found_again_by_its_path_and_goes_when_told() {
        let scratch = Scratch::new().unwrap();
        assert_eq!(Scratch::open(scratch.root()).unwrap(), scratch);
        assert!(scratch.state_dir().is_dir() && scratch.logs_dir().is_dir());
        let first = scratch.fresh_bundle_dir().unwrap();
        assert_ne!(first, scratch.fresh_bundle_dir().unwrap());
        let root = scratch.root().to_owned();
        scratch.remove().unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn a_directory_of_somebody_else_is_refused() {
        let error = Scratch::open(Path::new("/tmp")).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)));
    }
}
