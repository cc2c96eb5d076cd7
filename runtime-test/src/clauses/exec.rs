use std::io::Read as _;
use std::time::Duration;

use runtime_api::{
    ContainerStatus, ErrorKind, ExecRequest, ProcessRequest, Rejection, Signal, Streams,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::bench::ExecTap;
use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::script::filling;
use crate::{Bench, Checked, Life, Step, Subject, Violation, Workload};

clause! {
    /// Standard output and standard error come apart, complete and in order.
    carries_streams_apart = "exec.carries-streams-apart", Exec, needs [Exec]
}
async fn carries_streams_apart(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let program = Workload::new([
        Step::Out("one".to_owned()),
        Step::Err("oh".to_owned()),
        Step::Fill(300_000),
        Step::Err("no".to_owned()),
        Step::Raw("end".to_owned()),
    ]);
    let mut exec = begin(&container, &program);
    ensure_eq!(exec.code().await?, 0, "the code");
    let expected = [b"one\n", &filling(300_000)[..], b"end"].concat();
    ensure_eq!(exec.stdout().len(), expected.len(), "the length of standard output");
    ensure!(exec.stdout() == expected, "standard output is not what was written");
    ensure_eq!(text(&exec.stderr()), "oh\nno\n", "standard error");
    Ok(())
}

clause! {
    /// Input reaches the program as it comes, and its end reaches it too.
    carries_input = "exec.carries-input", Exec, needs [Exec]
}
async fn carries_input(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let (mut typed, stdin) = tokio::io::duplex(64);
    let program = Workload::echoes().then(Step::Out("over".to_owned())).then(Step::Exit(7));
    let mut exec = ExecTap::begin(&container, ExecRequest::new(program.process()), Streams::none().stdin(stdin));
    for word in ["hello\n", "again\n"] {
        written(typed.write_all(word.as_bytes()).await)?;
        exec.until_got(word).await?;
    }
    ensure!(!exec.is_over(), "the exec ended before its input did");
    drop(typed);
    ensure_eq!(exec.code().await?, 7, "the code");
    ensure_eq!(text(&exec.stdout()), "hello\nagain\nover\n", "what came back");
    Ok(())
}

clause! {
    /// Input and output of any size arrive bit for bit.
    carries_large_streams = "exec.carries-large-streams", Exec, needs [Exec], deadline 60
}
async fn carries_large_streams(bench: &Bench) -> Checked {
    const SIZE: usize = 4 * 1024 * 1024;
    let container = bench.ready(&Workload::ready_forever()).await?;
    let (mut typed, stdin) = tokio::io::duplex(64 * 1024);
    let program = Workload::echoes();
    let mut exec = ExecTap::begin(&container, ExecRequest::new(program.process()), Streams::none().stdin(stdin));
    written(typed.write_all(&filling(SIZE)).await)?;
    drop(typed);
    ensure_eq!(exec.code().await?, 0, "the code");
    ensure_eq!(exec.stdout().len(), SIZE, "how much came back");
    ensure!(exec.stdout() == filling(SIZE), "what came back is not what went in");
    Ok(())
}

clause! {
    /// Without streams the program's input is at its end and its output is dropped.
    works_without_streams = "exec.works-without-streams", Exec, needs [Exec]
}
async fn works_without_streams(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let program =
        Workload::echoes().then(Step::Fill(1_000_000)).then(Step::Err("x".to_owned())).then(Step::Exit(9));
    let exec = container.executing_with(ExecRequest::new(program.process()), Streams::none());
    let Ok(ended) = tokio::time::timeout(Duration::from_secs(20), exec).await else {
        return Err(Violation::new("an exec without streams does not end"));
    };
    let status = ended.map_err(|error| Violation::new(format!("exec panicked: {error}")))??;
    ensure_eq!(status.code, Some(9), "the code");
    Ok(())
}

clause! {
    /// The exit code is the program's, 128 + n for a signal.
    gives_the_exit_code = "exec.gives-the-exit-code", Exec, needs [Exec]
}
async fn gives_the_exit_code(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    for code in [0, 1, 42, 127, 255_u8] {
        let found = begin(&container, &Workload::exits(code)).code().await?;
        ensure_eq!(found, i32::from(code), "the code");
    }
    let killed = begin(&container, &Workload::new([Step::Raise(15), Step::Forever])).code().await?;
    ensure_eq!(killed, 143, "the code of a death by signal 15");
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// A program that cannot be run is `Rejected`, and nothing of that is written to the client's streams.
    missing_program_is_rejected = "exec.missing-program-is-rejected", Exec, needs [Exec]
}
async fn missing_program_is_rejected(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let request = ExecRequest::new(ProcessRequest::new(["/no/such/program"]));
    let mut exec = ExecTap::begin(&container, request, Streams::none());
    refused!(
        exec.ended().await?,
        ErrorKind::Rejected { class: Rejection::ExecNotFound, .. },
        "an exec of a program that does not exist"
    );
    ensure_eq!(text(&exec.stdout()), "", "standard output");
    ensure_eq!(text(&exec.stderr()), "", "standard error");
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// At the time limit it is `TimedOut`; what was written before has arrived, and the program and its descendants are
    /// dead.
    times_out = "exec.times-out", Exec, needs [Exec, ExecSync], deadline 120
}
async fn times_out(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    for seconds in LIMITS {
        let limit = Duration::from_secs(seconds);
        let request = ExecRequest::new(Workload::forks_a_tree().process()).timeout(limit);
        let begun = Instant::now();
        let mut exec = ExecTap::begin(&container, request, Streams::none());
        refused!(exec.ended().await?, ErrorKind::TimedOut(_), "an exec beyond its time limit");
        ensure!(begun.elapsed() >= limit, "it was ended before its time limit");
        only_the_init_is_left(&container).await?;
        // On a busy host a short one may pass before the program has said a word.
        if !exec.stdout().is_empty() || seconds == LIMITS[LIMITS.len() - 1] {
            ensure_eq!(text(&exec.stdout()), "ready\n", "what was written before");
            break;
        }
    }
    Ok(())
}

clause! {
    /// A dropped exec dies with its tree.
    dropped_ends_descendants = "exec.dropped-ends-descendants", Exec, needs [Exec, ExecSync]
}
async fn dropped_ends_descendants(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let exec = begin(&container, &Workload::forks_a_tree());
    exec.until_got("ready\n").await?;
    drop(exec);
    only_the_init_is_left(&container).await
}

clause! {
    /// A background child that holds the output open delays the result by no more than about a second.
    ignores_background_children = "exec.ignores-background-children", Exec, needs [Exec], deadline 60
}
async fn ignores_background_children(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let long = Duration::from_secs(600);
    let program = Workload::new([Step::Child(Life::For(long)), Step::Out("done".to_owned()), Step::Exit(7)]);
    let begun = Instant::now();
    let mut exec = begin(&container, &program);
    ensure_eq!(exec.code().await?, 7, "the code");
    ensure!(begun.elapsed() < Duration::from_secs(100), "the exec waited for a background child");
    ensure_eq!(text(&exec.stdout()), "done\n", "standard output");
    Ok(())
}

clause! {
    /// A container that is not running is refused with `WrongState`.
    needs_a_running_container = "exec.needs-a-running-container", Exec, needs [Exec]
}
async fn needs_a_running_container(bench: &Bench) -> Checked {
    let created = bench.created(&Workload::exits(7)).await?;
    let stopped = bench.stopped(&Workload::exits(7)).await?;
    let mut idle = vec![created, stopped];
    if bench.has(runtime_api::Capability::Pause) {
        let paused = bench.ready(&Workload::ready_forever()).await?;
        paused.pause().await?;
        idle.push(paused);
    }
    for container in &idle {
        let before = container.state().await?;
        let ended = begin(container, &Workload::exits(0)).ended().await?;
        let error = refused!(ended, ErrorKind::WrongState { .. }, "an exec in a {} container", before.status);
        let names = matches!(error.kind(), ErrorKind::WrongState { is, .. } if *is == before.status);
        ensure!(names, "the refusal names another state: {error}");
        ensure_eq!(container.state().await?, before, "the container");
    }
    Ok(())
}

clause! {
    /// A client that reads nothing slows its own exec alone, and gets everything when it reads again.
    slow_client_slows_itself_alone = "exec.slow-client-slows-itself-alone", Exec, needs [Exec], deadline 60
}
async fn slow_client_slows_itself_alone(bench: &Bench) -> Checked {
    const SIZE: usize = 3_000_000;
    let container = bench.ready(&Workload::ready_forever()).await?;
    let (mut client, stdout) = tokio::io::duplex(1024);
    let request = ExecRequest::new(Workload::fills(SIZE as u64).then(Step::Exit(7)).process());
    let slow = container.executing_with(request, Streams::none().stdout(stdout));
    let mut first = [0; 64];
    written(client.read_exact(&mut first).await.map(drop))?;
    let mut other = begin(&container, &Workload::says("hello").then(Step::Fill(200_000)));
    ensure_eq!(other.code().await?, 0, "the code of another exec");
    ensure_eq!(other.stdout().len(), 200_006, "what another exec printed");
    let mut rest = Vec::new();
    written(client.read_to_end(&mut rest).await.map(drop))?;
    ensure!([&first[..], &rest].concat() == filling(SIZE), "the client did not get what was written");
    let status = slow.await.map_err(|error| Violation::new(format!("exec panicked: {error}")))??;
    ensure_eq!(status.code, Some(7), "the code");
    Ok(())
}

clause! {
    /// A client that closes one of its streams misses the rest of it; the program goes on.
    goes_on_without_a_stream = "exec.goes-on-without-a-stream", Exec, needs [Exec]
}
async fn goes_on_without_a_stream(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let (client, stdout) = tokio::io::duplex(1024);
    drop(client);
    let program = Workload::fills(500_000).then(Step::Err("still here".to_owned())).then(Step::Exit(7));
    let (mut errors, stderr) = tokio::io::duplex(1024);
    let streams = Streams::none().stdout(stdout).stderr(stderr);
    let exec = container.executing_with(ExecRequest::new(program.process()), streams);
    let mut said = String::new();
    written(errors.read_to_string(&mut said).await.map(drop))?;
    ensure_eq!(said, "still here\n", "standard error");
    let status = exec.await.map_err(|error| Violation::new(format!("exec panicked: {error}")))??;
    ensure_eq!(status.code, Some(7), "the code");
    Ok(())
}

clause! {
    /// It works while a stop grants its grace, and one that began before goes on.
    works_during_the_grace = "exec.works-during-the-grace", Exec, needs [Exec], deadline 60
}
async fn works_during_the_grace(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ignores_term()).await?;
    let (typed, stdin) = tokio::io::duplex(64);
    let program = Workload::says("begun").then(Step::Cat).then(Step::Exit(6));
    let streams = Streams::none().stdin(stdin);
    let mut before = ExecTap::begin(&container, ExecRequest::new(program.process()), streams);
    before.until_got("begun\n").await?;
    let stop = container.stopping(Duration::from_secs(600));
    until_stopping(&container).await?;
    let mut during = begin(&container, &Workload::says("hello").then(Step::Exit(7)));
    ensure_eq!(during.code().await?, 7, "the code of an exec in the grace");
    ensure_eq!(text(&during.stdout()), "hello\n", "what it printed");
    drop(typed);
    ensure_eq!(before.code().await?, 6, "the code of one that began before the stop");
    ensure!(!stop.is_finished(), "the stop ended before its grace was over");
    container.kill(Signal::KILL).await?;
    stop.await.map_err(|error| Violation::new(format!("stop panicked: {error}")))??;
    Ok(())
}

