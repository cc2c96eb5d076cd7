//! What programs print.

use std::time::Duration;

use runtime_api::{ErrorKind, StdinMode};
use runtime_vm::monitor::{Key, LogOrder};
use tokio::io::AsyncWriteExt as _;

use crate::field::{Field, soon, until};

#[tokio::test]
async fn output_goes_to_the_log_and_to_every_client() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    assert_eq!(program.fifos.stdin, None);
    let clients = [program.attach().await, program.attach().await];
    let (mut stdout, mut stderr) = (program.stdout(), program.stderr());
    program.watch().await;
    stdout.write_all(b"one\ntwo\n").await.unwrap();
    program.until_logged("stdout F two").await;
    stderr.write_all(b"bad\npiece").await.unwrap();
    program.until_logged("stderr P piece").await;
    drop((stdout, stderr));
    field.shim.end(program.key(), 3);
    for client in clients {
        let got = client.everything().await;
        assert_eq!(got[&2], b"one\ntwo\n");
        assert_eq!(got[&3], b"bad\npiece");
    }
    assert_eq!(program.log(), ["stdout F one", "stdout F two", "stderr F bad", "stderr P piece"]);
    assert_eq!(program.exit().await, "3");
}

#[tokio::test]
async fn whoever_is_connected_gets_what_is_printed_next() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    let mut stdout = program.stdout();
    for round in 0..200 {
        // The monitor is busy with this while the client connects, and has had no time to accept it.
        stdout.write_all(b"before\n").await.unwrap();
        let client = program.attach().await;
        let word = format!("round {round}\n");
        stdout.write_all(word.as_bytes()).await.unwrap();
        soon(async {
            let mut got = Vec::new();
            while !String::from_utf8_lossy(&got).contains(&word) {
                got.extend_from_slice(&client.packet().await[1..]);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn with_a_terminal_everything_is_standard_output() {
    let field = Field::new();
    let mut order = field.order(&Key::init("a"));
    order.terminal = true;
    let program = field.add(order).await;
    assert_eq!(program.fifos.stderr, None);
    let client = program.attach().await;
    program.stdout().write_all(b"one\r\n").await.unwrap();
    assert_eq!(client.packet().await, b"\x02one\r\n");
    program.until_logged("stdout F one\r").await;
}

#[tokio::test]
async fn writers_may_come_again() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    program.watch().await;
    for round in 0..5 {
        let mut stdout = program.stdout();
        stdout.write_all(format!("round {round}\n").as_bytes()).await.unwrap();
        drop(stdout);
        program.until_logged(&format!("stdout F round {round}")).await;
    }
    field.shim.end(program.key(), 0);
    program.exit().await;
}

#[tokio::test]
async fn a_hundred_megabytes_go_through_and_none_is_lost() {
    const MUCH: usize = 100 * 1024 * 1024;
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    let client = program.attach().await;
    let mut stdout = program.stdout();
    program.watch().await;
    // Lines of every length, binary ones among them.
    let mut pattern: Vec<u8> = (0..250_007_u32).map(|n| u8::try_from(n % 251).unwrap() ^ 0x80).collect();
    for at in (1..500).scan(0, |at, n| {
        *at += n;
        Some(*at)
    }) {
        pattern[at] = b'\n';
    }
    let begun = std::time::Instant::now();
    let sent = pattern.clone();
    let shim = std::sync::Arc::clone(&field.shim);
    let key = program.key().clone();
    let writing = tokio::spawn(async move {
        let mut left = MUCH;
        while left > 0 {
            let piece = &sent[..left.min(sent.len())];
            stdout.write_all(piece).await.unwrap();
            left -= piece.len();
        }
        shim.end(&key, 0);
    });
    let got = client.everything().await;
    let took = begun.elapsed();
    soon(writing).await.unwrap();
    println!("{MUCH} bytes to a log and a client in {took:?}");
    let expected: Vec<u8> = pattern.iter().copied().cycle().take(MUCH).collect();
    assert!(got[&2] == expected);
    assert_eq!(program.exit().await, "0");
    let log = std::fs::read(&program.order.log.as_ref().unwrap().path).unwrap();
    let mut logged = Vec::with_capacity(MUCH);
    for record in log.split_inclusive(|byte| *byte == b'\n') {
        let text = &record["2026-11-25T18:04:05.000000006+00:00 stdout ".len()..];
        assert!(text.len() <= 2 + 8192 + 1);
        logged.extend_from_slice(&text[2..text.len() - 1]);
        if text[0] == b'F' {
            logged.push(b'\n');
        }
    }
    assert!(logged == expected);
}

#[tokio::test]
async fn a_line_without_an_end_comes_in_pieces() {
    const MUCH: usize = 10 * 1024 * 1024;
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    program.watch().await;
    let mut stdout = program.stdout();
    let shim = std::sync::Arc::clone(&field.shim);
    let key = program.key().clone();
    tokio::spawn(async move {
        stdout.write_all(&vec![b'x'; MUCH]).await.unwrap();
        shim.end(&key, 0);
    });
    assert_eq!(program.exit().await, "0");
    let log = program.log();
    assert!(log.iter().all(|record| record.starts_with("stdout P x") && record.len() <= 9 + 8192));
    assert_eq!(log.iter().map(|record| record.len() - 9).sum::<usize>(), MUCH);
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody_for_long() {
    const MUCH: usize = 24 * 1024 * 1024;
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    let silent = program.attach().await;
    let client = program.attach().await;
    let other = field.add(field.order(&Key::init("b"))).await;
    program.watch().await;
    let (mut stdout, mut stderr) = (program.stdout(), other.stdout());
    let shim = std::sync::Arc::clone(&field.shim);
    let key = program.key().clone();
    let writing = tokio::spawn(async move {
        let line = [vec![b'x'; 1023], vec![b'\n']].concat();
        for _ in 0..MUCH / line.len() {
            stdout.write_all(&line).await.unwrap();
        }
        shim.end(&key, 0);
    });
    // Programs of other containers are not held up at all.
    stderr.write_all(b"meanwhile\n").await.unwrap();
    other.until_logged("stdout F meanwhile").await;
    assert_eq!(client.everything().await[&2].len(), MUCH);
    soon(writing).await.unwrap();
    assert_eq!(program.exit().await, "0");
    assert_eq!(program.log().len(), MUCH / 1024);
    drop(silent);
}

#[tokio::test]
async fn a_client_that_stops_reading_does_not_hold_back_the_exit() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    let silent = program.attach().await;
    program.watch().await;
    let mut stdout = program.stdout();
    for _ in 0..40 {
        stdout.write_all(&[b'x'; 50_000]).await.unwrap();
    }
    drop(stdout);
    field.shim.end(program.key(), 0);
    assert_eq!(program.exit().await, "0");
    drop(silent);
}

#[tokio::test]
async fn a_log_is_opened_anew_and_nothing_is_lost() {
    let field = Field::new();
    let program = field.program(StdinMode::Closed).await;
    let log = program.order.log.clone().unwrap().path;
    let mut stdout = program.stdout();
    let mut renamed = Vec::new();
    for round in 0..10 {
        stdout.write_all(format!("{round}\n").as_bytes()).await.unwrap();
        program.until_logged(&format!("stdout F {round}")).await;
        let old = field.path(&format!("old.{round}"));
        std::fs::rename(&log, &old).unwrap();
        field.client.reopen_log(program.key()).await.unwrap();
        assert!(log.exists(), "the answer comes when the new file is there");
        field.client.reopen_log(program.key()).await.unwrap();
        renamed.push(std::fs::read_to_string(old).unwrap());
    }
    assert_eq!(renamed.len(), 10);
    for (round, text) in renamed.iter().enumerate() {
        assert_eq!(text.lines().count(), 1);
        assert!(text.ends_with(&format!("stdout F {round}\n")), "{text}");
    }
    // Where there can be no log, the old one is written on.
    std::fs::rename(&log, field.path("last")).unwrap();
    std::fs::create_dir(&log).unwrap();
    let error = field.client.reopen_log(program.key()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
    assert!(error.to_string().contains("reopen log /"), "{error}");
    stdout.write_all(b"on\n").await.unwrap();
    until(|| std::fs::read_to_string(field.path("last")).unwrap().ends_with(" on\n")).await;
}

#[tokio::test]
async fn a_log_with_a_limit_never_grows_beyond_it() {
    const LIMIT: u64 = 16_384;
    let field = Field::new();
    let mut order = field.order(&Key::init("a"));
    order.log = Some(LogOrder { max_size: Some(LIMIT), ..order.log.unwrap() });
    let program = field.add(order).await;
    let mut stdout = program.stdout();
    program.watch().await;
    let log = program.order.log.clone().unwrap().path;
    for round in 0..200 {
        stdout.write_all(format!("{round} {}\n", "x".repeat(997)).as_bytes()).await.unwrap();
        assert!(std::fs::metadata(&log).unwrap().len() <= LIMIT);
    }
    drop(stdout);
    field.shim.end(program.key(), 0);
    program.exit().await;
    assert!(program.log().last().unwrap().starts_with("stdout F 199 x"));
}

#[tokio::test]
async fn without_a_log_output_is_read_all_the_same() {
    let field = Field::new();
    let mut order = field.order(&Key::init("a"));
    order.log = None;
    let program = field.add(order).await;
    let mut stdout = program.stdout();
    for _ in 0..10 {
        soon(stdout.write_all(&[b'x'; 60_000])).await.unwrap();
    }
    field.client.reopen_log(program.key()).await.unwrap();
    until_carried(&field, program.key(), 600_000).await;
}

async fn until_carried(field: &Field, key: &Key, count: u64) {
    soon(async {
        while field.client.status().await.unwrap().program(key).unwrap().carried < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
