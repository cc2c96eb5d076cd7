//! The log file: one record a line.

use std::fs;
use std::time::{Duration, SystemTime};

use crate::clause::{clause, ensure, ensure_eq};
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
    let path = bench.log_path(container.id());
    let text = fs::read_to_string(&path).map_err(|error| Violation::new(format!("the log cannot be read: {error}")))?;
    text.lines().map(|line| entry(line).ok_or_else(|| Violation::new(format!("not a record: {line:?}")))).collect()
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
