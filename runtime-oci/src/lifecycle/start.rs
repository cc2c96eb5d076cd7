//! Start.

use std::time::{Duration, Instant, SystemTime};

use tokio::time::timeout;

use runtime_api::{
    ContainerId, ContainerStatus, Error, ErrorKind, ExitCause, ExitStatus, Operation, Result, Signal,
};
use runtime_host::process::Identity;

use crate::backend::{Backend, Locked};
use crate::dialect::Reach;
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
        let limit = self.config.start_timeout;
        let before = locked.record.runtime_args.clone();
        let done = self.run_verb_with(&locked.dir, &before, &["start", id.as_str()], limit).await;
        let Err(error) = done else {
            until_replaced(&locked.record).await;
            locked.record.phase = Phase::Started;
            return locked.save().map_err(named);
        };
        // Whether it was started all the same, the init tells: the runtime may have been killed at the deadline.
        let mut sight = self.settle(&mut locked).await.map_err(named)?;
        if matches!(error.kind(), ErrorKind::Rejected { .. }) {
            let created = Sight::Alive(ContainerStatus::Created);
            if sight == created && locked.record.reach == Reach::Runtime {
                // It keeps what cannot be started, and would refuse it again and again.
                sight = self.end_unstarted(&mut locked).await.map_err(named)?;
            }
            if sight == created {
                locked.record.phase = Phase::Created;
            } else if matches!(sight, Sight::Stopped(_)) {
                locked.record.exit = Some(ExitStatus::new(None, ExitCause::StartFailed, SystemTime::now()));
            }
            if sight == created || locked.record.exit.is_some() {
                locked.record.started_at = None;
                locked.save().map_err(named)?;
            }
        }
        Err(named(error))
    }

    async fn end_unstarted(&self, locked: &mut Locked) -> Result<Sight> {
        self.signal(locked, Signal::KILL).await?;
        if let Some(init) = locked.record.init.and_then(Identity::open) {
            // One that takes longer is told as Created, and can be deleted.
            let _ = timeout(KILL_LIMIT, init.ended()).await;
        }
        self.settle(locked).await
    }
}

/// How long an init that could not be started may live after KILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);

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
