//! Start.

use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout};

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
        let refused = matches!(error.kind(), ErrorKind::Rejected { .. });
        let noted =
            if refused { self.note_refusal(&mut locked).await } else { self.note_doubt(&mut locked).await };
        noted.map_err(named)?;
        Err(named(error))
    }

    /// Whether it was started all the same, the init tells: the runtime may have been killed at the deadline.
    async fn note_doubt(&self, locked: &mut Locked) -> Result<()> {
        self.settle_within(locked, ENDING).await.map(|_| ())
    }

    /// Writes down what became of a container that the runtime refused to start: all at once, and before anybody could be told
    /// that the init ended somehow.
    async fn note_refusal(&self, locked: &mut Locked) -> Result<()> {
        let sight = self.look(locked).await?;
        let waits = match (&sight, locked.record.reach) {
            (Sight::Alive(status), Reach::Host) => *status == ContainerStatus::Created,
            (Sight::Alive(_), Reach::Runtime) => {
                self.ask_status(locked).await == Some(ContainerStatus::Created)
            }
            _ => false,
        };
        // A runtime that brings its own kernel keeps what cannot be started, and would refuse it again and again.
        let ends = waits && locked.record.reach == Reach::Runtime;
        if waits && !ends {
            locked.record.phase = Phase::Created;
        } else if ends || !matches!(sight, Sight::Alive(_)) {
            locked.record.phase = Phase::Started;
            locked.record.exit = Some(ExitStatus::new(None, ExitCause::StartFailed, SystemTime::now()));
        } else {
            return self.note_doubt(locked).await;
        }
        locked.record.started_at = None;
        locked.save()?;
        if ends {
            self.signal(locked, Signal::KILL).await?;
            if let Some(init) = locked.record.init.and_then(Identity::open) {
                // One that takes longer is ended by its delete.
                let _ = timeout(KILL_LIMIT, init.ended()).await;
            }
        }
        Ok(())
    }

    /// Looks at a locked container that may just be ending, and writes nothing down.
    async fn look(&self, locked: &Locked) -> Result<Sight> {
        let deadline = Instant::now() + ENDING;
        self.look_until_settled(&locked.record, &locked.dir, &locked.entry, deadline).await
    }
}

/// How long an init that could not be started may live after KILL.
const KILL_LIMIT: Duration = Duration::from_secs(5);
