//! The directory below which the containers of this command are.

use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};
use runtime_handlers::default_base;

/// Where containers are kept.
#[derive(Debug, clap::Args)]
pub(crate) struct StateDir {
    /// Where state is kept; /run/manyrun for root, else manyrun below XDG_RUNTIME_DIR.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateDir {
    /// The directory that was named, or else the usual one.
    pub(crate) fn base(&self) -> Result<PathBuf> {
        match &self.state_dir {
            Some(dir) if dir.exists() && !dir.is_dir() => {
                Err(Error::new(ErrorKind::InvalidArgument("it is no directory".to_owned()))
                    .during_step("open state directory")
                    .on(dir.display()))
            }
            Some(dir) => absolute(dir),
            None => default_base(rustix::process::geteuid().is_root())
                .map_err(|error| error.hint("set it, or give --state-dir")),
        }
    }
}

/// A path that means the same wherever it is read.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::new(ErrorKind::InvalidArgument("the path cannot be made absolute".to_owned()))
            .on(path.display())
            .caused_by(error)
    })
}
