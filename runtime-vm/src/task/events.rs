//! What a shim tells by itself: it forwards its events to a socket of ours, whose address it got when it was started.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use containerd_shim_protos::api;
use containerd_shim_protos::events::task as told;
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim_async;
use protobuf::Message;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use runtime_api::{Error, ErrorKind, Result};

use super::answer::{TaskExit, time};
use super::any::Payload;

/// How many events wait for a reader.
const WAITING: usize = 1024;
/// How long a shim is kept waiting when nobody reads.
const PATIENCE: Duration = Duration::from_secs(1);

/// An event of a shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShimEvent {
    /// When it happened, as the shim says.
    pub at: Option<SystemTime>,
    /// Its namespace.
    pub namespace: String,
    /// Its topic, such as `/tasks/exit`.
    pub topic: String,
    /// What happened.
    pub what: TaskEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEvent {
    /// A container was made.
    Created {
        /// The container.
        id: String,
        /// The pid of its init.
        pid: u32,
    },
    /// Its init was started.
    Started {
        /// The container.
        id: String,
        /// The pid of its init.
        pid: u32,
    },
    /// The init or an exec ended.
    Exited {
        /// The container.
        id: String,
        /// The exec; `None` is the init.
        exec: Option<String>,
        /// The pid that it had.
        pid: u32,
        /// How it ended.
        exit: TaskExit,
    },
    /// The init or an exec was deleted.
    Deleted {
        /// The container.
        id: String,
        /// The exec; `None` is the init.
        exec: Option<String>,
    },
    /// A process was killed for want of memory.
    OutOfMemory {
        /// The container.
        id: String,
    },
    /// An exec was started.
    ExecStarted {
        /// The container.
        id: String,
        /// The exec.
        exec: String,
        /// Its pid.
        pid: u32,
    },
    /// The container was frozen.
    Paused {
        /// The container.
        id: String,
    },
    /// The container was thawed.
    Resumed {
        /// The container.
        id: String,
    },
    /// Something else.
    Other(Payload),
}

/// Takes events as long as it lives. Dropping it closes the socket and removes its file.
pub struct EventServer {
    _server: ttrpc::asynchronous::Server,
    path: PathBuf,
}

impl EventServer {
    /// Listens at a path at which nothing is, and sends what comes to the receiver. An event that finds no room there for a
    /// second is dropped, with a warning: the shim must not stand still because nobody reads.
    ///
    /// # Errors
    /// `Exhausted` or `ConfigInvalid` when there can be no socket at this path.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn listen(path: &Path) -> Result<(Self, mpsc::Receiver<ShimEvent>)> {
        let cannot = |error: std::io::Error| {
            let what = format!("the socket {} for a shim's events cannot be made", path.display());
            Error::new(ErrorKind::ConfigInvalid(what)).during_step("start the shim").caused_by(error)
        };
        let listener = UnixListener::bind(path).map_err(cannot)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(cannot)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let service = shim_async::create_events(Arc::new(Forwarder { sender }));
        let mut server = ttrpc::asynchronous::Server::new()
            .add_listener(ttrpc::asynchronous::transport::Listener::from(listener))
            .register_service(service);
        server.start().await.map_err(|error| {
            Error::new(ErrorKind::Internal("events cannot be served".to_owned())).caused_by(error)
        })?;
        Ok((Self { _server: server, path: path.to_owned() }, receiver))
    }

    /// What a shim gets as `TTRPC_ADDRESS`: the path itself, for that is how containerd gives its own.
    #[must_use]
    pub fn address(&self) -> &Path {
        &self.path
    }
}

impl Drop for EventServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl std::fmt::Debug for EventServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventServer").field("path", &self.path).finish_non_exhaustive()
    }
}

struct Forwarder {
    sender: mpsc::Sender<ShimEvent>,
}

#[async_trait]
impl shim_async::Events for Forwarder {
    async fn forward(
        &self,
        _context: &ttrpc::asynchronous::TtrpcContext,
        request: api::ForwardRequest,
    ) -> ttrpc::Result<api::Empty> {
        if let Some(event) = request.envelope.into_option().map(ShimEvent::from) {
            let topic = event.topic.clone();
            if timeout(PATIENCE, self.sender.send(event)).await.is_err() {
                tracing::warn!(topic, "nobody reads the shim's events: one is dropped");
            }
        }
        Ok(api::Empty::new())
    }
}

impl From<Envelope> for ShimEvent {
    fn from(envelope: Envelope) -> Self {
        let payload = envelope.event.into_option().map(Payload::from).unwrap_or_default();
        Self {
            at: envelope.timestamp.as_ref().and_then(time),
            namespace: envelope.namespace,
            topic: envelope.topic,
            what: TaskEvent::from(payload),
        }
    }
}

impl From<Payload> for TaskEvent {
    /// An event that cannot be read is [`TaskEvent::Other`].
    fn from(payload: Payload) -> Self {
        known(&payload).unwrap_or(Self::Other(payload))
    }
}

