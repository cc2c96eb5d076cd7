//! Waiting on descriptors that tokio has no type for.
#![expect(unsafe_code, reason = "tokio registers a foreign descriptor through an unsafe function only")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets a task wait until the descriptor can be read.
///
/// # Errors
/// Why it cannot be watched.
pub fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(descriptor, Interest::READABLE)
}

/// Lets a task wait until the descriptor can be read or written.
///
/// # Errors
/// Why it cannot be watched.
pub fn watch_both(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    register(descriptor, Interest::READABLE | Interest::WRITABLE)
}

fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the function asks that the value always gives out the same open descriptor until it is deregistered. An
    // `OwnedFd` does: it is one number, closed on drop, and the `AsyncFd` that owns it deregisters before it drops it.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    registered.map_err(io::Error::from)
}
