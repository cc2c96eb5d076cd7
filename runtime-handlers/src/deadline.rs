//! Ends calls that take too long.
//!
//! The limits are those of the operation table, unless the handler's `timeouts` say otherwise. A stop adds its grace. An
//! operation without a limit (wait, attach, an exec, which has a limit of its own) is never cut off.
//!
//! A call that is cut off was dropped: what that means for the container is under **Cancel** in the operation's
//! documentation. A stop, for one, goes on.

use std::time::Duration;

use runtime_api::{Error, ErrorKind, Operation, Timeouts};

use crate::intercept::{Asked, Call, Interceptor, Rest};

/// A handler's limit for a stop counts from the KILL, and the backend keeps it itself; this much later the call is cut
/// off. The table's own limit has the same margin.
const MARGIN: Duration = Duration::from_secs(5);

/// The layer that ends calls that take too long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deadline(Timeouts);

impl Deadline {
    /// With a handler's own limits.
    #[must_use]
    pub const fn new(timeouts: Timeouts) -> Self {
        Self(timeouts)
    }

    fn limit(&self, call: &Call<'_>) -> Option<Duration> {
        let usual = call.operation.row().deadline;
        match (call.operation, &call.asked) {
            (Operation::Stop | Operation::ExecStop, Asked::Stop(request)) => {
                let after_kill = self.0.stop.map(|limit| limit.saturating_add(MARGIN));
                // Beyond what a Duration can hold is as good as unlimited.
                request.grace?.checked_add(after_kill.or(usual)?)
            }
            (Operation::Create | Operation::Restore, _) => self.0.create.or(usual),
            (Operation::Start, _) => self.0.start.or(usual),
            (Operation::ExecStart, _) => self.0.exec.or(usual),
            _ => usual,
        }
    }
}

impl Interceptor for Deadline {
    fn around<'a>(&'a self, call: &'a Call<'a>, rest: Rest<'a>) -> Rest<'a> {
        let Some(limit) = self.limit(call) else { return rest };
        Box::pin(async move {
            tokio::time::timeout(limit, rest).await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::TimedOut(limit))
                    .during(call.operation)
                    .on(call.subject())
                    .hint("the call was given up; ask for the container's state before trying again"))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intercept::Intercepted;
    use crate::testing::{Toy, id};
    use runtime_api::{CreateRequest, Retry, RuntimeImpl, StopRequest};
    use std::sync::Arc;
    use tokio::time::Instant;

    fn stuck(timeouts: Timeouts) -> Intercepted {
        Intercepted::new(Arc::new(Toy::stuck("web")), vec![Box::new(Deadline::new(timeouts))]).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_ended_at_the_tables_limit() {
        let begin = Instant::now();
        let error = stuck(Timeouts::default()).start(&id("a")).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::TimedOut(Duration::from_secs(60)));
        assert_eq!(error.to_string(), "start container \"a\": timed out after 60 s");
        assert_eq!(error.retry_advice(), Retry::Later);
        assert_eq!(begin.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn the_handlers_limits_win() {
        let mut timeouts = Timeouts::default();
        timeouts.create = Some(Duration::from_secs(3));
        timeouts.stop = Some(Duration::from_secs(1));
        let runtime = stuck(timeouts);
        let error = runtime.create(CreateRequest::new(id("a"), "/b")).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::TimedOut(Duration::from_secs(3)));
        let grace = StopRequest::within(Duration::from_secs(5));
        let error = runtime.stop(&id("a"), grace).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::TimedOut(Duration::from_secs(11)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unlimited_is_not_cut_off() {
        let runtime = stuck(Timeouts::default());
        let year = Duration::from_secs(365 * 24 * 3600);
        assert!(tokio::time::timeout(year, runtime.wait(&id("a"))).await.is_err());
        assert!(tokio::time::timeout(year, runtime.stop(&id("a"), StopRequest::unlimited())).await.is_err());
        let longest = StopRequest::within(Duration::MAX);
        assert!(tokio::time::timeout(year, runtime.stop(&id("a"), longest)).await.is_err());
    }
}
