//! Those who are attached, and what they have not read yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

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
    unread: [Option<Unread>; 2],
    ended: bool,
}

/// Output in the pieces in which it was written, shared by all clients.
#[derive(Debug, Default)]
struct Unread {
    pieces: VecDeque<Arc<[u8]>>,
    taken_of_first: usize,
    bytes: usize,
}

impl Unread {
    fn add(&mut self, piece: &Arc<[u8]>) {
        self.bytes += piece.len();
        self.pieces.push_back(Arc::clone(piece));
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        let first = self.pieces.front()?;
        let end = first.len().min(self.taken_of_first + PORTION);
        let portion = first[self.taken_of_first..end].to_vec();
        self.bytes -= portion.len();
        self.taken_of_first = end;
        if end == first.len() {
            self.pieces.pop_front();
            self.taken_of_first = 0;
        }
        Some(portion)
    }
}

/// All clients of a world.
#[derive(Debug, Default)]
pub(super) struct Clients {
    clients: BTreeMap<ClientId, Client>,
    last: ClientId,
    /// Containers that a client has left.
    left: BTreeSet<Key>,
}

/// At most this much is handed out at once.
const PORTION: usize = 64 * 1024;

impl Clients {
    /// Adds a client that wants these of standard output and standard error, from now on.
    pub(super) fn add(
        &mut self,
        container: Key,
        stdout: bool,
        stderr: bool,
        defect: Option<Defect>,
    ) -> ClientId {
        self.last += 1;
        let deaf = defect == Some(Defect::ClientsComeOnce) && self.left.contains(&container);
        let unread = [stdout, stderr].map(|wanted| (wanted && !deaf).then(Unread::default));
        self.clients.insert(self.last, Client { container, unread, ended: false });
        self.last
    }

    /// Removes a client.
    pub(super) fn remove(&mut self, id: ClientId) {
        if let Some(client) = self.clients.remove(&id) {
            self.left.insert(client.container);
        }
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
        let piece: Arc<[u8]> = chunk.bytes[..kept].into();
        for client in takers.into_iter().filter(|_| !piece.is_empty()) {
            if let Some(unread) = &mut client.unread[index(chunk.stream)] {
                unread.add(&piece);
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
            Some(unread) if unread.bytes > 0 => unread.take().map_or(Taken::Nothing, Taken::Bytes),
            _ if client.ended => Taken::Ended,
            _ => Taken::Nothing,
        }
    }

    /// How many bytes a client has not read.
    pub(super) fn unread(&self, id: ClientId) -> usize {
        self.clients
            .get(&id)
            .map_or(0, |client| client.unread.iter().flatten().map(|unread| unread.bytes).sum())
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}
