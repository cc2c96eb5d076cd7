//! Finding and reading the configuration files.

mod files;
mod podman;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};

use crate::native;
use crate::runtime_class::{self, RuntimeClass};
use crate::table::{HandlerTable, Note};
use crate::{containerd, crio};
use files::{read, unreadable};
pub use podman::{PodmanPlaces, containers, containers_of, containers_with};

/// Where the configuration is unless somebody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/manyrun/handlers.toml";
/// The environment variable that names another file.
pub const VARIABLE: &str = "MANYRUN_CONFIG";

/// Reads the file that was named, or the one that the environment names, or [`DEFAULT_FILE`].
///
/// A file that somebody named must exist. Where nobody named one and neither [`DEFAULT_FILE`] nor a drop-in beside it
/// exists, the answer is [`HandlerTable::built_in`].
///
/// # Errors
/// Those of [`file()`].
pub fn search(named: Option<&Path>) -> Result<HandlerTable> {
    search_from(named, std::env::var_os(VARIABLE).as_deref(), Path::new(DEFAULT_FILE))
}

/// Reads a file and its drop-ins: `handlers.toml`, then `handlers.toml.d/*.toml` in the order of their names.
///
/// # Errors
/// [`ErrorKind::NotFound`] and [`ErrorKind::PermissionDenied`] for a file that cannot be read;
/// [`ErrorKind::ConfigInvalid`] for what [`native::parse`] refuses.
pub fn file(path: &Path) -> Result<HandlerTable> {
    let mut sources = vec![read(path)?];
    for drop_in in drop_ins(path)? {
        sources.push(read(&drop_in)?);
    }
    native::parse(&sources)
}

/// Whose configuration it is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Our own: `/etc/manyrun/handlers.toml`.
    Native,
    /// `/etc/crio/crio.conf`.
    Crio,
    /// `/etc/containerd/config.toml`.
    Containerd,
    /// `/etc/containers/containers.conf`.
    Containers,
}

/// Reads a file with its drop-ins, or those of a directory.
///
/// # Errors
/// Those of [`file()`], [`crio()`], [`containerd()`] and [`containers()`].
pub fn dialect(dialect: Dialect, path: &Path) -> Result<HandlerTable> {
    match dialect {
        Dialect::Native if path.is_dir() => file(&path.join("handlers.toml")),
        Dialect::Native => file(path),
        Dialect::Crio => crio(path),
        Dialect::Containerd => containerd(path),
        Dialect::Containers => containers(path),
    }
}

/// Reads the manifests of one file, and what is worth telling about them.
///
/// # Errors
/// As [`file()`], for what [`runtime_class::parse`] refuses.
pub fn runtime_classes(path: &Path) -> Result<(Vec<RuntimeClass>, Vec<Note>)> {
    runtime_class::parse(&read(path)?)
}

/// Reads what CRI-O keeps of a container: its `state.json`, or the directory with it.
///
/// # Errors
/// As [`file()`], for what [`crio::state::parse`] refuses.
pub fn crio_state(path: &Path) -> Result<crio::state::Kept> {
    let file = if path.is_dir() { path.join("state.json") } else { path.to_owned() };
    crio::state::parse(&read(&file)?)
}

/// Reads what this host has: the native configuration if there is one, else that of CRI-O, of containerd, of podman. Where
/// none of them is configured, the answer is [`HandlerTable::built_in`].
///
/// # Errors
/// Those of reading the first that is there.
pub fn node(podman: &PodmanPlaces) -> Result<(Dialect, HandlerTable)> {
    let native = search(None)?;
    if !native.sources.is_empty() {
        return Ok((Dialect::Native, native));
    }
    let crio = Path::new("/etc/crio");
    if exists(&crio.join("crio.conf"))? || exists(&crio.join("crio.conf.d"))? {
        return self::crio(crio).map(|table| (Dialect::Crio, table));
    }
    let containerd = Path::new("/etc/containerd/config.toml");
    if exists(containerd)? {
        return self::containerd(containerd).map(|table| (Dialect::Containerd, table));
    }
    if podman::is_configured(podman)? {
        return containers_of(podman).map(|table| (Dialect::Containers, table));
    }
    Ok((Dialect::Native, native))
}

/// Reads the configuration of CRI-O: `crio.conf` and everything below `crio.conf.d` beside it, or a directory that holds
/// them, or a directory of drop-ins.
///
/// # Errors
/// As [`file()`], for what [`crio::parse`] refuses.
pub fn crio(path: &Path) -> Result<HandlerTable> {
    crio_with(path, &[])
}

/// Reads the same with what `crio` was given as `--runtimes`.
///
/// # Errors
/// As [`crio()`], for what [`crio::parse_with`] refuses.
pub fn crio_with(path: &Path, runtimes: &[String]) -> Result<HandlerTable> {
    let mut sources = Vec::new();
    let main = if path.is_dir() { path.join("crio.conf") } else { path.to_owned() };
    let drop_ins = files::beside(&main, ".d");
    if path.is_dir() && !exists(&main)? && !exists(&drop_ins)? {
        for file in files::walk(path)? {
            sources.push(read(&file)?);
        }
        return crio::parse_with(&sources, runtimes);
    }
    if !path.is_dir() || exists(&main)? {
        sources.push(read(&main)?);
    }
    for file in files::walk(&drop_ins)? {
        sources.push(read(&file)?);
    }
    crio::parse_with(&sources, runtimes)
}

