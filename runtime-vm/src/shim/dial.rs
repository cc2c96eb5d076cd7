//! The way to a shim's socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use runtime_api::{Error, ErrorKind, Peer, Result};

use super::Address;

/// The first pause between two tries, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// How long a socket may take to show that somebody is there.
const REACH: Duration = Duration::from_secs(5);

/// Connects once. A socket that is missing or refuses means that the shim is gone, or not there yet.
///
/// # Errors
/// The system's own.
pub async fn once(address: &Address) -> io::Result<UnixStream> {
    match address {
        Address::Path(path) => UnixStream::connect(path).await,
        // A path that begins with a NUL is a name in the abstract namespace.
        Address::Abstract(name) => UnixStream::connect(PathBuf::from(format!("\0{name}"))).await,
    }
}

/// Removes the socket of a shim that is dead, which the kernel leaves when the shim was killed. One at which somebody
/// answers, or might, is left alone: whether nobody does.
pub async fn remove_dead(address: &Address) -> bool {
    match timeout(REACH, once(address)).await {
        Ok(Err(error))
            if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) =>
        {
            if let Address::Path(socket) = address {
                let _ = std::fs::remove_file(socket);
            }
            true
        }
        _ => false,
    }
}

/// How often a shim must not be seen before it is dead.
const LOOKS: usize = 2;

/// Connects to a shim that was just started, which may need a moment until it listens.
///
/// # Errors
/// As for [`while_it_lives`].
pub async fn patiently(address: &Address, limit: Duration) -> Result<UnixStream> {
    while_it_lives(address, limit, || true).await
}

/// [`patiently`], for as long as the shim that is to listen there lives. One that is dead once stays so.
///
/// # Errors
/// `TimedOut` after the limit, with the last reason as its cause. What cannot pass by itself is told at once: a missing
/// permission, or `PeerLost` where nobody is left who could listen.
pub async fn while_it_lives(
    address: &Address,
    limit: Duration,
    lives: impl Fn() -> bool,
) -> Result<UnixStream> {
    let begun = Instant::now();
    let end = begun.checked_add(limit);
    let mut pause = PAUSES.0;
    let (mut dead, mut unseen) = (false, 0);
    loop {
        let tried = match end {
            Some(end) => {
                timeout_at(end, once(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
            }
            None => once(address).await,
        };
        let error = match tried {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let kind = match error.kind() {
            // Told by a try that was made after its end: it may have listened before.
            _ if dead => Some(ErrorKind::PeerLost(Peer::Shim)),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock => None,
            io::ErrorKind::PermissionDenied => Some(ErrorKind::PermissionDenied),
            _ => Some(ErrorKind::PeerLost(Peer::Shim)),
        };
        let late = end.is_some_and(|end| Instant::now() + pause >= end);
        if let Some(kind) = kind.or_else(|| late.then_some(ErrorKind::TimedOut(limit))) {
            let error = Error::new(kind).during_step("connect to the shim").on(address).caused_by(error);
            return Err(if dead {
                error.hint("the shim ended before it served; its log may say why")
            } else {
                error
            });
        }
        // Whose parent ends while the table of processes is read need not be in it: one look does not tell.
        unseen = if lives() { 0 } else { unseen + 1 };
        dead = unseen >= LOOKS;
        if dead {
            continue;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_socket_that_comes_late_is_reached() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let address = Address::Path(path.clone());
        once(&address).await.unwrap_err();
        let listens = async {
            sleep(Duration::from_millis(50)).await;
            UnixListener::bind(&path).unwrap()
        };
        let (reached, _listener) = tokio::join!(patiently(&address, LIMIT), listens);
        reached.unwrap();
    }

    #[tokio::test]
    async fn an_abstract_socket_is_reached() {
        let name = format!("manyrun-dial-test-{}", std::process::id());
        let at = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = UnixListener::bind_addr(&at).unwrap();
        patiently(&Address::Abstract(name), LIMIT).await.unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_never_comes_is_late_with_the_reason() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let limit = Duration::from_millis(30);
        let error = patiently(&Address::Path(path.clone()), limit).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::TimedOut(limit));
        assert!(error.report().contains("No such file"), "{}", error.report());
        // The file of a socket stays when the one that listened is killed.
        drop(UnixListener::bind(&path).unwrap());
        let error = patiently(&Address::Path(path), limit).await.unwrap_err();
        assert!(error.source().unwrap().to_string().contains("refused"), "{error:?}");
    }

    #[tokio::test]
    async fn a_shim_that_is_dead_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        let address = Address::Path(path.clone());
        let looks = std::cell::Cell::new(0);
        let lives = || {
            looks.set(looks.get() + 1);
            looks.get() < 3
        };
        let error = while_it_lives(&address, Duration::MAX, lives).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::PeerLost(Peer::Shim));
        assert!(error.report().contains("refused"), "{}", error.report());
        // What listens is reached, whatever is known of who it is.
        std::fs::remove_file(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        while_it_lives(&address, LIMIT, || false).await.unwrap();
    }

    #[tokio::test]
    async fn a_shim_that_is_not_seen_once_is_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let (looks, listener) = (std::cell::Cell::new(0), std::cell::RefCell::new(None));
        let lives = || {
            looks.set(looks.get() + 1);
            if looks.get() == 4 {
                listener.replace(Some(UnixListener::bind(&path).unwrap()));
            }
            // Now and then it is between two parents.
            looks.get() % 2 == 0
        };
        while_it_lives(&Address::Path(path.clone()), LIMIT, lives).await.unwrap();
        assert_eq!(looks.get(), 4);
    }

    #[tokio::test]
    async fn the_socket_of_a_dead_shim_is_removed_and_of_a_living_one_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        let address = Address::Path(path.clone());
        let living = UnixListener::bind(&path).unwrap();
        assert!(!remove_dead(&address).await && path.exists());
        drop(living);
        assert!(path.exists());
        assert!(remove_dead(&address).await && !path.exists());
        assert!(remove_dead(&address).await);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_told_at_once() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file").join("s");
        std::fs::write(path.parent().unwrap(), "x").unwrap();
        let error = patiently(&Address::Path(path), Duration::MAX).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::PeerLost(Peer::Shim));
    }
}
