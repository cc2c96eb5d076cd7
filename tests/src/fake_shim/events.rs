//! What a fake shim tells by itself, to the socket that it got at its start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use containerd_shim_protos::api;
use containerd_shim_protos::events::task as told;
use protobuf::{Message, MessageField};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::wire::Frame;
use super::world::World;

/// One event: its topic, its type, and its bytes.
#[derive(Clone, Debug)]
pub(super) struct Event {
    topic: &'static str,
    name: &'static str,
    bytes: Vec<u8>,
}

impl Event {
    pub(super) fn out_of_memory(id: &str) -> Self {
        let mut event = told::TaskOOM::new();
        event.container_id = id.to_owned();
        Self::new("/tasks/oom", "containerd.events.TaskOOM", &event)
    }

    pub(super) fn exited(id: &str, exec: Option<&str>, code: i32, at: SystemTime) -> Self {
        let mut event = told::TaskExit::new();
        event.container_id = id.to_owned();
        event.id = exec.unwrap_or(id).to_owned();
        event.pid = std::process::id();
        event.exit_status = u32::try_from(code).unwrap_or(u32::MAX);
        event.exited_at = MessageField::some(at.into());
        Self::new("/tasks/exit", "containerd.events.TaskExit", &event)
    }

    pub(super) fn created(id: &str) -> Self {
        let mut event = told::TaskCreate::new();
        event.container_id = id.to_owned();
        event.pid = std::process::id();
        Self::new("/tasks/create", "containerd.events.TaskCreate", &event)
    }

    pub(super) fn started(id: &str) -> Self {
        let mut event = told::TaskStart::new();
        event.container_id = id.to_owned();
        event.pid = std::process::id();
        Self::new("/tasks/start", "containerd.events.TaskStart", &event)
    }

    fn new(topic: &'static str, name: &'static str, event: &impl Message) -> Self {
        Self { topic, name, bytes: event.write_to_bytes().unwrap_or_default() }
    }
}

/// Forwards the events of a shim, one after the other, as long as somebody takes them.
pub(super) async fn forward(world: Arc<World>, to: PathBuf) {
    let Some(mut events) = world.take_events() else { return };
    let mut stream = UnixStream::connect(&to).await.ok();
    let mut number = 1;
    while let Some(event) = events.recv().await {
        // Whatever it is to do wrong, the event does not come.
        let keeps_quiet = world.misdeeds().for_call("Forward").is_some();
        if let Some(open) = stream.as_mut().filter(|_| !keeps_quiet) {
            let frame = Frame::request(number, request(&world, event));
            number += 2;
            let sent = open.write_all(&frame.bytes()).await.is_ok();
            if !sent || !matches!(Frame::read(open).await, Ok(Some(_taken))) {
                stream = None;
            }
        }
        world.was_told();
    }
}

fn request(world: &World, event: Event) -> Vec<u8> {
    let mut any = protobuf::well_known_types::any::Any::new();
    (any.type_url, any.value) = (event.name.to_owned(), event.bytes);
    let mut forward = api::ForwardRequest::new();
    let envelope = forward.envelope.mut_or_insert_default();
    envelope.timestamp = MessageField::some(SystemTime::now().into());
    envelope.namespace = world.namespace().to_owned();
    envelope.topic = event.topic.to_owned();
    envelope.event = MessageField::some(any);
    let mut request = ttrpc::Request::new();
    request.service = "containerd.services.events.ttrpc.v1.Events".to_owned();
    request.method = "Forward".to_owned();
    request.payload = forward.write_to_bytes().unwrap_or_default();
    request.write_to_bytes().unwrap_or_default()
}
