//! Where podman has its configuration.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};

use super::files::{beside, read, unreadable};
use crate::containers;
use crate::resolve::ThisHost;
use crate::source::Source;
use crate::table::HandlerTable;

/// What decides which files podman reads.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodmanPlaces {
    /// `CONTAINERS_CONF`: this file alone is read.
    pub only: Option<PathBuf>,
    /// `CONTAINERS_CONF_OVERRIDE`: this file is read last, whatever else there is.
    pub last: Option<PathBuf>,
    /// The user's main file. Of the main files only the first that is there is read, but the drop-ins of all.
    pub home: Option<PathBuf>,
    /// The main files for all users, the most important one first.
    pub system: Vec<PathBuf>,
    /// What podman was given as `--module`: files that are read after the drop-ins. Paths that are not absolute are looked for
    /// in `containers.conf.modules` beside each main file.
    pub modules: Vec<PathBuf>,
    /// Whose drop-ins count beside those for all: none for root.
    pub user: Option<u32>,
}

impl PodmanPlaces {
    /// Those of this process, which runs as `user` unless it is root.
    #[must_use]
    pub fn of_the_environment(user: Option<u32>) -> Self {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
        let system = ["/etc/containers/containers.conf", "/usr/share/containers/containers.conf"];
        Self {
            only: variable("CONTAINERS_CONF"),
            last: variable("CONTAINERS_CONF_OVERRIDE"),
            home: home.map(|home| home.join("containers/containers.conf")),
            system: system.map(PathBuf::from).to_vec(),
            modules: Vec::new(),
            user,
        }
    }

    /// The files, in the order in which they are laid over each other. Those that a variable names must be there.
    fn sources(&self) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        if let Some(only) = &self.only {
            sources.push(named(only, "CONTAINERS_CONF")?);
        } else {
            for path in self.home.iter().chain(&self.system) {
                match read(path) {
                    Ok(source) => {
                        sources.push(source);
                        break;
                    }
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            for path in self.drop_ins()? {
                sources.push(read(&path)?);
            }
        }
        for module in &self.modules {
            sources.push(module_of(module, self.home.iter().chain(&self.system))?);
        }
        if let Some(last) = &self.last {
            sources.push(named(last, "CONTAINERS_CONF_OVERRIDE")?);
        }
        Ok(sources)
    }

    /// By name; of two with one name that of the more important place.
    fn drop_ins(&self) -> Result<Vec<PathBuf>> {
        let mut by_name = BTreeMap::new();
        for path in self.system.iter().rev() {
            let special = if self.user.is_some() { "rootless" } else { "rootful" };
            let special = beside(&path.with_extension(format!("{special}.conf")), ".d");
            let own = self.user.map(|user| special.join(user.to_string()));
            for folder in [beside(path, ".d"), special].into_iter().chain(own) {
                by_name.extend(conf_files(&folder)?);
            }
        }
        if let Some(home) = &self.home {
            by_name.extend(conf_files(&beside(home, ".d"))?);
        }
        Ok(by_name.into_values().collect())
    }
}

/// Reads `containers.conf` and the drop-ins beside it; of a directory, the one in it. What else podman would read is not
/// looked at, and neither is the environment.
///
/// # Errors
/// As [`file()`](super::file()), for what [`containers::parse`] refuses.
pub fn containers(path: &Path) -> Result<HandlerTable> {
    containers_with(path, &[])
}

/// Reads the same with modules; those that are not absolute are looked for in `containers.conf.modules` beside it.
///
/// # Errors
/// As [`containers()`]. A module must exist.
pub fn containers_with(path: &Path, modules: &[PathBuf]) -> Result<HandlerTable> {
    let main = if path.is_dir() { path.join("containers.conf") } else { path.to_owned() };
    let folder = beside(&main, ".d");
    let mut sources = Vec::new();
    if !path.is_dir() || main.exists() || !folder.exists() {
        sources.push(read(&main)?);
    }
    for file in conf_files(&folder)?.into_values() {
        sources.push(read(&file)?);
    }
    for module in modules {
        sources.push(module_of(module, [&main])?);
    }
    containers::parse(&sources, &ThisHost)
}

/// Reads what podman would read.
///
/// # Errors
/// As [`containers()`]. A file that a variable names must exist.
pub fn containers_of(places: &PodmanPlaces) -> Result<HandlerTable> {
    containers::parse(&places.sources()?, &ThisHost)
}

/// Whether any file of podman's configuration is there.
pub(super) fn is_configured(places: &PodmanPlaces) -> Result<bool> {
    Ok(!places.sources()?.is_empty())
}

/// A module: the first that is there, of those beside the main files unless it is absolute.
fn module_of<'a>(module: &Path, mains: impl IntoIterator<Item = &'a PathBuf>) -> Result<Source> {
    if module.is_absolute() {
        return read(module);
    }
    let folders: Vec<_> = mains.into_iter().map(|main| beside(main, ".modules")).collect();
    for folder in &folders {
        match read(&folder.join(module)) {
            Err(error) if error.is_not_found() => {}
            found => return found,
        }
    }
    let list: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(Error::new(ErrorKind::NotFound)
        .during_step("read handlers")
        .on(format_args!("the module {:?}", module.display().to_string()))
        .hint(format!("it was looked for in {}", list.join(", "))))
}

