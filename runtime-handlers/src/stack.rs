//! The blessed order of the layers.
//!
//! ```text
//! trace( own layers( guard( deadline( narrow( backend )))))
//! ```
//!
//! - **Trace** is outermost, so that refusals and calls that were cut off are told like all others.
//! - **Layers of a program's own**, such as that of the metrics, see what callers see: refusals, and calls that were cut off.
//! - **Guard** comes before the deadline: what it refuses costs no timer, and no time-out can hide a refusal.
//! - **Deadline** is next to the backend, so that its time is the backend's alone.
//! - **Narrow** only changes the declaration, which the guard reads; its place does not matter.

use runtime_api::{HandlerConfig, Result, SharedRuntime};
use std::sync::Arc;

use crate::deadline::Deadline;
use crate::guard::Guard;
use crate::intercept::{Intercepted, Layers};
use crate::narrow::Narrow;
use crate::trace::Trace;

/// Puts the standard layers in front of a backend, with the handler's limits.
///
/// # Errors
/// Those of [`Intercepted::new`]; the standard layers cause none.
pub fn standard(backend: SharedRuntime, config: &HandlerConfig) -> Result<SharedRuntime> {
    with(backend, config, Vec::new())
}

/// The standard layers with others in their place between them.
///
/// # Errors
/// Those of [`Intercepted::new`].
pub fn with(backend: SharedRuntime, config: &HandlerConfig, own: Layers) -> Result<SharedRuntime> {
    let mut layers: Layers = vec![Box::new(Trace)];
    layers.extend(own);
    layers.push(Box::new(Guard::default().min_memory(config.min_memory)));
    layers.push(Box::new(Deadline::new(config.timeouts)));
    layers.push(Box::new(Narrow::new(config.disabled.clone())));
    Ok(Arc::new(Intercepted::new(backend, layers)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intercept::{Call, Interceptor, Rest};
    use crate::testing::{Toy, id, toy_config};
    use runtime_api::{Capability, EvidenceSource, ExecSyncRequest, ProcessRequest};
    use std::sync::Mutex;
    use std::time::Duration;

    /// Writes down how each call went.
    #[derive(Clone, Debug, Default)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl Interceptor for Heard {
        fn around<'a>(&'a self, call: &'a Call<'a>, rest: Rest<'a>) -> Rest<'a> {
            Box::pin(async move {
                let outcome = rest.await;
                let word = outcome.as_ref().map_or_else(|error| error.kind().id(), |()| "ok");
                self.0.lock().unwrap().push(format!("{} {word}", call.operation.id()));
                outcome
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_layer_of_ones_own_hears_of_refusals_and_of_what_was_cut_off() {
        let mut config = toy_config("web");
        config.timeouts.start = Some(Duration::from_secs(1));
        let heard = Heard::default();
        let runtime = with(Arc::new(Toy::stuck("web")), &config, vec![Box::new(heard.clone())]).unwrap();
        runtime.start(&id("a")).await.unwrap_err();
        let nothing: [&str; 0] = [];
        let request = ExecSyncRequest::new(ProcessRequest::new(nothing));
        runtime.exec_sync(&id("a"), request).await.unwrap_err();
        assert_eq!(*heard.0.lock().unwrap(), ["start timed-out", "exec.sync invalid-argument"]);
    }

    #[tokio::test]
    async fn a_disabled_capability_is_refused_with_the_place_that_says_so() {
        let mut config = toy_config("web");
        config.disabled.push((Capability::ExecSync, "/etc/h.toml:7".to_owned()));
        let toy = Arc::new(Toy::new("web"));
        let runtime = standard(toy.clone(), &config).unwrap();
        let (_, answer) = runtime.capabilities().iter().find(|(c, _)| *c == Capability::ExecSync).unwrap();
        assert_eq!(answer.evidence.source, EvidenceSource::Configuration);
        let request = ExecSyncRequest::new(ProcessRequest::new(["x"]));
        let error = runtime.exec_sync(&id("a"), request).await.unwrap_err();
        assert!(error.is_unsupported());
        assert!(error.to_string().contains("/etc/h.toml:7"), "{error}");
        assert!(toy.calls().is_empty());
    }
}
