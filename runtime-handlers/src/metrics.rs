//! Counts and times every call, for Prometheus.
//!
//! | metric | labels | what |
//! |---|---|---|
//! | `manyrun_operations_total` | operation, handler, kind, outcome | calls that are over |
//! | `manyrun_operation_duration_seconds` | operation, handler, kind | how long they took, where an operation has a time limit of its own |
//! | `manyrun_operations_in_flight` | operation, handler, kind | calls under way |
//!
//! The outcome is `ok`, the word for an error's kind ([`ErrorKind::id`](runtime_api::ErrorKind::id)), or `dropped` for a
//! call that its caller gave up. Containers are no labels: there is no end to them.
//!
//! ```
//! use runtime_handlers::metrics::Metrics;
//! # use runtime_handlers::{HandlerTable, Registry, Runtime};
//!
//! let metrics = Metrics::default();
//! let counting = metrics.clone();
//! let runtimes = Runtime::new(HandlerTable::built_in(), Registry::new(), "/run/engine")
//!     .with_layers(move |_handler| vec![Box::new(counting.clone())]);
//! assert!(metrics.text().ends_with("# EOF\n"));
//! ```

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use crate::intercept::{Call, Interceptor, Rest};

// Its types are in the interface.
pub use prometheus_client;

/// Upper ends of the buckets, in seconds: from what is read in a file to what waits for a time limit.
const BUCKETS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0, 60.0];

/// The outcome of a call whose future was dropped.
const DROPPED: &str = "dropped";

/// The layer that counts. Clones count into the same numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    operations: Family<Outcome, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    in_flight: Family<Labels, Gauge>,
}

/// What is asked of whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: &'static str,
    handler: String,
    kind: String,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    #[prometheus(flatten)]
    of: Labels,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            operations: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Family::default(),
        }
    }
}

impl Metrics {
    /// Adds the numbers to a program's own registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("manyrun");
        registry.register("operations", "Calls to container runtimes that are over", self.operations.clone());
        registry.register_with_unit(
            "operation_duration",
            "How long calls to container runtimes took",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "operations_in_flight",
            "Calls to container runtimes under way",
            self.in_flight.clone(),
        );
    }

    /// The numbers as they stand, in the text format of OpenMetrics, which Prometheus reads.
    #[must_use]
    pub fn text(&self) -> String {
        let mut registry = Registry::default();
        self.register(&mut registry);
        let mut text = String::new();
        // Only the sink could fail, and this one does not.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

impl Interceptor for Metrics {
    fn around<'a>(&'a self, call: &'a Call<'a>, rest: Rest<'a>) -> Rest<'a> {
        Box::pin(async move {
            let mut counted = Counted::begin(self, call);
            let outcome = rest.await;
            counted.outcome = outcome.as_ref().map_or_else(|error| error.kind().id(), |()| "ok");
            outcome
        })
    }
}

/// A call under way. It is counted when it goes, however that is.
struct Counted<'a> {
    metrics: &'a Metrics,
    labels: Labels,
    is_timed: bool,
    began: Instant,
    outcome: &'static str,
}

impl<'a> Counted<'a> {
    fn begin(metrics: &'a Metrics, call: &Call<'_>) -> Self {
        let labels = Labels {
            operation: call.operation.id(),
            handler: call.info.handler.to_string(),
            kind: call.info.kind.to_string(),
        };
        metrics.in_flight.get_or_create(&labels).inc();
        // How long somebody waits for a container tells nothing of the runtime.
        let is_timed = call.operation.row().deadline.is_some();
        Self { metrics, labels, is_timed, began: Instant::now(), outcome: DROPPED }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.get_or_create(&self.labels).dec();
        if self.is_timed {
            self.metrics.durations.get_or_create(&self.labels).observe(self.began.elapsed().as_secs_f64());
        }
        let outcome = Outcome { of: self.labels.clone(), outcome: self.outcome };
        self.metrics.operations.get_or_create(&outcome).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::intercept::Intercepted;
    use crate::testing::{Toy, id};
    use runtime_api::{CreateRequest, RuntimeImpl};

    fn counted(toy: Toy) -> (Metrics, Intercepted) {
        let metrics = Metrics::default();
        let runtime = Intercepted::new(Arc::new(toy), vec![Box::new(metrics.clone())]).unwrap();
        (metrics, runtime)
    }

    #[track_caller]
    fn assert_has(metrics: &Metrics, line: &str) {
        let text = metrics.text();
        assert!(text.lines().any(|each| each == line), "{line} is missing in {text}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_counted_by_their_outcome() {
        let (metrics, runtime) = counted(Toy::new("web"));
        for name in ["a", "b"] {
            runtime.create(CreateRequest::new(id(name), "/b")).await.unwrap();
        }
        runtime.start(&id("nobody")).await.unwrap_err();
        let of = |operation| format!("operation=\"{operation}\",handler=\"web\",kind=\"toy\"");
        let create = of("create");
        assert_has(&metrics, &format!("manyrun_operations_total{{{create},outcome=\"ok\"}} 2"));
        assert_has(&metrics, &format!("manyrun_operation_duration_seconds_count{{{create}}} 2"));
        assert_has(&metrics, &format!("manyrun_operations_in_flight{{{create}}} 0"));
        let start = of("start");
        assert_has(&metrics, &format!("manyrun_operations_total{{{start},outcome=\"not-found\"}} 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_under_way_is_told_and_one_that_is_given_up_is_counted() {
        let (metrics, runtime) = counted(Toy::stuck("web"));
        let labels = "operation=\"wait\",handler=\"web\",kind=\"toy\"";
        let container = id("a");
        let waiting = runtime.wait(&container);
        let looked = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_has(&metrics, &format!("manyrun_operations_in_flight{{{labels}}} 1"));
        };
        tokio::select! { _ = waiting => panic!("it is stuck"), () = looked => {} }
        assert_has(&metrics, &format!("manyrun_operations_in_flight{{{labels}}} 0"));
        assert_has(&metrics, &format!("manyrun_operations_total{{{labels},outcome=\"dropped\"}} 1"));
        // A wait takes as long as its container runs.
        assert!(!metrics.text().contains("duration_seconds_count{operation=\"wait\""));
    }
}
