//! The life itself: create, attach, start, wait, delete, with signals in between.

use std::time::Duration;

use runtime_api::{
    AttachEnd, AttachRequest, Capability, ContainerId, CreateRequest, DeleteRequest, Error, ErrorKind,
    ExitStatus, HandlerName, KillRequest, LogConfig, Operation, Result, SharedRuntime, Signal, StdinMode,
    StopRequest, Streams,
};
use runtime_handlers::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};

use super::bundle::Bundle;
use super::foreground::Input;
use super::output::{Lost, Pumps};
use super::signals::{Signals, wants_the_end};
use super::terminal::{self, RawMode};
use crate::tell;

/// How long an attach may take to be ready.
const ATTACHED: Duration = Duration::from_secs(30);
/// How long an attach may take to return after its streams have ended.
const LAST_WORD: Duration = Duration::from_secs(1);
/// The longest grace of a program whose output nobody reads.
const NO_READER: Duration = Duration::from_secs(1);
/// How many requests to end it make it end at once.
const PATIENCE: u32 = 3;

/// What an attach tells once it is ready, or ends without telling.
type Begun = std::result::Result<(), oneshot::error::RecvError>;

/// How a life ended that did not fail.
#[derive(Debug)]
pub(super) enum End {
    /// The program ended; some of its output may not have come out.
    Ended { status: ExitStatus, lost: Option<Lost> },
    /// It was never started, for this signal came first.
    Interrupted(Signal),
}

/// One container, and what it is made with.
pub(super) struct Life<'a> {
    pub(super) facade: &'a Runtime,
    pub(super) runtime: SharedRuntime,
    pub(super) handler: Option<HandlerName>,
    pub(super) id: ContainerId,
    pub(super) bundle: &'a Bundle,
    pub(super) log: LogConfig,
    pub(super) grace: Duration,
    pub(super) stdout_is_taken: bool,
}

/// The streams of a container, attached to those of this process.
struct Attached {
    task: JoinHandle<Result<AttachEnd>>,
    pumps: Pumps,
    /// Restores the user's terminal when it is dropped.
    _raw: Option<RawMode>,
}

