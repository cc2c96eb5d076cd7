//! The Task service of a containerd shim, as a client.
//!
//! Versions 2 and 3 of the service have the same messages and differ in name only. A shim's reply to `start` says which one
//! it serves, and [`TaskClient::open`] confirms that by a call, for not every shim says the truth.
//!
//! Every call but [`TaskClient::wait`] has a deadline. Dropping a call's future gives it up; the shim may still do what it
//! was asked.

pub mod answer;
pub mod any;
pub mod code;
pub mod events;
mod fault;
mod link;
pub mod metrics;
mod request;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use containerd_shim_protos::api;
use protobuf::{Message, MessageField};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use answer::{Connected, Deleted, TaskExit, TaskProcess, TaskState};
use any::Payload;
pub use fault::{Answer, Fault};
use link::{End, Link};
pub use request::{CreateTask, ExecTask, RootMount, Target, TaskIo};

/// The namespace that is used unless another one is given.
pub const NAMESPACE: &str = "default";

/// How long a shim may take to say that what it called ended has ended.
const CONFIRMED: Duration = Duration::from_secs(10);
/// The pauses between two waits for what it called ended and has not.
const AGAIN: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// A version of the Task service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskApi {
    /// containerd 1, kata, gVisor.
    V2,
    /// containerd 2 and what follows it.
    V3,
}

impl TaskApi {
    /// The name of the service.
    #[must_use]
    pub const fn service(self) -> &'static str {
        match self {
            Self::V2 => "containerd.task.v2.Task",
            Self::V3 => "containerd.task.v3.Task",
        }
    }

    /// The version that is not this one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::V2 => Self::V3,
            Self::V3 => Self::V2,
        }
    }
}

/// A connection to a shim. Clones share it; it is closed with the last of them.
#[derive(Clone)]
pub struct TaskClient {
    client: ttrpc::asynchronous::Client,
    api: TaskApi,
    namespace: Arc<str>,
    end: End,
    /// Whether a call had no answer in time.
    late: Arc<AtomicBool>,
}

