//! Start.

use std::time::SystemTime;

use runtime_api::{ContainerId, Error, ErrorKind, ExitCause, ExitStatus, Operation, Result};

use crate::backend::Backend;
use crate::observe;
use crate::record::Phase;
use crate::task::Target;

impl Backend {
    pub(crate) async fn start(&self, id: &ContainerId) -> Result<()> {
        let (mut locked, _) = self.admit(Operation::Start, id).await?;
        let named = |error: Error| error.during(Operation::Start).on(format_args!("container \"{id}\""));
        let client = self.client(&locked.record).await.map_err(named)?;
        // The time comes before the act, for a short program is over before the act returns.
        locked.record.phase = Phase::Starting;
        locked.record.started_at = Some(SystemTime::now());
        locked.save().map_err(named)?;
        let done = client.start(Target::init(id.as_str()), self.config.start_timeout).await;
        let Err(fault) = done else {
            if let (Some(init), Some(waiting)) = (locked.record.init, locked.record.init_program) {
                init.until_replaced(waiting).await;
            }
            if observe::oom_kills(&locked.record, &locked.dir, &self.hierarchies) > 0
                && !locked.dir.oom().exists()
            {
                // It was too early for the shim to see; the notice is for those who watch the directory.
                let _ = std::fs::write(locked.dir.oom(), "");
            }
            locked.record.phase = Phase::Started;
            return locked.save().map_err(named);
        };
        let error = named(fault.into_error(Operation::Start));
        if matches!(error.kind(), ErrorKind::Rejected { .. }) {
            // Before it is ended, so that nobody is told of that end instead.
            locked.record.exit = Some(ExitStatus::new(None, ExitCause::StartFailed, SystemTime::now()));
            locked.record.started_at = None;
            locked.save().map_err(named)?;
            // A shim keeps what cannot be started, and would refuse it again and again.
            self.end_unstarted(&locked.record).await;
        } else {
            // Whether it was started all the same, the shim tells: it may have been cut off at the deadline.
            self.resolve(&mut locked).await.map_err(named)?;
        }
        Err(error)
    }
}
