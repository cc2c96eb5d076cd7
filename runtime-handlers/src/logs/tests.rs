use std::io::Write as _;

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

fn record(second: u64, stream: &str, tag: &str, text: &str) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    let time = humantime::format_rfc3339_nanos(at).to_string();
    format!("{}+00:00 {stream} {tag} {text}\n", time.trim_end_matches('Z'))
}

fn place_of_a_log() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    (dir, path)
}

fn append(path: &Path, text: &str) {
    File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

async fn rest(reader: &mut LogReader) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = reader.next().await.unwrap() {
        lines.push(String::from_utf8(line.text).unwrap());
    }
    lines
}

async fn next(reader: &mut LogReader) -> String {
    let line = timeout(Duration::from_secs(20), reader.next()).await.expect("a line comes").unwrap();
    String::from_utf8(line.expect("it is not the end").text).unwrap()
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[tokio::test]
async fn the_last_lines_are_those_of_the_whole() {
    for seed in 0..24 {
        let (_dir, path) = place_of_a_log();
        let mut numbers = Numbers(seed);
        // Few, many and very many records; short ones and some that are longer than what is read at once.
        let count = [3, 40, 400][(seed % 3) as usize];
        for n in 0..count {
            let stream = if numbers.below(5) == 0 { "stderr" } else { "stdout" };
            let tag = if numbers.below(3) == 0 { "P" } else { "F" };
            let long = if numbers.below(100) == 0 { 70_000 } else { 20 };
            append(
                &path,
                &record(n, stream, tag, &format!("{n}{}", "x".repeat(numbers.below(long) as usize))),
            );
            if numbers.below(20) == 0 {
                append(&path, "nonsense\n");
            }
        }
        // Whole lines, so that none is begun and never ended.
        append(&path, &(record(count, "stdout", "F", "a") + &record(count, "stderr", "F", "b")));
        if seed % 4 == 0 {
            append(&path, record(count, "stdout", "F", "torn").trim_end());
        }
        let all = rest(&mut LogReader::open(&path, LogOptions::new()).unwrap()).await;
        for tail in [0, 1, 2, 3, 7, 50, all.len() as u64, 100_000] {
            let last = rest(&mut LogReader::open(&path, LogOptions::new().tail(tail)).unwrap()).await;
            let first = all.len() - all.len().min(tail as usize);
            assert_eq!(last, all[first..], "the last {tail} of log {seed}");
        }
    }
}

#[tokio::test]
async fn only_what_was_printed_since_is_read() {
    let (_dir, path) = place_of_a_log();
    let pieces = record(7, "stdout", "P", "sev") + &record(9, "stdout", "F", "en");
    append(&path, &(record(5, "stdout", "F", "five") + &pieces + &record(9, "stderr", "F", "nine")));
    let since = |text| LogOptions::new().since(parse_time(text).unwrap());
    let mut reader = LogReader::open(&path, since("1970-01-01T01:00:07+01:00")).unwrap();
    assert_eq!(rest(&mut reader).await, ["seven", "nine"]);
    let mut reader = LogReader::open(&path, since("1970-01-01T00:00:08Z").tail(2)).unwrap();
    assert_eq!(rest(&mut reader).await, ["nine"]);
    assert_eq!(reader.malformed(), 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_told() {
    let (dir, path) = place_of_a_log();
    let kind = |path: &Path| LogReader::open(path, LogOptions::new()).unwrap_err().kind().clone();
    assert_eq!(kind(&path), Kind::NotFound);
    assert!(matches!(kind(dir.path()), Kind::ConfigInvalid(_)));
    assert!(LogReader::follow(dir.path(), LogOptions::new(), std::future::pending()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_log_is_followed_until_the_container_has_ended() {
    let (_dir, path) = place_of_a_log();
    let (end, ended) = oneshot::channel::<()>();
    let ended = async { ended.await.unwrap_or_default() };
    let mut reader = LogReader::follow(&path, LogOptions::new().tail(1), ended).unwrap();
    assert!(timeout(Duration::from_secs(5), reader.next()).await.is_err(), "there is no log yet");
    append(&path, &(record(1, "stdout", "F", "zero") + &record(1, "stdout", "F", "one")));
    assert_eq!(next(&mut reader).await, "one");
    // A record is written in two parts, and a line in two records.
    let torn = record(2, "stdout", "P", "tw") + &record(2, "stdout", "F", "o");
    append(&path, &torn[..20]);
    assert!(timeout(Duration::from_millis(500), reader.next()).await.is_err(), "it is not whole");
    append(&path, &torn[20..]);
    assert_eq!(next(&mut reader).await, "two");
    // A prompt is not held back for ever.
    append(&path, &record(3, "stdout", "P", "name? "));
    let line = reader.next().await.unwrap().unwrap();
    assert_eq!((line.text.as_slice(), line.ended, line.continues), (&b"name? "[..], false, false));
    append(&path, &record(4, "stdout", "F", "it"));
    let line = reader.next().await.unwrap().unwrap();
    assert_eq!((line.text.as_slice(), line.ended, line.continues), (&b"it"[..], true, true));
    append(&path, &(record(5, "stderr", "F", "last") + &record(5, "stdout", "P", "words")));
    end.send(()).unwrap();
    assert_eq!(rest(&mut reader).await, ["last", "words"]);
}

#[tokio::test(start_paused = true)]
async fn a_rename_and_a_cut_are_followed() {
    let (dir, path) = place_of_a_log();
    append(&path, &record(1, "stdout", "F", "one"));
    let mut reader = LogReader::follow(&path, LogOptions::new(), std::future::pending()).unwrap();
    assert_eq!(next(&mut reader).await, "one");
    // The monitor goes on in the renamed file until it is told, also with half a line.
    let old = dir.path().join("log.1");
    std::fs::rename(&path, &old).unwrap();
    append(&old, &(record(2, "stdout", "F", "two") + &record(2, "stdout", "P", "th")));
    assert_eq!(next(&mut reader).await, "two");
    append(&old, &record(2, "stderr", "F", "oh"));
    append(&path, &record(3, "stdout", "F", "ree"));
    assert_eq!(next(&mut reader).await, "oh");
    assert_eq!(next(&mut reader).await, "three");
    // A limit of the size: another file is put in the place of this one.
    append(&path, &record(4, "stdout", "F", "four"));
    append(&dir.path().join("log.tmp"), &record(5, "stdout", "F", "five"));
    std::fs::rename(dir.path().join("log.tmp"), &path).unwrap();
    assert_eq!([next(&mut reader).await, next(&mut reader).await], ["four", "five"]);
    // And the file itself is cut.
    File::options().write(true).truncate(true).open(&path).unwrap();
    assert!(timeout(Duration::from_millis(500), reader.next()).await.is_err());
    append(&path, &record(6, "stdout", "F", "six"));
    assert_eq!(next(&mut reader).await, "six");
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_while_a_writer_rotates() {
    const LINES: u64 = 3000;
    let (dir, path) = place_of_a_log();
    let (end, ended) = oneshot::channel::<()>();
    let mut reader =
        LogReader::follow(&path, LogOptions::new(), async { ended.await.unwrap_or_default() }).unwrap();
    let writer = tokio::spawn(async move {
        let mut file = File::options().append(true).create(true).open(&path).unwrap();
        let mut numbers = Numbers(7);
        for n in 0..LINES {
            let text = record(n, "stdout", "P", &format!("{n}-")) + &record(n, "stdout", "F", "x");
            let (one, two) = text.split_at(numbers.below(text.len() as u64) as usize);
            file.write_all(one.as_bytes()).unwrap();
            tokio::task::yield_now().await;
            file.write_all(two.as_bytes()).unwrap();
            if n % 700 == 350 {
                std::fs::rename(&path, dir.path().join(format!("log.{n}"))).unwrap();
                tokio::task::yield_now().await;
                file = File::options().append(true).create(true).open(&path).unwrap();
            }
            if n % 100 == 0 {
                // Twice as long as a reader takes to look again: it must see each of the files.
                tokio::time::sleep(POLL * 2).await;
            }
        }
        end.send(()).unwrap();
        dir
    });
    let lines = rest(&mut reader).await;
    writer.await.unwrap();
    assert_eq!(lines.len() as u64, LINES);
    for (n, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("{n}-x"));
    }
}
