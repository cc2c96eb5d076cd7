//! Directories that are there whole or not at all: filled under a hidden name, then renamed.
//!
//! Who makes or removes a hidden directory is part of its name, so that what a dead process left can be removed.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{RenameFlags, renameat_with};

use runtime_api::{Error, ErrorKind, Result};

use crate::document::cannot_write;
use crate::lock::Held;
use crate::mounts::remove_all;
use crate::process::Identity;

/// Makes a directory, locked, lets it be filled and gives it its name, which reserves the id. When this fails or is
/// dropped nothing is left.
///
/// # Errors
/// `AlreadyExists` when the name is taken; else why it cannot be written, or what `fill` says.
pub async fn reserve(
    dir: &Path,
    queue: &Arc<tokio::sync::Mutex<()>>,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<Held> {
    let hidden = Hidden(hidden_name(dir));
    let at = hidden.0.as_path();
    std::fs::create_dir(at).map_err(|error| cannot_write(at, error))?;
    let held = Held::make(at, queue).await?;
    fill(at)?;
    match renameat_with(rustix::fs::CWD, at, rustix::fs::CWD, dir, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(held),
        Err(rustix::io::Errno::EXIST) => Err(Error::new(ErrorKind::AlreadyExists)),
        Err(error) => Err(cannot_write(dir, error.into())),
    }
}

/// A directory that has not got its name; it goes when that fails, or when the caller goes away.
struct Hidden(PathBuf);

impl Drop for Hidden {
    fn drop(&mut self) {
        // Once it has its name there is nothing here any more.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A name that no container has, beside the container's own.
#[must_use]
pub fn hidden_name(dir: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let own = Identity::own();
    dir.with_file_name(format!(".{id}.{}-{}.{number}", own.pid, own.start))
}

/// Removes a directory. Its name is free from the moment it has another one; removing what is in it takes longer.
pub fn discard(dir: &Path) {
    let hidden = hidden_name(dir);
    match std::fs::rename(dir, &hidden) {
        Ok(()) => remove(&hidden),
        Err(_) => remove(dir),
    }
}

/// Something may be mounted in it, where a runtime was killed.
fn remove(dir: &Path) {
    match remove_all(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, dir = %dir.display(), "a directory is left"),
    }
}

/// Nobody else has business in a state directory: it holds specs and sockets.
///
/// # Errors
/// `PermissionDenied`; `Internal` when it cannot be made.
pub fn make_directory(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Internal("the state directory cannot be made".into()),
        };
        Error::new(kind)
            .on(format_args!("directory {}", path.display()))
            .caused_by(error)
            .hint("run as root, or choose a state directory that you may write to")
    })
}

/// Removes directories that were being made or removed by a process that is gone. Who it was is part of the name.
pub fn sweep_hidden(place: &Path) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if maker_of(&name).is_some_and(|maker| !maker.lives()) {
            remove(&entry.path());
        }
    }
}

/// Who makes or removes a directory, from its hidden name.
fn maker_of(name: &str) -> Option<Identity> {
    let (pid, start) = name.strip_prefix('.')?.rsplit('.').nth(1)?.split_once('-')?;
    Some(Identity { pid: pid.parse().ok()?, start: start.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maker_of_a_hidden_directory_is_read_back_from_its_name() {
        let name =
            hidden_name(Path::new("/s/containers/a.b-c")).file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(maker_of(&name), Some(Identity::own()));
        assert_eq!(maker_of("a.b-c"), None);
    }
}
