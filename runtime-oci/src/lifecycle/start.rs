//! Start.

use std::time::{Duration, Instant, SystemTime};

use runtime_api::{ContainerId, ContainerStatus, Error, ErrorKind, ExitCause, ExitStatus, Operation, Result};

use crate::backend::Backend;
use crate::observe::Sight;
use crate::record::{Phase, Record};

impl Backend {
    pub(crate) async fn start(&self, id: &ContainerId) -> Result<()> {
        let (mut locked, _) = self.admit(Operation::Start, id).await?;
        let named = |error: Error| error.during(Operation::Start).on(format_args!("container \"{id}\""));
        self.binary().map_err(named)?;
        // The time comes before the act, for a short program is over before the act returns.
        locked.record.phase = Phase::Starting;
        locked.record.started_at = Some(SystemTime::now());
        locked.save().map_err(named)?;
        let done = self.run_verb(&locked.dir, &["start", id.as_str()], self.config.start_timeout).await;
        let Err(error) = done else {
            until_replaced(&locked.record).await;
            locked.record.phase = Phase::Started;
            return locked.save().map_err(named);
        };
        // Whether it was started all the same, the init tells: the runtime may have been killed at the deadline.
        let sight = self.settle(&mut locked).await.map_err(named)?;
        if matches!(error.kind(), ErrorKind::Rejected { .. }) {
            let created = sight == Sight::Alive(ContainerStatus::Created);
            if created {
                locked.record.phase = Phase::Created;
            } else if matches!(sight, Sight::Stopped(_)) {
                locked.record.exit = Some(ExitStatus::new(None, ExitCause::StartFailed, SystemTime::now()));
            }
            if created || locked.record.exit.is_some() {
                locked.record.started_at = None;
                locked.save().map_err(named)?;
            }
        }
        Err(named(error))
    }
}

/// Waits until the init has become the program. A runtime's start returns when the init was told to go on, which is a
/// moment earlier: a signal in between would end the runtime's own code, with a code of its own. A program that cannot
/// be told from the runtime is not waited for any longer than this.
async fn until_replaced(record: &Record) {
    const PATIENCE: Duration = Duration::from_millis(500);
    // As a rule it takes some tens of microseconds, and no sleep is shorter than a millisecond.
    const AT_ONCE: Duration = Duration::from_micros(300);
    let (Some(init), Some(waiting)) = (record.init, record.init_program) else { return };
    let begun = Instant::now();
    while init.program() == Some(waiting) && begun.elapsed() < PATIENCE {
        if begun.elapsed() < AT_ONCE {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }
}
