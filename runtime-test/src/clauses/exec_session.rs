mod session;

use std::time::Duration;

use runtime_api::{
    AttachEnd, Capability, ContainerStatus, DeleteRequest, ErrorKind,
    ExecSessionState, ProcessRequest, Rejection, Signal, StdinMode,
    Streams,
};
use tokio::time::Instant;

use super::attach::size;
use super::exec::only_the_init_is_left;
use crate::clause::{clause, ensure, ensure_eq, refused};
use session::{Session, TICK, text, ticking, write};

use crate::{Bench, Checked, Life, Step, Trap, Violation, Workload};

/// The signal that tells of another size.
const WINCH: i32 = 28;
/// The key that ends the input of a terminal, at the beginning of a line.
const END_OF_INPUT: u8 = 4;
/// Long for a program that has nothing to do but to end.
const PATIENCE: Duration = Duration::from_secs(20);

clause! {
    /// Afterwards the session is Running, with the pid of its program, until the program ends.
    runs_the_program = "exec.session.runs-the-program", ExecStart, needs [ExecSession]
}
async fn runs_the_program(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let one = Session::of(bench, &container, "one")?;
    let started = one.start(&ticking(Step::Trap(15, Trap::Exit(7)))).await?;
    ensure!(matches!(started, ExecSessionState::Running { pid } if pid > 0), "it began as {started:?}");
    one.until_armed().await?;
    ensure_eq!(one.state().await?, started, "the state while it runs");
    let short = Session::of(bench, &container, "short")?;
    short.start(&Workload::exits_after(Duration::from_millis(300), 3)).await?;
    ensure_eq!(short.ended().await?, Some(3), "the code of a session beside it");
    ensure_eq!(one.state().await?, started, "the state after another session ended");
    container.must_be(ContainerStatus::Running).await?;
    ensure_eq!(one.stop(PATIENCE).await?, Some(7), "the code of the one that was stopped");
    Ok(())
}

clause! {
    /// It takes arguments, environment and working directory as an exec does.
    passes_process_settings = "exec.session.passes-process-settings", ExecStart, needs [ExecSession]
}
async fn passes_process_settings(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "settings")?;
    let steps = [Step::Cat, Step::Env("ADDED".to_owned()), Step::Cwd, Step::Out("--flag  *".to_owned())];
    let process = Workload::new(steps).process().env("ADDED", "a = \"b\" $c").cwd("/proc");
    session.start_process(process, StdinMode::Once).await?;
    // It speaks once its input has ended, so that the client misses nothing.
    let client = session.attached(Streams::none().stdin(tokio::io::empty())).await?;
    let expected = "ADDED=a = \"b\" $c\n/proc\n--flag  *\n";
    ensure_eq!(text(&client.everything().await?), expected, "what the program saw");
    Ok(())
}

clause! {
    /// The exit code is the program's, 128 + n for a signal, and stays known until the session is cleaned up.
    keeps_the_exit_code = "exec.session.keeps-the-exit-code", ExecState, needs [ExecSession]
}
async fn keeps_the_exit_code(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let mut sessions = Vec::new();
    for code in [0, 1, 42, 127, 255_u8] {
        sessions.push((Workload::exits(code), i32::from(code)));
    }
    sessions.push((Workload::new([Step::Raise(9), Step::Forever]), 137));
    // Nothing was asked for as input, so it is at its end.
    sessions.push((Workload::echoes(), 0));
    for (number, (workload, code)) in sessions.iter().enumerate() {
        let session = Session::of(bench, &container, &number.to_string())?;
        session.start(workload).await?;
        ensure_eq!(session.ended().await?, Some(*code), "the code of number {number}");
    }
    for (number, (_, code)) in sessions.iter().enumerate() {
        let session = Session::of(bench, &container, &number.to_string())?;
        let stopped = ExecSessionState::Stopped { code: Some(*code) };
        ensure_eq!(session.state().await?, stopped, "number {number}, asked again");
    }
    Ok(())
}

