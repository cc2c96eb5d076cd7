use runtime_api::{ExecEnd, ExecRequest, ExecSyncRequest, Streams, WindowSize};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use crate::bench::ExecTap;
use crate::clause::{clause, ensure, ensure_eq};
use crate::script::filling;
use crate::{Bench, Checked, Step, Subject, Trap, Violation, Workload};

/// The signal that tells of another size.
const WINCH: i32 = 28;

clause! {
    /// A program that asks for a terminal has one: everything comes on standard output, with the line ends of a terminal.
    merges_streams = "exec.tty.merges-streams", Exec, needs [Exec, ExecTty]
}
async fn merges_streams(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let program = Workload::new([
        Step::Tty,
        Step::Out("one".to_owned()),
        Step::Err("oh".to_owned()),
        Step::Raw("end".to_owned()),
        Step::Exit(7),
    ]);
    let mut exec = begin(&container, &program, Streams::none());
    ensure_eq!(exec.code().await?, 7, "the code");
    ensure_eq!(text(&exec.stdout()), "tty yes\r\none\r\noh\r\nend", "standard output");
    ensure_eq!(text(&exec.stderr()), "", "standard error");
    Ok(())
}

clause! {
    /// Keys that are typed reach the program line by line and are echoed, and the end of input is the terminal's.
    carries_input = "exec.tty.carries-input", Exec, needs [Exec, ExecTty]
}
async fn carries_input(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let (mut typed, stdin) = tokio::io::duplex(64);
    let program = Workload::says("begun").then(Step::Cat).then(Step::Out("over".to_owned())).then(Step::Exit(7));
    let mut exec = begin(&container, &program, Streams::none().stdin(stdin));
    exec.until_got("begun\r\n").await?;
    let written = typed.write_all(b"hello\n").await;
    written.map_err(|error| Violation::host("the input of the exec", &error))?;
    exec.until_got("hello\r\nhello\r\n").await?;
    ensure!(!exec.is_over(), "the exec ended before its input did");
    drop(typed);
    ensure_eq!(exec.code().await?, 7, "the code");
    ensure_eq!(text(&exec.stdout()), "begun\r\nhello\r\nhello\r\nover\r\n", "the echo and what came back");
    Ok(())
}

clause! {
    /// The terminal has the size that is wanted when the exec begins.
    begins_with_the_wanted_size = "exec.tty.begins-with-the-wanted-size", Exec, needs [Exec, ExecTty]
}
async fn begins_with_the_wanted_size(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let (_sizes, wanted) = watch::channel(WindowSize::new(11, 22));
    let exec = begin(&container, &tells_sizes(), Streams::none().resize(wanted));
    exec.until_got("winsize 11 22\r\n").await
}

clause! {
    /// The terminal follows the sizes that are wanted; the newest one counts.
    follows_sizes = "exec.tty.follows-sizes", Exec, needs [Exec, ExecTty]
}
async fn follows_sizes(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let (sizes, wanted) = watch::channel(WindowSize::new(11, 22));
    let exec = begin(&container, &tells_sizes(), Streams::none().resize(wanted));
    exec.until_got("winsize 11 22\r\n").await?;
    sizes.send_replace(WindowSize::new(5, 6));
    exec.until_got("winsize 5 6\r\n").await?;
    for rows in 30..=130 {
        sizes.send_replace(WindowSize::new(rows, 80));
    }
    exec.until_got("winsize 130 80\r\n").await
}

clause! {
    /// Large output through a terminal arrives whole.
    carries_large_output = "exec.tty.carries-large-output", Exec, needs [Exec, ExecTty], deadline 60
}
async fn carries_large_output(bench: &Bench) -> Checked {
    const SIZE: usize = 2 * 1024 * 1024;
    let container = bench.ready(&Workload::ready_forever()).await?;
    let mut exec = begin(&container, &Workload::fills(SIZE as u64).then(Step::Exit(7)), Streams::none());
    ensure_eq!(exec.code().await?, 7, "the code");
    let expected = text(&filling(SIZE)).replace('\n', "\r\n");
    ensure_eq!(exec.stdout().len(), expected.len(), "how much came");
    ensure!(exec.stdout() == expected.as_bytes(), "what came is not what was written");
    Ok(())
}

clause! {
    /// A collected exec may have a terminal: standard output then holds everything.
    serves_collected_execs = "exec.tty.serves-collected-execs", ExecSync, needs [ExecSync, ExecTty]
}
async fn serves_collected_execs(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let program = Workload::new([Step::Tty, Step::Err("oh".to_owned()), Step::Exit(7)]);
    let outcome = container.exec_with(ExecSyncRequest::new(program.process().terminal())).await?;
    ensure_eq!(outcome.end, ExecEnd::Exited(7), "the end");
    ensure_eq!(text(&outcome.stdout), "tty yes\r\noh\r\n", "standard output");
    ensure_eq!(text(&outcome.stderr), "", "standard error");
    Ok(())
}

/// Prints the size of its terminal, and each one that it is told of.
fn tells_sizes() -> Workload {
    Workload::new([Step::Trap(WINCH, Trap::Winsize), Step::Winsize, Step::Forever])
}

fn begin(container: &Subject<'_>, program: &Workload, streams: Streams) -> ExecTap {
    ExecTap::begin(container, ExecRequest::new(program.process().terminal()), streams)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
