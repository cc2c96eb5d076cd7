//! Images of checkpoints: made out of sight, moved into place when complete, and checked before a restore.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use runtime_api::{Error, ErrorKind, Result};

use crate::document::cannot_write;
use crate::owner::Owner;

/// An image in the making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePlace {
    /// Where it is to be.
    pub path: PathBuf,
    /// Where it is until it is complete: beside it, so that one rename moves it.
    pub hidden: PathBuf,
}

/// A checkpoint under way, and whose it is: what stands in the record of its container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPhase {
    /// Who makes it.
    pub owner: Owner,
    /// Where the image goes.
    pub place: ImagePlace,
    /// Whether the container was paused before.
    pub was_paused: bool,
    /// Whether the container ends with it.
    pub ends: bool,
    /// Whether the container was saved; nothing while nobody has seen what came of it. It is written down before the image
    /// gets its name or goes: what is at its path says nothing, for an image of somebody else may be there.
    #[serde(default)]
    pub saved: Option<bool>,
}

impl ImagePlace {
    /// Checks a path and plans how an image gets there. Nothing is made.
    ///
    /// # Errors
    /// `InvalidArgument`, `ConfigInvalid` (no such parent directory), `AlreadyExists`.
    pub fn plan(image: &Path) -> Result<Self> {
        let named = |error: Error| error.on(format_args!("image {}", image.display()));
        let name = match image.components().next_back() {
            Some(Component::Normal(name)) => name.to_string_lossy().into_owned(),
            _ => {
                return Err(named(Error::new(ErrorKind::InvalidArgument(
                    "the path has no last part".into(),
                ))));
            }
        };
        let above = match image.parent() {
            Some(above) if !above.as_os_str().is_empty() => above,
            _ => Path::new("."),
        };
        let above = above.canonicalize().map_err(|error| {
            named(Error::new(ErrorKind::ConfigInvalid("its directory does not exist".into())))
                .caused_by(error)
                .hint("make the directory first")
        })?;
        let path = above.join(&name);
        if path.symlink_metadata().is_ok() {
            return Err(named(Error::new(ErrorKind::AlreadyExists)).hint("name a path that does not exist"));
        }
        let hidden = Self::beside(&path)?;
        Ok(Self { path, hidden })
    }

    /// A path beside another one, for what is to be renamed to it.
    ///
    /// # Errors
    /// `InvalidArgument` for a path without a last part.
    pub fn beside(path: &Path) -> Result<PathBuf> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let Some(name) = path.file_name() else {
            let what = format!("{} has no last part", path.display());
            return Err(Error::new(ErrorKind::InvalidArgument(what)));
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(path.with_file_name(format!(".{}.{}.{number}", name.to_string_lossy(), std::process::id())))
    }

    /// Makes the hidden directory. It will hold the memory of programs: nobody else may look.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn make(&self) -> Result<()> {
        let made = std::fs::DirBuilder::new().mode(0o700).create(&self.hidden);
        made.map_err(|error| cannot_write(&self.hidden, error))
    }

    /// Gives a complete image its name.
    ///
    /// # Errors
    /// `AlreadyExists` when something else has the name by now; `Internal` when it cannot be moved.
    pub fn publish(&self) -> Result<()> {
        let (from, to) = (&self.hidden, &self.path);
        // An earlier try may have come this far.
        if !from.exists() && to.exists() {
            return Ok(());
        }
        renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, RenameFlags::NOREPLACE).map_err(|error| {
            let kind = match error {
                rustix::io::Errno::EXIST => ErrorKind::AlreadyExists,
                _ => ErrorKind::Internal("the image cannot be moved into its place".into()),
            };
            Error::new(kind)
                .on(format_args!("image {}", to.display()))
                .caused_by(std::io::Error::from(error))
                .hint(format!("the image is complete, at {}", from.display()))
        })
    }

    /// Removes what was made of it.
    pub fn discard(&self) {
        // Gone is as good.
        let _ = std::fs::remove_dir_all(&self.hidden);
    }

    /// The path of an earlier image as runtimes want it: relative to the new one.
    ///
    /// # Errors
    /// `ConfigInvalid` when there is no such image.
    pub fn to_parent(&self, parent: &Path) -> Result<PathBuf> {
        let real = parent.canonicalize().ok().filter(|path| path.is_dir()).ok_or_else(|| {
            Error::new(ErrorKind::ConfigInvalid("there is no such image to build on".into()))
                .on(format_args!("image {}", parent.display()))
        })?;
        let here: Vec<Component<'_>> = self.path.components().collect();
        let there: Vec<Component<'_>> = real.components().collect();
        let shared = here.iter().zip(&there).take_while(|(a, b)| a == b).count();
        let up = here[shared..].iter().map(|_| Component::ParentDir);
        Ok(up.chain(there[shared..].iter().copied()).collect())
    }
}