clause! {
    /// A known session id is refused with `AlreadyExists`, and the first session stays as it was. Another container may
    /// have a session of the same id.
    known_id_is_refused = "exec.session.known-id-is-refused", ExecStart, needs [ExecSession]
}
async fn known_id_is_refused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let other = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "same")?;
    let first = session.start(&ticking(Step::Trap(15, Trap::Exit(7)))).await?;
    session.until_armed().await?;
    let again = session.start(&Workload::exits(8)).await;
    refused!(again, ErrorKind::AlreadyExists, "a second start while the first runs");
    ensure_eq!(session.state().await?, first, "the first session");
    let elsewhere = Session::of(bench, &other, "same")?;
    elsewhere.start(&Workload::exits(9)).await?;
    ensure_eq!(elsewhere.ended().await?, Some(9), "the code in another container");
    ensure_eq!(session.stop(PATIENCE).await?, Some(7), "the code of the first");
    let again = session.start(&Workload::exits(8)).await;
    refused!(again, ErrorKind::AlreadyExists, "a second start after the first ended");
    ensure_eq!(session.ended().await?, Some(7), "the code of the first, asked again");
    Ok(())
}

clause! {
    /// A session in a container that is not running is refused with `WrongState`, and is unknown afterwards.
    needs_a_running_container = "exec.session.needs-a-running-container", ExecStart, needs [ExecSession]
}
async fn needs_a_running_container(bench: &Bench) -> Checked {
    let mut idle = vec![bench.created(&Workload::exits(7)).await?, bench.stopped(&Workload::exits(7)).await?];
    if bench.has(Capability::Pause) {
        let paused = bench.ready(&Workload::ready_forever()).await?;
        paused.pause().await?;
        idle.push(paused);
    }
    for container in &idle {
        let before = container.state().await?;
        let session = Session::of(bench, container, "early")?;
        let started = session.start(&Workload::exits(0)).await;
        let error = refused!(started, ErrorKind::WrongState { .. }, "a session in a {} container", before.status);
        let names = matches!(error.kind(), ErrorKind::WrongState { is, .. } if *is == before.status);
        ensure!(names, "the refusal names another state: {error}");
        refused!(session.state().await, ErrorKind::NotFound, "the state of a session that was refused");
        ensure_eq!(container.state().await?, before, "the container");
    }
    Ok(())
}

clause! {
    /// A missing program is `Rejected` with the class "exec not found", and the session id stays free.
    missing_program_is_rejected = "exec.session.missing-program-is-rejected", ExecStart, needs [ExecSession]
}
async fn missing_program_is_rejected(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let before = container.state().await?;
    let session = Session::of(bench, &container, "missing")?;
    let process = ProcessRequest::new(["/no/such/program"]);
    let started = session.start_process(process, StdinMode::Closed).await;
    refused!(
        started,
        ErrorKind::Rejected { class: Rejection::ExecNotFound, .. },
        "a session of a program that does not exist"
    );
    refused!(session.state().await, ErrorKind::NotFound, "the state of a session that was refused");
    ensure_eq!(container.state().await?, before, "the container");
    session.start(&Workload::exits(7)).await?;
    ensure_eq!(session.ended().await?, Some(7), "the next session under this id");
    Ok(())
}

clause! {
    /// Soon after a start was dropped midway, or at the next open, its id is free and its program does not run.
    dropped_start_leaves_nothing = "exec.session.dropped-start-leaves-nothing", ExecStart, needs [ExecSession], deadline 120
}
async fn dropped_start_leaves_nothing(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    for patience in [0_u64, 1, 3, 10, 30, 60] {
        let session = Session::of(bench, &container, &patience.to_string())?;
        let program = Workload::forever();
        let start = session.start(&program);
        match tokio::time::timeout(Duration::from_millis(patience), start).await {
            // It was too fast to be dropped.
            Ok(started) => {
                started?;
                session.stop(Duration::ZERO).await?;
                session.clean_up().await?;
            }
            Err(_dropped) => {
                if !session.soon_unknown().await? {
                    bench.reopen(Duration::ZERO).await?;
                    let session = Session::of(bench, &container, &patience.to_string())?;
                    ensure!(session.soon_unknown().await?, "the session is known after its start was dropped");
                }
            }
        }
        let session = Session::of(bench, &container, &patience.to_string())?;
        session.start(&Workload::exits(7)).await?;
        ensure_eq!(session.ended().await?, Some(7), "the next session under this id");
    }
    if bench.has(Capability::ExecSync) {
        only_the_init_is_left(&container).await?;
    }
    Ok(())
}

