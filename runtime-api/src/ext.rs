//! Conveniences over the trait. They cannot be overridden, so they mean the same for every backend.

use async_trait::async_trait;

use crate::{
    Capability, ContainerId, CreateRequest, DeleteRequest, ExecOutcome, ExecSyncRequest, ExitStatus,
    ProcessRequest, Result, RuntimeImpl,
};

/// What callers often want, built from [`RuntimeImpl`].
#[async_trait]
pub trait RuntimeExt: RuntimeImpl {
    /// Refuses unless the capability is declared.
    ///
    /// # Errors
    /// `Unsupported` with the reason.
    fn require(&self, capability: Capability) -> Result<()> {
        self.capabilities().require(capability)
    }

    /// One whole life: create, start, wait, delete. On an error after the create the container is deleted with force.
    ///
    /// **Cancel**: if dropped midway the container may be left; delete it with force.
    ///
    /// # Errors
    /// Those of create, start, wait and delete.
    async fn run_to_exit(&self, request: CreateRequest) -> Result<ExitStatus> {
        let id = request.id.clone();
        self.create(request).await?;
        let lived = async {
            self.start(&id).await?;
            self.wait(&id).await
        }
        .await;
        match lived {
            Ok(status) => self.delete(&id, DeleteRequest::new()).await.map(|()| status),
            Err(error) => {
                // The first failure is the one to tell; the container must go in any case.
                let _ = self.delete(&id, DeleteRequest::force()).await;
                Err(error)
            }
        }
    }

    /// Runs a command and collects its output, without a time limit.
    ///
    /// # Errors
    /// Those of [`RuntimeImpl::exec_sync`].
    async fn output(&self, id: &ContainerId, argv: &[&str]) -> Result<ExecOutcome> {
        let process = ProcessRequest::new(argv.iter().copied());
        self.exec_sync(id, ExecSyncRequest::new(process)).await
    }
}

impl<R: RuntimeImpl + ?Sized> RuntimeExt for R {}
