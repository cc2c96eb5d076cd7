//! The log file: one record a line.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use runtime_api::{CreateRequest, LogConfig, StdinMode, Streams};

use crate::bench::Tap;
use crate::clause::{clause, ensure, ensure_eq};
use crate::script::filling;
use crate::{Bench, Checked, Step, Subject, Violation, Workload};

clause! {
    /// The log has one record for each line: a time in RFC 3339 with a fraction, the stream, `F`, and the text.
    cri_format = "log.cri-format", Create, needs [Log]
}
async fn cri_format(bench: &Bench) -> Checked {
    let steps = ["one", "two words", "", "three"].map(|text| Step::Out(text.to_owned()));
    let errors = ["bad", "worse"].map(|text| Step::Err(text.to_owned()));
    let workload = Workload::new(steps.into_iter().chain(errors));
    let container = bench.stopped(&workload).await?;
    container.until_said("three").await?;
    let records = records(bench, &container)?;
    ensure_eq!(texts(&records, "stdout"), ["one", "two words", "", "three"], "the texts of standard output");
    ensure_eq!(texts(&records, "stderr"), ["bad", "worse"], "the texts of standard error");
    ensure!(records.iter().all(|record| record.tag == "F"), "a line that was ended has another tag than F");
    // A container's clock and the log's may tick differently, but not by minutes.
    let created = container.state().await?.created_at;
    let apart = |a: SystemTime, b: SystemTime| a.duration_since(b).unwrap_or_default();
    let near = |time: SystemTime| apart(created, time).max(apart(time, created)) < Duration::from_secs(600);
    ensure!(records.iter().all(|record| near(record.time)), "a record's time is not that of its writing");
    for stream in ["stdout", "stderr"] {
        let times: Vec<_> = records.iter().filter(|one| one.stream == stream).map(|one| one.time).collect();
        ensure!(times.is_sorted(), "the times of {stream} go back");
    }
    Ok(())
}