clause! {
    /// Output and input are carried, and the end of input where it is not kept open; it ends when the program ends.
    attach_carries_streams = "exec.session.attach-carries-streams", ExecAttach, needs [ExecSession]
}
async fn attach_carries_streams(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "once")?;
    let program = Workload::echoes().then(Step::Out("after".into())).then(Step::Err("oh".into())).then(Step::Exit(7));
    session.start_process(program.process(), StdinMode::Once).await?;
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    let client = session.attached(Streams::none().stdin(theirs)).await?;
    write(&mut ours, b"hello\n").await?;
    client.until_got("hello\n").await?;
    drop(ours);
    let (stdout, stderr) = client.streams().await?;
    ensure_eq!((text(&stdout), text(&stderr)), ("hello\nafter\n".into(), "oh\n".into()), "output and errors");
    ensure_eq!(session.ended().await?, Some(7), "the code after the end of input");

    let session = Session::of(bench, &container, "kept")?;
    session.start_process(program.process(), StdinMode::KeepOpen).await?;
    let mut clients = Vec::new();
    for line in ["one\n", "two\n", "three\n"] {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let client = session.attached(Streams::none().stdin(theirs)).await?;
        write(&mut ours, line.as_bytes()).await?;
        client.until_got(line).await?;
        // Its input ends here, and it stays.
        clients.push(client);
    }
    ensure!(session.runs().await?, "the end of a client's input ended a program whose input is kept open");
    session.stop(Duration::ZERO).await?;
    Ok(())
}

clause! {
    /// Several clients all get what is written while they are attached.
    attach_serves_several_clients = "exec.session.attach-serves-several-clients", ExecAttach, needs [ExecSession]
}
async fn attach_serves_several_clients(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "shared")?;
    let program = Workload::echoes().then(Step::Fill(100_000)).then(Step::Out("end".into()));
    session.start_process(program.process(), StdinMode::Once).await?;
    let (mut ours, theirs) = tokio::io::duplex(64);
    let mut clients = vec![session.attached(Streams::none().stdin(theirs)).await?];
    for _ in 0..2 {
        clients.push(session.attached(Streams::none()).await?);
    }
    write(&mut ours, b"begin\n").await?;
    drop(ours);
    let expected = [b"begin\n", &crate::script::filling(100_000)[..], b"end\n"].concat();
    for client in clients {
        let got = client.everything().await?;
        ensure!(got == expected, "a client got {} of {} bytes, or others", got.len(), expected.len());
    }
    Ok(())
}

clause! {
    /// A session that ended is refused with `WrongState`.
    attach_needs_a_running_session = "exec.session.attach-needs-a-running-session", ExecAttach, needs [ExecSession]
}
async fn attach_needs_a_running_session(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "over")?;
    session.start(&Workload::exits(7)).await?;
    session.ended().await?;
    refused!(
        session.attach().await,
        ErrorKind::WrongState { is: ContainerStatus::Stopped, .. },
        "an attach to a session that ended"
    );
    Ok(())
}