fn named(path: &Path, variable: &str) -> Result<Source> {
    read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => error.hint(format!("the variable {variable} names this file")),
        _ => error,
    })
}

fn conf_files(folder: &Path) -> Result<BTreeMap<std::ffi::OsString, PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(BTreeMap::new());
        }
        Err(error) => return Err(unreadable(folder, error)),
    };
    let mut files = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        if path.extension() == Some(OsStr::new("conf")) && path.is_file() {
            files.insert(path.file_name().unwrap_or_default().to_owned(), path);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_in_podmans_order() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, flag: &str| {
            let path = place.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = format!(
                "[engine]\nruntime = 'crun'\n[engine.runtimes_flags]\n{flag} = ['{name}']\ncrun = ['{name}']\n"
            );
            std::fs::write(&path, text).unwrap();
            path
        };
        let etc = write("etc/containers.conf", "runc");
        let usr = write("usr/containers.conf", "runsc");
        write("etc/containers.conf.d/50.conf", "youki");
        write("usr/containers.conf.d/50.conf", "youki");
        write("usr/containers.conf.d/60.conf", "krun");
        write("etc/containers.rootless.conf.d/70.conf", "kata");
        write("etc/containers.rootless.conf.d/7/10.conf", "runj");
        write("etc/containers.conf.d/90.txt", "ocijail");
        let mut places = PodmanPlaces {
            home: Some(place.path().join("home/containers.conf")),
            system: vec![etc, usr],
            user: Some(7),
            ..PodmanPlaces::default()
        };
        let names = |places: &PodmanPlaces| -> Vec<String> {
            let sources = places.sources().unwrap();
            let short =
                |source: &Source| source.path.strip_prefix(place.path()).unwrap().display().to_string();
            sources.iter().map(short).collect()
        };
        assert_eq!(
            names(&places),
            [
                "etc/containers.conf",
                "etc/containers.rootless.conf.d/7/10.conf",
                "etc/containers.conf.d/50.conf",
                "usr/containers.conf.d/60.conf",
                "etc/containers.rootless.conf.d/70.conf"
            ]
        );
        places.user = None;
        assert_eq!(names(&places).len(), 3, "nothing for users without root");
        let absolute = write("elsewhere/abs.conf", "runc");
        write("usr/containers.conf.modules/fast/a.conf", "runc");
        write("etc/containers.conf.modules/b.conf", "runc");
        write("usr/containers.conf.modules/b.conf", "runc");
        places.modules = vec!["fast/a.conf".into(), absolute, "b.conf".into()];
        assert_eq!(
            names(&places)[3..],
            [
                "usr/containers.conf.modules/fast/a.conf",
                "elsewhere/abs.conf",
                "etc/containers.conf.modules/b.conf"
            ]
        );
        let etc = place.path().join("etc");
        let table = containers_with(&etc, &["b.conf".into()]).unwrap();
        assert!(table.sources.last().unwrap().ends_with("containers.conf.modules/b.conf"));
        let gone = containers_with(&etc, &["fast/a.conf".into()]).unwrap_err();
        assert!(
            gone.is_not_found() && gone.report().contains("etc/containers.conf.modules"),
            "{}",
            gone.report()
        );
        places.modules.clear();
        places.last = Some(write("last.conf", "runc"));
        assert_eq!(names(&places).last().unwrap(), "last.conf");
        places.only = Some(write("only.conf", "runc"));
        assert_eq!(names(&places), ["only.conf", "last.conf"]);
        let table = containers_of(&places).unwrap();
        assert_eq!(table.select(None).unwrap().args, ["--last.conf"]);
        places.only = Some(place.path().join("gone.conf"));
        let error = containers_of(&places).unwrap_err();
        assert!(error.is_not_found() && error.report().contains("CONTAINERS_CONF"), "{}", error.report());
    }
}
