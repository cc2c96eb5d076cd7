use std::time::Duration;

use runtime_api::{ContainerStatus, ErrorKind, PortForwardRequest, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::script::{Family, filling};
use crate::workload::READY;
use crate::{Bench, BundleOptions, Checked, Step, Subject, Violation, Workload};

/// How long anything may take that should happen at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// The port that programs of these clauses listen on.
const PORT: u16 = 7001;

/// A byte that makes the listener end its own direction.
const ENOUGH: u8 = 4;

/// A client's ends of a forwarded connection.
struct Connection {
    input: DuplexStream,
    output: DuplexStream,
    done: JoinHandle<Result<()>>,
}

impl Connection {
    fn to(bench: &Bench, subject: &Subject<'_>, port: u16) -> Self {
        let (input, from) = tokio::io::duplex(64 * 1024);
        let (to, output) = tokio::io::duplex(64 * 1024);
        let (runtime, id) = (bench.runtime(), subject.id().clone());
        let done = tokio::spawn(async move {
            runtime.port_forward(&id, PortForwardRequest::new(port), Box::new(from), Box::new(to)).await
        });
        Self { input, output, done }
    }

    async fn say(&mut self, bytes: &[u8]) -> Checked {
        let said = timeout(PATIENCE, self.input.write_all(bytes)).await;
        said.map_err(|_| Violation::new("input is not taken"))?
            .map_err(|error| Violation::host("input is refused", &error))
    }

    async fn end_input(&mut self) -> Checked {
        self.input.shutdown().await.map_err(|error| Violation::host("input cannot be ended", &error))
    }

    /// Everything that still comes, up to the end.
    async fn rest(&mut self) -> Checked<Vec<u8>> {
        let mut rest = Vec::new();
        match timeout(PATIENCE, self.output.read_to_end(&mut rest)).await {
            Ok(Ok(_)) => Ok(rest),
            Ok(Err(error)) => Err(Violation::host("output cannot be read", &error)),
            Err(_) => Err(Violation::new(format!(
                "output does not end; it was {:?} up to now",
                String::from_utf8_lossy(&rest)
            ))),
        }
    }

    async fn must_end(self) -> Checked<Result<()>> {
        let done = timeout(PATIENCE, self.done).await;
        done.map_err(|_| Violation::new("port_forward does not return"))?
            .map_err(|error| Violation::new(format!("port_forward panicked: {error}")))
    }
}

/// A container whose program listens on [`PORT`], on one family alone.
async fn listening(bench: &Bench, family: Family) -> Checked<Subject<'_>> {
    let program = Workload::new([Step::Listen(family, PORT), Step::Out(READY.to_owned()), Step::Forever]);
    bench.ready_in(&program, &BundleOptions::new().network_admin()).await
}

clause! {
    /// A program is reached that listens on 127.0.0.1 alone, and one that listens on ::1 alone.
    reaches_both_families = "ports.reaches-both-families", PortForward, needs [PortForward]
}
async fn reaches_both_families(bench: &Bench) -> Checked {
    for family in [Family::V4, Family::V6] {
        let container = listening(bench, family).await?;
        let mut connection = Connection::to(bench, &container, PORT);
        connection.say(b"hello\n").await?;
        connection.end_input().await?;
        let answer = connection.rest().await?;
        ensure_eq!(String::from_utf8_lossy(&answer), "hello\nend\n", "the answer over {family:?}");
        connection.must_end().await??;
    }
    Ok(())
}

clause! {
    /// When the client's direction ends the other goes on, and the program is told of that end.
    client_may_end_first = "ports.client-may-end-first", PortForward, needs [PortForward]
}
async fn client_may_end_first(bench: &Bench) -> Checked {
    let container = listening(bench, Family::V4).await?;
    let mut connection = Connection::to(bench, &container, PORT);
    connection.end_input().await?;
    // The program says this only after it has seen the end of its input.
    ensure_eq!(String::from_utf8_lossy(&connection.rest().await?), "end\n", "the answer to an empty input");
    connection.must_end().await??;
    container.until_said("received 0").await?;
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// When the program's direction ends the client is told, and may go on to send.
    program_may_end_first = "ports.program-may-end-first", PortForward, needs [PortForward]
}
async fn program_may_end_first(bench: &Bench) -> Checked {
    let container = listening(bench, Family::V4).await?;
    let mut connection = Connection::to(bench, &container, PORT);
    connection.say(b"one\n").await?;
    connection.say(&[ENOUGH]).await?;
    let answer = connection.rest().await?;
    ensure_eq!(String::from_utf8_lossy(&answer), "one\n", "what came before the program's end");
    connection.say(b"two\n").await?;
    connection.end_input().await?;
    connection.must_end().await??;
    container.until_said("received 9").await
}