fn known(payload: &Payload) -> Option<TaskEvent> {
    let name = payload.type_name().strip_prefix("containerd.events.")?;
    let bytes = payload.value.as_slice();
    Some(match name {
        "TaskCreate" => read::<told::TaskCreate, _>(bytes, |event| TaskEvent::Created {
            id: event.container_id,
            pid: event.pid,
        })?,
        "TaskStart" => read::<told::TaskStart, _>(bytes, |event| TaskEvent::Started {
            id: event.container_id,
            pid: event.pid,
        })?,
        "TaskExit" => read::<told::TaskExit, _>(bytes, |event| TaskEvent::Exited {
            exec: exec_of(event.id, &event.container_id),
            exit: TaskExit::new(event.exit_status, event.exited_at.as_ref()),
            id: event.container_id,
            pid: event.pid,
        })?,
        "TaskDelete" => read::<told::TaskDelete, _>(bytes, |event| TaskEvent::Deleted {
            exec: exec_of(event.id, &event.container_id),
            id: event.container_id,
        })?,
        "TaskOOM" => {
            read::<told::TaskOOM, _>(bytes, |event| TaskEvent::OutOfMemory { id: event.container_id })?
        }
        "TaskExecStarted" => read::<told::TaskExecStarted, _>(bytes, |event| TaskEvent::ExecStarted {
            id: event.container_id,
            exec: event.exec_id,
            pid: event.pid,
        })?,
        "TaskPaused" => {
            read::<told::TaskPaused, _>(bytes, |event| TaskEvent::Paused { id: event.container_id })?
        }
        "TaskResumed" => {
            read::<told::TaskResumed, _>(bytes, |event| TaskEvent::Resumed { id: event.container_id })?
        }
        _ => return None,
    })
}

fn read<M: Message, T>(bytes: &[u8], make: impl FnOnce(M) -> T) -> Option<T> {
    M::parse_from_bytes(bytes).ok().map(make)
}

/// The init goes by the name of its container, or by none.
fn exec_of(name: String, container: &str) -> Option<String> {
    Some(name).filter(|name| !name.is_empty() && name != container)
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::MessageField;

    fn payload(name: &str, message: &impl Message) -> Payload {
        Payload::new(format!("containerd.events.{name}"), message.write_to_bytes().unwrap())
    }

    fn oom(id: &str) -> Payload {
        let mut message = told::TaskOOM::new();
        message.container_id = id.to_owned();
        payload("TaskOOM", &message)
    }

    #[test]
    fn events_are_read_and_what_is_unknown_is_kept() {
        assert_eq!(TaskEvent::from(oom("a")), TaskEvent::OutOfMemory { id: "a".into() });
        let mut exit = told::TaskExit::new();
        exit.container_id = "a".to_owned();
        exit.id = "a".to_owned();
        exit.exit_status = 137;
        let TaskEvent::Exited { exec: None, exit: end, .. } = TaskEvent::from(payload("TaskExit", &exit))
        else {
            panic!("the name of the container is that of its init")
        };
        assert_eq!(end.code, 137);
        exit.id = "one".to_owned();
        let event = TaskEvent::from(payload("TaskExit", &exit));
        assert!(matches!(&event, TaskEvent::Exited { exec: Some(exec), .. } if exec == "one"), "{event:?}");
        for strange in [Payload::new("a.b", [1]), Payload::new("containerd.events.TaskOOM", [0xff])] {
            assert_eq!(TaskEvent::from(strange.clone()), TaskEvent::Other(strange));
        }
    }

    async fn client(server: &EventServer) -> shim_async::EventsClient {
        let stream = tokio::net::UnixStream::connect(server.address()).await.unwrap();
        let socket = ttrpc::asynchronous::transport::Socket::new(stream);
        shim_async::EventsClient::new(ttrpc::asynchronous::Client::new(socket))
    }

    #[tokio::test]
    async fn what_is_forwarded_arrives_and_the_socket_goes_with_the_server() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("events");
        let (server, mut events) = EventServer::listen(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let client = client(&server).await;
        let mut request = api::ForwardRequest::new();
        let mut envelope = Envelope::new();
        envelope.namespace = "default".to_owned();
        envelope.topic = "/tasks/oom".to_owned();
        envelope.event = MessageField::some(oom("a").into());
        request.envelope = MessageField::some(envelope);
        let context = ttrpc::context::with_duration(Duration::from_secs(20));
        client.forward(context.clone(), &request).await.unwrap();
        // One without anything in it is no reason to fail.
        client.forward(context, &api::ForwardRequest::new()).await.unwrap();
        let event = events.recv().await.unwrap();
        assert_eq!((event.namespace.as_str(), event.topic.as_str()), ("default", "/tasks/oom"));
        assert_eq!(event.what, TaskEvent::OutOfMemory { id: "a".into() });
        drop(server);
        assert!(!path.exists());
        assert_eq!(timeout(Duration::from_secs(20), events.recv()).await, Ok(None));
    }

    #[tokio::test]
    async fn a_path_that_is_taken_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("taken");
        std::fs::write(&path, "x").unwrap();
        let error = EventServer::listen(&path).await.unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
        assert!(path.exists());
    }
}
