//! Reading single files, and finding those in a directory.

use std::io;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};

use crate::source::Source;
use crate::{glob, regular_file};

/// A configuration of megabytes is a mistake, such as a disk image.
const LIMIT: u64 = 4 << 20;

/// More files than this in one directory of drop-ins are a mistake, such as the root of a file system.
const MOST_FILES: usize = 10_000;

/// The path with something behind its name: `crio.conf.d` beside `crio.conf`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Every file below a directory, each directory in the order of its names. A directory that is not there is empty. Links
/// to directories are not followed, but for the first one; they are taken for files.
pub(super) fn walk(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if directory.try_exists().map_err(|error| unreadable(directory, error))? {
        walk_into(directory, &mut files)?;
    }
    Ok(files)
}

/// The path without needless parts, or, where it holds a `*`, all paths that it describes, in order. A directory that
/// cannot be read describes nothing, as in Go.
pub(super) fn matching(pattern: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    let is_pattern = pattern.to_string_lossy().contains('*');
    for part in pattern.components() {
        let part = part.as_os_str();
        match part.to_str().filter(|part| is_pattern && glob::is_pattern(part)) {
            None if part == "." => {}
            None if part == ".." => found.iter_mut().for_each(|path| {
                path.pop();
            }),
            None => found.iter_mut().for_each(|path| path.push(part)),
            Some(part) => {
                found = found.iter().flat_map(|folder| children(folder, part)).collect();
                if found.len() > MOST_FILES {
                    let what = format!("it describes more than {MOST_FILES} files");
                    return Err(Error::new(ErrorKind::ConfigInvalid(what))
                        .during_step("read handlers")
                        .on(pattern.display()));
                }
            }
        }
    }
    if is_pattern {
        found.retain(|path| path.exists());
    }
    Ok(found)
}

fn children(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| glob::matches(pattern, name) == Some(true))
        })
        .collect();
    found.sort();
    found
}

fn walk_into(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, error))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(directory, error))?;
        let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), error))?;
        if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
            // To read a pipe could take for ever.
            return Err(Error::new(ErrorKind::ConfigInvalid("it is no ordinary file".to_owned()))
                .during_step("read handlers")
                .on(entry.path().display()));
        }
        found.push((entry.path(), kind.is_dir()));
    }
    found.sort();
    for (path, is_directory) in found {
        if is_directory {
            walk_into(&path, files)?;
        } else {
            files.push(path);
        }
        if files.len() > MOST_FILES {
            let what = format!("there are more than {MOST_FILES} files");
            return Err(Error::new(ErrorKind::ConfigInvalid(what))
                .during_step("read handlers")
                .on(directory.display()));
        }
    }
    Ok(())
}

pub(super) fn read(path: &Path) -> Result<Source> {
    let text = regular_file::read(path, LIMIT).map_err(|error| unreadable(path, error))?;
    let text = String::from_utf8(text).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        let what = format!("it is not text in UTF-8: line {line} has bytes that are none");
        Error::new(ErrorKind::ConfigInvalid(what)).during_step("read handlers").on(path.display())
    })?;
    Ok(Source::new(path, text))
}

pub(super) fn unreadable(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::InvalidData => ErrorKind::ConfigInvalid(error.to_string()),
        _ => ErrorKind::ConfigInvalid("the file cannot be read".to_owned()),
    };
    let found = Error::new(kind).during_step("read handlers").on(path.display());
    match error.kind() {
        io::ErrorKind::InvalidData => found,
        io::ErrorKind::PermissionDenied => {
            found.caused_by(error).hint("read it as root, or let this user read it")
        }
        io::ErrorKind::NotFound => match std::fs::read_link(path) {
            Ok(target) => {
                let why = format!("it is a link to {}, which is not there", target.display());
                found.caused_by(error).hint(why)
            }
            Err(_) => found.caused_by(error),
        },
        _ => found.caused_by(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_file_from_being_read_is_told_with_what_to_do() {
        let told = |kind| unreadable(Path::new("/etc/x"), io::Error::from(kind)).report();
        let denied = told(io::ErrorKind::PermissionDenied);
        assert!(denied.contains("/etc/x: permission denied") && denied.contains("as root"), "{denied}");
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(read(&pipe).unwrap_err().report().ends_with("it is not a regular file"));
        let link = place.path().join("link");
        std::os::unix::fs::symlink("/no/such/file", &link).unwrap();
        assert!(read(&link).unwrap_err().report().contains("a link to /no/such/file, which is not there"));
        std::fs::write(place.path().join("bytes"), b"a\nb\n\xff\n").unwrap();
        assert!(read(&place.path().join("bytes")).unwrap_err().report().contains("line 3 has bytes"));
    }
}
