//! Host OCI runtimes under the suite.

use std::path::PathBuf;

use async_trait::async_trait;
use runtime_api::{HandlerConfig, OpenContext, Result, RuntimeFactory, SharedRuntime};
use runtime_oci::OciFactory;
use runtime_test::{Harness, RuntimeRef, Scratch};

use crate::{host, reference};

/// Opens one OCI binary for the suite: the bare value, without any layer in front.
#[derive(Debug)]
pub(crate) struct OciHarness {
    reference: String,
    config: HandlerConfig,
}

impl OciHarness {
    pub(crate) fn new(reference: &RuntimeRef) -> Result<Self> {
        Ok(Self { reference: reference.to_string(), config: reference::handler(reference)? })
    }

    fn binary(&self) -> PathBuf {
        self.config.paths.first().cloned().unwrap_or_else(|| PathBuf::from(self.config.name.as_str()))
    }
}

#[async_trait]
impl Harness for OciHarness {
    fn reference(&self) -> String {
        self.reference.clone()
    }

    async fn open(&self, at: &Scratch) -> Result<SharedRuntime> {
        let cgroup = format!("/manyrun/conformance/{}", at.token());
        OciFactory.open(&self.config, OpenContext::new(at.state_dir(), cgroup)).await
    }

    fn unmet(&self) -> Option<String> {
        host::unmet(&self.binary())
    }
}
