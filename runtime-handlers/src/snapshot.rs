//! Which configuration a container was created with, and how another process finds it again.
//!
//! Each distinct configuration of a handler has a directory `<base>/<handler>/<snapshot>`. Its name is made from the keys
//! that decide how containers are made and found: two configurations with the same name share their containers. The
//! configuration itself is in `handler.json` there.
//!
//! Not part of the name are the origin, and what the layers and the facade of this crate apply in front of the backend:
//! `annotations`, `timeouts`, `min_memory` and `capabilities.disable`. Changing those changes what callers may do, not where the
//! containers are; the current table's values count for as long as it has the handler.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, HandlerConfig, HandlerName, OpenContext, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::replace::replace;

const FILE: &str = "handler.json";
const SCHEMA: u32 = 1;
/// Where root keeps state unless somebody says otherwise.
const USUAL_BASE: &str = "/run/manyrun";

/// A handler, and one configuration of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snapshot {
    handler: HandlerName,
    id: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    schema: u32,
    config: HandlerConfig,
}

impl Snapshot {
    /// The snapshot that this configuration is.
    #[must_use]
    pub fn of(config: &HandlerConfig) -> Self {
        // A JSON value keeps its keys sorted, so equal configurations give equal text.
        let canonical = serde_json::json!({
            "name": config.name,
            "kind": config.kind,
            "paths": config.paths,
            "platform_paths": config.platform_paths,
            "root": config.root,
            "args": config.args,
            "config_path": config.config_path,
            "options": config.options,
            "monitor": config.monitor,
            "privileged_without_host_devices": config.privileged_without_host_devices,
            "seccomp_profile": config.seccomp_profile,
            "pull_image_in_guest": config.pull_image_in_guest,
            "stream_websockets": config.stream_websockets,
            "exec_cpu_affinity": config.exec_cpu_affinity,
        });
        let mut id = String::with_capacity(12);
        for byte in Sha256::digest(canonical.to_string()).iter().take(6) {
            let _ = write!(id, "{byte:02x}");
        }
        Self { handler: config.name.clone(), id }
    }

    /// The handler.
    #[must_use]
    pub const fn handler(&self) -> &HandlerName {
        &self.handler
    }

    /// Twelve hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Reads `<handler>/<snapshot>`, as [`fmt::Display`] writes it.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (handler, id) = text.split_once('/')?;
        let well_formed = id.len() == 12 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let handler = HandlerName::new(handler).ok()?;
        well_formed.then(|| Self { handler, id: id.to_owned() })
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self, base: &Path) -> PathBuf {
        base.join(self.handler.as_str()).join(&self.id)
    }

    /// Where its runtime value lives. Bases do not share cgroups, or a container of one could be taken for what a create in
    /// another left over: all but the usual base have a mark in the name.
    #[must_use]
    pub fn context(&self, base: &Path) -> OpenContext {
        let mut cgroup = format!("/manyrun/{self}");
        if base != Path::new(USUAL_BASE) {
            let real = std::fs::canonicalize(base).unwrap_or_else(|_| base.to_owned());
            cgroup.push('-');
            for byte in Sha256::digest(real.as_os_str().as_bytes()).iter().take(4) {
                let _ = write!(cgroup, "{byte:02x}");
            }
        }
        OpenContext::new(self.directory(base), cgroup)
    }

    /// Makes the directory and writes `handler.json`, unless it is there.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] and [`ErrorKind::Internal`], which name the path.
    pub fn write(&self, base: &Path, config: &HandlerConfig) -> Result<()> {
        let directory = self.directory(base);
        let path = directory.join(FILE);
        if path.exists() {
            return Ok(());
        }
        let make = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&directory);
        make.map_err(|error| failed(&directory, error))?;
        let record = Record { schema: SCHEMA, config: config.clone() };
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|error| failed(&path, io::Error::new(io::ErrorKind::InvalidData, error)))?;
        replace(&path, &text).map_err(|error| failed(&path, error))
    }

    /// Reads the configuration back.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none; [`ErrorKind::ConfigInvalid`] when it is damaged, of another version
    /// of this format, or not the configuration that its directory is named by.
    pub fn read(&self, base: &Path) -> Result<HandlerConfig> {
        let path = self.directory(base).join(FILE);
        let text = std::fs::read(&path).map_err(|error| failed(&path, error))?;
        let damaged =
            |what: String| Error::new(ErrorKind::ConfigInvalid(what)).during_step("open").on(path.display());
        let record: Record = serde_json::from_slice(&text)
            .map_err(|error| damaged(format!("it is damaged: {error}")).hint(self.repair()))?;
        if record.schema != SCHEMA {
            return Err(damaged(format!("its format is {}, and only {SCHEMA} is known", record.schema)));
        }
        let found = Self::of(&record.config);
        if found != *self {
            return Err(damaged(format!("it holds the configuration of {found}")));
        }
        Ok(record.config)
    }

    /// Without the file nobody can ask its containers for anything, and every create writes it.
    fn repair(&self) -> String {
        let handler = &self.handler;
        format!(
            "remove the file and create any container under the handler \"{handler}\" exactly as it was configured, which writes it \
             anew (`manyrun run --handler {handler} BUNDLE`); its containers can then be deleted"
        )
    }

    /// Every snapshot below `base`, in the order of their names. A missing base has none.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] and [`ErrorKind::Internal`], which name the path.
    pub fn scan(base: &Path) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for handler in names(base)? {
            for id in names(&base.join(&handler))? {
                let snapshot = Self::from_text(&format!("{handler}/{id}"));
                found.extend(snapshot.filter(|each| each.directory(base).join(FILE).exists()));
            }
        }
        found.sort();
        Ok(found)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.handler, self.id)
    }
}

