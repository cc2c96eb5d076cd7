use std::time::Duration;

use runtime_api::{
    AttachEnd, AttachRequest, ContainerStatus, ErrorKind, StdinMode, Streams,
};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;

use crate::bench::Tap;
use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::script::filling;
use crate::{Bench, Checked, Step, Violation, Workload};

clause! {
    /// A client that attached before the start misses nothing.
    before_start_misses_nothing = "attach.before-start-misses-nothing", Attach, needs [Attach]
}
async fn before_start_misses_nothing(bench: &Bench) -> Checked {
    let program = Workload::new([
        Step::Out("first".to_owned()),
        Step::Err("oh".to_owned()),
        Step::Out("last".to_owned()),
    ]);
    for _ in 0..3 {
        let container = bench.created(&program).await?;
        let client = Tap::attached(bench, container.id()).await?;
        container.start().await?;
        container.wait().await?;
        let (stdout, stderr) = client.streams().await?;
        ensure_eq!(String::from_utf8_lossy(&stdout), "first\nlast\n", "standard output");
        ensure_eq!(String::from_utf8_lossy(&stderr), "oh\n", "standard error");
    }
    Ok(())
}

clause! {
    /// Input reaches the program, and its end reaches it too.
    carries_input = "attach.carries-input", Attach, needs [Attach]
}
async fn carries_input(bench: &Bench) -> Checked {
    let container = bench.created_with(&Workload::echoes(), |request| request.stdin(StdinMode::Once)).await?;
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    let client = Tap::attached_with(bench, container.id(), Streams::none().stdin(theirs)).await?;
    container.start().await?;
    let host = |error: std::io::Error| Violation::host("the input of the attachment", &error);
    ours.write_all(b"hello\n").await.map_err(host)?;
    client.until_got("hello\n").await?;
    container.must_be(ContainerStatus::Running).await?;
    let large = filling(200_000);
    ours.write_all(&large).await.map_err(host)?;
    drop(ours);
    ensure_eq!(container.wait().await?.code, Some(0), "the code after the end of input");
    let got = client.everything().await?;
    ensure!(got == [b"hello\n", &large[..]].concat(), "{} bytes came back, and not those sent", got.len());
    Ok(())
}

clause! {
    /// Several clients all get everything.
    serves_several_clients = "attach.serves-several-clients", Attach, needs [Attach]
}
async fn serves_several_clients(bench: &Bench) -> Checked {
    let program = Workload::new([Step::Out("begin".to_owned()), Step::Fill(100_000), Step::Out("end".to_owned())]);
    let container = bench.created(&program).await?;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Tap::attached(bench, container.id()).await?);
    }
    container.start().await?;
    let expected = [b"begin\n", &filling(100_000)[..], b"end\n"].concat();
    for client in clients {
        let got = client.everything().await?;
        ensure!(got == expected, "a client got {} of {} bytes, or others", got.len(), expected.len());
    }
    Ok(())
}

clause! {
    /// An attachment ends when the program ends.
    ends_with_the_program = "attach.ends-with-the-program", Attach, needs [Attach]
}
async fn ends_with_the_program(bench: &Bench) -> Checked {
    let container = bench.created_with(&Workload::exits_on_term(7), |request| request.stdin(StdinMode::KeepOpen)).await?;
    // The client's input stays open all the time: it is the program's end that counts.
    let (_ours, theirs) = tokio::io::duplex(64);
    let client = Tap::attached_with(bench, container.id(), Streams::none().stdin(theirs)).await?;
    container.start().await?;
    client.until_got("ready\n").await?;
    container.stop(Duration::from_secs(20)).await?;
    match tokio::time::timeout(Duration::from_secs(10), client.ended()).await {
        Ok(end) => ensure_eq!(end?, AttachEnd::Ended, "how the attachment ended"),
        Err(_) => return Err(Violation::new("the attachment goes on after the program's end")),
    }
    Ok(())
}

clause! {
    /// An attach to a stopped container is refused with `WrongState`.
    stopped_is_refused = "attach.stopped-is-refused", Attach, needs [Attach]
}
async fn stopped_is_refused(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::exits(7)).await?;
    let attached = bench.runtime().attach(container.id(), AttachRequest::new(), Streams::none()).await;
    refused!(attached, ErrorKind::WrongState { is: ContainerStatus::Stopped, .. }, "an attach after the end");
    Ok(())
}

clause! {
    /// Output of any size arrives whole.
    carries_large_output = "attach.carries-large-output", Attach, needs [Attach], deadline 60
}
async fn carries_large_output(bench: &Bench) -> Checked {
    // Far more than any buffer on the way, and no multiple of any.
    const SIZE: usize = 1024 * 1024 + 77;
    let container = bench.created(&Workload::fills(SIZE as u64)).await?;
    let client = Tap::attached(bench, container.id()).await?;
    container.start().await?;
    let got = client.everything().await?;
    let expected = filling(SIZE);
    ensure_eq!(got.len(), expected.len(), "how many bytes arrived");
    if got != expected {
        let first_wrong = got.iter().zip(&expected).position(|(got, expected)| got != expected);
        return Err(Violation::new(format!("byte {first_wrong:?} is not what was written")));
    }
    Ok(())
}

clause! {
    /// A client that reads nothing is cut off with `Lagged`, and the program goes on.
    cuts_off_silent_clients = "attach.cuts-off-silent-clients", Attach, needs [Attach], deadline 90
}
async fn cuts_off_silent_clients(bench: &Bench) -> Checked {
    // Half as much again as may be left unread.
    const MUCH: u64 = 12 * 1024 * 1024;
    let program = Workload::fills(MUCH).then(Step::Trap(15, crate::Trap::Exit(7))).then(Step::Forever);
    let id = bench.id("a");
    // Without a log, so that nothing but the silent client could hold the program up.
    let request = runtime_api::CreateRequest::new(id.clone(), bench.bundle(&program)?);
    bench.runtime().create(request).await?;
    let (told, attached) = oneshot::channel();
    let (silent, _never_read) = tokio::io::duplex(16);
    let (runtime, silent_id) = (bench.runtime(), id.clone());
    let silent = tokio::spawn(async move {
        let streams = Streams::none().stdout(silent);
        runtime.attach(&silent_id, AttachRequest::new().on_attached(told), streams).await
    });
    ensure!(attached.await.is_ok(), "the attachment never began");
    bench.runtime().start(&id).await?;
    let cut = tokio::time::timeout(Duration::from_secs(30), silent).await;
    let Ok(cut) = cut else { return Err(Violation::new("a client that reads nothing is not cut off")) };
    let cut = cut.map_err(|error| Violation::new(format!("attach panicked: {error}")))?;
    refused!(cut, ErrorKind::Lagged(_), "a client that reads nothing");
    ensure_eq!(bench.runtime().state(&id).await?.status, ContainerStatus::Running, "the status afterwards");
    // The program got rid of all of its output: it reached the step after it.
    let exit = bench.stop_once_armed(&id).await?;
    ensure_eq!(exit.code, Some(7), "the code");
    Ok(())
}