clause! {
    /// One that runs when its container is killed ends with it: code 137.
    ends_with_the_container = "exec.ends-with-the-container", Exec, needs [Exec]
}
async fn ends_with_the_container(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    // One that is silent, and one that prints all the time.
    let mut silent = begin(&container, &Workload::says("hello").then(Step::Forever));
    silent.until_got("hello\n").await?;
    let mut ticking = begin(&container, &Workload::ticks(Duration::from_millis(20)));
    ticking.until_got("tick 3\n").await?;
    container.kill(Signal::KILL).await?;
    ensure_eq!(silent.code().await?, 137, "the code of one that is silent");
    ensure_eq!(ticking.code().await?, 137, "the code of one that prints all the time");
    ensure_eq!(text(&silent.stdout()), "hello\n", "what was printed");
    container.wait().await?;
    Ok(())
}

clause! {
    /// The open files of the request are the program's, numbered from 3.
    passes_descriptors = "exec.passes-descriptors", Exec, needs [Exec, ExecDescriptors]
}
async fn passes_descriptors(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let pipe = || std::io::pipe().map_err(|error| Violation::host("a pipe", &error));
    let ((mut first, to_first), (mut second, to_second)) = (pipe()?, pipe()?);
    let program = Workload::new([Step::To(3, "one".to_owned()), Step::To(4, "two".to_owned()), Step::Exit(7)]);
    let request = ExecRequest::new(program.process()).descriptor(to_first).descriptor(to_second);
    let mut exec = ExecTap::begin(&container, request, Streams::none());
    ensure_eq!(exec.code().await?, 7, "the code; standard error is {:?}", text(&exec.stderr()));
    drop(exec);
    // The exec is over, so every end for writing is closed.
    let (mut one, mut two) = (String::new(), String::new());
    written(first.read_to_string(&mut one).and(second.read_to_string(&mut two)).map(drop))?;
    ensure_eq!((one.as_str(), two.as_str()), ("one\n", "two\n"), "what came through the two pipes");
    Ok(())
}

