//! Restore: a create that ends Running, because the shim continues the program of an image.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_api::{Error, ErrorKind, Operation, Rejection, RestoreRequest, Result};
use runtime_host::{criu, image};

use crate::task::Fault;

/// How long a restore may take: reading the memory of a large program takes time.
pub(super) const RESTORE_LIMIT: Duration = Duration::from_secs(300);

/// What a container continues from.
#[derive(Clone, Debug)]
pub(crate) struct RestoreSource {
    /// The image's real path.
    pub(super) image: PathBuf,
}

impl RestoreSource {
    /// Checks the image as far as that is possible without the shim.
    pub(crate) fn of(request: &RestoreRequest) -> Result<Self> {
        Ok(Self { image: image::check(&request.image, criu::LANDMARK)? })
    }

    /// What it means that the shim did not continue it. Shims give no class to what they say of a damaged image, and name
    /// neither the image nor criu: so it is the image, or it does not fit its bundle.
    pub(super) fn refused(&self, fault: Fault, work: &Path) -> Error {
        let error = fault.into_error(Operation::Restore);
        let ErrorKind::Rejected { class: Rejection::Other, message } = error.kind() else { return error };
        let log = criu::tail_of(&work.join("restore.log"));
        let reason = criu::reason(&log).map(|reason| format!(": {reason}")).unwrap_or_default();
        let what = format!("image {} cannot be continued: {message}{reason}", self.image.display());
        Error::new(ErrorKind::ConfigInvalid(what))
            .hint("an image needs the bundle that it was made with, and the runtime that made it")
    }
}
