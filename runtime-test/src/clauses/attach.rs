use std::time::Duration;

use runtime_api::{
    AttachEnd, AttachRequest, Capability, ContainerStatus, ErrorKind, StdinMode, StopRequest, Streams, WindowSize,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
    let tick = Step::Tick(Duration::from_millis(20));
    let program = Workload::fills(MUCH).then(Step::Trap(15, crate::Trap::Exit(7))).then(tick);
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
    // The program gets rid of all of its output: it comes to the steps after it, as a client that reads can tell. Only then
    // is a signal sent, for not every runtime guards an init from those that it does not listen to.
    let client = Tap::attached(bench, &id).await?;
    client.until_gets("tick ").await?;
    let exit = bench.runtime().stop(&id, StopRequest::within(Duration::from_secs(20))).await?;
    ensure_eq!(exit.code, Some(7), "the code");
    Ok(())
}

clause! {
    /// Input of any size reaches the program whole.
    carries_large_input = "attach.carries-large-input", Attach, needs [Attach], deadline 60
}
async fn carries_large_input(bench: &Bench) -> Checked {
    // More than any buffer on the way, and no multiple of any.
    const SIZE: usize = 1024 * 1024 + 77;
    let container = bench.created_with(&Workload::echoes(), |request| request.stdin(StdinMode::Once)).await?;
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    let client = Tap::attached_with(bench, container.id(), Streams::none().stdin(theirs)).await?;
    container.start().await?;
    let sent = filling(SIZE);
    ours.write_all(&sent).await.map_err(|error| Violation::host("the input of the attachment", &error))?;
    drop(ours);
    let got = client.everything().await?;
    ensure_eq!(got.len(), sent.len(), "how many bytes came back");
    ensure!(got == sent, "what came back is not what was sent");
    Ok(())
}

clause! {
    /// With `StdinMode::KeepOpen` the end of a client's input is not the program's: it goes on with the next client's.
    keeps_input_open = "attach.keeps-input-open", Attach, needs [Attach]
}
async fn keeps_input_open(bench: &Bench) -> Checked {
    let container = bench.created_with(&Workload::echoes(), |request| request.stdin(StdinMode::KeepOpen)).await?;
    container.start().await?;
    let host = |error: std::io::Error| Violation::host("the input of the attachment", &error);
    let mut clients = Vec::new();
    for text in ["one\n", "two\n", "three\n"] {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let client = Tap::attached_with(bench, container.id(), Streams::none().stdin(theirs)).await?;
        ours.write_all(text.as_bytes()).await.map_err(host)?;
        client.until_got(text).await?;
        // The end of its input, and not of the client. It has some time to do harm, for a program that goes on cannot tell
        // that it has arrived.
        drop(ours);
        tokio::time::sleep(Duration::from_millis(200)).await;
        clients.push(client);
    }
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// The detach keys end the attachment and do not reach the program, which goes on.
    detaches_by_keys = "attach.detaches-by-keys", Attach, needs [Attach]
}
async fn detaches_by_keys(bench: &Bench) -> Checked {
    let container = bench.created_with(&Workload::echoes(), |request| request.stdin(StdinMode::KeepOpen)).await?;
    container.start().await?;
    let host = |error: std::io::Error| Violation::host("the input of the attachment", &error);
    let keys = || AttachRequest::new().detach_keys("ctrl-p,ctrl-q".parse().expect("it is right"));
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let client = Tap::attached_by(bench, container.id(), keys(), Streams::none().stdin(theirs)).await?;
    // The first key alone is input like any other, and the keys may come apart.
    ours.write_all(b"\x10a\n").await.map_err(host)?;
    client.until_got("\x10a\n").await?;
    ours.write_all(b"b\n\x10").await.map_err(host)?;
    client.until_got("\x10a\nb\n").await?;
    ours.write_all(b"\x11lost\n").await.map_err(host)?;
    match tokio::time::timeout(Duration::from_secs(10), client.ended()).await {
        Ok(end) => ensure_eq!(end?, AttachEnd::Detached, "how the attachment ended"),
        Err(_) => return Err(Violation::new("the attachment goes on after the detach keys")),
    }
    container.must_be(ContainerStatus::Running).await?;
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let client = Tap::attached_by(bench, container.id(), keys(), Streams::none().stdin(theirs)).await?;
    ours.write_all(b"c\n").await.map_err(host)?;
    client.until_got("c\n").await?;
    if bench.has(Capability::Log) {
        container.until_said("c").await?;
        let printed = container.output()?.unwrap_or_default().stdout;
        ensure_eq!(printed, "\x10a\nb\nc\n", "everything that the program was given");
    }
    Ok(())
}

