//! Which configuration is meant.

use std::path::PathBuf;

use runtime_api::Result;
use runtime_handlers::HandlerTable;
use runtime_handlers::load::{self, Dialect, PodmanPlaces};

/// Whose configuration to read.
#[derive(Debug, Default, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Input {
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
        Ok(Found { dialect, table })
    }

    /// What was named; else Manyrun's own configuration, or the built-in handlers.
    pub(crate) fn read_own(&self) -> Result<HandlerTable> {
        self.named()?.map_or_else(|| load::search(None), |found| Ok(found.table))
    }

    fn named(&self) -> Result<Option<Found>> {
        let named = [
            (Dialect::Native, &self.native),
            (Dialect::Crio, &self.crio),
            (Dialect::Containerd, &self.containerd),
            (Dialect::Containers, &self.containers),
        ];
        for (dialect, path) in named {
            if let Some(path) = path {
                return load::dialect(dialect, path).map(|table| Some(Found { dialect, table }));
            }
        }
        Ok(None)
    }
}

/// A table, and whose configuration it was.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) dialect: Dialect,
    pub(crate) table: HandlerTable,
}

/// Reads a path whose dialect its name tells: `crio` and `containers` and `config.toml` of containerd; else our own.
pub(crate) fn by_name(path: &std::path::Path) -> Result<Found> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let dialect = match name.as_str() {
        "crio" | "crio.conf" | "crio.conf.d" => Dialect::Crio,
        "containerd" | "config.toml" => Dialect::Containerd,
        "containers" | "containers.conf" => Dialect::Containers,
        _ => Dialect::Native,
    };
    load::dialect(dialect, path).map(|table| Found { dialect, table })
}

fn podman() -> PodmanPlaces {
    let user = rustix::process::geteuid();
    PodmanPlaces::of_the_environment((!user.is_root()).then(|| user.as_raw()))
}