clause! {
    /// Much data arrives whole in both directions, whoever is the slower.
    carries_much = "ports.carries-much", PortForward, needs [PortForward], deadline 60
}
async fn carries_much(bench: &Bench) -> Checked {
    let container = listening(bench, Family::V4).await?;
    let Connection { mut input, mut output, done } = Connection::to(bench, &container, PORT);
    let text = filling(4 << 20);
    let sent = text.clone();
    let sender = tokio::spawn(async move {
        input.write_all(&sent).await?;
        input.shutdown().await
    });
    let mut answer = Vec::new();
    let read = timeout(2 * PATIENCE, output.read_to_end(&mut answer)).await;
    ensure!(matches!(read, Ok(Ok(_))), "of {} bytes {} came back: {read:?}", text.len(), answer.len());
    ensure!(answer.strip_suffix(b"end\n") == Some(text.as_slice()), "{} bytes came back changed", answer.len());
    let sent = sender.await.map_err(|error| Violation::new(error.to_string()))?;
    sent.map_err(|error| Violation::host("input is refused", &error))?;
    let done = done.await.map_err(|error| Violation::new(error.to_string()))?;
    Ok(done?)
}

clause! {
    /// Where nobody listens it is `Rejected`, both streams are closed, and the container goes on.
    closed_port_is_rejected = "ports.closed-port-is-rejected", PortForward, needs [PortForward]
}
async fn closed_port_is_rejected(bench: &Bench) -> Checked {
    let container = listening(bench, Family::V4).await?;
    let mut connection = Connection::to(bench, &container, PORT + 1);
    ensure_eq!(connection.rest().await?.len(), 0, "bytes from where nobody listens");
    // The other end is dropped a moment after the end of the output.
    let mut tries = 0;
    while connection.say(b"x").await.is_ok() {
        tries += 1;
        ensure!(tries < 20, "input is taken although nobody listens");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    refused!(connection.must_end().await?, ErrorKind::Rejected { .. }, "a connection to a closed port");
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// A container that is created or stopped is refused with `WrongState`.
    needs_a_running_container = "ports.needs-a-running-container", PortForward, needs [PortForward]
}
async fn needs_a_running_container(bench: &Bench) -> Checked {
    let created = bench.created(&Workload::forever()).await?;
    let stopped = bench.stopped(&Workload::exits(0)).await?;
    for container in [&created, &stopped] {
        let before = container.state().await?;
        let connection = Connection::to(bench, container, PORT);
        let end = connection.must_end().await?;
        refused!(end, ErrorKind::WrongState { .. }, "a connection to a {} container", before.status);
        ensure_eq!(container.state().await?, before, "the container");
    }
    Ok(())
}

clause! {
    /// A connection ends with its container, although the client's input is still open.
    ends_with_the_container = "ports.ends-with-the-container", PortForward, needs [PortForward]
}
async fn ends_with_the_container(bench: &Bench) -> Checked {
    let container = listening(bench, Family::V4).await?;
    let mut connection = Connection::to(bench, &container, PORT);
    connection.say(b"hello\n").await?;
    let mut answer = [0; 6];
    let read = timeout(PATIENCE, connection.output.read_exact(&mut answer)).await;
    ensure!(matches!(read, Ok(Ok(_))) && answer == *b"hello\n", "the answer was {answer:?}");
    container.stop(Duration::ZERO).await?;
    ensure_eq!(connection.rest().await?.len(), 0, "bytes after the end");
    connection.must_end().await??;
    Ok(())
}
