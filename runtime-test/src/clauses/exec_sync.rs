use std::time::Duration;

use runtime_api::{
    ContainerStatus, ErrorKind, ExecEnd, ExecOutcome, ExecSyncRequest, ProcessRequest, Rejection, Result,
    Signal,
};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::exec::{LIMITS, only_the_init_is_left, sees_processes, until_stopping};
use crate::clause::{clause, ensure, ensure_eq, refused};
use crate::script::filling;
use crate::{Bench, BundleOptions, Checked, Life, Step, Violation, Workload};

clause! {
    /// Standard output and standard error come apart, complete and in order.
    separates_output = "exec.sync.separates-output", ExecSync, needs [ExecSync]
}
async fn separates_output(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let program = Workload::new([
        Step::Out("one".to_owned()),
        Step::Err("oh".to_owned()),
        Step::Fill(300_000),
        Step::Err("no".to_owned()),
        Step::Raw("end".to_owned()),
    ]);
    let outcome = container.exec(&program).await?;
    let expected = [b"one\n", &filling(300_000)[..], b"end"].concat();
    ensure_eq!(outcome.stdout.len(), expected.len(), "the length of standard output");
    ensure!(outcome.stdout == expected, "standard output is not what was written");
    ensure_eq!(text(&outcome.stderr), "oh\nno\n", "standard error");
    ensure_eq!((outcome.end, outcome.truncated), (ExecEnd::Exited(0), false), "end and truncation");
    Ok(())
}

clause! {
    /// The exit code is the program's, 128 + n for a signal.
    gives_the_exit_code = "exec.sync.gives-the-exit-code", ExecSync, needs [ExecSync]
}
async fn gives_the_exit_code(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    for code in [0, 1, 42, 126, 127, 255_u8] {
        let outcome = container.exec(&Workload::exits(code)).await?;
        ensure_eq!(outcome.end, ExecEnd::Exited(i32::from(code)), "the end");
    }
    for signal in [15, 9] {
        let outcome = container.exec(&Workload::new([Step::Raise(signal), Step::Forever])).await?;
        ensure_eq!(outcome.end, ExecEnd::Exited(128 + signal), "the end by signal {signal}");
    }
    container.must_be(ContainerStatus::Running).await
}

clause! {
    /// It takes arguments, environment and working directory as given, and keeps the container's environment.
    passes_process_settings = "exec.sync.passes-process-settings", ExecSync, needs [ExecSync]
}
async fn passes_process_settings(bench: &Bench) -> Checked {
    let options = BundleOptions::new().env("KEPT", "from the container").env("CHANGED", "old").cwd("/tmp");
    let bundle = bench.bundle_with(&Workload::ready_forever(), &options)?;
    let container = bench.create(bench.request(&bench.id("a"), &bundle)).await?;
    container.start().await?;
    container.until_ready().await?;
    let env = |name: &str| Step::Env(name.to_owned());
    let program = Workload::new([env("KEPT"), env("CHANGED"), env("ADDED"), env("HOME_OF_NOBODY"), Step::Cwd]);
    let process = program.process().env("CHANGED", "new").env("ADDED", "a = \"b\" $c").cwd("/proc");
    let outcome = container.exec_with(ExecSyncRequest::new(process)).await?;
    let expected =
        "KEPT=from the container\nCHANGED=new\nADDED=a = \"b\" $c\nHOME_OF_NOBODY unset\n/proc\n";
    ensure_eq!(text(&outcome.stdout), expected, "environment and working directory");
    let outcome = container.exec(&Workload::new([Step::Cwd])).await?;
    ensure_eq!(text(&outcome.stdout), "/tmp\n", "the working directory where none is given");
    // Arguments that look like flags of somebody else, and such as a shell would change.
    let odd = ["--help", "-c", "two  words", "$HOME", "*", "quote\"d"];
    let steps = odd.iter().map(|arg| Step::Out((*arg).to_owned()));
    let outcome = container.exec(&Workload::new(steps)).await?;
    ensure_eq!(text(&outcome.stdout), format!("{}\n", odd.join("\n")), "the arguments");
    Ok(())
}

