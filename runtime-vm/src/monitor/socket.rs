//! Sockets that have a path, however long it is.
//!
//! A socket address holds 107 bytes of path. A longer one is reached through a descriptor of its directory.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

/// A short path to a file, good for as long as this lives.
pub(super) struct Short {
    directory: OwnedFd,
    name: PathBuf,
}

impl Short {
    /// A short path to `path`, whose directory must be there.
    pub(super) fn to(path: &Path) -> io::Result<Self> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(parent, flags, Mode::empty())?;
        Ok(Self { directory, name: path.file_name().unwrap_or_default().into() })
    }

    /// The path for this process.
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(&self.name)
    }

    /// The path for other processes of the same user.
    pub(super) fn path_for_others(&self) -> PathBuf {
        let process = std::process::id().to_string();
        let number = self.directory.as_raw_fd().to_string();
        ["/proc", &process, "fd", &number].iter().collect::<PathBuf>().join(&self.name)
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().fmt(f)
    }
}

/// A file in the file system that goes with this value.
#[derive(Debug)]
pub(crate) struct Placed(PathBuf);

impl Placed {
    pub(super) const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        // What is not there need not be removed; what cannot be removed goes with its directory.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes a socket with `bind` and gives it its path and its mode in one step: nobody can reach it with another mode, and
/// one that a dead process left there is replaced.
pub(super) fn place<T>(
    path: &Path,
    mode: u32,
    bind: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<(T, Placed)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = OsStr::new(".").to_os_string();
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let fresh = Placed::at(path.with_file_name(name));
    let _ = std::fs::remove_file(fresh.path());
    let socket = bind(&Short::to(fresh.path())?.path())?;
    std::fs::set_permissions(fresh.path(), std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(fresh.path(), path)?;
    Ok((socket, Placed::at(path.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_long_path_is_no_hindrance_and_a_stale_socket_is_replaced() {
        let at = tempfile::tempdir().unwrap();
        let deep = at.path().join("d".repeat(120)).join("e".repeat(120));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("socket");
        std::fs::write(&path, "stale").unwrap();
        let (listener, placed) = place(&path, 0o600, |path| UnixListener::bind(path)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let short = Short::to(&path).unwrap();
        for path in [short.path(), short.path_for_others()] {
            let _client = UnixStream::connect(path).unwrap();
            listener.accept().unwrap();
        }
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 1, "nothing else is left there");
        drop(placed);
        assert!(!path.exists());
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let at = tempfile::tempdir().unwrap();
        std::fs::create_dir(at.path().join("socket")).unwrap();
        std::fs::write(at.path().join("socket/full"), "").unwrap();
        place(&at.path().join("socket"), 0o600, |path| UnixListener::bind(path)).unwrap_err();
        assert_eq!(std::fs::read_dir(at.path()).unwrap().count(), 1);
        assert!(Short::to(&at.path().join("missing/socket")).is_err());
    }
}
