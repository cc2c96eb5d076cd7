//! One call, as layers see it.

use std::time::Duration;

use runtime_api::{
    Capabilities, CheckpointRequest, ContainerId, CreateRequest, DeleteRequest, ExecId, KillRequest,
    Operation, ProcessRequest, RuntimeInfo, StopRequest, UpdateRequest,
};

/// What is asked, of whom. Requests are copies, and streams are not shown: what a layer sees it cannot change.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The operation.
    pub operation: Operation,
    /// The runtime that is asked.
    pub info: &'a RuntimeInfo,
    /// What is declared in front of all layers.
    pub capabilities: &'a Capabilities,
    /// The container, where one is concerned.
    pub container: Option<ContainerId>,
    /// The exec session, where one is concerned.
    pub session: Option<ExecId>,
    /// The request.
    pub asked: Asked,
}

/// The request of a call.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Asked {
    /// Nothing that a layer could want to look at.
    Nothing,
    /// A container; of a restore too.
    Create(CreateRequest),
    /// A signal.
    Kill(KillRequest),
    /// The end of a container or a session.
    Stop(StopRequest),
    /// A delete.
    Delete(DeleteRequest),
    /// An exec of any sort.
    Program {
        /// The program.
        process: ProcessRequest,
        /// Its own time limit, where it has one.
        timeout: Option<Duration>,
    },
    /// Resource limits.
    Update(Box<UpdateRequest>),
    /// A checkpoint.
    Checkpoint(CheckpointRequest),
    /// A connection to this port.
    Port(u16),
}

impl<'a> Call<'a> {
    pub(super) fn new(operation: Operation, info: &'a RuntimeInfo, capabilities: &'a Capabilities) -> Self {
        Self { operation, info, capabilities, container: None, session: None, asked: Asked::Nothing }
    }

    pub(super) fn on(mut self, id: &ContainerId) -> Self {
        self.container = Some(id.clone());
        self
    }

    pub(super) fn session(mut self, session: &ExecId) -> Self {
        self.session = Some(session.clone());
        self
    }

    pub(super) fn asking(mut self, asked: Asked) -> Self {
        self.asked = asked;
        self
    }

    /// Names the thing concerned, for errors: `container "web"`, or the handler where no container is concerned.
    #[must_use]
    pub fn subject(&self) -> String {
        match (&self.container, &self.session) {
            (Some(container), Some(session)) => format!("session \"{session}\" of container \"{container}\""),
            (Some(container), None) => format!("container \"{container}\""),
            _ => format!("handler \"{}\"", self.info.handler),
        }
    }
}
