//! The tasks of a real shim, for as long as its process lives.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use runtime_api::{Error, ErrorKind, Operation, Peer, Result};
use runtime_host::process::Identity;

use super::{Ended, Key, Tasks};
use crate::shim::{Address, dial};
use crate::task::{Fault, Target, TaskApi, TaskClient};

/// How long a shim may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How often is looked whether a shim without a known process still listens.
const LOOK: Duration = Duration::from_secs(1);

/// A connection to a shim that is made again when it breaks.
#[derive(Debug)]
pub struct ShimTasks {
    address: Address,
    api: TaskApi,
    client: Mutex<TaskClient>,
    /// Its process, if it is known.
    shim: Option<Identity>,
}

impl ShimTasks {
    /// The tasks of the shim at this address, to which `client` is connected. A shim whose process is not known is gone when
    /// nobody listens there any more.
    #[must_use]
    pub fn new(address: Address, client: TaskClient, shim: Option<Identity>) -> Self {
        Self { address, api: client.api(), client: Mutex::new(client), shim }
    }

    /// A connection that was open a moment ago.
    async fn client(&self) -> Result<TaskClient> {
        let known = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !known.is_doubtful() {
            return Ok(known);
        }
        let connected = tokio::time::timeout(ANSWER, dial::once(&self.address)).await;
        match connected {
            Ok(Ok(stream)) => {
                let client = TaskClient::over(stream, self.api, known.namespace());
                *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client.clone();
                Ok(client)
            }
            Ok(Err(error)) => Err(Error::new(self.lost(&error)).on(&self.address).caused_by(error)),
            Err(_late) => Err(Error::new(ErrorKind::TimedOut(ANSWER)).on(&self.address)),
        }
    }

    /// What it means that a shim cannot be reached: a process that is known to live may be reached later.
    fn lost(&self, error: &io::Error) -> ErrorKind {
        // Where no process is known, only that nobody listens is told for certain.
        let nobody = matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        if self.shim.map_or(!nobody, Identity::lives) {
            ErrorKind::Unavailable("the shim cannot be reached now".into())
        } else {
            ErrorKind::PeerLost(Peer::Shim)
        }
    }

    fn error(&self, fault: Fault, operation: Operation) -> Error {
        match &fault {
            // The next try connects anew, or finds that there is nobody.
            Fault::Closed(_) if self.shim.is_none_or(Identity::lives) => {
                Error::new(ErrorKind::Unavailable("the connection to the shim broke".into())).caused_by(fault)
            }
            _ => fault.into_error(operation),
        }
    }
}

#[async_trait]
impl Tasks for ShimTasks {
    async fn wait(&self, key: &Key) -> Result<Ended> {
        let ended = self.client().await?.wait(target(key)).await;
        let ended = ended.map_err(|fault| self.error(fault, Operation::Wait))?;
        Ok(Ended { code: ended.code, at: ended.at.unwrap_or_else(SystemTime::now) })
    }

    async fn ended(&self, key: &Key) -> Result<Option<Ended>> {
        let state = self.client().await?.state(target(key), ANSWER).await;
        let state = state.map_err(|fault| self.error(fault, Operation::State))?;
        // What has ended has ended at some time; without one it is a word that nothing stands behind.
        let exit = state.exit.and_then(|exit| Some(Ended { code: exit.code, at: exit.at? }));
        Ok(exit)
    }

    async fn close_io(&self, key: &Key) -> Result<()> {
        let closed = self.client().await?.close_stdin(target(key), ANSWER).await;
        closed.map_err(|fault| self.error(fault, Operation::Attach))
    }

    async fn gone(&self) {
        match self.shim {
            Some(shim) => {
                if let Some(process) = shim.open()
                    && process.ended().await.is_err()
                {
                    // It cannot be watched.
                    while shim.lives() {
                        tokio::time::sleep(LOOK).await;
                    }
                }
            }
            None => loop {
                let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
                client.closed().await;
                tokio::time::sleep(LOOK).await;
                if let Err(error) = self.client().await
                    && matches!(error.kind(), ErrorKind::PeerLost(_))
                {
                    return;
                }
            },
        }
    }
}

fn target(key: &Key) -> Target<'_> {
    Target { id: &key.container, exec: key.exec.as_deref() }
}
