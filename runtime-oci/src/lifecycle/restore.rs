//! Restore: a create that ends Running, because the runtime continues the program of an image.

use std::path::PathBuf;
use std::time::Duration;

use runtime_api::{Error, ErrorKind, Rejection, RestoreRequest, Result};
use runtime_host::image;

use super::checkpoint::account;
use crate::backend::Backend;
use crate::command::CommandLine;
use crate::dialect::Saver;
use crate::layout::ContainerDir;

/// How long a restore may take: reading the memory of a large program takes time.
pub(super) const RESTORE_LIMIT: Duration = Duration::from_secs(300);

/// What a container continues from.
#[derive(Clone, Debug)]
pub(crate) struct RestoreSource {
    /// The image's real path.
    pub(crate) image: PathBuf,
    /// The options of the runtime's restore.
    pub(crate) options: Vec<&'static str>,
}

impl RestoreSource {
    /// Checks the image as far as that is possible without the runtime.
    pub(crate) fn of(request: &RestoreRequest, saver: Saver) -> Result<Self> {
        let options = [(request.tcp_established, "--tcp-established"), (request.file_locks, "--file-locks")];
        let options = options.into_iter().filter(|(set, _)| *set).map(|(_, option)| option).collect();
        Ok(Self { image: image::check(&request.image, saver.landmark())?, options })
    }

    /// The runtime's refusal. Programs give no class to it, and what they say of a damaged image names neither the image nor
    /// criu: so it is the image, or it does not fit its bundle, unless the words are known to mean something else.
    pub(super) fn refused(
        &self,
        backend: &Backend,
        dir: &ContainerDir,
        said: &str,
        line: &CommandLine,
    ) -> Error {
        let (message, tail) = account(dir, said, &dir.restore_log());
        let error = match backend.dialect.refusal(&message) {
            Rejection::Other => Error::new(ErrorKind::ConfigInvalid(format!(
                "image {} cannot be continued: {message}",
                self.image.display()
            )))
            .hint("an image needs the bundle that it was made with, and the options of its checkpoint"),
            _ => backend.rejected(message),
        };
        error.with_command(line.detail(None, tail))
    }
}
