//! The ends: of programs, of the shim, and of the monitor itself.

use std::time::{Duration, Instant};

use runtime_api::{ErrorKind, Peer, StdinMode};
use runtime_vm::monitor::{Key, Told};
use tokio::io::AsyncWriteExt as _;

use crate::field::{Field, soon, until};

#[tokio::test]
async fn the_exit_is_written_when_everything_that_was_printed_is_in_the_log() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    let mut stdout = program.stdout();
    program.watch().await;
    stdout.write_all(b"before\n").await.unwrap();
    field.shim.end(program.key(), 7);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!program.file("exit").exists(), "somebody still writes");
    stdout.write_all(b"after\n").await.unwrap();
    drop(stdout);
    assert_eq!(program.exit().await, "7");
    assert_eq!(program.log(), ["stdout F before", "stdout F after"]);
    humantime::parse_rfc3339(&std::fs::read_to_string(program.file("exit-time")).unwrap()).unwrap();
    let notice = field.path("exits").join("a");
    until(|| notice.exists()).await;
    assert_eq!(std::fs::read_to_string(notice).unwrap(), "7");
    until(|| !program.file("attach").exists()).await;
    let leftovers: Vec<_> = std::fs::read_dir(field.path("exits")).unwrap().collect();
    assert_eq!(leftovers.len(), 1, "{leftovers:?}");
    assert!(field.client.status().await.unwrap().program(program.key()).unwrap().over);
}

#[tokio::test]
async fn an_end_that_is_told_but_not_to_who_waits_is_written_down() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    field.shim.deaf.send_replace(true);
    program.watch().await;
    field.shim.end(program.key(), 7);
    field.told.send(Told::Exited(program.key().clone())).await.unwrap();
    assert_eq!(program.exit().await, "7");
}

#[tokio::test]
async fn somebody_who_holds_the_output_open_is_not_waited_for_long() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    let mut stdout = program.stdout();
    program.watch().await;
    stdout.write_all(b"before\n").await.unwrap();
    let begun = Instant::now();
    field.shim.end(program.key(), 0);
    assert_eq!(program.exit().await, "0");
    assert!(begun.elapsed() >= Duration::from_secs(2));
    // Whoever it is can go on writing; nobody reads that any more.
    for _ in 0..10 {
        soon(stdout.write_all(&[b'x'; 60_000])).await.unwrap();
    }
    assert_eq!(program.log(), ["stdout F before"]);
}

#[tokio::test]
async fn a_program_that_ended_before_it_is_watched_has_its_end_written_down() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    field.shim.end(program.key(), 0);
    program.watch().await;
    program.watch().await;
    assert_eq!(program.exit().await, "0");
    program.watch().await;
}

#[tokio::test]
async fn execs_have_their_own_ends() {
    let field = Field::new();
    let init = field.program(StdinMode::Closed).await;
    let exec = field.add(field.order(&Key::exec("a", "one"))).await;
    init.watch().await;
    exec.watch().await;
    exec.stdout().write_all(b"exec\n").await.unwrap();
    field.shim.end(exec.key(), 5);
    assert_eq!(exec.exit().await, "5");
    assert!(!init.file("exit").exists());
    assert_eq!((init.log().len(), exec.log()), (0, vec!["stdout F exec".to_owned()]));
    field.shim.end(init.key(), 137);
    assert_eq!(init.exit().await, "137");
}

#[tokio::test]
async fn kills_for_want_of_memory_are_noted_before_the_exit() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    program.watch().await;
    let oom = || Told::OutOfMemory { container: "a".into() };
    field.told.send(oom()).await.unwrap();
    until(|| std::fs::read(program.file("oom")).is_ok_and(|oom| oom == b"1")).await;
    field.told.send(oom()).await.unwrap();
    field.told.send(Told::OutOfMemory { container: "unknown".into() }).await.unwrap();
    field.told.send(Told::Exited(Key::init("unknown"))).await.unwrap();
    until(|| std::fs::read(program.file("oom")).is_ok_and(|oom| oom == b"11")).await;
    field.shim.end(program.key(), 137);
    assert_eq!(program.exit().await, "137");

    // The notice comes later than the end, but soon: nothing else runs in between.
    let second = field.add(field.order(&Key::init("b"))).await;
    second.watch().await;
    field.shim.end(second.key(), 137);
    field.told.try_send(Told::OutOfMemory { container: "b".into() }).unwrap();
    second.exit().await;
    assert!(second.file("oom").exists());
}