clause! {
    /// It runs as the user and with the groups that it is given, else as the container does.
    runs_as_the_user = "exec.sync.runs-as-the-user", ExecSync, needs [ExecSync]
}
async fn runs_as_the_user(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let who = Workload::new([Step::Who]);
    let kept = container.exec(&who).await?;
    ensure_eq!(text(&kept.stdout), "uid 0 gid 0 groups\n", "whose it is where nothing is given");
    let process = who.process().user(1000, 1001).groups([6, 5]);
    let given = container.exec_with(ExecSyncRequest::new(process)).await?;
    ensure_eq!(text(&given.stdout), "uid 1000 gid 1001 groups 5 6\n", "whose it is with a user and groups");
    let alone = container.exec_with(ExecSyncRequest::new(who.process().user(7, 8))).await?;
    ensure_eq!(text(&alone.stdout), "uid 7 gid 8 groups\n", "whose it is with a user and no groups");
    Ok(())
}

clause! {
    /// It has the container's capabilities and its no-new-privileges, unless it is given capabilities of its own.
    keeps_the_containers_privileges = "exec.sync.keeps-the-containers-privileges", ExecSync, needs [ExecSync]
}
async fn keeps_the_containers_privileges(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let caps = Workload::new([Step::Caps]);
    let kept = container.exec(&caps).await?;
    // KILL is number 5 and NET_BIND_SERVICE 10; the bundle has these two and no-new-privileges.
    ensure_eq!(text(&kept.stdout), "effective 420 bounding 420 no-new-privileges\n", "what the container has");
    let given = container.exec_with(ExecSyncRequest::new(caps.process().capabilities(["CAP_KILL"]))).await?;
    ensure_eq!(text(&given.stdout), "effective 20 bounding 20 no-new-privileges\n", "what is given");
    Ok(())
}

clause! {
    /// A missing program is `Rejected` with the class "exec not found"; the container is not harmed.
    missing_program_is_rejected = "exec.sync.missing-program-is-rejected", ExecSync, needs [ExecSync]
}
async fn missing_program_is_rejected(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let before = container.state().await?;
    let executed = container.exec_with(ExecSyncRequest::new(ProcessRequest::new(["/no/such/program"]))).await;
    refused!(
        executed,
        ErrorKind::Rejected { class: Rejection::ExecNotFound, .. },
        "an exec of a program that does not exist"
    );
    ensure_eq!(container.state().await?, before, "the container");
    let outcome = container.exec(&Workload::exits(7)).await?;
    ensure_eq!(outcome.end, ExecEnd::Exited(7), "the next exec");
    Ok(())
}

clause! {
    /// At the time limit the program is killed and the outcome is `TimedOut` with what was captured.
    times_out = "exec.sync.times-out", ExecSync, needs [ExecSync], deadline 120
}
async fn times_out(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let program = Workload::says("before").then(Step::Forever);
    let begun = Instant::now();
    let (limit, outcome) = beyond_its_limit(&container, &program).await?;
    ensure!(begun.elapsed() >= limit, "it was ended before its time limit");
    ensure_eq!(text(&outcome.stdout), "before\n", "what was captured");
    container.must_be(ContainerStatus::Running).await?;
    only_the_init_is_left(&container).await
}

clause! {
    /// At the time limit the program's descendants are killed with it, those in sessions of their own too.
    timeout_ends_descendants = "exec.sync.timeout-ends-descendants", ExecSync, needs [ExecSync], deadline 120
}
async fn timeout_ends_descendants(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let (_, outcome) = beyond_its_limit(&container, &Workload::forks_a_tree()).await?;
    ensure_eq!(text(&outcome.stdout), "ready\n", "what was captured");
    only_the_init_is_left(&container).await
}

