//! Plays the listening programs of the model: what the probe does with a connection, without a network.

use runtime_api::{BoxRead, BoxWrite, ContainerId, PortForwardRequest, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Defect;
use crate::script::ENOUGH;

use super::FakeRuntime;

/// Where a defect stops to carry anything.
const CUT: u64 = 1 << 20;

impl FakeRuntime {
    pub(super) async fn forward(
        &self,
        id: &ContainerId,
        request: PortForwardRequest,
        from: BoxRead,
        to: BoxWrite,
    ) -> Result<()> {
        let listener = self.world.act(|parts| parts.model.listener(id, request.port))?;
        let Some((key, ending)) = listener else { return Ok(()) };
        let over = async {
            let _ = self.world.end_of(&ending).await;
            if self.defect(Defect::ForwardOutlivesTheContainer) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            received = self.answer(from, to) => {
                self.world.act(|parts| parts.model.print(key, format!("received {received}\n")));
            }
            () = over => {}
        }
        Ok(())
    }

    /// Gives back what comes, and then the number of bytes that came. Errors of the client's streams end a direction.
    async fn answer(&self, mut from: BoxRead, mut to: BoxWrite) -> u64 {
        let (mut received, mut answering) = (0_u64, true);
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                if self.defect(Defect::EndOfInputIsKept) {
                    std::future::pending::<()>().await;
                }
                break;
            }
            received += count as u64;
            if answering && !(received > CUT && self.defect(Defect::ForwardIsCut)) {
                let text = &buffer[..count];
                let wanted = text.iter().position(|byte| *byte == ENOUGH);
                let sent = to.write_all(&text[..wanted.unwrap_or(count)]).await;
                answering = sent.is_ok() && wanted.is_none();
                if !answering {
                    let _ = to.shutdown().await;
                    if self.defect(Defect::ProgramsEndEndsAll) {
                        return received;
                    }
                }
            }
        }
        if answering {
            let _ = to.write_all(b"end\n").await;
            let _ = to.shutdown().await;
        }
        received
    }
}