/// Where state is kept unless somebody says otherwise: `/run/manyrun` for root, else `manyrun` below
/// `$XDG_RUNTIME_DIR`.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`] when a user other than root has no `XDG_RUNTIME_DIR`.
pub fn default_base(is_root: bool) -> Result<PathBuf> {
    if is_root {
        return Ok(PathBuf::from(USUAL_BASE));
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => Ok(Path::new(&dir).join("manyrun")),
        None => Err(Error::new(ErrorKind::InvalidArgument("XDG_RUNTIME_DIR is not set".to_owned()))
            .during_step("find the state directory")
            .hint("set it, or name a state directory")),
    }
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(directory, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(|error| failed(directory, error))?.file_name().into_string().ok());
    }
    Ok(names)
}

pub(crate) fn failed(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ErrorKind::Exhausted("the state directory is full".to_owned())
        }
        _ => ErrorKind::Internal("the state directory cannot be used".to_owned()),
    };
    Error::new(kind).during_step("open").on(path.display()).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::toy_config;
    use runtime_api::{Capability, Origin};
    use std::time::Duration;

    #[test]
    fn the_name_depends_on_what_reaches_the_backend_and_nothing_else() {
        let config = toy_config("web");
        let same = Snapshot::of(&config);
        let mut policy = config.clone();
        policy.origin = Origin::other("elsewhere");
        policy.timeouts.create = Some(Duration::from_secs(9));
        policy.annotations.denied.push("x".into());
        policy.min_memory = Some(1);
        policy.disabled.push((Capability::Pause, "somewhere".into()));
        assert_eq!(Snapshot::of(&policy), same);
        let mut other = config.clone();
        other.args.push("--debug".into());
        assert_ne!(Snapshot::of(&other), same);
        let mut options = config;
        options.options.insert("b".into(), 1.into());
        options.options.insert("a".into(), 2.into());
        let once = Snapshot::of(&options);
        options.options = [("a".into(), 2.into()), ("b".into(), 1.into())].into_iter().collect();
        assert_eq!(Snapshot::of(&options), once);
        assert_eq!(once.id().len(), 12);
    }

    #[test]
    fn two_bases_share_no_cgroup() {
        let snapshot = Snapshot::of(&toy_config("web"));
        let cgroup = |base: &str| snapshot.context(Path::new(base)).cgroup_parent;
        assert_eq!(cgroup(USUAL_BASE), format!("/manyrun/{snapshot}"));
        assert_ne!(cgroup("/nonexistent/a"), cgroup("/nonexistent/b"));
        assert_ne!(cgroup("/nonexistent/a"), cgroup(USUAL_BASE));
        assert_eq!(cgroup("/nonexistent/a"), cgroup("/nonexistent/a"));
    }

    #[test]
    fn a_configuration_is_read_back_as_it_was_written() {
        let base = tempfile::tempdir().unwrap();
        let mut config = toy_config("web");
        config.origin = Origin::file("/etc/x.toml", "runtimes.web", Some(3));
        config.timeouts.stop = Some(Duration::from_secs(3));
        config.disabled.push((Capability::KillAll, "x:1".into()));
        let snapshot = Snapshot::of(&config);
        assert!(snapshot.read(base.path()).unwrap_err().is_not_found());
        snapshot.write(base.path(), &config).unwrap();
        snapshot.write(base.path(), &config).unwrap();
        assert_eq!(snapshot.read(base.path()).unwrap(), config);
        assert_eq!(Snapshot::scan(base.path()).unwrap(), std::slice::from_ref(&snapshot));
        let names: Vec<_> = names(&snapshot.directory(base.path())).unwrap();
        assert_eq!(names, [FILE], "nothing is left of the writing");
    }

    #[test]
    fn a_damaged_or_foreign_record_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let config = toy_config("web");
        let snapshot = Snapshot::of(&config);
        snapshot.write(base.path(), &config).unwrap();
        let path = snapshot.directory(base.path()).join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        for (bad, what) in [
            (text.replace("\"args\": []", "\"args\": [\"x\"]"), "holds the configuration of"),
            (text.replace("\"schema\": 1", "\"schema\": 2"), "its format is 2"),
            (text[..40].to_owned(), "damaged"),
        ] {
            std::fs::write(&path, &bad).unwrap();
            let error = snapshot.read(base.path()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn strangers_in_the_base_are_not_snapshots() {
        let base = tempfile::tempdir().unwrap();
        for dir in ["web/0123456789ab", "web/nope", ".ids/0123456789ab"] {
            std::fs::create_dir_all(base.path().join(dir)).unwrap();
        }
        std::fs::write(base.path().join("file"), "").unwrap();
        assert!(Snapshot::scan(base.path()).unwrap().is_empty());
        assert!(Snapshot::scan(Path::new("/nonexistent/base")).unwrap().is_empty());
    }
}