impl Life<'_> {
    /// Lives it. Whatever happens after the create, the container is gone afterwards.
    pub(super) async fn live(&self, mut signals: Signals) -> Result<End> {
        let input = Input::look();
        let attach = self.runtime.capabilities().has(Capability::Attach);
        let stdin = if attach && input != Input::Nothing { StdinMode::Once } else { StdinMode::Closed };
        let request =
            CreateRequest::new(self.id.clone(), &self.bundle.path).stdin(stdin).log(self.log.clone());
        if let Some(signal) = self.create(request, &mut signals).await? {
            self.facade.delete(&self.id, DeleteRequest::force()).await?;
            return Ok(End::Interrupted(signal));
        }
        let lived = self.after_create(attach, input, &mut signals).await;
        let deleted = match lived {
            Ok(End::Ended { .. }) => self.facade.delete(&self.id, DeleteRequest::new()).await,
            _ => self.facade.delete(&self.id, DeleteRequest::force()).await,
        };
        match (lived, deleted) {
            (Ok(end), Err(error)) => {
                // The program ran and has a code: that is what the caller asked for.
                tell(&error.report());
                let _ = self.facade.delete(&self.id, DeleteRequest::force()).await;
                Ok(end)
            }
            (lived, _) => lived,
        }
    }

    /// A create that is under way is not dropped at the first signal: once it is done, its container can be removed for
    /// certain. Gives the signal that came meanwhile.
    async fn create(&self, request: CreateRequest, signals: &mut Signals) -> Result<Option<Signal>> {
        let create = self.facade.create(self.handler.as_ref(), request);
        tokio::pin!(create);
        let mut interrupted = None;
        loop {
            tokio::select! {
                made = &mut create => return made.map(|_| interrupted),
                signal = signals.next() => match interrupted {
                    None => interrupted = Some(signal),
                    Some(first) if wants_the_end(signal) => {
                        return Err(Error::new(ErrorKind::Unavailable(format!("it was given up after {first} and {signal}")))
                            .during(Operation::Create)
                            .on(format_args!("container \"{}\"", self.id)));
                    }
                    Some(_) => {}
                },
            }
        }
    }

    async fn after_create(&self, attach: bool, input: Input, signals: &mut Signals) -> Result<End> {
        if self.facade.store().get(&self.id)?.is_some_and(|made| made.spoofed) {
            let what = "the bundle is marked as spoofed, and nothing runs in such a container".to_owned();
            return Err(Error::new(ErrorKind::InvalidArgument(what))
                .during(Operation::Start)
                .on(format_args!("container \"{}\"", self.id)));
        }
        let mut attached = None;
        if attach {
            let (streams, begun) = self.attach(input);
            attached = Some(streams);
            tokio::select! {
                ready = timeout(ATTACHED, begun) => self.check_attached(ready, attached.as_mut()).await?,
                signal = signals.next() => return Ok(End::Interrupted(signal)),
            }
        } else if let Some(why) = self.runtime.capabilities().why_not(Capability::Attach) {
            tell(&format!("the output is not shown, for the runtime cannot attach: {why}"));
        }
        self.runtime.start(&self.id).await?;
        let (status, stopped) = self.wait(signals, attached.as_mut()).await?;
        let lost = match attached {
            Some(attached) => drain(attached, signals).await.lost(stopped),
            None => None,
        };
        Ok(End::Ended { status, lost })
    }

    fn attach(&self, input: Input) -> (Attached, oneshot::Receiver<()>) {
        let mut pumps = Pumps::new();
        let stdout = match self.stdout_is_taken {
            true => pumps.stderr(),
            false => pumps.stdout(),
        };
        let mut streams = Streams::none().stdout(stdout);
        if !self.bundle.terminal {
            streams = streams.stderr(pumps.stderr());
        }
        if input != Input::Nothing {
            streams = streams.stdin(tokio::io::stdin());
        }
        let (tell, begun) = oneshot::channel();
        let mut request = AttachRequest::new().on_attached(tell);
        let mut raw = None;
        if self.bundle.terminal && input == Input::Terminal {
            raw = RawMode::enter();
            if self.runtime.capabilities().has(Capability::AttachResize) {
                let sizes = terminal::sizes();
                let first = *sizes.borrow();
                if let Some(size) = first {
                    request = request.initial_size(size);
                }
                streams = streams.resize(sizes);
            }
        }
        let (runtime, id) = (self.runtime.clone(), self.id.clone());
        let task = tokio::spawn(async move { runtime.attach(&id, request, streams).await });
        (Attached { task, pumps, _raw: raw }, begun)
    }

    async fn check_attached(
        &self,
        ready: std::result::Result<Begun, Elapsed>,
        attached: Option<&mut Attached>,
    ) -> Result<()> {
        let lost =
            |kind| Error::new(kind).during(Operation::Attach).on(format_args!("container \"{}\"", self.id));
        match (ready, attached) {
            (Ok(Ok(())), _) => Ok(()),
            (Err(_), _) => Err(lost(ErrorKind::TimedOut(ATTACHED))),
            // The attach ended without having begun: its own error tells why.
            (Ok(Err(_)), Some(attached)) => match (&mut attached.task).await {
                Ok(Err(error)) => Err(error),
                _ => Err(lost(ErrorKind::Internal("it ended before it began".to_owned()))),
            },
            (Ok(Err(_)), None) => Ok(()),
        }
    }

    /// Waits for the end, and hands signals on meanwhile. Tells, too, whether it was stopped for output that cannot be
    /// written.
    async fn wait(
        &self,
        signals: &mut Signals,
        attached: Option<&mut Attached>,
    ) -> Result<(ExitStatus, bool)> {
        let ended = |status| (status, false);
        let wait = self.runtime.wait(&self.id);
        tokio::pin!(wait);
        let mut requests = 0;
        let mut limit: Option<Instant> = None;
        let mut pumps = attached.map(|attached| &mut attached.pumps);
        loop {
            let broken = async {
                match &mut pumps {
                    Some(pumps) => pumps.broken().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // What has ended is not said to have been stopped.
                biased;
                status = &mut wait => return status.map(ended),
                signal = signals.next() => {
                    if wants_the_end(signal) {
                        requests += 1;
                        limit = limit.or_else(|| Instant::now().checked_add(self.grace));
                    }
                    if requests >= PATIENCE {
                        return self.runtime.stop(&self.id, StopRequest::within(Duration::ZERO)).await.map(ended);
                    }
                    self.hand_on(signal).await?;
                }
                () = expiry(limit) => {
                    return self.runtime.stop(&self.id, StopRequest::within(Duration::ZERO)).await.map(ended);
                }
                // Nobody gets what it says any more. A pipe would end it at once; it may tidy up first.
                () = broken => {
                    let grace = self.grace.min(NO_READER);
                    let status = self.runtime.stop(&self.id, StopRequest::within(grace)).await?;
                    return Ok((status, true));
                }
            }
        }
    }

    async fn hand_on(&self, signal: Signal) -> Result<()> {
        match self.runtime.kill(&self.id, KillRequest::new(signal)).await {
            // It has just ended; the wait tells how. A paused one that takes no signals is told of, and goes on.
            Err(error) if error.is_wrong_state() || error.is_not_found() => Ok(()),
            Err(error) if error.is_unsupported() => {
                tell(&error.report());
                Ok(())
            }
            sent => sent,
        }
    }
}

async fn expiry(limit: Option<Instant>) {
    match limit {
        Some(limit) => sleep_until(limit).await,
        None => std::future::pending().await,
    }
}

/// Lets the rest of the output come out; whoever sends a signal has seen enough.
async fn drain(mut attached: Attached, signals: &mut Signals) -> Pumps {
    tokio::select! {
        () = attached.pumps.drain() => {}
        signal = signals.next() => {
            tell(&format!("the rest of the output is given up after {signal}"));
        }
    }
    let Attached { mut task, pumps, .. } = attached;
    match timeout(LAST_WORD, &mut task).await {
        Ok(Ok(Err(error))) => tell(&format!("some of the output was lost: {}", error.report())),
        Ok(_) => {}
        Err(_) => task.abort(),
    }
    pumps
}
