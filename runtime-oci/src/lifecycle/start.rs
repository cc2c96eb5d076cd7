//! Start.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use runtime_api::{ContainerId, Error, ErrorKind, ExitCause, ExitStatus, Operation, Result};

use crate::backend::Backend;
use crate::observe::Sight;
use crate::process::Identity;
use crate::record::Phase;

impl Backend {
    pub(crate) async fn start(&self, id: &ContainerId) -> Result<()> {
        let (mut locked, _) = self.admit(Operation::Start, id).await?;
        let named = |error: Error| error.during(Operation::Start).on(format_args!("container \"{id}\""));
        self.binary().map_err(named)?;
        let waiting = locked.record.init.and_then(program_of);
        // If we die between the runtime's act and our note of it, the next reader knows that it has to ask.
        locked.record.phase = Phase::Starting;
        locked.save().map_err(named)?;
        let done = self.run_verb(&locked.dir, &["start", id.as_str()], self.config.start_timeout).await;
        match done {
            Ok(_) => {
                if let (Some(init), Some(waiting)) = (locked.record.init, waiting) {
                    until_replaced(init, waiting).await;
                }
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

/// Waits until the init has become the program. A runtime's start returns when the init was told to go on, which is a
/// moment earlier: a signal in between would end the runtime's own code, with a code of its own. A program that cannot
/// be told from the runtime is not waited for any longer than this.
async fn until_replaced(init: Identity, waiting: (u64, u64)) {
    const PATIENCE: Duration = Duration::from_millis(500);
    let deadline = Instant::now() + PATIENCE;
    while program_of(init) == Some(waiting) && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
}

/// Which file a process runs: device and inode. `None` once it is gone.
fn program_of(process: Identity) -> Option<(u64, u64)> {
    let program = std::fs::metadata(format!("/proc/{}/exe", process.pid)).ok()?;
    Some((program.dev(), program.ino()))
}