clause! {
    /// A program that ends on TERM keeps its own exit code, and the rest of the grace is not waited for.
    stop_keeps_the_programs_code = "exec.session.stop-keeps-the-programs-code", ExecStop, needs [ExecSession]
}
async fn stop_keeps_the_programs_code(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "polite")?;
    session.start(&ticking(Step::Trap(15, Trap::Exit(7)))).await?;
    session.until_armed().await?;
    let begun = Instant::now();
    let code = session.stop(Duration::from_secs(60)).await?;
    ensure!(begun.elapsed() < Duration::from_secs(20), "the stop took {:?}", begun.elapsed());
    ensure_eq!(code, Some(7), "the code");
    ensure_eq!(session.ended().await?, Some(7), "the code that the state tells");
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// A program that ignores TERM is killed with its descendants when the grace is over, not before; the code is 137.
    stop_kills_after_the_grace = "exec.session.stop-kills-after-the-grace", ExecStop, needs [ExecSession]
}
async fn stop_kills_after_the_grace(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "stubborn")?;
    let program = Workload::new([
        Step::Trap(15, Trap::Ignore),
        Step::Child(Life::Forever),
        Step::Orphan(Life::Forever),
        Step::Tick(TICK),
    ]);
    session.start(&program).await?;
    session.until_armed().await?;
    let (begun, grace) = (Instant::now(), Duration::from_secs(2));
    let code = session.stop(grace).await?;
    ensure!(begun.elapsed() >= grace, "it was killed after {:?}", begun.elapsed());
    ensure_eq!(code, Some(137), "the code");
    container.must_be(ContainerStatus::Running).await?;
    if bench.has(Capability::ExecSync) {
        only_the_init_is_left(&container).await?;
    }
    Ok(())
}

clause! {
    /// A second stop with a shorter grace shortens the first; both get the same code.
    stop_shorter_grace_shortens = "exec.session.stop-shorter-grace-shortens", ExecStop, needs [ExecSession]
}
async fn stop_shorter_grace_shortens(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "hurried")?;
    session.start(&ticking(Step::Trap(15, Trap::Ignore))).await?;
    session.until_armed().await?;
    let begun = Instant::now();
    let patient = session.stopping(Duration::from_secs(600));
    tokio::time::sleep(Duration::from_millis(200)).await;
    ensure_eq!(session.stop(Duration::from_secs(1)).await?, Some(137), "the code");
    let patient = patient.await.map_err(|error| Violation::new(format!("stop panicked: {error}")))??;
    ensure_eq!(patient, ExecSessionState::Stopped { code: Some(137) }, "what the first caller is told");
    ensure!(begun.elapsed() < Duration::from_secs(20), "the stops took {:?}", begun.elapsed());
    Ok(())
}

clause! {
    /// A stop whose future is dropped goes on.
    stop_dropped_goes_on = "exec.session.stop-dropped-goes-on", ExecStop, needs [ExecSession]
}
async fn stop_dropped_goes_on(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "left")?;
    session.start(&ticking(Step::Trap(15, Trap::Ignore))).await?;
    session.until_armed().await?;
    let dropped = tokio::time::timeout(Duration::from_millis(300), session.stop(Duration::from_secs(1))).await;
    ensure!(dropped.is_err(), "a stop ended before its grace was over");
    ensure_eq!(session.ended().await?, Some(137), "the code");
    Ok(())
}

clause! {
    /// Stopping a session that ended is Ok, and its code stays.
    stop_of_stopped_changes_nothing = "exec.session.stop-of-stopped-changes-nothing", ExecStop, needs [ExecSession]
}
async fn stop_of_stopped_changes_nothing(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "over")?;
    session.start(&Workload::exits(7)).await?;
    ensure_eq!(session.ended().await?, Some(7), "the code");
    for grace in [Duration::ZERO, Duration::from_secs(60)] {
        ensure_eq!(session.stop(grace).await?, Some(7), "the code that a stop within {grace:?} gives");
    }
    ensure_eq!(session.ended().await?, Some(7), "the code afterwards");
    Ok(())
}

clause! {
    /// In a paused container it is refused with `WrongState` at once, and the session goes on. One that ended is Ok.
    stop_in_a_paused_container_is_refused = "exec.session.stop-in-a-paused-container-is-refused", ExecStop, needs [ExecSession, Pause]
}
async fn stop_in_a_paused_container_is_refused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let over = Session::of(bench, &container, "over")?;
    over.start(&Workload::exits(8)).await?;
    ensure_eq!(over.ended().await?, Some(8), "the code of the one that ended");
    let frozen = Session::of(bench, &container, "frozen")?;
    frozen.start(&ticking(Step::Trap(15, Trap::Exit(7)))).await?;
    frozen.until_armed().await?;
    container.pause().await?;
    for grace in [Duration::ZERO, Duration::from_secs(60)] {
        let begun = Instant::now();
        refused!(
            frozen.stop(grace).await,
            ErrorKind::WrongState { is: ContainerStatus::Paused, .. },
            "a stop within {grace:?} in a paused container"
        );
        ensure!(begun.elapsed() < PATIENCE, "the refusal took {:?}", begun.elapsed());
    }
    ensure_eq!(over.stop(Duration::ZERO).await?, Some(8), "the code that a stop of the other gives");
    container.resume().await?;
    frozen.until_armed().await?;
    ensure_eq!(frozen.stop(PATIENCE).await?, Some(7), "the code once the container goes on");
    Ok(())
}

