//! What programs read.

use std::time::Duration;

use runtime_api::StdinMode;
use runtime_vm::monitor::Key;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::field::{Field, soon, until};

#[tokio::test]
async fn input_reaches_the_program_and_its_end_does_too() {
    const SIZE: usize = 1024 * 1024 + 77;
    let field = Field::new();
    let program = field.program(StdinMode::Once).await;
    let client = program.attach().await;
    let mut stdin = program.stdin();
    let sent: Vec<u8> = (0..SIZE).map(|n| u8::try_from(n % 251).unwrap()).collect();
    program.watch().await;
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        soon(stdin.read_to_end(&mut all)).await.unwrap();
        all
    });
    for packet in sent.chunks(32 * 1024) {
        client.say(packet).await;
    }
    client.half_close();
    assert!(reading.await.unwrap() == sent);
    assert!(field.shim.has_closed(program.key()));
}

#[tokio::test]
async fn a_shim_that_answers_only_without_writers_is_not_waited_for() {
    let field = Field::new();
    field.shim.closes.send_replace(false);
    let program = field.program(StdinMode::Once).await;
    let mut stdin = program.stdin();
    program.watch().await;
    let client = program.attach().await;
    client.say(b"text").await;
    client.half_close();
    let mut all = String::new();
    soon(stdin.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "text");
    field.shim.closes.send_replace(true);
}

#[tokio::test]
async fn input_that_ends_before_the_shim_knows_the_program_is_closed_when_it_does() {
    let field = Field::new();
    let program = field.program(StdinMode::Once).await;
    let client = program.attach().await;
    client.say(b"early").await;
    client.half_close();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!field.shim.has_closed(program.key()));
    let mut stdin = program.stdin();
    program.watch().await;
    let mut all = String::new();
    soon(stdin.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "early");
}

#[tokio::test]
async fn kept_open_input_goes_on_with_the_next_client() {
    let field = Field::new();
    let program = field.program(StdinMode::KeepOpen).await;
    let mut stdin = program.stdin();
    program.watch().await;
    for text in ["one", "two"] {
        let client = program.attach().await;
        client.say(text.as_bytes()).await;
        client.half_close();
        let mut got = [0; 3];
        soon(stdin.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, text.as_bytes());
    }
    assert!(!field.shim.has_closed(program.key()));
    field.client.close_stdin(program.key()).await.unwrap();
    assert!(field.shim.has_closed(program.key()));
    assert_eq!(soon(stdin.read(&mut [0; 9])).await.unwrap(), 0);
    // Once is enough.
    field.client.close_stdin(program.key()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_only_watched_ends_no_input() {
    let field = Field::new();
    let program = field.program(StdinMode::Once).await;
    let mut stdin = program.stdin();
    program.watch().await;
    let (watcher, client) = (program.attach().await, program.attach().await);
    program.stdout().write_all(b"seen\n").await.unwrap();
    assert_eq!(watcher.packet().await, b"\x02seen\n");
    drop(watcher);
    // Its leaving has been noticed when it does not count any more.
    soon(async {
        while field.client.status().await.unwrap().program(program.key()).unwrap().clients > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    client.say(b"text").await;
    let mut got = [0; 4];
    soon(stdin.read_exact(&mut got)).await.unwrap();
    assert!(!field.shim.has_closed(program.key()));
    // One that said something and left has ended it.
    drop(client);
    until(|| field.shim.has_closed(program.key())).await;
    assert_eq!(soon(stdin.read(&mut [0; 9])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_program_that_does_not_read_holds_back_its_client_and_nothing_else() {
    let field = Field::new();
    let program = field.program(StdinMode::Once).await;
    let stdin = program.stdin();
    program.watch().await;
    let (client, other) = (program.attach().await, program.attach().await);
    let flood = async {
        loop {
            client.0.send(&[b'x'; 32 * 1024]).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(500), flood).await.is_err());
    let mut stdout = program.stdout();
    stdout.write_all(b"still here\n").await.unwrap();
    program.until_logged("stdout F still here").await;
    assert_eq!(other.packet().await, b"\x02still here\n");
    drop(stdout);
    field.shim.end(program.key(), 0);
    assert_eq!(program.exit().await, "0");
    // Whoever reads at the other end sees that nobody writes any more.
    let mut stdin = stdin;
    let mut rest = Vec::new();
    soon(stdin.read_to_end(&mut rest)).await.unwrap();
    field.client.close_stdin(program.key()).await.unwrap();
    assert!(!field.shim.has_closed(program.key()));
}

#[tokio::test]
async fn without_input_what_clients_send_is_thrown_away() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    let client = program.attach().await;
    for _ in 0..100 {
        client.say(&[b'x'; 32 * 1024]).await;
    }
    client.half_close();
    program.stdout().write_all(b"on\n").await.unwrap();
    assert_eq!(client.packet().await, b"\x02on\n");
    field.client.close_stdin(program.key()).await.unwrap();
    assert!(!field.shim.has_closed(program.key()));
    field.client.close_stdin(&Key::init("unknown")).await.unwrap_err();
}
