//! The client of conmon's attach socket, which knows nothing of this monitor.

use runtime_api::{AttachRequest, ErrorKind, Result, StdinMode, Streams, WindowSize};
use runtime_host::attach::{Served, Terminal, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use crate::field::{Field, soon};

struct NoTerminal;

impl Terminal for NoTerminal {
    async fn resize(&self, _size: WindowSize) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn streams_are_carried_until_the_program_ends() {
    let field = Field::new();
    let program = field.program(StdinMode::Once).await;
    program.watch().await;
    let (mut ours, theirs) = tokio::io::duplex(1024);
    let (mut out, stdout) = tokio::io::duplex(1024);
    let (mut err, stderr) = tokio::io::duplex(1024);
    let socket = program.file("attach");
    let (told, attached) = oneshot::channel();
    let client = tokio::spawn(async move {
        let streams = Streams::none().stdin(theirs).stdout(stdout).stderr(stderr);
        serve(&socket, &NoTerminal, AttachRequest::new().on_attached(told), streams).await
    });
    soon(attached).await.unwrap();
    let mut stdin = program.stdin();
    ours.write_all(b"input").await.unwrap();
    drop(ours);
    let mut input = String::new();
    soon(stdin.read_to_string(&mut input)).await.unwrap();
    assert_eq!(input, "input");
    program.stdout().write_all(b"output").await.unwrap();
    program.stderr().write_all(b"errors").await.unwrap();
    field.shim.end(program.key(), 0);
    let (mut output, mut errors) = (String::new(), String::new());
    soon(out.read_to_string(&mut output)).await.unwrap();
    soon(err.read_to_string(&mut errors)).await.unwrap();
    assert_eq!((output.as_str(), errors.as_str()), ("output", "errors"));
    assert_eq!(soon(client).await.unwrap().unwrap(), Served::Closed);
}

#[tokio::test]
async fn a_client_detaches_and_another_one_goes_on() {
    let field = Field::new();
    let program = field.program(StdinMode::KeepOpen).await;
    program.watch().await;
    let mut stdin = program.stdin();
    for round in 0..3 {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let socket = program.file("attach");
        let client = tokio::spawn(async move {
            let request = AttachRequest::new().detach_keys("ctrl-p,ctrl-q".parse().unwrap());
            serve(&socket, &NoTerminal, request, Streams::none().stdin(theirs)).await
        });
        ours.write_all(format!("{round}\x10\x11lost").as_bytes()).await.unwrap();
        let mut got = [0];
        soon(stdin.read_exact(&mut got)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&got), round.to_string());
        assert_eq!(soon(client).await.unwrap().unwrap(), Served::Detached);
    }
    assert!(!field.shim.has_closed(program.key()));
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_told_so_and_the_program_goes_on() {
    const MUCH: usize = 30 * 1024 * 1024;
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    program.watch().await;
    let (_unread, stdout) = tokio::io::duplex(16);
    let socket = program.file("attach");
    let (told, attached) = oneshot::channel();
    let silent = tokio::spawn(async move {
        let streams = Streams::none().stdout(stdout);
        serve(&socket, &NoTerminal, AttachRequest::new().on_attached(told), streams).await
    });
    soon(attached).await.unwrap();
    let mut stdout = program.stdout();
    let writing = tokio::spawn(async move {
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        for _ in 0..MUCH / line.len() {
            stdout.write_all(&line).await.unwrap();
        }
    });
    let error = soon(silent).await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Lagged(_)), "{error:?}");
    soon(writing).await.unwrap();
    field.shim.end(program.key(), 0);
    assert_eq!(program.exit().await, "0");
    assert_eq!(program.log().len(), MUCH / 1024);
}