#[tokio::test]
async fn a_wait_that_fails_is_tried_again_and_one_that_is_hopeless_is_not() {
    let field = Field::new();
    let refusals = [ErrorKind::TimedOut(Duration::from_secs(1)), ErrorKind::Internal("strange".into())];
    field.shim.refusals.lock().unwrap().extend(refusals);
    let program = field.program(StdinMode::Closed).await;
    program.watch().await;
    field.shim.end(program.key(), 4);
    assert_eq!(program.exit().await, "4");
    // One that says no to who waits and knows the end all the same.
    field.shim.refusals.lock().unwrap().push(ErrorKind::NotFound);
    field.shim.end(&Key::init("c"), 5);
    let third = field.add(field.order(&Key::init("c"))).await;
    third.watch().await;
    assert_eq!(third.exit().await, "5");
    field.shim.refusals.lock().unwrap().push(ErrorKind::NotFound);
    field.shim.unknown.send_modify(|unknown| unknown.push(Key::init("b")));
    let second = field.add(field.order(&Key::init("b"))).await;
    let client = second.attach().await;
    second.watch().await;
    assert!(client.everything().await.is_empty());
    assert!(!second.file("exit").exists());
}

#[tokio::test]
async fn when_the_shim_dies_clients_end_and_nothing_is_made_up() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    let client = program.attach().await;
    let mut stdout = program.stdout();
    program.watch().await;
    stdout.write_all(b"last words\n").await.unwrap();
    assert!(field.client.status().await.unwrap().shim);
    drop(stdout);
    field.shim.die();
    assert_eq!(client.everything().await[&2], b"last words\n");
    program.until_logged("stdout F last words").await;
    until(|| !program.file("attach").exists()).await;
    assert!(!program.file("exit").exists());
    // The monitor stays, for somebody has to be told.
    let state = field.client.status().await.unwrap();
    assert!(!state.shim && state.program(program.key()).unwrap().over);
    field.client.remove(program.key()).await.unwrap();
    field.client.end().await.unwrap();
    soon(field.serving).await.unwrap();
}

#[tokio::test]
async fn the_end_leaves_nothing() {
    let field = Field::new();
    let program = field.program(StdinMode::Once).await;
    let client = program.attach().await;
    field.client.end().await.unwrap();
    assert!(client.everything().await.is_empty());
    soon(field.serving).await.unwrap();
    assert!(std::fs::read_dir(field.client.dir()).unwrap().next().is_none());
    assert!(std::fs::read_dir(&program.order.dir).unwrap().next().is_none());
    let error = field.client.status().await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PeerLost(Peer::Monitor));
    assert!(error.to_string().contains("monitor /") && error.advice().is_some(), "{error}");
}

#[tokio::test]
async fn a_wish_to_end_is_heard_and_a_drop_leaves_nothing_either() {
    let field = Field::new();
    let program = field.program(StdinMode::Once).await;
    field.until.send(()).unwrap();
    soon(field.serving).await.unwrap();
    assert!(std::fs::read_dir(&program.order.dir).unwrap().next().is_none());

    let field = Field::new();
    let program = field.program(StdinMode::Once).await;
    let client = program.attach().await;
    program.watch().await;
    field.serving.abort();
    let _ = soon(field.serving).await;
    assert!(client.everything().await.is_empty());
    until(|| std::fs::read_dir(&program.order.dir).unwrap().next().is_none()).await;
    assert!(std::fs::read_dir(field.client.dir()).unwrap().next().is_none());
}

#[tokio::test]
async fn a_monitor_without_a_directory_leaves_when_nothing_is_left_to_do() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    program.watch().await;
    std::fs::remove_dir_all(field.client.dir()).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    program.stdout().write_all(b"still carried\n").await.unwrap();
    program.until_logged("stdout F still carried").await;
    field.shim.die();
    soon(field.serving).await.unwrap();
}

#[tokio::test]
async fn a_program_that_is_removed_makes_room_for_another_of_its_name() {
    let field = Field::new();
    for round in 0..20 {
        let program = field.program(StdinMode::Once).await;
        let client = program.attach().await;
        program.watch().await;
        program.stdout().write_all(format!("{round}\n").as_bytes()).await.unwrap();
        assert_eq!(client.packet().await, format!("\x02{round}\n").as_bytes());
        field.client.remove(program.key()).await.unwrap();
        assert!(std::fs::read_dir(&program.order.dir).unwrap().next().is_none());
        assert!(client.everything().await.is_empty());
    }
    assert!(field.client.status().await.unwrap().programs.is_empty());
}
