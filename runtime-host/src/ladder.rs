//! Stop: the ladder from the stop signal to KILL.
//!
//! The lock is taken for single steps only. How far the stop has come stands in the record, with the caller whose it
//! is: the stop signal is sent once, and each caller, in any process, escalates when its own grace is over. So a later
//! stop can shorten the grace and never lengthens it. Each call runs in a task of the runtime value, so that it goes on
//! when its caller is gone.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use runtime_api::{ContainerId, Error, ErrorKind, ExitStatus, Operation, Result, Retry, StopRequest};

use crate::lock::Witness;

/// The pause between two KILLs grows up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// What asking a container to stop led to.
#[derive(Debug)]
pub enum Asked {
    /// It had ended.
    Ended(ExitStatus),
    /// It was told, by this caller or by another one. The witness saw it while it was locked: from then on another
    /// container may get the id, and that is not to be stopped.
    Told(Witness),
    /// There is nothing to be waited for before KILL.
    NoGrace(Witness),
}

/// The rungs of the ladder.
pub trait Ladder: Sync {
    /// How long a container may live after KILL before the caller is told.
    fn kill_limit(&self) -> Duration;

    /// Under the lock: thaws it and sends the stop signal, unless somebody who lives did so already. With `at_once`, and
    /// where no program runs yet, nothing is sent.
    fn ask(&self, id: &ContainerId, at_once: bool) -> impl Future<Output = Result<Asked>> + Send;

    /// Waits for the end of exactly the container that the witness saw.
    fn wait_for(
        &self,
        id: &ContainerId,
        witness: &mut Witness,
    ) -> impl Future<Output = Result<ExitStatus>> + Send;

    /// Sends KILL once, to the container that the witness saw; the status if it was dead already.
    fn kill_once(
        &self,
        id: &ContainerId,
        witness: &mut Witness,
    ) -> impl Future<Output = Result<Option<ExitStatus>>> + Send;

    /// Called now and then while it lives on after KILL, `for_so_long` by now: to end what holds it up.
    fn still_there(
        &self,
        id: &ContainerId,
        witness: &Witness,
        for_so_long: Duration,
    ) -> impl Future<Output = ()> + Send;
}

/// Stops a container and tells the caller, if it is still there.
pub async fn stop(
    ladder: &impl Ladder,
    id: ContainerId,
    request: StopRequest,
    told: oneshot::Sender<Result<ExitStatus>>,
) {
    let named = |error: Error| error.during(Operation::Stop).on(format_args!("container \"{id}\""));
    match terminate(ladder, &id, request).await {
        Err(error) => drop(told.send(Err(named(error)))),
        Ok(Progress::Done(status)) => drop(told.send(Ok(status))),
        Ok(Progress::Kill(witness)) => kill_until_gone(ladder, &id, witness, told).await,
    }
}

/// How far the polite part came.
enum Progress {
    Done(ExitStatus),
    Kill(Witness),
}

/// The polite part: the stop signal, and the grace.
async fn terminate(ladder: &impl Ladder, id: &ContainerId, request: StopRequest) -> Result<Progress> {
    let begun = Instant::now();
    let mut witness = match ladder.ask(id, request.grace == Some(Duration::ZERO)).await? {
        Asked::Ended(status) => return Ok(Progress::Done(status)),
        Asked::NoGrace(witness) => return Ok(Progress::Kill(witness)),
        Asked::Told(witness) => witness,
    };
    let ended = ladder.wait_for(id, &mut witness);
    match request.grace {
        None => ended.await.map(Progress::Done),
        Some(grace) => match timeout(grace.saturating_sub(begun.elapsed()), ended).await {
            Ok(status) => status.map(Progress::Done),
            Err(_over) => Ok(Progress::Kill(witness)),
        },
    }
}

/// The forceful part. The caller is told when the container is gone, or that it is still there after a while; in that
/// case KILL is repeated until it works: a process in a system call that cannot be interrupted dies later.
async fn kill_until_gone(
    ladder: &impl Ladder,
    id: &ContainerId,
    mut witness: Witness,
    told: oneshot::Sender<Result<ExitStatus>>,
) {
    let named = |error: Error| error.during(Operation::Stop).on(format_args!("container \"{id}\""));
    let limit = ladder.kill_limit();
    let begun = Instant::now();
    let mut told = Some(told);
    let mut pause = Duration::from_millis(20);
    let mut tell = |result: Result<ExitStatus>| {
        if let Some(told) = told.take() {
            // Nobody may be listening any more: the stop goes on without its caller.
            let _ = told.send(result);
        }
    };
    loop {
        match ladder.kill_once(id, &mut witness).await {
            Ok(Some(status)) => return tell(Ok(status)),
            Ok(None) => {}
            // Somebody else is at work on it, and will be done.
            Err(error) if matches!(error.kind(), ErrorKind::Busy { .. } | ErrorKind::TimedOut(_)) => {}
            // Deleted meanwhile, or not ours to kill: repeating will not help.
            Err(error) => return tell(Err(named(error))),
        }
        match timeout(pause, ladder.wait_for(id, &mut witness)).await {
            Ok(result) => return tell(result),
            Err(_still_there) => {}
        }
        ladder.still_there(id, &witness, begun.elapsed()).await;
        if begun.elapsed() >= limit {
            tell(Err(named(
                Error::new(ErrorKind::TimedOut(limit))
                    .retry(Retry::Later)
                    .hint("KILL was sent and is being repeated; a process in uninterruptible sleep (state D) dies when its system call ends"),
            )));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        sleep(Duration::ZERO).await;
    }
}
