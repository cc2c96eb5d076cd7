//! Requests, and what is none.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use runtime_api::{ErrorKind, StdinMode};
use runtime_vm::monitor::{Key, LogOrder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::field::{Field, soon};

/// Connects by a short path: the monitor's directory has a long one.
async fn connect(field: &Field) -> UnixStream {
    let link = field.path("l");
    if !link.exists() {
        std::os::unix::fs::symlink(field.client.dir(), &link).unwrap();
    }
    UnixStream::connect(link.join("control")).await.unwrap()
}

async fn said(field: &Field, text: &[u8], ends: bool) -> String {
    let mut stream = connect(field).await;
    // The monitor may have answered and closed before it has read everything.
    let _ = stream.write_all(text).await;
    if ends {
        let _ = stream.shutdown().await;
    }
    let mut answer = String::new();
    let _ = soon(stream.read_to_string(&mut answer)).await;
    answer
}

#[tokio::test]
async fn garbage_is_refused_and_does_no_harm() {
    let field = Field::new();
    let control = std::fs::metadata(field.client.dir().join("control")).unwrap();
    assert_eq!(control.permissions().mode() & 0o7777, 0o600);
    for garbage in [
        &b"\n"[..],
        b"garbage\n",
        b"{\"remove\":{}}\n",
        b"{\"nothing\":{}}\n",
        b"\xff\xfe\x00\n",
        b"{\"add\":{\"key\":{\"container\":\"a\"},\"dir\":\"/\",\"fifos_dir\":\"/\",\"surprise\":1}}\n",
    ] {
        let answer = said(&field, garbage, false).await;
        assert!(answer.starts_with("{\"refused\":{\"kind\":{\"invalid_argument\":"), "{answer}");
        assert!(answer.ends_with('\n'));
    }
    assert!(said(&field, b"\"status\"", true).await.contains("the line has no end"));
    assert!(said(&field, b"", true).await.contains("the line has no end"));
    let long = [vec![b' '; 70_000], b"\"status\"\n".to_vec()].concat();
    let answer = said(&field, &long, true).await;
    assert!(answer.is_empty() || answer.contains("a line has at most"), "{answer}");
    // What comes after the line is nobody's business.
    let answer = said(&field, b"\"status\"\n\"end\"\n", false).await;
    assert!(answer.contains("\"shim\":true"), "{answer}");
    assert!(field.client.status().await.unwrap().shim);
}

#[tokio::test]
async fn those_who_connect_and_say_nothing_hold_up_nobody() {
    let field = Field::new();
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut stream = connect(&field).await;
        stream.write_all(b"\"sta").await.unwrap();
        idle.push(stream);
    }
    field.client.status().await.unwrap();
    // More than are served at once: their time runs out.
    for _ in 0..30 {
        idle.push(connect(&field).await);
    }
    soon(field.client.status()).await.unwrap();
}

#[tokio::test]
async fn unknown_programs_are_not_found_and_known_ones_are_refused() {
    let field = Field::new();
    let unknown = Key::exec("a", "x");
    for done in [
        field.client.watch(&unknown).await,
        field.client.reopen_log(&unknown).await,
        field.client.close_stdin(&unknown).await,
    ] {
        let error = done.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("exec \"x\" in container \"a\""), "{error}");
    }
    field.client.remove(&unknown).await.unwrap();
    let program = field.program(StdinMode::Closed).await;
    let inode = std::fs::metadata(program.file("attach")).unwrap().ino();
    let error = field.client.add(&program.order).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.to_string(), "add container \"a\": already exists");
    assert_eq!(std::fs::metadata(program.file("attach")).unwrap().ino(), inode);
}

#[tokio::test]
async fn an_add_that_fails_leaves_nothing() {
    let field = Field::new();
    let good = field.order(&Key::init("a"));
    let mut bad_log = good.clone();
    bad_log.log = Some(LogOrder::new(field.path("missing/log")));
    let mut bad_dir = good.clone();
    bad_dir.dir = field.path("nothing");
    let mut bad_fifos = good.clone();
    std::fs::write(field.path("file"), "").unwrap();
    bad_fifos.fifos_dir = field.path("file");
    let mut bad_socket = good.clone();
    bad_socket.dir = field.path("full");
    std::fs::create_dir_all(bad_socket.dir.join("attach/x")).unwrap();
    let orders =
        [(bad_log, "missing/log"), (bad_dir, "nothing"), (bad_fifos, "file"), (bad_socket, "full/attach")];
    for (order, says) in orders {
        let error = field.client.add(&order).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(std::fs::read_dir(&good.dir).unwrap().next().is_none());
    }
    // A log that is nobody's any more is no leftover: it belongs to the caller.
    field.add(good).await;
    assert_eq!(field.client.status().await.unwrap().programs.len(), 1);
}

#[tokio::test]
async fn many_programs_share_a_monitor() {
    const MANY: usize = 40;
    let field = Field::new();
    let mut programs = Vec::new();
    for n in 0..MANY {
        programs.push(field.add(field.order(&Key::init(format!("c{n}")))).await);
    }
    for (n, program) in programs.iter().enumerate() {
        program.watch().await;
        program.stdout().write_all(format!("I am {n}\n").as_bytes()).await.unwrap();
    }
    for (n, program) in programs.iter().enumerate() {
        field.shim.end(program.key(), i32::try_from(n).unwrap());
    }
    for (n, program) in programs.iter().enumerate() {
        assert_eq!(program.exit().await, n.to_string());
        assert_eq!(program.log(), [format!("stdout F I am {n}")]);
    }
    for program in &programs {
        field.client.remove(program.key()).await.unwrap();
    }
    soon(async { while !field.client.status().await.unwrap().programs.is_empty() {} }).await;
}
