//! Tells `tracing` about every call: what, of whom, how it went, how long it took. A call that was dropped is told too.

use runtime_api::{Error, ErrorKind};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::intercept::{Call, Interceptor, Rest};

/// The layer that tells `tracing`. Ordinary calls and refusals are on the level debug, failures on warn.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace;

impl Interceptor for Trace {
    fn around<'a>(&'a self, call: &'a Call<'a>, rest: Rest<'a>) -> Rest<'a> {
        let span = tracing::debug_span!(
            "runtime",
            operation = call.operation.id(),
            container = call.container.as_ref().map(tracing::field::display),
            session = call.session.as_ref().map(tracing::field::display),
            handler = %call.info.handler,
            kind = %call.info.kind,
        );
        Box::pin(
            async move {
                let mut unfinished = Unfinished { began: Instant::now(), done: false };
                let outcome = rest.await;
                unfinished.done = true;
                tell(unfinished.began, outcome.as_ref().err());
                outcome
            }
            .instrument(span),
        )
    }
}

fn tell(began: Instant, error: Option<&Error>) {
    let duration = began.elapsed();
    match error {
        None => tracing::debug!(outcome = "ok", ?duration),
        Some(error) if is_failure(error) => {
            tracing::warn!(outcome = "failed", error.kind = error.kind().id(), ?duration, error = %error.report());
        }
        Some(error) => {
            tracing::debug!(outcome = "refused", error.kind = error.kind().id(), ?duration, error = %error);
        }
    }
}

/// Whether somebody should look at it; the other kinds are answers that callers ask for.
fn is_failure(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut(_) | ErrorKind::PeerLost(_) | ErrorKind::Internal(_))
}

/// Tells of a call whose future was dropped before it ended. It is dropped inside the call's span.
struct Unfinished {
    began: Instant,
    done: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done && !Span::current().is_none() {
            tracing::debug!(outcome = "dropped", duration = ?self.began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::intercept::Intercepted;
    use crate::testing::{Toy, id};
    use runtime_api::{CreateRequest, RuntimeImpl};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn listen() -> (Lines, tracing::subscriber::DefaultGuard) {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn traced(toy: Toy) -> Intercepted {
        Intercepted::new(Arc::new(toy), vec![Box::new(Trace)]).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_told_with_its_operation_container_and_outcome() {
        let (lines, _listening) = listen();
        let runtime = traced(Toy::new("web"));
        runtime.create(CreateRequest::new(id("a"), "/b")).await.unwrap();
        runtime.start(&id("nobody")).await.unwrap_err();
        let text = lines.text();
        for part in ["operation=\"create\"", "container=a", "handler=web", "kind=toy", "outcome=\"ok\""] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(text.contains("outcome=\"refused\" error.kind=\"not-found\""), "{text}");
        assert!(text.contains("container \"nobody\": not found"), "{text}");
        assert!(!text.contains("dropped"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_call_is_told() {
        let (lines, _listening) = listen();
        let runtime = traced(Toy::stuck("web"));
        let cut = tokio::time::timeout(Duration::from_secs(2), runtime.wait(&id("a"))).await;
        assert!(cut.is_err());
        let text = lines.text();
        assert!(text.contains("operation=\"wait\"") && text.contains("outcome=\"dropped\""), "{text}");
        assert!(text.contains("duration=2"), "{text}");
    }
}
