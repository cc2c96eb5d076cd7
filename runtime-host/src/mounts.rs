//! Directories in which something may be mounted.
//!
//! A runtime that is killed leaves what it had mounted for a moment, such as a container's own root or the host's cgroups for
//! criu. To remove such a directory with everything in it would be to remove what is mounted there.

use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};

/// Removes a file, or a directory with everything in it, but nothing of what is mounted there: that is unmounted first.
///
/// # Errors
/// Those of the system. Where something is still mounted nothing is removed.
pub fn remove_all(path: &Path) -> io::Result<()> {
    let path = real(path);
    if may_hold_mounts(&path)? {
        unmount_all(&path)?;
    }
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(&path),
        removed => removed,
    }
}

/// Unmounts what is mounted at a path or below it, for somebody who is about to remove it and does not look. What is mounted
/// elsewhere stays, though it share its mounts with these.
///
/// # Errors
/// Those of the system, and one that names what is mounted there all the same.
pub fn unmount_all(path: &Path) -> io::Result<()> {
    let path = real(path);
    let mounted = mounted_at(&path)?;
    // The last one to be mounted goes first, and may uncover another.
    for (at, point) in mounted.iter().enumerate().rev() {
        // Whoever mounts a directory with all that is below makes peers of what is shared there, and what is unmounted in one of
        // them would be gone in the other. It counts where the mount is that this one lies in.
        for above in mounted[..=at].iter().filter(|above| point.starts_with(above)) {
            keep_to_itself(above)?;
        }
        unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    if !mounted.is_empty()
        && let Some(left) = mounted_at(&path)?.first()
    {
        return Err(io::Error::other(format!("something is mounted at {}", left.display())));
    }
    Ok(())
}

/// From here on what is mounted or unmounted in the mount that is seen at a path is so there only. One that lies under another
/// is not seen now, and has its turn when that is gone.
fn keep_to_itself(point: &Path) -> io::Result<()> {
    match mount_change(point, MountPropagationFlags::PRIVATE) {
        Err(Errno::INVAL | Errno::NOENT) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether something can be mounted at a path or below it that a removal would enter. The table of mounts is long on a node,
/// and most directories here hold nothing but files.
fn may_hold_mounts(path: &Path) -> io::Result<bool> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(false),
        Err(error) => return Err(error),
    };
    for entry in entries {
        if entry?.file_type()?.is_dir() {
            return Ok(true);
        }
    }
    let mount = |path: &Path| {
        let told = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
        (told.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(told.stx_mnt_id)
    };
    let above = path.parent().and_then(mount);
    Ok(above.is_none() || above != mount(path))
}

/// The kernel tells of mounts by their real paths; a link in place of the last part stays one.
fn real(path: &Path) -> PathBuf {
    match path.parent().map(Path::canonicalize) {
        Some(Ok(parent)) => path.file_name().map_or_else(|| path.to_owned(), |name| parent.join(name)),
        _ => path.to_owned(),
    }
}

/// Where something is mounted at a path or below it, in the order in which they were made.
fn mounted_at(path: &Path) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let points =
        table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    Ok(points.map(unescaped).filter(|point| point.starts_with(path)).collect())
}

/// A path as it stands in the table, where some letters are written as three octal digits.
fn unescaped(text: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let letter = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(letter.unwrap_or(*first));
        rest = if letter.is_some() { &after[3..] } else { after };
    }
    std::ffi::OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};

    #[test]
    fn paths_are_read_as_they_are() {
        assert_eq!(unescaped(b"/a\\040b\\134c\\x"), Path::new("/a b\\c\\x"));
        assert_eq!(unescaped(b"/plain"), Path::new("/plain"));
    }

    #[test]
    fn what_is_mounted_in_a_directory_outlives_it() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: only root can mount");
            return;
        }
        let at = tempfile::tempdir().unwrap();
        let (kept, gone) = (at.path().join("kept"), at.path().join("to be gone"));
        std::fs::create_dir_all(gone.join("in/it")).unwrap();
        std::fs::create_dir(&kept).unwrap();
        std::fs::write(kept.join("file"), "kept").unwrap();
        std::fs::write(gone.join("other"), "").unwrap();
        // Twice, one over the other.
        for _ in 0..2 {
            mount_bind(&kept, gone.join("in/it")).unwrap();
        }
        assert!(gone.join("in/it/file").exists());
        assert!(may_hold_mounts(&gone).unwrap() && may_hold_mounts(&gone.join("in/it")).unwrap());
        assert!(!may_hold_mounts(&kept).unwrap());
        remove_all(&gone).unwrap();
        assert!(!gone.exists());
        assert_eq!(std::fs::read(kept.join("file")).unwrap(), b"kept");
        remove_all(&kept.join("file")).unwrap();
        assert!(!kept.join("file").exists());
        assert_eq!(remove_all(&gone).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_user_has_mounted_stays_where_its_copy_is_removed() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: only root can mount");
            return;
        }
        let at = tempfile::tempdir().unwrap();
        // A root file system that is shared, with a volume in it, as on a host with systemd.
        let (root, gone) = (at.path().join("root"), at.path().join("gone"));
        let copy = gone.join("copy");
        let volume = root.join("deep/volume");
        let tmpfs = |at: &Path| mount("none", at, "tmpfs", MountFlags::empty(), None).unwrap();
        for dir in [&root, &copy] {
            std::fs::create_dir_all(dir).unwrap();
        }
        tmpfs(&root);
        mount_change(&root, MountPropagationFlags::SHARED).unwrap();
        std::fs::create_dir_all(&volume).unwrap();
        tmpfs(&volume);
        std::fs::write(volume.join("file"), "kept").unwrap();
        // As a runtime mounts it for a moment, and another one over what that had left.
        for _ in 0..2 {
            mount_bind_recursive(&root, &copy).unwrap();
        }
        assert!(copy.join("deep/volume/file").exists());
        remove_all(&gone).unwrap();
        let kept = std::fs::read(volume.join("file"));
        unmount_all(&root).unwrap();
        assert_eq!(kept.unwrap(), b"kept");
        assert!(!gone.exists());
    }
}
