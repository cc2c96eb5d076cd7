//! The end of a shim that cannot be talked to.

use std::time::Duration;

use runtime_api::{Error, ErrorKind, Result};

use super::ShimCommand;
use crate::task::answer::Deleted;

impl ShimCommand {
    /// Lets the shim's binary clean up what is left of the container when its process is dead: it kills what still runs and
    /// unmounts what is mounted. The runc shim needs what it wrote into the bundle when the container was made; without that
    /// it fails, and there is nothing to clean.
    ///
    /// # Errors
    /// As for [`ShimCommand::start`].
    pub async fn delete(&self, limit: Duration) -> Result<Deleted> {
        let said = self.run("delete", Some(&self.bundle), limit).await?;
        Deleted::parse(&said.stdout).map_err(|why| {
            let mut detail = self.detail("delete", Some(&self.bundle));
            detail.code = Some(0);
            detail.stderr = said.stderr;
            Error::new(ErrorKind::Internal(format!("the shim's reply makes no sense: {why}")))
                .during_step("delete the shim")
                .on(self.subject())
                .with_command(detail)
        })
    }
}
