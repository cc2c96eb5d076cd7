//! A stream that tells when its other side has closed it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// Wraps a stream.
pub(super) struct Link<S> {
    stream: Pin<Box<S>>,
    over: watch::Sender<bool>,
}

/// Tells of the end of a [`Link`].
#[derive(Clone, Debug)]
pub(super) struct End(watch::Receiver<bool>);

impl<S> Link<S> {
    pub(super) fn new(stream: S) -> (Self, End) {
        let (over, end) = watch::channel(false);
        (Self { stream: Box::pin(stream), over }, End(end))
    }
}

impl End {
    /// Waits for it.
    pub(super) async fn come(&self) {
        // A link that was dropped, and its sender with it, is at its end too.
        let _ = self.0.clone().wait_for(|over| *over).await;
    }

    pub(super) fn has_come(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

impl<S: AsyncRead> AsyncRead for Link<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, room) = (buf.filled().len(), buf.remaining());
        let read = ready!(this.stream.as_mut().poll_read(cx, buf));
        if read.is_err() || (room > 0 && buf.filled().len() == before) {
            this.over.send_replace(true);
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite> AsyncWrite for Link<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().stream.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stream.as_mut().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn the_end_is_told_once_the_other_side_closes_and_not_before() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (mut link, end) = Link::new(ours);
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(link.read_u8().await.unwrap(), b'x');
        assert!(!end.has_come());
        drop(theirs);
        link.read_u8().await.unwrap_err();
        assert!(end.has_come());
        end.come().await;
    }

    #[tokio::test]
    async fn a_link_that_is_dropped_is_at_its_end() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let (link, end) = Link::new(ours);
        assert!(!end.has_come());
        drop(link);
        end.come().await;
        assert!(end.has_come());
    }
}