clause! {
    /// A program that asks for a terminal has one: what is typed is echoed, and everything comes on standard output, with
    /// the line ends of a terminal.
    has_a_terminal = "exec.session.has-a-terminal", ExecStart, needs [ExecSession, ExecTty]
}
async fn has_a_terminal(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "typed")?;
    // It speaks once something was typed, so that the client misses nothing.
    let program = Workload::new([Step::Cat, Step::Tty, Step::Err("oh".to_owned()), Step::Exit(7)]);
    session.start_process(program.process().terminal(), StdinMode::KeepOpen).await?;
    let (mut ours, theirs) = tokio::io::duplex(64);
    let client = session.attached(Streams::none().stdin(theirs)).await?;
    write(&mut ours, b"hello\n").await?;
    client.until_got("hello\r\nhello\r\n").await?;
    write(&mut ours, &[END_OF_INPUT]).await?;
    let (stdout, stderr) = client.streams().await?;
    let expected = "hello\r\nhello\r\ntty yes\r\noh\r\n";
    ensure_eq!((text(&stdout), text(&stderr)), (expected.into(), String::new()), "output and errors");
    ensure_eq!(session.ended().await?, Some(7), "the code");
    Ok(())
}

clause! {
    /// The program is told of a resize, and finds the new size.
    resize_reaches_the_program = "exec.session.resize-reaches-the-program", ExecResize, needs [ExecSession, ExecTty]
}
async fn resize_reaches_the_program(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "sized")?;
    let program = ticking(Step::Trap(WINCH, Trap::Winsize)).process().terminal();
    session.start_process(program, StdinMode::Closed).await?;
    session.until_armed().await?;
    let client = session.attached(Streams::none()).await?;
    for (rows, columns) in [(24, 80), (50, 132), (1, 1)] {
        bench.runtime().exec_resize(&session.container, &session.id, size(rows, columns)?).await?;
        client.until_gets(&format!("winsize {rows} {columns}\r\n")).await?;
    }
    session.stop(Duration::ZERO).await?;
    Ok(())
}

clause! {
    /// A resize of a session without a terminal is refused with `Rejected`.
    resize_needs_a_terminal = "exec.session.resize-needs-a-terminal", ExecResize, needs [ExecSession]
}
async fn resize_needs_a_terminal(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "plain")?;
    session.start(&ticking(Step::Trap(15, Trap::Exit(7)))).await?;
    session.until_armed().await?;
    let resized = bench.runtime().exec_resize(&session.container, &session.id, size(24, 80)?).await;
    refused!(resized, ErrorKind::Rejected { .. }, "a resize without a terminal");
    ensure_eq!(session.stop(PATIENCE).await?, Some(7), "the code");
    Ok(())
}

clause! {
    /// Afterwards the session is unknown and its id is free.
    cleanup_frees_the_id = "exec.session.cleanup-frees-the-id", ExecCleanup, needs [ExecSession]
}
async fn cleanup_frees_the_id(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "again")?;
    for code in [7, 8] {
        session.start(&Workload::exits(code)).await?;
        ensure_eq!(session.ended().await?, Some(i32::from(code)), "the code");
        session.clean_up().await?;
        refused!(session.state().await, ErrorKind::NotFound, "the state after the cleanup");
    }
    if !bench.harness().virtual_time() {
        let left = crate::audit::files(bench.scratch(), session.id.as_str());
        ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    }
    Ok(())
}

