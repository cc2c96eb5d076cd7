//! The clients of an attach socket, and the output that each of them has not read yet.
//!
//! To a client go packets of conmon's making: one byte that names the stream and up to 8192 bytes of it. Each client has a
//! queue of its own. While one is full, no more output is taken from the program: a slow reader gets everything. A client
//! that takes nothing at all for a second while its queue is full is cut off, so nobody is held up for longer than that.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_seqpacket::UnixSeqpacket;

use super::Channel;

/// The most output in one packet, after the byte that names the stream.
const PACKET: usize = 8192;
/// How much a client may leave unread,
const BACKLOG: usize = 8 * 1024 * 1024;
/// and for how many such times. Counted, not measured: a client is not silent because this process did not run.
const SILENCES: u32 = 20;
const SILENCE: Duration = Duration::from_millis(50);
/// At the end of a program what is left is not held back for anybody. It is not much, unless the program has children that
/// go on; a client that leaves this much unread is cut off.
const TOO_MUCH: usize = 2 * BACKLOG;
/// How many clients a program may have.
const MOST: usize = 64;

/// What a program printed, on its way to the clients.
type Packet = Arc<[u8]>;

/// All clients of one program.
#[derive(Debug, Default)]
pub(super) struct Clients {
    all: Vec<Client>,
    /// Told when any client took something, or left.
    moved: Arc<Notify>,
    /// Those who write to the clients. They end with this value, or with their client.
    writers: JoinSet<()>,
}

#[derive(Debug)]
struct Client {
    socket: Arc<UnixSeqpacket>,
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Told when there is something to write, or nothing will come any more.
    filled: Notify,
    moved: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<Packet>,
    /// How many bytes are in the queue.
    bytes: usize,
    /// How many packets were taken, ever.
    taken: u64,
    /// Nothing will be added.
    ended: bool,
    /// The client is gone.
    gone: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self) {
        let mut waiting = self.waiting();
        waiting.gone = true;
        waiting.packets = VecDeque::new();
        waiting.bytes = 0;
        drop(waiting);
        self.filled.notify_one();
        self.moved.notify_waiters();
    }

    /// Passes packets on until the client leaves, or there will be no more.
    async fn write_to(&self, socket: &UnixSeqpacket) {
        loop {
            let next = {
                let waiting = self.waiting();
                match waiting.packets.front() {
                    Some(packet) => Some(Arc::clone(packet)),
                    None if waiting.ended || waiting.gone => break,
                    None => None,
                }
            };
            let Some(packet) = next else {
                self.filled.notified().await;
                continue;
            };
            if !self.send(socket, &packet).await {
                break;
            }
            let mut waiting = self.waiting();
            if waiting.packets.pop_front().is_some() {
                waiting.bytes -= packet.len();
                waiting.taken += 1;
            }
            drop(waiting);
            self.moved.notify_waiters();
        }
        let _ = socket.shutdown(std::net::Shutdown::Both);
        self.leave();
    }

    /// Sends one packet; whether the client took it. Once nothing more will come, it has a second for each.
    async fn send(&self, socket: &UnixSeqpacket, packet: &Packet) -> bool {
        let mut sending = std::pin::pin!(socket.send(packet));
        let mut silences = 0;
        while silences < SILENCES {
            let ended = self.waiting().ended;
            tokio::select! {
                sent = &mut sending => return sent.is_ok(),
                () = self.filled.notified() => {}
                () = tokio::time::sleep(SILENCE), if ended => silences += 1,
            }
        }
        false
    }
}

impl Clients {
    /// Takes a client on. Nothing comes back when there are too many.
    pub(super) fn welcome(&mut self, socket: UnixSeqpacket) -> Option<Arc<UnixSeqpacket>> {
        self.sweep();
        if self.all.len() >= MOST {
            tracing::warn!("an attach socket has {MOST} clients; another one is turned away");
            return None;
        }
        let socket = Arc::new(socket);
        let moved = Arc::clone(&self.moved);
        let queue = Arc::new(Queue { waiting: Mutex::default(), filled: Notify::new(), moved });
        let (to, from) = (Arc::clone(&socket), Arc::clone(&queue));
        self.writers.spawn(async move { from.write_to(&to).await });
        self.all.push(Client { socket: Arc::clone(&socket), queue });
        Some(socket)
    }

    /// How many there are, and how many bytes wait for them.
    pub(super) fn count(&mut self) -> (usize, usize) {
        self.sweep();
        (self.all.len(), self.all.iter().map(|client| client.queue.waiting().bytes).sum())
    }

    /// Queues output for everybody.
    pub(super) fn send(&mut self, channel: Channel, text: &[u8]) {
        self.all.retain(|client| !client.queue.waiting().gone);
        while self.writers.try_join_next().is_some() {}
        if self.all.is_empty() {
            return;
        }
        for piece in text.chunks(PACKET) {
            let mut packet = Vec::with_capacity(piece.len() + 1);
            packet.push(channel.packet());
            packet.extend_from_slice(piece);
            let packet: Packet = packet.into();
            for client in &self.all {
                let mut waiting = client.queue.waiting();
                if waiting.bytes >= TOO_MUCH {
                    drop(waiting);
                    cut(client);
                } else if !waiting.gone {
                    waiting.bytes += packet.len();
                    waiting.packets.push_back(Arc::clone(&packet));
                    drop(waiting);
                    client.queue.filled.notify_one();
                }
            }
        }
    }

    /// Whether output can be taken from the program now.
    pub(super) fn have_room(&self) -> bool {
        self.all.iter().all(|client| client.queue.waiting().bytes < BACKLOG)
    }

