//! Start.

use std::time::SystemTime;

use runtime_api::{ContainerId, Error, ErrorKind, ExitCause, ExitStatus, Operation, Result};

use crate::backend::Backend;
use crate::observe::Sight;
use crate::record::Phase;

impl Backend {
    pub(crate) async fn start(&self, id: &ContainerId) -> Result<()> {
        let (mut locked, _) = self.admit(Operation::Start, id).await?;
        let named = |error: Error| error.during(Operation::Start).on(format_args!("container \"{id}\""));
        self.binary().map_err(named)?;
        // If we die between the runtime's act and our note of it, the next reader knows that it has to ask.
        locked.record.phase = Phase::Starting;
        locked.save().map_err(named)?;
        let done = self.run_verb(&locked.dir, &["start", id.as_str()], self.config.start_timeout).await;
        match done {
            Ok(_) => {
                locked.record.phase = Phase::Started;
                locked.record.started_at = Some(SystemTime::now());
                locked.save().map_err(named)
            }
            Err(error) => {
                locked.record.phase = Phase::Created;
                if matches!(error.kind(), ErrorKind::Rejected { .. })
                    && !self.still_created(&mut locked).await
                {
                    let failed = ExitStatus::new(None, ExitCause::StartFailed, SystemTime::now());
                    locked.record.exit.get_or_insert(failed);
                }
                locked.save().map_err(named)?;
                Err(named(error))
            }
        }
    }

    /// Whether the init still waits to be started.
    async fn still_created(&self, locked: &mut crate::backend::Locked) -> bool {
        matches!(self.settle(locked).await, Ok(Sight::Alive(_)))
    }
}