/// Reads the configuration of containerd and what it imports; of a directory, its `config.toml`.
///
/// # Errors
/// As [`file()`], for what [`containerd::parse`] refuses. An import without a `*` must exist.
pub fn containerd(path: &Path) -> Result<HandlerTable> {
    let main = if path.is_dir() { path.join("config.toml") } else { path.to_owned() };
    let mut pending = VecDeque::from([(main, None)]);
    let mut seen = BTreeSet::new();
    let mut sources = Vec::new();
    while let Some((path, importer)) = pending.pop_front() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let source = read(&path).map_err(|error| imported(error, importer.as_deref()))?;
        for import in containerd::imports(&source)? {
            let folder = path.parent().unwrap_or(Path::new("/"));
            let found = files::matching(&folder.join(import))?;
            pending.extend(found.into_iter().map(|found| (found, Some(path.clone()))));
        }
        sources.push(source);
    }
    containerd::parse(&sources)
}

/// An error of a file that nobody on the command line named.
fn imported(error: Error, importer: Option<&Path>) -> Error {
    let Some(importer) = importer else { return error };
    let hint = format!("the key \"imports\" of {} names it", importer.display());
    match error.advice().map(|advice| format!("{advice}; {hint}")) {
        Some(both) => error.hint(both),
        None => error.hint(hint),
    }
}

fn search_from(named: Option<&Path>, variable: Option<&OsStr>, default: &Path) -> Result<HandlerTable> {
    if let Some(path) = named {
        return file(path);
    }
    if let Some(path) = variable.filter(|value| !value.is_empty()) {
        let hint = || format!("the variable {VARIABLE} names this file");
        return file(Path::new(path)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.hint(hint()),
            _ => error,
        });
    }
    let drop_ins = drop_ins(default)?;
    if exists(default)? {
        return file(default);
    }
    if drop_ins.is_empty() {
        return Ok(HandlerTable::built_in());
    }
    native::parse(&drop_ins.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?)
}

fn drop_ins(path: &Path) -> Result<Vec<PathBuf>> {
    let folder = files::beside(path, ".d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(unreadable(&folder, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&folder, error))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension() == Some(OsStr::new("toml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|error| unreadable(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn drop_ins_are_read_in_name_order_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("handlers.toml");
        write(&main, "default = 'x'\n[runtimes.x]\nkind = 'oci'\nargs = ['main']\n");
        let folder = dir.path().join("handlers.toml.d");
        write(&folder.join("20.toml"), "[runtimes.x]\nargs = ['20']\n");
        write(&folder.join("10.toml"), "[runtimes.x]\nargs = ['10']\n");
        write(&folder.join("30.toml~"), "broken");
        write(&folder.join(".40.toml"), "broken");
        let table = file(&main).unwrap();
        assert_eq!(table.select(None).unwrap().args, ["20"]);
        assert_eq!(table.sources, [main, folder.join("10.toml"), folder.join("20.toml")]);
    }

    #[test]
    fn the_search_goes_from_the_named_file_to_the_built_in_table() {
        let dir = tempfile::tempdir().unwrap();
        let (named, variable) = (dir.path().join("named.toml"), dir.path().join("variable.toml"));
        let default = dir.path().join("default.toml");
        assert_eq!(search_from(None, None, &default).unwrap(), HandlerTable::built_in());
        write(&dir.path().join("default.toml.d/1.toml"), "[runtimes.d]\nkind = 'oci'\n");
        assert!(search_from(None, None, &default).unwrap().handlers.keys().any(|n| n.as_str() == "d"));
        write(&variable, "[runtimes.v]\nkind = 'oci'\n");
        let found = search_from(None, Some(variable.as_os_str()), &default).unwrap();
        assert_eq!(found.sources, std::slice::from_ref(&variable));
        let missing = search_from(Some(&named), Some(variable.as_os_str()), &default).unwrap_err();
        assert!(missing.is_not_found());
        assert_eq!(missing.subject(), Some(named.display().to_string().as_str()));
    }

    #[test]
    fn a_file_that_the_environment_names_must_exist() {
        let gone = Path::new("/nonexistent/handlers.toml");
        let error = search_from(None, Some(gone.as_os_str()), gone).unwrap_err();
        assert!(error.is_not_found());
        assert!(error.report().contains(VARIABLE), "{}", error.report());
    }

    #[test]
    fn a_directory_is_taken_for_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let entry = |name: &str| format!("[crio.runtime.runtimes.{name}]\nruntime_path = '/x'\n");
        let has =
            |path: &Path, name: &str| crio(path).unwrap().handlers.keys().any(|each| each.as_str() == name);
        write(&dir.path().join("only/sub/a"), &entry("a"));
        assert!(has(&dir.path().join("only"), "a"), "a directory of drop-ins");
        write(&dir.path().join("etc/crio.conf.d/b"), &entry("b"));
        assert!(has(&dir.path().join("etc"), "b"), "drop-ins without a main file");
        assert!(crio(&dir.path().join("etc/crio.conf")).unwrap_err().is_not_found());
        let socket = dir.path().join("only/socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = crio(&dir.path().join("only")).unwrap_err();
        assert!(error.to_string().contains("no ordinary file"), "{error}");
    }

    #[test]
    fn binary_files_and_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("binary.toml");
        std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
        assert!(matches!(file(&binary).unwrap_err().kind(), ErrorKind::ConfigInvalid(_)));
        assert!(matches!(file(dir.path()).unwrap_err().kind(), ErrorKind::ConfigInvalid(_)));
    }
}
