//! The client against a server of the library, over a pair of streams.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim_protos::{api, shim_async, types};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use ttrpc::asynchronous::TtrpcContext;

use super::code::Meaning;
use super::*;

const LIMIT: Duration = Duration::from_secs(20);
/// How often the shim says that `frozen` is frozen, before it calls it ended.
const FROZEN: usize = 3;

/// A shim that knows one container, `a`.
#[derive(Default)]
struct Shim {
    /// How often the state of `frozen` was asked for.
    looks: AtomicUsize,
}

#[async_trait]
impl shim_async::Task for Shim {
    async fn connect(
        &self,
        context: &TtrpcContext,
        request: api::ConnectRequest,
    ) -> ttrpc::Result<api::ConnectResponse> {
        assert_eq!(context.metadata["containerd-namespace-ttrpc"], ["default"]);
        assert!(context.timeout_nano > 0, "every call but wait has a limit");
        if request.id != "a" {
            return Err(ttrpc::error::get_rpc_status(ttrpc::Code::NOT_FOUND, "container not created"));
        }
        let mut answer = api::ConnectResponse::new();
        (answer.shim_pid, answer.task_pid, answer.version) = (7, 8, "9".to_owned());
        Ok(answer)
    }

    async fn wait(
        &self,
        context: &TtrpcContext,
        request: api::WaitRequest,
    ) -> ttrpc::Result<api::WaitResponse> {
        assert_eq!(context.timeout_nano, 0);
        if request.exec_id == "for-ever" {
            std::future::pending::<()>().await;
        }
        let mut answer = api::WaitResponse::new();
        answer.exit_status = if request.exec_id.is_empty() { 3 } else { 0 };
        Ok(answer)
    }

    async fn state(&self, _: &TtrpcContext, request: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        let mut answer = api::StateResponse::new();
        answer.id = request.id;
        answer.status = types::task::Status::STOPPED.into();
        match request.exec_id.as_str() {
            "forgotten" => return Err(ttrpc::error::get_rpc_status(ttrpc::Code::NOT_FOUND, "no such exec")),
            "frozen" if self.looks.fetch_add(1, Ordering::Relaxed) < FROZEN => {
                answer.status = types::task::Status::PAUSED.into();
            }
            "frozen" => {
                answer.exit_status = 7;
                answer.mut_exited_at().seconds = 5;
            }
            _ => {}
        }
        Ok(answer)
    }

    async fn pause(&self, _: &TtrpcContext, _: api::PauseRequest) -> ttrpc::Result<api::Empty> {
        std::future::pending().await
    }
}

/// A socket at which the shim is served under the names of some versions, and the place that it is in.
struct Served {
    place: tempfile::TempDir,
    _server: ttrpc::asynchronous::Server,
}

impl Served {
    async fn under(versions: &[TaskApi]) -> Self {
        let mut services = HashMap::new();
        for version in versions {
            let made = shim_async::create_task(Arc::new(Shim::default()));
            services.extend(made.into_values().map(|service| (version.service().to_owned(), service)));
        }
        let place = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(place.path().join("s")).unwrap();
        let mut server = ttrpc::asynchronous::Server::new()
            .add_listener(ttrpc::asynchronous::transport::Listener::from(listener))
            .register_service(services);
        server.start().await.unwrap();
        Self { place, _server: server }
    }

    async fn stream(&self) -> UnixStream {
        UnixStream::connect(self.place.path().join("s")).await.unwrap()
    }

    async fn client(&self) -> TaskClient {
        TaskClient::open(self.stream().await, TaskApi::V3, "default", "a", LIMIT).await.unwrap().0
    }
}

#[tokio::test]
async fn the_version_that_a_shim_serves_is_found() {
    let rows: &[(&[TaskApi], TaskApi, TaskApi)] = &[
        (&[TaskApi::V2], TaskApi::V2, TaskApi::V2),
        (&[TaskApi::V2], TaskApi::V3, TaskApi::V2),
        (&[TaskApi::V3], TaskApi::V2, TaskApi::V3),
        (&[TaskApi::V2, TaskApi::V3], TaskApi::V2, TaskApi::V2),
        (&[TaskApi::V2, TaskApi::V3], TaskApi::V3, TaskApi::V3),
    ];
    for (served, expected, found) in rows {
        let shim = Served::under(served).await;
        let (client, connected) =
            TaskClient::open(shim.stream().await, *expected, "default", "a", LIMIT).await.unwrap();
        assert_eq!(client.api(), *found, "{served:?} {expected:?}");
        assert_eq!(connected, Some(Connected { shim: 7, task: 8, version: "9".into() }));
        // A container that it does not know says as much of the service.
        let (client, connected) =
            TaskClient::open(shim.stream().await, *expected, "default", "b", LIMIT).await.unwrap();
        assert_eq!((client.api(), connected), (*found, None));
    }
    let shim = Served::under(&[]).await;
    let fault = TaskClient::open(shim.stream().await, TaskApi::V2, "default", "a", LIMIT).await.unwrap_err();
    assert_eq!(fault.meaning(), Some(Meaning::UnknownService), "{fault:?}");
    assert!(fault.to_string().contains("containerd.task.v2.Task"), "{fault}");
}