clause! {
    /// Output beyond the limit is dropped, and the outcome says so.
    limits_output = "exec.sync.limits-output", ExecSync, needs [ExecSync]
}
async fn limits_output(bench: &Bench) -> Checked {
    const LIMIT: usize = 10_000;
    let container = bench.ready(&Workload::ready_forever()).await?;
    let run = |bytes: u64| {
        let process = Workload::fills(bytes).then(Step::Exit(7)).process();
        container.exec_with(ExecSyncRequest::new(process).output_limit(LIMIT))
    };
    let over = run(1_000_000).await?;
    ensure_eq!((over.end, over.truncated), (ExecEnd::Exited(7), true), "end and truncation");
    ensure_eq!(over.stdout.len(), LIMIT, "how much was kept");
    ensure!(over.stdout == filling(1_000_000)[..LIMIT], "what was kept is not the beginning");
    let exactly = run(LIMIT as u64).await?;
    ensure_eq!((exactly.stdout.len(), exactly.truncated), (LIMIT, false), "kept and truncated at the limit");
    Ok(())
}

clause! {
    /// A background child that holds the output open delays the result by no more than about a second.
    ignores_background_children = "exec.sync.ignores-background-children", ExecSync, needs [ExecSync], deadline 60
}
async fn ignores_background_children(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let long = Duration::from_secs(600);
    let program = Workload::new([Step::Child(Life::For(long)), Step::Out("done".to_owned()), Step::Exit(7)]);
    let begun = Instant::now();
    let outcome = container.exec(&program).await?;
    ensure!(begun.elapsed() < Duration::from_secs(100), "the exec waited for a background child");
    ensure_eq!((outcome.end, text(&outcome.stdout).as_str()), (ExecEnd::Exited(7), "done\n"), "end and output");
    Ok(())
}

clause! {
    /// An exec in a container that is not running is refused with `WrongState`.
    needs_a_running_container = "exec.sync.needs-a-running-container", ExecSync, needs [ExecSync]
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
        let executed = container.exec(&Workload::exits(0)).await;
        let error = refused!(executed, ErrorKind::WrongState { .. }, "an exec in a {} container", before.status);
        let names = matches!(error.kind(), ErrorKind::WrongState { is, .. } if *is == before.status);
        ensure!(names, "the refusal names another state: {error}");
        ensure_eq!(container.state().await?, before, "the container");
    }
    Ok(())
}

clause! {
    /// Execs at the same time do not mix.
    runs_in_parallel = "exec.sync.runs-in-parallel", ExecSync, needs [ExecSync], deadline 120
}
async fn runs_in_parallel(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let execs: Vec<_> = (1..=20_u8)
        .map(|number| {
            let program = Workload::new([
                Step::Out(format!("out {number}")),
                Step::Sleep(Duration::from_millis(50)),
                Step::Err(format!("err {number}")),
                Step::Exit(number),
            ]);
            (number, container.executing(ExecSyncRequest::new(program.process())))
        })
        .collect();
    for (number, exec) in execs {
        let outcome = joined(exec).await?;
        ensure_eq!(outcome.end, ExecEnd::Exited(i32::from(number)), "the end of number {number}");
        ensure_eq!(text(&outcome.stdout), format!("out {number}\n"), "the output of number {number}");
        ensure_eq!(text(&outcome.stderr), format!("err {number}\n"), "the errors of number {number}");
    }
    only_the_init_is_left(&container).await
}

clause! {
    /// An exec works while a stop grants its grace.
    works_during_the_grace = "exec.sync.works-during-the-grace", ExecSync, needs [ExecSync], deadline 60
}
async fn works_during_the_grace(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ignores_term()).await?;
    let begun_before = container.executing(ExecSyncRequest::new(
        Workload::exits_after(Duration::from_secs(1), 6).process(),
    ));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stop = container.stopping(Duration::from_secs(600));
    until_stopping(&container).await?;
    let outcome = container.exec(&Workload::says("hello").then(Step::Exit(7))).await?;
    ensure_eq!((outcome.end, text(&outcome.stdout).as_str()), (ExecEnd::Exited(7), "hello\n"), "end and output");
    ensure_eq!(joined(begun_before).await?.end, ExecEnd::Exited(6), "the end of one that began before the stop");
    ensure!(!stop.is_finished(), "the stop ended before its grace was over");
    container.kill(Signal::KILL).await?;
    let exit = stop.await.map_err(|error| Violation::new(format!("stop panicked: {error}")))??;
    ensure_eq!(exit.code, Some(137), "the code of the container");
    Ok(())
}

