//! Which configuration is meant.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use runtime_api::{Error, ErrorKind, Result};
use runtime_handlers::HandlerTable;
use runtime_handlers::load::{self, Dialect, PodmanPlaces};

/// Which configuration to read, and what its program was given besides.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Input {
    #[command(flatten)]
    whose: Whose,
    /// With --crio: a handler as crio takes it with the option of this name; repeat it for several.
    #[arg(long, value_name = "NAME:PATH:ROOT[:TYPE[:..]]", requires = "crio")]
    runtimes: Vec<String>,
    /// With --containers: a module as podman takes it with the option of this name; repeat it for several.
    #[arg(long, value_name = "FILE", requires = "containers")]
    module: Vec<PathBuf>,
}

/// Whose configuration it is.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
struct Whose {
    /// Manyrun's own: a file with its drop-ins beside it, or a directory with handlers.toml.
    #[arg(long, visible_alias = "config", value_name = "PATH")]
    native: Option<PathBuf>,
    /// CRI-O's: crio.conf with crio.conf.d beside it, or a directory with either, or one of drop-ins.
    #[arg(long, value_name = "PATH")]
    crio: Option<PathBuf>,
    /// containerd's: config.toml and what it imports, or the directory with it.
    #[arg(long, value_name = "PATH")]
    containerd: Option<PathBuf>,
    /// podman's: containers.conf with containers.conf.d beside it, or the directory with it.
    #[arg(long, value_name = "PATH")]
    containers: Option<PathBuf>,
}

impl Input {
    /// What was named; else what this host has.
    pub(crate) fn read(&self) -> Result<Found> {
        if let Some(found) = self.named()? {
            return Ok(found);
        }
        let (dialect, table) = load::node(&podman())?;
        Ok(Found { dialect, table, named: false })
    }

    /// What was named; else Manyrun's own configuration, or the built-in handlers.
    pub(crate) fn read_own(&self) -> Result<HandlerTable> {
        self.named()?.map_or_else(|| load::search(None), |found| Ok(found.table))
    }

    fn named(&self) -> Result<Option<Found>> {
        let whose = &self.whose;
        let (dialect, table) = if let Some(path) = &whose.crio {
            (Dialect::Crio, load::crio_with(path, &self.runtimes)?)
        } else if let Some(path) = &whose.containers {
            (Dialect::Containers, load::containers_with(path, &self.module)?)
        } else if let Some(path) = &whose.containerd {
            (Dialect::Containerd, load::containerd(path)?)
        } else if let Some(path) = &whose.native {
            (Dialect::Native, load::dialect(Dialect::Native, path)?)
        } else {
            return Ok(None);
        };
        Ok(Some(Found { dialect, table, named: true }))
    }
}

/// A table, and whose configuration it was.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) dialect: Dialect,
    pub(crate) table: HandlerTable,
    /// Somebody named it; else it was searched for.
    pub(crate) named: bool,
}

/// What people call a dialect, and what the options of the commands do.
pub(crate) fn dialect_name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Crio => "crio",
        Dialect::Containerd => "containerd",
        Dialect::Containers => "containers",
        _ => "native",
    }
}

/// Reads `DIALECT:PATH`, or a path whose dialect its name tells.
pub(crate) fn by_name(text: &OsStr) -> Result<Found> {
    let (dialect, path) = dialect_and_path(text)?;
    load::dialect(dialect, &path).map(|table| Found { dialect, table, named: true })
}

fn dialect_and_path(text: &OsStr) -> Result<(Dialect, PathBuf)> {
    let known = [Dialect::Native, Dialect::Crio, Dialect::Containerd, Dialect::Containers];
    let bytes = text.as_bytes();
    let whole = PathBuf::from(text);
    // A file may have a colon in its name; then it wins.
    if let Some(at) = bytes.iter().position(|byte| *byte == b':').filter(|_| !whole.exists()) {
        let (name, path) = (String::from_utf8_lossy(&bytes[..at]), &bytes[at + 1..]);
        if let Some(dialect) = known.into_iter().find(|each| dialect_name(*each) == name) {
            return Ok((dialect, OsStr::from_bytes(path).into()));
        }
        if !name.contains('/') {
            let what = format!(
                "{name:?} is no dialect; write native:PATH, crio:PATH, containerd:PATH or containers:PATH"
            );
            return Err(Error::new(ErrorKind::InvalidArgument(what)).on(format_args!("{text:?}")));
        }
    }
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let dialect = match name.as_str() {
        "crio" | "crio.conf" | "crio.conf.d" => Dialect::Crio,
        "containerd" | "config.toml" => Dialect::Containerd,
        "containers" | "containers.conf" => Dialect::Containers,
        "manyrun" | "handlers.toml" => Dialect::Native,
        _ => {
            let what = "its name does not tell whose configuration it is; write native:PATH, crio:PATH, containerd:PATH or containers:PATH";
            return Err(Error::new(ErrorKind::InvalidArgument(what.to_owned())).on(format_args!("{text:?}")));
        }
    };
    Ok((dialect, whole))
}

fn podman() -> PodmanPlaces {
    let user = rustix::process::geteuid();
    PodmanPlaces::of_the_environment((!user.is_root()).then(|| user.as_raw()))
}