#[tokio::test]
async fn a_method_that_a_shim_lacks_is_unimplemented() {
    let client = Served::under(&[TaskApi::V3]).await;
    let client = client.client().await;
    let fault = client.checkpoint("a", Path::new("/x"), None, LIMIT).await.unwrap_err();
    assert_eq!(fault.meaning(), Some(Meaning::Unimplemented), "{fault:?}");
}

#[tokio::test]
async fn a_call_ends_at_its_limit_and_the_connection_goes_on() {
    let shim = Served::under(&[TaskApi::V3]).await;
    let client = shim.client().await;
    let limit = Duration::from_millis(30);
    assert_eq!(client.pause("a", limit).await, Err(Fault::Late(limit)));
    assert_eq!(client.pause("a", Duration::ZERO).await, Err(Fault::Late(Duration::ZERO)));
    client.connect("a", Duration::MAX).await.unwrap();
    assert!(!client.is_closed());
}

#[tokio::test]
async fn waits_have_no_limit_and_stand_beside_other_calls() {
    let shim = Served::under(&[TaskApi::V3]).await;
    let client = shim.client().await;
    assert_eq!(client.wait(Target::init("a")).await, Ok(TaskExit { code: 3, at: None }));
    let other = client.clone();
    let waiting = tokio::spawn(async move { other.wait(Target::exec("a", "for-ever")).await });
    client.connect("a", LIMIT).await.unwrap();
    drop(shim);
    let fault = timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(fault, Fault::Closed(_)) && fault.is_gone(), "{fault:?}");
    timeout(LIMIT, client.closed()).await.unwrap();
    assert!(client.is_closed());
    let fault = client.connect("a", LIMIT).await.unwrap_err();
    assert!(matches!(fault, Fault::Closed(_)), "{fault:?}");
}

#[tokio::test]
async fn an_end_without_a_time_is_believed_only_of_what_is_stopped() {
    let shim = Served::under(&[TaskApi::V3]).await;
    let client = shim.client().await;
    let ended = client.wait(Target::exec("a", "frozen")).await.unwrap();
    assert_eq!((ended.code, ended.at.is_some()), (7, true));
    assert_eq!(client.wait(Target::init("a")).await, Ok(TaskExit { code: 3, at: None }));
    let fault = client.wait(Target::exec("a", "forgotten")).await.unwrap_err();
    assert!(fault.is_not_found(), "{fault:?}");
}

#[tokio::test]
async fn the_connection_is_closed_with_the_last_clone() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let client = TaskClient::over(ours, TaskApi::V2, "default");
    let clone = client.clone();
    drop(client);
    assert!(timeout(Duration::from_millis(50), theirs.read_u8()).await.is_err());
    drop(clone);
    timeout(LIMIT, theirs.read_u8()).await.unwrap().unwrap_err();
}

/// A frame of the protocol with this payload, as an answer to the first request of a connection.
fn frame(length: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(&[0, 0, 0, 1, 2, 0]);
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test]
async fn a_shim_that_talks_nonsense_is_an_error_and_never_a_hang() {
    let mut no_message = ttrpc::Response::new();
    no_message.payload = vec![0xff; 3];
    let no_message = no_message.write_to_bytes().unwrap();
    let whole = |payload: &[u8]| frame(u32::try_from(payload.len()).unwrap(), payload);
    let rows: &[(&str, Vec<u8>)] = &[
        ("nothing", Vec::new()),
        ("half a header", vec![0; 5]),
        ("half a frame", frame(100, b"x")),
        ("more than a frame may hold", frame(u32::MAX, b"x")),
        ("no protobuf", whole(&[0xff, 0xff, 0xff])),
        ("an answer of another type", whole(&no_message)),
        ("text", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in rows {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let client = TaskClient::over(ours, TaskApi::V2, "default");
        let answer = async {
            theirs.read_u8().await.unwrap();
            theirs.write_all(bytes).await.unwrap();
            theirs.shutdown().await.unwrap();
            theirs
        };
        let (outcome, _theirs) = tokio::join!(timeout(LIMIT, client.connect("a", LIMIT)), answer);
        let fault = outcome.expect("no hang").unwrap_err();
        assert!(
            matches!(fault, Fault::Closed(_) | Fault::Malformed(_) | Fault::Refused { .. }),
            "{what}: {fault:?}"
        );
        assert_ne!(fault.meaning(), Some(Meaning::NotFound), "{what}");
    }
}