fn begin(container: &Subject<'_>, program: &Workload) -> ExecTap {
    ExecTap::begin(container, ExecRequest::new(program.process()), Streams::none())
}

/// Time limits in seconds, each tried where the one before was too short for a program to begin.
pub(super) const LIMITS: [u64; 2] = [2, 30];

pub(super) async fn until_stopping(container: &Subject<'_>) -> Checked {
    for _ in 0..2000 {
        if container.state().await?.stopping {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(Violation::new("the stop that was asked for does not show"))
}

/// The init and the one that looks. What was killed may take a moment to be reaped.
pub(super) async fn only_the_init_is_left(container: &Subject<'_>) -> Checked {
    sees_processes(container, 2).await
}

/// Looks from inside until there are so many processes, the one that looks included.
pub(super) async fn sees_processes(container: &Subject<'_>, count: usize) -> Checked {
    let mut seen = String::new();
    for _ in 0..200 {
        seen = text(&container.exec(&Workload::new([Step::Procs])).await?.stdout);
        if seen == format!("procs {count}\n") {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Violation::new(format!("there must be {count} processes in the container, and there are: {}", seen.trim())))
}

fn written(result: std::io::Result<()>) -> Checked {
    result.map_err(|error| Violation::host("a stream of the exec", &error))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
