//! Real runtimes under the suite.

use std::path::PathBuf;

use async_trait::async_trait;
use runtime_api::{HandlerConfig, OpenContext, Result, RuntimeFactory, SharedRuntime};
use runtime_oci::OciFactory;
use runtime_test::{Harness, RuntimeRef, Scratch};
use runtime_vm::VmFactory;

use crate::{host, reference};

/// Opens one handler for the suite: the bare value, without any layer in front.
#[derive(Debug)]
pub(crate) struct HandlerHarness<F> {
    reference: String,
    config: HandlerConfig,
    factory: F,
    /// The programs without which it cannot be run.
    binaries: Vec<PathBuf>,
}

/// One OCI binary.
pub(crate) fn oci(reference: &RuntimeRef) -> Result<HandlerHarness<OciFactory>> {
    let config = reference::handler(reference)?;
    let binary = config.paths.first().cloned().unwrap_or_else(|| PathBuf::from(config.name.as_str()));
    let binaries = vec![binary];
    Ok(HandlerHarness { reference: reference.to_string(), config, factory: OciFactory, binaries })
}

/// One containerd shim, and the runtime below it if one is named.
pub(crate) fn vm(reference: &RuntimeRef) -> Result<HandlerHarness<VmFactory>> {
    let config = reference::handler(reference)?;
    let below = reference.variant().or_else(|| reference.name().filter(|name| *name == "runc"));
    let binaries = config.paths.iter().cloned().chain(below.map(PathBuf::from)).collect();
    Ok(HandlerHarness { reference: reference.to_string(), config, factory: VmFactory::new(), binaries })
}

#[async_trait]
impl<F: RuntimeFactory + std::fmt::Debug> Harness for HandlerHarness<F> {
    fn reference(&self) -> String {
        self.reference.clone()
    }

    async fn open(&self, at: &Scratch) -> Result<SharedRuntime> {
        let cgroup = format!("/manyrun/conformance/{}", at.token());
        self.factory.open(&self.config, OpenContext::new(at.state_dir(), cgroup)).await
    }

    fn unmet(&self) -> Option<String> {
        self.binaries.iter().find_map(|binary| host::unmet(binary))
    }
}
