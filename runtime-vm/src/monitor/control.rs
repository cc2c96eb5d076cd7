//! The server's side of the control socket.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use runtime_api::{Error, ErrorKind, Result};

use super::request::{self, Answer, Refusal, Request};

/// How long either side may take to say a line.
pub(super) const LINE_LIMIT: Duration = Duration::from_secs(5);
/// How long a request may take.
const WORK_LIMIT: Duration = Duration::from_secs(15);

/// Serves one connection: reads a request, has it done, answers.
pub(super) async fn serve(mut stream: UnixStream, work: impl AsyncFnOnce(Request) -> Result<Answer>) {
    let done = async {
        let request = request(&mut stream).await?;
        let limited = timeout(WORK_LIMIT, work(request)).await;
        limited.unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut(WORK_LIMIT))))
    };
    let answer = done.await.unwrap_or_else(|error| Answer::Refused(Refusal::from(&error)));
    let Ok(mut line) = serde_json::to_vec(&answer) else { return };
    line.push(b'\n');
    let written = timeout(LINE_LIMIT, stream.write_all(&line)).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::debug!("who asked did not take the answer");
    }
}

async fn request(stream: &mut UnixStream) -> Result<Request> {
    let peer =
        stream.peer_cred().map_err(|error| Error::new(ErrorKind::PermissionDenied).caused_by(error))?;
    let own = rustix::process::geteuid().as_raw();
    if peer.uid() != own && peer.uid() != 0 {
        return Err(Error::new(ErrorKind::PermissionDenied).on(format_args!("user {}", peer.uid())));
    }
    let line = line(stream, request::REQUEST, LINE_LIMIT).await?;
    serde_json::from_slice(&line)
        .map_err(|error| Error::new(ErrorKind::InvalidArgument("this is no request".into())).caused_by(error))
}

/// Reads one line of at most so many bytes, without its end. A line that is not ended is none.
pub(super) async fn line(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
    limit: Duration,
) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    let reading = async {
        let mut limited = from.take(u64::try_from(most).unwrap_or(u64::MAX));
        while !line.ends_with(b"\n") {
            // What comes after the line is nobody's business, so more may be read than that.
            if limited.read_buf(&mut line).await? == 0 {
                break;
            }
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                line.truncate(end + 1);
            }
        }
        Ok::<_, std::io::Error>(())
    };
    match timeout(limit, reading).await {
        Err(_) => return Err(Error::new(ErrorKind::TimedOut(limit))),
        Ok(Err(error)) => {
            return Err(Error::new(ErrorKind::Unavailable("nothing can be read".into())).caused_by(error));
        }
        Ok(Ok(())) => {}
    }
    if line.pop() != Some(b'\n') {
        let what = if line.len() + 1 >= most {
            format!("a line has at most {most} bytes")
        } else {
            "the line has no end".to_owned()
        };
        return Err(Error::new(ErrorKind::InvalidArgument(what)));
    }
    Ok(line)
}
