//! The blessed order of the layers.
//!
//! ```text
//! trace( guard( deadline( narrow( backend ))))
//! ```
//!
//! - **Trace** is outermost, so that refusals and calls that were cut off are told like all others.
//! - **Guard** comes before the deadline: what it refuses costs no timer, and no time-out can hide a refusal.
//! - **Deadline** is next to the backend, so that its time is the backend's alone.
//! - **Narrow** only changes the declaration, which the guard reads; its place does not matter.

use runtime_api::{HandlerConfig, Result, SharedRuntime};
use std::sync::Arc;

use crate::deadline::Deadline;
use crate::guard::Guard;
use crate::intercept::Intercepted;
use crate::narrow::Narrow;
use crate::trace::Trace;

/// Puts the standard layers in front of a backend, with the handler's limits.
///
/// # Errors
/// Those of [`Intercepted::new`]; the standard layers cause none.
pub fn standard(backend: SharedRuntime, config: &HandlerConfig) -> Result<SharedRuntime> {
    let layers = Intercepted::new(
        backend,
        vec![
            Box::new(Trace),
            Box::new(Guard::default().min_memory(config.min_memory)),
            Box::new(Deadline::new(config.timeouts)),
            Box::new(Narrow::new(config.disabled.clone())),
        ],
    )?;
    Ok(Arc::new(layers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Toy, id, toy_config};
    use runtime_api::{Capability, EvidenceSource, ExecSyncRequest, ProcessRequest};

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