clause! {
    /// A piece of a line that is too long for one record, or that was never ended, has `P` in the place of `F`.
    marks_pieces = "log.marks-pieces", Create, needs [Log]
}
async fn marks_pieces(bench: &Bench) -> Checked {
    let long = "0123456789".repeat(2000);
    let workload = Workload::new([Step::Out(long.clone()), Step::Raw("no end".to_owned())]);
    let container = bench.stopped(&workload).await?;
    let seen = async {
        loop {
            let records = records(bench, &container)?;
            if records.last().is_some_and(|last| last.text.ends_with("no end")) {
                return Ok::<_, Violation>(records);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let Ok(records) = tokio::time::timeout(Duration::from_secs(10), seen).await else {
        return Err(Violation::new("the end of the output is not in the log".to_owned()));
    };
    let mut records = records?;
    let last = records.pop();
    ensure_eq!(last.map(|one| one.tag), Some("P".to_owned()), "the tag of a line that was never ended");
    ensure!(records.len() > 1, "a line of 20,000 bytes is in one record");
    let tags: Vec<&str> = records.iter().map(|record| record.tag.as_str()).collect();
    ensure!(tags.split_last().is_some_and(|(last, rest)| *last == "F" && rest.iter().all(|tag| *tag == "P")), "the tags of a long line are {tags:?}");
    ensure_eq!(texts(&records, "stdout").concat(), long, "the long line put together again");
    Ok(())
}

clause! {
    /// A log with a limit is at no time larger than that by more than one record; what is dropped are whole records, the
    /// oldest first.
    limits_its_size = "log.limits-its-size", Create, needs [Log]
}
async fn limits_its_size(bench: &Bench) -> Checked {
    const LIMIT: u64 = 16_384;
    // A record is a piece of at most 8192 bytes, with less than 64 bytes before it.
    const RECORD: u64 = 8192 + 64;
    let steps = std::iter::repeat_n([Step::Fill(60_000), Step::Sleep(Duration::from_millis(50))], 5).flatten();
    let log = |request: CreateRequest| {
        let path = bench.log_path(&request.id);
        request.log(LogConfig::cri_file(path).max_size(LIMIT))
    };
    let container = bench.created_with(&Workload::new(steps), log).await?;
    container.start().await?;
    let path = bench.log_path(container.id());
    let waiting = container.wait();
    tokio::pin!(waiting);
    loop {
        let size = fs::metadata(&path).map_err(|error| Violation::host("the log", &error))?.len();
        ensure!(size <= LIMIT + RECORD, "the log has {size} bytes, and {LIMIT} are allowed");
        tokio::select! {
            ended = &mut waiting => { ended?; break }
            () = tokio::time::sleep(Duration::from_millis(2)) => {}
        }
    }
    let printed = filling(60_000).repeat(5);
    let whole = String::from_utf8_lossy(&printed);
    // The last of it may still be on its way.
    let seen = async {
        loop {
            let records = records(bench, &container)?;
            let kept = joined(&records);
            if !kept.is_empty() && whole.ends_with(&kept) {
                return Ok::<_, Violation>(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(10), seen).await {
        Ok(seen) => seen,
        Err(_) => Err(Violation::new("what is in the log is not the end of what was printed")),
    }
}

/// The text of standard output, its pieces put together.
fn joined(records: &[Entry]) -> String {
    let parts = records.iter().filter(|record| record.stream == "stdout");
    parts.flat_map(|record| [record.text.as_str(), if record.tag == "F" { "\n" } else { "" }]).collect()
}

clause! {
    /// Bytes of any value reach the log, and all of them.
    keeps_binary_data = "log.keeps-binary-data", Create, needs [Log, Attach]
}
async fn keeps_binary_data(bench: &Bench) -> Checked {
    let data = [vec![0; 700_000], (0..=255).collect(), b"\n".to_vec()].concat();
    let container = bench.created_with(&Workload::echoes(), |request| request.stdin(StdinMode::Once)).await?;
    let input = Streams::none().stdin(std::io::Cursor::new(data.clone()));
    let client = Tap::attached_with(bench, container.id(), input).await?;
    container.start().await?;
    container.wait().await?;
    client.ended().await?;
    let path = bench.log_path(container.id());
    let logged = || {
        let text = fs::read(&path).map_err(|error| Violation::host("the log", &error))?;
        let lines = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        Ok::<_, Violation>(lines.fold(Vec::new(), |mut all: Vec<u8>, line| {
            let mut parts = line.splitn(4, |byte| *byte == b' ').skip(2);
            let tag = parts.next();
            all.extend(parts.next().unwrap_or_default());
            all.extend(if tag == Some(b"F") { &b"\n"[..] } else { b"" });
            all
        }))
    };
    let mut found = logged()?;
    for _ in 0..500 {
        if found.len() >= data.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        found = logged()?;
    }
    ensure_eq!(found.len(), data.len(), "how many bytes are in the log");
    ensure!(found == data, "what is in the log is not what was printed");
    Ok(())
}

clause! {
    /// A log that create makes is not for others: mode 0640 or stricter.
    is_private = "log.is-private", Create, needs [Log]
}
async fn is_private(bench: &Bench) -> Checked {
    let container = bench.stopped(&Workload::says("secret")).await?;
    container.until_said("secret").await?;
    let path = bench.log_path(container.id());
    let mode = fs::metadata(&path).map_err(|error| Violation::host("the log", &error))?.permissions().mode();
    ensure!(mode & 0o137 == 0, "the log has mode {:04o}", mode & 0o7777);
    Ok(())
}

clause! {
    /// A log that is there already is continued.
    continues_a_file = "log.continues-a-file", Create, needs [Log]
}
async fn continues_a_file(bench: &Bench) -> Checked {
    let path = bench.log_path(&bench.id("shared"));
    for text in ["one", "two", "three"] {
        let log = |request: CreateRequest| request.log(LogConfig::cri_file(&path));
        let container = bench.created_with(&Workload::says(text), log).await?;
        container.start().await?;
        container.wait().await?;
        let seen = async {
            while !fs::read_to_string(&path).is_ok_and(|log| log.ends_with(&format!(" {text}\n"))) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(10), seen).await;
        ensure!(seen.is_ok(), "the log never ends in {text:?}");
        container.delete().await?;
    }
    ensure_eq!(texts(&records_of(&path)?, "stdout"), ["one", "two", "three"], "the texts in the log");
    Ok(())
}

/// One line of a log.
struct Entry {
    time: SystemTime,
    stream: String,
    tag: String,
    text: String,
}

fn texts(records: &[Entry], stream: &str) -> Vec<String> {
    records.iter().filter(|record| record.stream == stream).map(|record| record.text.clone()).collect()
}

/// The records of a container's log, read by this clause and by nothing else: what other clauses read must not depend on
/// the reader that is on trial here.
fn records(bench: &Bench, container: &Subject<'_>) -> Checked<Vec<Entry>> {
    records_of(&bench.log_path(container.id()))
}

fn records_of(path: &Path) -> Checked<Vec<Entry>> {
    let text = fs::read_to_string(path).map_err(|error| Violation::new(format!("the log cannot be read: {error}")))?;
    // A record that is being written does not count.
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    whole.map(|line| entry(line).ok_or_else(|| Violation::new(format!("not a record: {line:?}")))).collect()
}

fn entry(line: &str) -> Option<Entry> {
    let mut parts = line.splitn(4, ' ');
    let time = time(parts.next()?)?;
    let (stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Entry { time, stream: stream.to_owned(), tag: tag.to_owned(), text: text.to_owned() })
}

/// A time with a fraction and an offset, such as `2026-11-21T22:04:05.000000006+01:00`.
fn time(text: &str) -> Option<SystemTime> {
    let (local, offset) = match text.strip_suffix('Z') {
        Some(local) => (local, 0),
        None => {
            let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            (local, if zone.starts_with('-') { -seconds } else { seconds })
        }
    };
    local.contains('.').then_some(())?;
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let shift = Duration::from_secs(offset.unsigned_abs());
    if offset < 0 { local.checked_add(shift) } else { local.checked_sub(shift) }
}