clause! {
    /// An exec that runs when its container is killed ends with it: code 137.
    ends_with_the_container = "exec.sync.ends-with-the-container", ExecSync, needs [ExecSync]
}
async fn ends_with_the_container(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let program = Workload::says("hello").then(Step::Child(Life::Forever)).then(Step::Forever);
    let exec = container.executing(ExecSyncRequest::new(program.process()));
    // The init, the program that has said its word, its child, and the one that looks.
    sees_processes(&container, 4).await?;
    ensure!(!exec.is_finished(), "the exec ended before its container");
    container.kill(Signal::KILL).await?;
    let Ok(outcome) = tokio::time::timeout(Duration::from_secs(15), joined(exec)).await else {
        return Err(Violation::new("the exec goes on after the end of its container"));
    };
    let outcome = outcome?;
    ensure_eq!(outcome.end, ExecEnd::Exited(137), "the end");
    ensure_eq!(text(&outcome.stdout), "hello\n", "what was captured");
    container.wait().await?;
    Ok(())
}

clause! {
    /// One that is asked for while its container is killed ends with it or is refused with `WrongState`.
    meets_the_kill = "exec.sync.meets-the-kill", ExecSync, needs [ExecSync], deadline 60
}
async fn meets_the_kill(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ignores_term()).await?;
    let id = container.id().clone();
    let mut callers: Vec<_> = (0..8)
        .map(|_| {
            let (runtime, id) = (bench.runtime(), id.clone());
            // Asks again and again until it is refused.
            tokio::spawn(async move {
                loop {
                    let program = Workload::exits_after(Duration::from_millis(30), 7);
                    match runtime.exec_sync(&id, ExecSyncRequest::new(program.process())).await {
                        Ok(outcome) if matches!(outcome.end, ExecEnd::Exited(7 | 137)) => {}
                        ended => return ended,
                    }
                }
            })
        })
        .collect();
    let exit = container.stop(Duration::from_millis(500)).await?;
    ensure_eq!(exit.code, Some(137), "the code of the container");
    for caller in &mut callers {
        let Ok(last) = tokio::time::timeout(Duration::from_secs(20), caller).await else {
            return Err(Violation::new("an exec goes on after its container was killed"));
        };
        let last = last.map_err(|error| Violation::new(format!("exec panicked: {error}")))?;
        refused!(last, ErrorKind::WrongState { .. }, "an exec at the time of the kill");
    }
    Ok(())
}

clause! {
    /// A dropped exec dies with its tree.
    dropped_ends_descendants = "exec.sync.dropped-ends-descendants", ExecSync, needs [ExecSync]
}
async fn dropped_ends_descendants(bench: &Bench) -> Checked {
    let container = bench.ready(&Workload::ready_forever()).await?;
    let exec = container.executing(ExecSyncRequest::new(Workload::forks_a_tree().process()));
    // The init, the program with its two children, and the one that looks.
    sees_processes(&container, 5).await?;
    exec.abort();
    only_the_init_is_left(&container).await
}

/// Runs a program that does not end up to a time limit: the limit, and what came of it. On a busy host a short one may pass
/// before the program has said a word, and a longer one follows.
async fn beyond_its_limit(
    container: &crate::Subject<'_>,
    program: &Workload,
) -> Checked<(Duration, ExecOutcome)> {
    for seconds in LIMITS {
        let limit = Duration::from_secs(seconds);
        let outcome = container.exec_with(ExecSyncRequest::new(program.process()).timeout(limit)).await?;
        ensure_eq!(outcome.end, ExecEnd::TimedOut, "the end");
        if !outcome.stdout.is_empty() || seconds == LIMITS[LIMITS.len() - 1] {
            return Ok((limit, outcome));
        }
    }
    Err(Violation::new("no limit was tried"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn joined(exec: JoinHandle<Result<ExecOutcome>>) -> Checked<ExecOutcome> {
    Ok(exec.await.map_err(|error| Violation::new(format!("exec panicked: {error}")))??)
}
