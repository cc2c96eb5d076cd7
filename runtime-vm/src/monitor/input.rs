//! The standard input of a program: from its clients, in the order in which it comes, into the fifo.
//!
//! What the fifo cannot hold is not read from the clients. When input ends, the shim is asked to close its end
//! (`CloseIO`), and ours goes: some shims answer only when no writer is left, others would never see the end of a fifo
//! that they had not opened yet. So ours goes when the shim has answered, or a moment later.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::unix::pipe::Sender;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_seqpacket::UnixSeqpacket;

use runtime_api::{Error, ErrorKind, Result, StdinMode};

use super::clients::has_left;
use super::{Key, Tasks};

/// The largest packet that is read whole, as with conmon.
const PACKET: usize = 32 * 1024;
/// How long our end of the fifo waits for the shim to close its own.
const HEAD_START: Duration = Duration::from_millis(100);
/// How long a shim may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What happens to a program's input.
#[derive(Debug)]
pub(super) enum Input {
    Text(Vec<u8>),
    /// There will be no more; whoever wants to know is told once the shim knows.
    End(Option<oneshot::Sender<Result<()>>>),
}

/// Reads what a client sends, and passes it on. At the end of input it says so, unless input is kept open.
pub(super) async fn read_from(client: Arc<UnixSeqpacket>, mode: StdinMode, input: mpsc::Sender<Input>) {
    let mut packet = vec![0; PACKET];
    let mut said_anything = false;
    loop {
        match client.recv(&mut packet).await.map(|received| received.bytes_read()) {
            Ok(count @ 1..) => {
                said_anything = true;
                // Without a program that reads, input is thrown away.
                let _ = input.send(Input::Text(packet[..count].to_vec())).await;
            }
            // A client that only ever watched says nothing about input when it leaves.
            Ok(_) | Err(_) if mode == StdinMode::Once && (said_anything || !has_left(&client)) => {
                let _ = input.send(Input::End(None)).await;
                return;
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// Writes a program's input until the program is over; then it is thrown away, and our end of the fifo goes. Without a fifo
/// it is thrown away from the start.
pub(super) async fn write(
    fifo: Option<Sender>,
    mut input: mpsc::Receiver<Input>,
    key: Key,
    tasks: Arc<dyn Tasks>,
    made: watch::Receiver<bool>,
    mut over: watch::Receiver<bool>,
) {
    tokio::select! {
        // Its maker may have gone without a word, which is the end as well.
        _ = over.wait_for(|over| *over) => {}
        () = carry(fifo, &mut input, &key, &*tasks, made) => {}
    }
    while let Some(next) = input.recv().await {
        if let Input::End(Some(told)) = next {
            let _ = told.send(Ok(()));
        }
    }
}

async fn carry(
    mut fifo: Option<Sender>,
    input: &mut mpsc::Receiver<Input>,
    key: &Key,
    tasks: &dyn Tasks,
    mut made: watch::Receiver<bool>,
) {
    while let Some(next) = input.recv().await {
        match next {
            Input::Text(text) => {
                if let Some(open) = &fifo
                    && let Err(error) = write_all(open, &text).await
                {
                    tracing::warn!(%error, %key, "input cannot be written any more");
                    fifo = None;
                }
            }
            Input::End(told) => {
                let done = match fifo.take() {
                    Some(open) => close(open, key, tasks, &mut made).await,
                    None => Ok(()),
                };
                if let Err(error) = &done {
                    tracing::warn!(error = error.report(), %key, "the shim did not close the input");
                }
                if let Some(told) = told {
                    let _ = told.send(done);
                }
            }
        }
    }
}

async fn write_all(fifo: &Sender, mut text: &[u8]) -> std::io::Result<()> {
    while !text.is_empty() {
        fifo.writable().await?;
        match fifo.try_write(text) {
            Ok(written) => text = &text[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes the input of a program once the shim knows the program.
async fn close(fifo: Sender, key: &Key, tasks: &dyn Tasks, made: &mut watch::Receiver<bool>) -> Result<()> {
    if made.wait_for(|made| *made).await.is_err() {
        return Ok(());
    }
    end(fifo, tasks.close_io(key)).await.map_err(|error| error.during_step("close the input of").on(key))
}

/// Ends a program's input: by the shim, and by our end of the fifo.
pub(crate) async fn end(fifo: Sender, close_io: impl Future<Output = Result<()>>) -> Result<()> {
    // Some shims close the program's input at once, and what they have not read yet would be lost. This lasts for as long
    // as the program does not read; when it ends, so does this.
    let mut pause = Duration::from_millis(1);
    while rustix::io::ioctl_fionread(&fifo).is_ok_and(|unread| unread > 0) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    let mut closing = std::pin::pin!(timeout(ANSWER, close_io));
    let early = timeout(HEAD_START, &mut closing).await;
    drop(fifo);
    match early {
        Ok(answer) => answer,
        Err(_) => closing.await,
    }
    .unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut(ANSWER))))
}
