//! The start of a shim.

use std::time::Duration;

use runtime_api::Result;

use super::{ShimCommand, StartReply};

impl ShimCommand {
    /// Starts the shim, or finds the one that the container belongs to, and says where it listens. It may need a moment until
    /// it does: see [`dial`](super::dial).
    ///
    /// The bundle must have a [`LogPipe`](super::LogPipe), held open for as long as the shim lives. Once a shim was started
    /// it is the caller's to end, whatever fails afterwards: by the Task service, and by [`ShimCommand::delete`] where that
    /// cannot be reached. An id whose shim still lives gets that one, so ids must not be used twice.
    ///
    /// # Errors
    /// `Unavailable` without such a binary, and for a shim that speaks something else; `TimedOut` at the limit, when the
    /// command is killed with everything below it; `Rejected` when the shim says no; `Internal` for a reply that makes no
    /// sense. After the last two a shim may be running.
    pub async fn start(&self, limit: Duration) -> Result<StartReply> {
        let said = self.run("start", None, limit).await?;
        if !said.stderr.trim().is_empty() {
            tracing::debug!(id = self.id, stderr = said.stderr.trim(), "the shim complained at its start");
        }
        StartReply::parse(&said.stdout).map_err(|bad| {
            let mut detail = self.detail("start", None);
            detail.code = Some(0);
            detail.stderr = said.stderr;
            bad.into_error().during_step("start the shim").on(self.subject()).with_command(detail)
        })
    }
}