    /// Waits until output can be taken. A client that takes nothing for a second is cut off. Cancel safe, but then the
    /// second begins anew.
    pub(super) async fn room(&self) {
        let taken = |client: &Client| client.queue.waiting().taken;
        while !self.have_room() {
            let before: Vec<_> = self.all.iter().map(taken).collect();
            let mut silences = 0;
            while !self.have_room() && silences < SILENCES {
                let moved = self.moved.notified();
                tokio::select! {
                    () = moved => {}
                    () = tokio::time::sleep(SILENCE) => silences += 1,
                }
            }
            for (client, before) in self.all.iter().zip(before) {
                let full = client.queue.waiting().bytes >= BACKLOG;
                if full && taken(client) == before {
                    cut(client);
                }
            }
        }
    }

    /// Nothing more will come: everybody gets what is queued, and the end. A client that takes nothing for a second is
    /// cut off.
    pub(super) async fn end(mut self) {
        for client in &self.all {
            client.queue.waiting().ended = true;
            client.queue.filled.notify_one();
        }
        while self.writers.join_next().await.is_some() {}
    }

    /// Lets go of those who left without anybody writing to them.
    fn sweep(&mut self) {
        self.all.retain(|client| {
            if has_left(&client.socket) {
                client.queue.leave();
            }
            !client.queue.waiting().gone
        });
    }
}

fn cut(client: &Client) {
    let left = client.queue.waiting().bytes;
    tracing::warn!(left, "a client of an attach socket reads nothing; it is cut off");
    let _ = client.socket.shutdown(std::net::Shutdown::Both);
    client.queue.leave();
}

/// Whether the peer has closed its socket, not only its half of it.
pub(super) fn has_left(socket: &UnixSeqpacket) -> bool {
    let descriptor = socket.as_async_fd().as_fd();
    let mut polled = [PollFd::new(&descriptor, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
        && polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client gets, by channel, until the end.
    async fn everything(socket: UnixSeqpacket) -> Vec<(u8, Vec<u8>)> {
        let mut all: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut packet = vec![0; PACKET + 2];
        loop {
            let count = socket.recv(&mut packet).await.unwrap().bytes_read();
            if count == 0 {
                return all;
            }
            assert!((2..=PACKET + 1).contains(&count), "{count}");
            match all.last_mut() {
                Some((channel, text)) if *channel == packet[0] => text.extend_from_slice(&packet[1..count]),
                _ => all.push((packet[0], packet[1..count].to_vec())),
            }
        }
    }

    #[tokio::test]
    async fn every_client_gets_everything_and_then_the_end() {
        let mut clients = Clients::default();
        let mut readers = Vec::new();
        for _ in 0..3 {
            let (ours, theirs) = UnixSeqpacket::pair().unwrap();
            clients.welcome(ours).unwrap();
            readers.push(tokio::spawn(everything(theirs)));
        }
        let much = vec![b'x'; 3_000_000];
        clients.send(Channel::Stdout, &much);
        clients.send(Channel::Stderr, b"e");
        clients.send(Channel::Stdout, b"y");
        clients.end().await;
        for reader in readers {
            let got = reader.await.unwrap();
            assert!(got == [(2, much.clone()), (3, b"e".to_vec()), (2, b"y".to_vec())]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_cut_off_and_the_others_are_not() {
        let mut clients = Clients::default();
        let (ours, silent) = UnixSeqpacket::pair().unwrap();
        clients.welcome(ours).unwrap();
        let (ours, theirs) = UnixSeqpacket::pair().unwrap();
        clients.welcome(ours).unwrap();
        let reader = tokio::spawn(everything(theirs));
        let chunk = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        while sent < 3 * BACKLOG {
            clients.room().await;
            clients.send(Channel::Stdout, &chunk);
            sent += chunk.len();
        }
        assert_eq!(clients.count().0, 1);
        clients.end().await;
        assert_eq!(reader.await.unwrap()[0].1.len(), sent);
        drop(silent);
    }

    #[tokio::test]
    async fn a_slow_client_gets_everything() {
        let mut clients = Clients::default();
        let (ours, theirs) = UnixSeqpacket::pair().unwrap();
        clients.welcome(ours).unwrap();
        let reader = tokio::spawn(async move {
            let (mut packet, mut got) = (vec![0; PACKET + 1], 0);
            loop {
                match theirs.recv(&mut packet).await.unwrap().bytes_read() {
                    0 => return got,
                    count => got += count - 1,
                }
                if got % (512 * 1024) == 0 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        });
        let chunk = vec![b'x'; 64 * 1024];
        let mut sent = 0;
        while sent < 2 * BACKLOG {
            clients.room().await;
            assert!(clients.count().1 < BACKLOG + 2 * chunk.len(), "the queue is bounded");
            clients.send(Channel::Stdout, &chunk);
            sent += chunk.len();
        }
        clients.end().await;
        assert_eq!(reader.await.unwrap(), sent);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_does_not_wait_for_a_silent_client() {
        let mut clients = Clients::default();
        let (ours, _silent) = UnixSeqpacket::pair().unwrap();
        clients.welcome(ours).unwrap();
        clients.send(Channel::Stdout, &vec![b'x'; BACKLOG / 2]);
        clients.end().await;
    }

    #[tokio::test]
    async fn those_who_left_are_let_go_of_and_there_are_only_so_many() {
        let mut clients = Clients::default();
        let mut theirs = Vec::new();
        for _ in 0..MOST {
            let (one, other) = UnixSeqpacket::pair().unwrap();
            clients.welcome(one).unwrap();
            theirs.push(other);
        }
        let (one, _other) = UnixSeqpacket::pair().unwrap();
        assert!(clients.welcome(one).is_none());
        // Half closed is not gone.
        theirs[0].shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(clients.count().0, MOST);
        theirs.truncate(1);
        assert_eq!(clients.count().0, 1);
    }
}
