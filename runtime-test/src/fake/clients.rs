//! Those who are attached, and what they have not read yet.

use std::collections::{BTreeMap, VecDeque};

use crate::Defect;

use super::model::{Chunk, Key, Stream};

/// Names a client.
pub(super) type ClientId = u64;

/// What there is for a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Bytes(Vec<u8>),
    Nothing,
    Ended,
}

#[derive(Debug)]
struct Client {
    container: Key,
    unread: [Option<VecDeque<u8>>; 2],
    ended: bool,
}

/// All clients of a world.
#[derive(Debug, Default)]
pub(super) struct Clients {
    clients: BTreeMap<ClientId, Client>,
    last: ClientId,
}

/// At most this much is handed out at once.
const PORTION: usize = 64 * 1024;

impl Clients {
    /// Adds a client that wants these of standard output and standard error, from now on.
    pub(super) fn add(&mut self, container: Key, stdout: bool, stderr: bool) -> ClientId {
        self.last += 1;
        let unread = [stdout, stderr].map(|wanted| wanted.then(VecDeque::new));
        self.clients.insert(self.last, Client { container, unread, ended: false });
        self.last
    }

    /// Removes a client.
    pub(super) fn remove(&mut self, id: ClientId) {
        self.clients.remove(&id);
    }

    /// Gives a chunk to everybody who wants it. `at_start` tells that it was printed in the moment of the start.
    pub(super) fn deliver(&mut self, chunk: &Chunk, at_start: bool, defect: Option<Defect>) {
        let has = |one| defect == Some(one);
        if at_start && chunk.stream == Stream::Stderr && has(Defect::AttachMissesTheStart) {
            return;
        }
        let mut takers: Vec<&mut Client> =
            self.clients.values_mut().filter(|client| client.container == chunk.container).collect();
        if has(Defect::OneClientIsServed) {
            takers.drain(..takers.len().saturating_sub(1));
        }
        let kept =
            if has(Defect::LargeOutputIsCut) { chunk.bytes.len().min(PORTION) } else { chunk.bytes.len() };
        for client in takers {
            if let Some(unread) = &mut client.unread[index(chunk.stream)] {
                unread.extend(&chunk.bytes[..kept]);
            }
        }
    }

    /// Tells the clients of containers that are over that nothing more will come.
    pub(super) fn end(&mut self, is_over: impl Fn(Key) -> bool) {
        for client in self.clients.values_mut().filter(|client| !client.ended) {
            client.ended = is_over(client.container);
        }
    }

    /// Takes the next portion for a client.
    pub(super) fn take(&mut self, id: ClientId, stream: Stream) -> Taken {
        let Some(client) = self.clients.get_mut(&id) else { return Taken::Ended };
        match &mut client.unread[index(stream)] {
            Some(unread) if !unread.is_empty() => {
                Taken::Bytes(unread.drain(..unread.len().min(PORTION)).collect())
            }
            _ if client.ended => Taken::Ended,
            _ => Taken::Nothing,
        }
    }

    /// How many bytes a client has not read.
    pub(super) fn unread(&self, id: ClientId) -> usize {
        self.clients.get(&id).map_or(0, |client| client.unread.iter().flatten().map(VecDeque::len).sum())
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}