/// The real path of an image that a container can be continued from. Every image of its maker has the file `landmark`.
///
/// # Errors
/// `ConfigInvalid`, which names the image and what is wrong with it.
pub fn check(image: &Path, landmark: &str) -> Result<PathBuf> {
    let invalid = |what: String| {
        Error::new(ErrorKind::ConfigInvalid(what))
            .on(format_args!("image {}", image.display()))
            .hint("an image is a directory that a checkpoint made")
    };
    let real =
        image.canonicalize().map_err(|error| invalid("it cannot be opened".into()).caused_by(error))?;
    match std::fs::symlink_metadata(real.join(landmark)) {
        Ok(file) if file.is_file() && file.len() > 0 => Ok(real),
        Ok(_) => Err(invalid(format!("its {landmark} is no file or empty"))),
        Err(error) => Err(invalid(format!("it is no complete image: it has no {landmark}")).caused_by(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_seen_only_when_it_is_complete() {
        let at = tempfile::tempdir().unwrap();
        let place = ImagePlace::plan(&at.path().join("one")).unwrap();
        place.make().unwrap();
        std::fs::write(place.hidden.join("inventory.img"), "x").unwrap();
        assert!(!place.path.exists());
        place.publish().unwrap();
        place.publish().unwrap();
        check(&place.path, "inventory.img").unwrap();
        assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 1);
        let error = ImagePlace::plan(&place.path).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::AlreadyExists);
        let taken = ImagePlace { path: place.path.clone(), hidden: at.path().join(".two") };
        taken.make().unwrap();
        assert_eq!(taken.publish().unwrap_err().kind(), &ErrorKind::AlreadyExists);
        taken.discard();
        assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 1);
    }

    #[test]
    fn bad_places_and_broken_images_are_named() {
        let at = tempfile::tempdir().unwrap();
        let kind = |image: &Path| ImagePlace::plan(image).unwrap_err();
        assert!(matches!(kind(Path::new("/")).kind(), ErrorKind::InvalidArgument(_)));
        assert!(matches!(kind(&at.path().join("..")).kind(), ErrorKind::InvalidArgument(_)));
        assert!(matches!(kind(&at.path().join("no/where")).kind(), ErrorKind::ConfigInvalid(_)));
        for make in [false, true] {
            if make {
                std::fs::write(at.path().join("inventory.img"), "").unwrap();
            }
            let error = check(at.path(), "inventory.img").unwrap_err();
            assert!(error.to_string().contains("inventory.img"), "{error}");
        }
        assert!(check(&at.path().join("gone"), "checkpoint.img").unwrap_err().to_string().contains("gone"));
    }

    #[test]
    fn a_parent_is_named_from_the_new_image() {
        let at = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(at.path().join("a/pre")).unwrap();
        let place = ImagePlace::plan(&at.path().join("one")).unwrap();
        assert_eq!(place.to_parent(&at.path().join("a/pre")).unwrap(), Path::new("../a/pre"));
        let place = ImagePlace::plan(&at.path().join("a/two")).unwrap();
        assert_eq!(place.to_parent(&at.path().join("a/../a/pre")).unwrap(), Path::new("../pre"));
        assert!(place.to_parent(&at.path().join("none")).is_err());
    }
}