clause! {
    /// A session that runs is refused with `WrongState` and goes on.
    cleanup_of_running_is_refused = "exec.session.cleanup-of-running-is-refused", ExecCleanup, needs [ExecSession]
}
async fn cleanup_of_running_is_refused(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "busy")?;
    session.start(&ticking(Step::Trap(15, Trap::Exit(7)))).await?;
    session.until_armed().await?;
    refused!(
        session.clean_up().await,
        ErrorKind::WrongState { is: ContainerStatus::Running, .. },
        "the cleanup of a session that runs"
    );
    ensure!(session.runs().await?, "the session has ended");
    ensure_eq!(session.stop(PATIENCE).await?, Some(7), "the code");
    session.clean_up().await?;
    Ok(())
}

clause! {
    /// An unknown session is `NotFound`; only its cleanup is Ok.
    unknown_is_not_found = "exec.session.unknown-is-not-found", ExecState, needs [ExecSession]
}
async fn unknown_is_not_found(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "nobody")?;
    refused!(session.state().await, ErrorKind::NotFound, "the state of an unknown session");
    refused!(session.stop(Duration::ZERO).await, ErrorKind::NotFound, "the stop of an unknown session");
    refused!(session.attach().await, ErrorKind::NotFound, "an attach to an unknown session");
    session.clean_up().await?;
    let nowhere = Session { container: bench.id("nowhere"), ..session };
    refused!(nowhere.clean_up().await, ErrorKind::NotFound, "a cleanup in an unknown container");
    Ok(())
}

clause! {
    /// It goes on while no value is open: a new one finds it running, or knows how it ended meanwhile.
    outlives_a_reopen = "exec.session.outlives-a-reopen", ExecStart, needs [ExecSession, Reopen]
}
async fn outlives_a_reopen(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let lasting = Session::of(bench, &container, "lasting")?;
    let before = lasting.start(&ticking(Step::Trap(15, Trap::Exit(7)))).await?;
    lasting.until_armed().await?;
    let short = Session::of(bench, &container, "short")?;
    short.start(&Workload::exits_after(Duration::from_millis(700), 9)).await?;
    bench.reopen(Duration::from_secs(2)).await?;
    ensure_eq!(lasting.state().await?, before, "the one that runs");
    lasting.until_armed().await?;
    ensure_eq!(short.ended().await?, Some(9), "the code of the one that ended meanwhile");
    ensure_eq!(lasting.stop(PATIENCE).await?, Some(7), "the code of the one that ran");
    short.clean_up().await?;
    bench.reopen(Duration::ZERO).await?;
    ensure_eq!(lasting.ended().await?, Some(7), "the code after another reopen");
    refused!(short.state().await, ErrorKind::NotFound, "one that was cleaned up before another reopen");
    Ok(())
}

clause! {
    /// Sessions end with their container, code 137 when it is killed, and are unknown once it is deleted.
    ends_with_the_container = "exec.session.ends-with-the-container", ExecStart, needs [ExecSession]
}
async fn ends_with_the_container(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let session = Session::of(bench, &container, "with")?;
    session.start(&ticking(Step::Trap(15, Trap::Ignore))).await?;
    let client = session.attached(Streams::none()).await?;
    session.until_armed().await?;
    container.kill(Signal::KILL).await?;
    container.wait().await?;
    ensure_eq!(session.ended().await?, Some(137), "the code");
    match tokio::time::timeout(PATIENCE, client.ended()).await {
        Ok(end) => ensure_eq!(end?, AttachEnd::Ended, "how the attachment ended"),
        Err(_) => return Err(Violation::new("the attachment goes on after the container's end")),
    }
    let (runtime, id) = (bench.runtime(), container.id());
    runtime.delete(id, DeleteRequest::new()).await?;
    let bundle = bench.bundle(&Workload::ready_forever())?;
    let next = bench.create(bench.request(id, &bundle)).await?;
    next.start().await?;
    refused!(session.state().await, ErrorKind::NotFound, "the session in the next container of this id");
    session.start(&Workload::exits(8)).await?;
    ensure_eq!(session.ended().await?, Some(8), "the next session of this id");
    // With force, while one runs.
    let last = Session::of(bench, &next, "last")?;
    last.start(&Workload::forever()).await?;
    next.delete_by_force().await?;
    bench.nothing_is_left_of(id).await
}
