//! Start.

use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use runtime_api::{
    ContainerId, ContainerStatus, Error, ErrorKind, ExitCause, ExitStatus, Operation, Result, Signal,
};
use runtime_host::process::Identity;

use crate::backend::{Backend, ENDING, Locked};
use crate::dialect::Reach;
use crate::observe::Sight;
use crate::record::Phase;

impl Backend {
    pub(crate) async fn start(&self, id: &ContainerId) -> Result<()> {
        let (mut locked, _) = self.admit(Operation::Start, id).await?;
        let named = |error: Error| error.during(Operation::Start).on(format_args!("container \"{id}\""));
        self.binary_of(id).map_err(named)?;
        // The time comes before the act, for a short program is over before the act returns.
        locked.record.phase = Phase::Starting;
        locked.record.started_at = Some(SystemTime::now());
        locked.save().map_err(named)?;
        let limit = self.config.start_timeout;
        let before = locked.record.runtime_args.clone();
        let done = self.run_verb_with(&locked.dir, &before, &["start", id.as_str()], limit).await;
        let Err(error) = done else {
            if let (Some(init), Some(waiting)) = (locked.record.init, locked.record.init_program) {
                init.until_replaced(waiting).await;
            }
            locked.record.phase = Phase::Started;
            return locked.save().map_err(named);
        };
        // Whether it was started all the same, the init tells: the runtime may have been killed at the deadline.
        let mut sight = self.settle_within(&mut locked, ENDING).await.map_err(named)?;
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
        self.settle_within(locked, ENDING).await
    }
}

/// How long an init that could not be started may live after KILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
