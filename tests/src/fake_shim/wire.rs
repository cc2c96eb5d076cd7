//! The frames of ttrpc, and the connections of a fake shim. Here it misbehaves: what it does is right, what it says is not.

use std::io;
use std::sync::Arc;

use protobuf::{Message as _, MessageField};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use ttrpc::proto::{MESSAGE_LENGTH_MAX, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE};

use super::misdeeds::Misdeed;
use super::refusal::Refusal;
use super::service;
use super::world::World;

/// A message with its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) stream: u32,
    pub(super) kind: u8,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn request(stream: u32, payload: Vec<u8>) -> Self {
        Self { stream, kind: MESSAGE_TYPE_REQUEST, payload }
    }

    /// Reads the next one; nothing at the end.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut length = [0; 4];
        match from.read_exact(&mut length).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MESSAGE_LENGTH_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let stream = from.read_u32().await?;
        let kind = from.read_u8().await?;
        let _flags = from.read_u8().await?;
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        Ok(Some(Self { stream, kind, payload }))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = head(self.payload.len(), self.stream, self.kind);
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

fn head(length: usize, stream: u32, kind: u8) -> Vec<u8> {
    let mut bytes = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind, 0]);
    bytes
}

/// Serves a shim's socket until the shim leaves. With it go its connections and everything that it does.
pub(super) async fn serve(world: Arc<World>, listener: UnixListener) {
    let mut connections = JoinSet::new();
    let clock = Arc::clone(&world);
    connections.spawn(async move { clock.drive().await });
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(connection(Arc::clone(&world), stream));
            }
            Some(_) = connections.join_next() => {}
            () = world.left() => break,
        }
    }
    world.end();
}

async fn connection(world: Arc<World>, stream: UnixStream) {
    let (mut from, to) = stream.into_split();
    let (say, said) = mpsc::unbounded_channel();
    let mut calls = JoinSet::new();
    let mut saying = tokio::spawn(write(to, said));
    loop {
        tokio::select! {
            frame = Frame::read(&mut from) => {
                let Ok(Some(frame)) = frame else { break };
                calls.spawn(answer(Arc::clone(&world), frame, say.clone()));
            }
            Some(_) = calls.join_next() => {}
            // It closed the connection.
            _ = &mut saying => return,
        }
    }
    drop(say);
    // A call is carried out whether or not somebody waits for its answer.
    while calls.join_next().await.is_some() {}
    let _ = saying.await;
}

/// What is written to a connection.
enum Say {
    Bytes(Vec<u8>),
    /// The end of the connection.
    Close,
}

async fn write(mut to: OwnedWriteHalf, mut said: mpsc::UnboundedReceiver<Say>) {
    while let Some(Say::Bytes(bytes)) = said.recv().await {
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
}

/// Carries out a request, and answers it as the command for this method has it.
async fn answer(world: Arc<World>, frame: Frame, say: mpsc::UnboundedSender<Say>) {
    let request = ttrpc::Request::parse_from_bytes(&frame.payload).unwrap_or_default();
    let misdeed = world.misdeeds().for_call(&request.method);
    let mut reply = match &misdeed {
        Some(Misdeed::Refuses(code, message)) => Err(Refusal::new(*code, message)),
        Some(Misdeed::ForgetsTheCall) => {
            let _ = say.send(Say::Close);
            return;
        }
        Some(Misdeed::Hesitates) => world.misdeeds().hesitate(service::call(&world, &request)).await,
        _ => service::call(&world, &request).await,
    };
    if let (Ok(reply), Some(misdeed)) = (&mut reply, &misdeed) {
        misdeed.spoil(&request.method, reply);
    }
    let whole = Frame { stream: frame.stream, kind: MESSAGE_TYPE_RESPONSE, payload: encoded(reply) };
    match misdeed {
        Some(Misdeed::Late(time)) => {
            sleep(time).await;
            let _ = say.send(Say::Bytes(whole.bytes()));
        }
        Some(Misdeed::Silent) => {}
        Some(Misdeed::Torn) => {
            let bytes = whole.bytes();
            let _ = say.send(Say::Bytes(bytes[..bytes.len() - 1].to_vec()));
            let _ = say.send(Say::Close);
        }
        Some(Misdeed::Halved) => {
            let bytes = whole.bytes();
            let _ = say.send(Say::Bytes(bytes[..bytes.len() - 1].to_vec()));
        }
        Some(Misdeed::Oversize) => {
            let _ = say.send(Say::Bytes(head(MESSAGE_LENGTH_MAX + 1, frame.stream, whole.kind)));
            let _ = say.send(Say::Bytes(vec![b'x'; MESSAGE_LENGTH_MAX + 1]));
        }
        Some(Misdeed::Closes) => {
            let _ = say.send(Say::Close);
        }
        Some(Misdeed::WrongStream) => {
            let stream = frame.stream.wrapping_add(1000);
            let _ = say.send(Say::Bytes(Frame { stream, ..whole }.bytes()));
        }
        Some(Misdeed::Garbage) => {
            let _ = say.send(Say::Bytes(Frame { payload: vec![0xff; 16], ..whole }.bytes()));
        }
        Some(Misdeed::Dies) => world.leave(),
        _ => {
            let _ = say.send(Say::Bytes(whole.bytes()));
        }
    }
    if world.is_leaving() {
        let _ = say.send(Say::Close);
    }
}

fn encoded(reply: Result<Vec<u8>, Refusal>) -> Vec<u8> {
    let mut response = ttrpc::Response::new();
    match reply {
        Ok(payload) => response.payload = payload,
        Err(refusal) => response.status = MessageField::some(refusal.into_status()),
    }
    response.write_to_bytes().unwrap_or_default()
}
