//! What a collected exec wrote, up to a limit for both streams together.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The room that two streams share.
#[derive(Debug)]
pub struct Room {
    left: AtomicUsize,
    exceeded: AtomicBool,
}

impl Room {
    /// Room for so much.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { left: AtomicUsize::new(bytes), exceeded: AtomicBool::new(false) }
    }

    /// Whether anything was dropped.
    #[must_use]
    pub fn was_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// Takes as much room as is left, at most `wanted`.
    fn take(&self, wanted: usize) -> usize {
        let mut granted = 0;
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            granted = left.min(wanted);
            Some(left - granted)
        });
        if granted < wanted {
            self.exceeded.store(true, Ordering::Relaxed);
        }
        granted
    }
}

/// What is kept of one stream: its beginning.
#[derive(Debug)]
pub struct Kept<'a> {
    /// The bytes.
    pub bytes: Vec<u8>,
    room: &'a Room,
}

impl<'a> Kept<'a> {
    /// Nothing yet.
    #[must_use]
    pub fn new(room: &'a Room) -> Self {
        Self { bytes: Vec::new(), room }
    }

    /// Keeps as much as there is room for.
    pub fn add(&mut self, chunk: &[u8]) {
        let granted = self.room.take(chunk.len());
        self.bytes.extend_from_slice(&chunk[..granted]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_beyond_the_limit_is_counted_as_truncated() {
        let room = Room::new(5);
        let (mut stdout, mut stderr) = (Kept::new(&room), Kept::new(&room));
        stdout.add(b"abc");
        stderr.add(b"de");
        assert!(!room.was_exceeded());
        stdout.add(b"f");
        assert!(room.was_exceeded());
        assert_eq!((stdout.bytes.as_slice(), stderr.bytes.as_slice()), (&b"abc"[..], &b"de"[..]));
    }
}