impl TaskClient {
    /// Talks over a stream that leads to a shim, which is taken to serve `api`. The shim keeps containers apart by namespace.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Sync + 'static,
        api: TaskApi,
        namespace: &str,
    ) -> Self {
        let (link, end) = Link::new(stream);
        let socket = ttrpc::asynchronous::transport::Socket::new(link);
        Self {
            client: ttrpc::asynchronous::Client::new(socket),
            api,
            namespace: namespace.into(),
            end,
            late: Arc::default(),
        }
    }

    /// Talks over a stream, and asks which version of the service is at its end: `expected` first, then the other one. The
    /// answer is `None` where the shim does not know the container yet, which some say only once it is created.
    ///
    /// # Errors
    /// What the call says when the shim serves neither version, or does not answer in time.
    pub async fn open(
        stream: impl AsyncRead + AsyncWrite + Send + Sync + 'static,
        expected: TaskApi,
        namespace: &str,
        id: &str,
        limit: Duration,
    ) -> Answer<(Self, Option<Connected>)> {
        let mut client = Self::over(stream, expected, namespace);
        let first = match client.connect(id, limit).await {
            Err(fault) if fault.is_unknown_service(expected) => fault,
            other => return known(client, other),
        };
        client.api = expected.other();
        match client.connect(id, limit).await {
            Err(fault) if fault.is_unknown_service(client.api) => Err(first),
            other => known(client, other),
        }
    }

    /// The version of the service that is spoken.
    #[must_use]
    pub fn api(&self) -> TaskApi {
        self.api
    }

    /// The namespace of the containers.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Waits until the shim has closed the connection, as it does when it dies.
    pub async fn closed(&self) {
        self.end.come().await;
    }

    /// Whether the connection is closed. A new one may still be had.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.end.has_come()
    }

    /// Whether a new connection is better than this one: it is closed, or a call had no answer in time. What was lost on the
    /// way may have been a part of an answer, and then nothing that comes later is understood.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.is_closed() || self.late.load(Ordering::Relaxed)
    }

    /// Makes a container, and answers the pid of its init.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn create(&self, request: CreateTask, limit: Duration) -> Answer<u32> {
        let answer: api::CreateTaskResponse = self.call("Create", &request.into_message(), limit).await?;
        Ok(answer.pid)
    }

    /// Starts the init or an exec, and answers its pid.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn start(&self, target: Target<'_>, limit: Duration) -> Answer<u32> {
        let mut request = api::StartRequest::new();
        (request.id, request.exec_id) = target.names();
        let answer: api::StartResponse = self.call("Start", &request, limit).await?;
        Ok(answer.pid)
    }

    /// Asks how the init or an exec stands.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn state(&self, target: Target<'_>, limit: Duration) -> Answer<TaskState> {
        let mut request = api::StateRequest::new();
        (request.id, request.exec_id) = target.names();
        let answer: api::StateResponse = self.call("State", &request, limit).await?;
        // Of an exec some say the container's name and some its own.
        let meant = [request.id.as_str(), request.exec_id.as_str(), ""];
        if !meant.contains(&answer.id.as_str()) {
            return Err(Fault::Malformed(format!("it is about {:?}, which was not asked for", answer.id)));
        }
        Ok(answer.into())
    }

    /// Waits for the end of the init or of an exec, for as long as that takes. One that has ended is answered at once.
    ///
    /// The shim in Rust answers at once of what is frozen, with the code 0. What has ended has ended at some time, so an
    /// answer without one counts only where the state says the same, and else it is waited again.
    ///
    /// # Errors
    /// What the shim answers; [`Fault::Closed`] when it dies first.
    pub async fn wait(&self, target: Target<'_>) -> Answer<TaskExit> {
        let mut pause = AGAIN[0];
        loop {
            let mut request = api::WaitRequest::new();
            (request.id, request.exec_id) = target.names();
            let answer: api::WaitResponse = self.ask("Wait", &request, None).await?;
            let waited = TaskExit::new(answer.exit_status, answer.exited_at.as_ref());
            if waited.at.is_some() {
                return Ok(waited);
            }
            if let Some(exit) = self.state(target, CONFIRMED).await?.exit {
                // It may have ended between the two answers, and then the second one has its code.
                return Ok(if exit.at.is_some() { exit } else { waited });
            }
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN[1]);
        }
    }

    /// Sends a signal to the init or an exec; with `all` to every process of the container.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn kill(&self, target: Target<'_>, signal: u32, all: bool, limit: Duration) -> Answer<()> {
        let mut request = api::KillRequest::new();
        (request.id, request.exec_id) = target.names();
        request.signal = signal;
        request.all = all;
        self.tell("Kill", &request, limit).await
    }

    /// Tells the shim of a second program. [`TaskClient::start`] runs it.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn exec(&self, request: ExecTask, limit: Duration) -> Answer<()> {
        self.tell("Exec", &request.into_message(), limit).await
    }

    /// Changes the size of a terminal.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn resize_pty(
        &self,
        target: Target<'_>,
        width: u32,
        height: u32,
        limit: Duration,
    ) -> Answer<()> {
        let mut request = api::ResizePtyRequest::new();
        (request.id, request.exec_id) = target.names();
        request.width = width;
        request.height = height;
        self.tell("ResizePty", &request, limit).await
    }

    /// Lets the program read the end of its input, once the input's last writer has closed the fifo.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn close_stdin(&self, target: Target<'_>, limit: Duration) -> Answer<()> {
        let mut request = api::CloseIORequest::new();
        (request.id, request.exec_id) = target.names();
        request.stdin = true;
        self.tell("CloseIO", &request, limit).await
    }

    /// Lists the processes of a container.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn pids(&self, id: &str, limit: Duration) -> Answer<Vec<TaskProcess>> {
        let mut request = api::PidsRequest::new();
        request.id = id.to_owned();
        let answer: api::PidsResponse = self.call("Pids", &request, limit).await?;
        Ok(answer.processes.into_iter().map(TaskProcess::from).collect())
    }

    /// Freezes a container.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn pause(&self, id: &str, limit: Duration) -> Answer<()> {
        let mut request = api::PauseRequest::new();
        request.id = id.to_owned();
        self.tell("Pause", &request, limit).await
    }

    /// Thaws a container.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn resume(&self, id: &str, limit: Duration) -> Answer<()> {
        let mut request = api::ResumeRequest::new();
        request.id = id.to_owned();
        self.tell("Resume", &request, limit).await
    }

    /// Changes limits; see [`any::linux_resources`].
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn update(
        &self,
        id: &str,
        resources: Payload,
        annotations: BTreeMap<String, String>,
        limit: Duration,
    ) -> Answer<()> {
        let mut request = api::UpdateTaskRequest::new();
        request.id = id.to_owned();
        request.resources = MessageField::some(resources.into());
        request.annotations = annotations.into_iter().collect();
        self.tell("Update", &request, limit).await
    }

    /// Reads the use of resources, as [`metrics::stats`] understands it.
    ///
    /// # Errors
    /// What the shim answers; [`Fault::Malformed`] when it answers without any.
    pub async fn stats(&self, id: &str, limit: Duration) -> Answer<Payload> {
        let mut request = api::StatsRequest::new();
        request.id = id.to_owned();
        let answer: api::StatsResponse = self.call("Stats", &request, limit).await?;
        let stats = answer.stats.into_option();
        stats.map(Payload::from).ok_or_else(|| Fault::Malformed("there are no stats in it".into()))
    }

    /// Forgets the init, and the container with it, or an exec.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn delete(&self, target: Target<'_>, limit: Duration) -> Answer<Deleted> {
        let mut request = api::DeleteRequest::new();
        (request.id, request.exec_id) = target.names();
        let answer: api::DeleteResponse = self.call("Delete", &request, limit).await?;
        Ok(answer.into())
    }

    /// Asks for the pids of the shim and of a container's init.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn connect(&self, id: &str, limit: Duration) -> Answer<Connected> {
        let mut request = api::ConnectRequest::new();
        request.id = id.to_owned();
        let answer: api::ConnectResponse = self.call("Connect", &request, limit).await?;
        Ok(answer.into())
    }

    /// Ends the shim, if it has no container left or `now` is set. Many shims close the connection instead of answering,
    /// which is [`Fault::Closed`].
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn shutdown(&self, id: &str, now: bool, limit: Duration) -> Answer<()> {
        let mut request = api::ShutdownRequest::new();
        request.id = id.to_owned();
        request.now = now;
        self.tell("Shutdown", &request, limit).await
    }

    /// Writes a container's image to a directory.
    ///
    /// # Errors
    /// What the shim answers.
    pub async fn checkpoint(
        &self,
        id: &str,
        image: &Path,
        options: Option<Payload>,
        limit: Duration,
    ) -> Answer<()> {
        let mut request = api::CheckpointTaskRequest::new();
        request.id = id.to_owned();
        request.path = request::text_of(image);
        request.options = options.map(Into::into).into();
        self.tell("Checkpoint", &request, limit).await
    }

    /// A call whose answer is empty.
    async fn tell(&self, method: &'static str, request: &impl Message, limit: Duration) -> Answer<()> {
        self.call::<api::Empty>(method, request, limit).await.map(drop)
    }

    async fn call<R: Message>(
        &self,
        method: &'static str,
        request: &impl Message,
        limit: Duration,
    ) -> Answer<R> {
        self.ask(method, request, Some(limit)).await
    }

    /// The one place that sends something.
    async fn ask<R: Message>(
        &self,
        method: &'static str,
        request: &impl Message,
        limit: Option<Duration>,
    ) -> Answer<R> {
        let mut frame = ttrpc::Request::new();
        frame.service = self.api.service().to_owned();
        frame.method = method.to_owned();
        frame.payload = request.write_to_bytes().map_err(|error| Fault::Unsent(error.to_string()))?;
        let mut namespace = ttrpc::proto::KeyValue::new();
        namespace.key = "containerd-namespace-ttrpc".to_owned();
        namespace.value = self.namespace.as_ref().to_owned();
        frame.metadata.push(namespace);
        let Some(limit) = limit else {
            return decoded(&self.client.request(frame).await?);
        };
        // Nothing would be no limit at all to the other side, which gives up by this as well.
        frame.timeout_nano = i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX).max(1);
        let answer = match timeout(limit, self.client.request(frame)).await {
            Ok(answer) => answer.map_err(|error| Fault::within(error, limit)),
            Err(_late) => Err(Fault::Late(limit)),
        };
        if let Err(Fault::Late(_)) = answer {
            self.late.store(true, Ordering::Relaxed);
        }
        decoded(&answer?)
    }
}

impl fmt::Debug for TaskClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskClient").field("api", &self.api).field("closed", &self.is_closed()).finish()
    }
}

/// An unknown container is told by a service that is known.
fn known(client: TaskClient, answer: Answer<Connected>) -> Answer<(TaskClient, Option<Connected>)> {
    match answer {
        Ok(connected) => Ok((client, Some(connected))),
        Err(Fault::Refused { code: code::StatusCode::NotFound, .. }) => Ok((client, None)),
        Err(fault) => Err(fault),
    }
}

fn decoded<R: Message>(answer: &ttrpc::Response) -> Answer<R> {
    R::parse_from_bytes(&answer.payload).map_err(|error| Fault::Malformed(error.to_string()))
}

#[cfg(test)]
#[path = "task/tests.rs"]
mod tests;