clause! {
    /// A client that reads slowly gets everything, however much it leaves unread.
    waits_for_slow_clients = "attach.waits-for-slow-clients", Attach, needs [Attach], deadline 90
}
async fn waits_for_slow_clients(bench: &Bench) -> Checked {
    // Half as much again as may be left unread by a client that reads nothing.
    const MUCH: usize = 12 * 1024 * 1024;
    let id = bench.id("a");
    let request = runtime_api::CreateRequest::new(id.clone(), bench.bundle(&Workload::fills(MUCH as u64))?);
    bench.runtime().create(request).await?;
    let (told, attached) = oneshot::channel();
    let (theirs, mut ours) = tokio::io::duplex(64 * 1024);
    let (runtime, slow) = (bench.runtime(), id.clone());
    let attachment = tokio::spawn(async move {
        let streams = Streams::none().stdout(theirs);
        runtime.attach(&slow, AttachRequest::new().on_attached(told), streams).await
    });
    ensure!(attached.await.is_ok(), "the attachment never began");
    bench.runtime().start(&id).await?;
    let (mut got, mut rested) = (Vec::with_capacity(MUCH), 0);
    loop {
        let mut piece = vec![0; 64 * 1024];
        let read = ours.read(&mut piece).await;
        let count = read.map_err(|error| Violation::host("the output of the attachment", &error))?;
        if count == 0 {
            break;
        }
        got.extend_from_slice(&piece[..count]);
        if got.len() / (512 * 1024) > rested {
            rested = got.len() / (512 * 1024);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let end = attachment.await.map_err(|error| Violation::new(format!("attach panicked: {error}")))?;
    ensure_eq!(end?, AttachEnd::Ended, "how the attachment ended");
    ensure_eq!(got.len(), MUCH, "how many bytes arrived");
    ensure!(got == filling(MUCH), "what arrived is not what was written");
    Ok(())
}

clause! {
    /// When a client reads nothing, the other clients miss nothing of what comes meanwhile, nor does the log.
    silent_clients_hold_up_no_others = "attach.silent-clients-hold-up-no-others", Attach, needs [Attach], deadline 90
}
async fn silent_clients_hold_up_no_others(bench: &Bench) -> Checked {
    const MUCH: usize = 12 * 1024 * 1024;
    let container = bench.created(&Workload::fills(MUCH as u64)).await?;
    let client = Tap::attached(bench, container.id()).await?;
    let (told, attached) = oneshot::channel();
    let (silent, _never_read) = tokio::io::duplex(16);
    let (runtime, id) = (bench.runtime(), container.id().clone());
    let silent = tokio::spawn(async move {
        let streams = Streams::none().stdout(silent);
        runtime.attach(&id, AttachRequest::new().on_attached(told), streams).await
    });
    ensure!(attached.await.is_ok(), "the attachment never began");
    container.start().await?;
    let everything = tokio::time::timeout(Duration::from_secs(60), client.everything());
    let Ok(got) = everything.await else { return Err(Violation::new("a client that reads gets no further")) };
    silent.abort();
    let (got, expected) = (got?, filling(MUCH));
    ensure!(got == expected, "the client that reads got {} of {MUCH} bytes, or others", got.len());
    if bench.has(Capability::Log) {
        let logged = container.output()?.unwrap_or_default().stdout;
        ensure!(logged.as_bytes() == expected, "the log has {} of {MUCH} bytes, or others", logged.len());
    }
    Ok(())
}

clause! {
    /// With a terminal, both streams come as standard output, and lines end in `\r\n`.
    shows_a_terminal = "attach.shows-a-terminal", Attach, needs [Attach, AttachResize]
}
async fn shows_a_terminal(bench: &Bench) -> Checked {
    let program = [Step::Tty, Step::Out("one".to_owned()), Step::Err("two".to_owned()), Step::Out("three".to_owned())];
    let container = bench.created_on_a_terminal(&Workload::new(program)).await?;
    let client = Tap::attached(bench, container.id()).await?;
    container.start().await?;
    container.wait().await?;
    let (stdout, stderr) = client.streams().await?;
    ensure_eq!(String::from_utf8_lossy(&stdout), "tty yes\r\none\r\ntwo\r\nthree\r\n", "standard output");
    ensure!(stderr.is_empty(), "something came as standard error");
    Ok(())
}

clause! {
    /// The first size that is asked for is the terminal's before the attachment begins.
    sets_the_first_size = "attach.sets-the-first-size", Attach, needs [Attach, AttachResize]
}
async fn sets_the_first_size(bench: &Bench) -> Checked {
    let container = bench.created_on_a_terminal(&Workload::new([Step::Winsize])).await?;
    let request = AttachRequest::new().initial_size(size(33, 99)?);
    let client = Tap::attached_by(bench, container.id(), request, Streams::none()).await?;
    container.start().await?;
    let got = client.everything().await?;
    ensure_eq!(String::from_utf8_lossy(&got), "winsize 33 99\r\n", "what the program finds");
    Ok(())
}

clause! {
    /// The sizes that a client asks for become the terminal's; of those that come fast the last one counts.
    passes_sizes_on = "attach.passes-sizes-on", Attach, needs [Attach, AttachResize]
}
async fn passes_sizes_on(bench: &Bench) -> Checked {
    let container = bench.created_on_a_terminal(&Workload::tells_sizes()).await?;
    let (sizes, wanted) = tokio::sync::watch::channel(Some(size(1, 1)?));
    let client = Tap::attached_with(bench, container.id(), Streams::none().resize(wanted)).await?;
    container.start().await?;
    container.until_ready().await?;
    for round in 1..=3 {
        for rows in 1..=100 {
            sizes.send_replace(Some(size(rows, 10 * round)?));
        }
        container.until_said(&format!("winsize 100 {}", 10 * round)).await?;
    }
    drop(client);
    Ok(())
}

pub(super) fn size(rows: u16, columns: u16) -> Checked<WindowSize> {
    WindowSize::new(rows, columns).ok_or_else(|| Violation::new("a size without a row or a column"))
}

clause! {
    /// After a client was dropped, a later one gets what is printed from then on.
    serves_later_clients = "attach.serves-later-clients", Attach, needs [Attach]
}
async fn serves_later_clients(bench: &Bench) -> Checked {
    let container = bench.running(&Workload::ticks(Duration::from_millis(20))).await?;
    for _ in 0..3 {
        let client = Tap::attached(bench, container.id()).await?;
        client.until_got("tick ").await?;
        drop(client);
    }
    container.must_be(ContainerStatus::Running).await
}
