//! The fake shim under the suite.

use std::sync::Arc;

use async_trait::async_trait;
use runtime_api::{
    HandlerConfig, HandlerName, OpenContext, Origin, Result, RuntimeFactory as _, RuntimeKind, SharedRuntime,
};
use runtime_test::{Harness, Scratch};
use runtime_vm::VmFactory;

use super::FakeShims;
use super::methods::this_program;

/// Opens values whose shims are fake ones.
#[derive(Clone, Debug, Default)]
pub struct FakeShimHarness {
    shims: Arc<FakeShims>,
}

impl FakeShimHarness {
    /// Its name in reports and on the command line.
    pub const REFERENCE: &'static str = "vm:fake";

    /// The shims of its values.
    #[must_use]
    pub fn shims(&self) -> &FakeShims {
        &self.shims
    }

    /// Opens a value for a handler.
    ///
    /// # Errors
    /// As `VmFactory`.
    pub async fn open_as(&self, handler: &HandlerConfig, context: OpenContext) -> Result<SharedRuntime> {
        let connector: Arc<FakeShims> = Arc::clone(&self.shims);
        VmFactory::with_connector(connector).open(handler, context).await
    }

    /// The handler of fake shims: the binary is this program, and nobody runs it.
    ///
    /// # Errors
    /// None in practice.
    pub fn handler() -> Result<HandlerConfig> {
        let origin = Origin::other("the fake shim");
        let mut config = HandlerConfig::new(HandlerName::new("fake")?, RuntimeKind::new("vm")?, origin);
        config.paths = vec![this_program()];
        Ok(config)
    }
}

#[async_trait]
impl Harness for FakeShimHarness {
    fn reference(&self) -> String {
        Self::REFERENCE.to_owned()
    }

    async fn open(&self, at: &Scratch) -> Result<SharedRuntime> {
        let cgroup = format!("/manyrun/conformance/{}", at.token());
        self.open_as(&Self::handler()?, OpenContext::new(at.state_dir(), cgroup)).await
    }

    fn leftovers(&self, _at: &Scratch) -> Vec<String> {
        self.shims.leftovers()
    }
}
