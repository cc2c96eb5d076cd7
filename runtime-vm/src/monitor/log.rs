//! The log of a program: one record a line, in the format that the CRI wants and that conmon writes.
//!
//! ```text
//! 2026-11-25T18:04:05.000000006+00:00 stdout F a line
//! 2026-11-25T18:04:05.000000006+00:00 stderr P a piece of a line
//! ```
//!
//! A piece that was not ended by a newline when it came is a record of its own with `P`, so nothing waits for the rest of
//! a line. There is no fsync: after a loss of power nothing runs anyway.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use runtime_api::{Error, ErrorKind, Result};

use super::Channel;

/// The most text that one record holds.
const PIECE: usize = 8192;
/// How much is put together before it is written.
const BATCH: usize = 64 * 1024;

/// Where a program's output is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogOrder {
    /// The file. It is continued if it is there.
    pub path: PathBuf,
    /// How large it may become before it is replaced by an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u64>,
}

impl LogOrder {
    /// A log without a limit.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), max_size: None }
    }
}

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    order: LogOrder,
    file: File,
    /// How long the file is.
    size: u64,
    /// Whether the last write broke off in the middle of a record.
    torn: bool,
    /// The newest time that was written. Clocks are set back; the times of a log are not.
    newest: SystemTime,
    /// How many writes failed.
    pub(super) failures: u64,
    batch: Vec<u8>,
}

impl Log {
    /// Opens the log, and makes it if it is not there.
    pub(super) fn open(order: LogOrder) -> Result<Self> {
        let (file, size) = open(&order.path, OFlags::empty())?;
        let newest = SystemTime::UNIX_EPOCH;
        Ok(Self { order, file, size, torn: false, newest, failures: 0, batch: Vec::new() })
    }

    /// Opens the file at the path anew. Where that is the one that is open, nothing happens.
    pub(super) fn reopen(&mut self) -> Result<()> {
        let (file, size) = open(&self.order.path, OFlags::empty())?;
        let identity = |file: &File| file.metadata().map(|file| (file.dev(), file.ino()));
        let same = identity(&file).and_then(|new| Ok(new == identity(&self.file)?));
        if same.map_err(|error| unusable(&self.order.path, "it cannot be looked at").caused_by(error))? {
            return Ok(());
        }
        (self.file, self.size, self.torn) = (file, size, false);
        Ok(())
    }

    /// Adds what came from a program at one time. What cannot be written is lost: a full disk stops no program.
    pub(super) fn add(&mut self, channel: Channel, text: &[u8]) {
        self.newest = self.newest.max(SystemTime::now());
        if let Err(error) = self.records(channel, text) {
            if self.failures == 0 {
                tracing::warn!(%error, log = %self.order.path.display(), "a log cannot be written; its text is lost");
            }
            self.failures += 1;
        }
        // There may be many logs, and most of them are quiet.
        self.batch = Vec::new();
    }

    fn records(&mut self, channel: Channel, text: &[u8]) -> io::Result<()> {
        let time = humantime::format_rfc3339_nanos(self.newest).to_string();
        let prefix = format!("{}+00:00 {} ", time.trim_end_matches('Z'), channel.name());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let (line, ended) = line.strip_suffix(b"\n").map_or((line, false), |line| (line, true));
            let mut pieces = line.chunks(PIECE).peekable();
            if pieces.peek().is_none() {
                self.record(&prefix, b"F ", &[])?;
            }
            while let Some(piece) = pieces.next() {
                let last = pieces.peek().is_none();
                self.record(&prefix, if last && ended { b"F " } else { b"P " }, piece)?;
            }
        }
        self.flush()
    }

    fn record(&mut self, prefix: &str, tag: &[u8], text: &[u8]) -> io::Result<()> {
        let length = prefix.len() + tag.len() + text.len() + 1;
        let whole = self.size + as_u64(self.batch.len());
        if self.order.max_size.is_some_and(|limit| whole > 0 && whole + as_u64(length) > limit) {
            self.flush()?;
            self.replace()?;
        } else if self.batch.len() + length > BATCH {
            self.flush()?;
        }
        if self.torn && self.batch.is_empty() {
            self.batch.push(b'\n');
        }
        for part in [prefix.as_bytes(), tag, text, b"\n"] {
            self.batch.extend_from_slice(part);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut rest = self.batch.as_slice();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.size += as_u64(written);
                    rest = &rest[written..];
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.batch.clear();
        Ok(())
    }

    /// Puts an empty file in the place of the log. Readers that follow it see another file, never a shorter one.
    fn replace(&mut self) -> io::Result<()> {
        let mut name = self.order.path.file_name().unwrap_or_default().to_os_string();
        name.push(".tmp");
        let fresh = self.order.path.with_file_name(name);
        let (file, _) = open(&fresh, OFlags::TRUNC).map_err(io::Error::other)?;
        std::fs::rename(&fresh, &self.order.path)?;
        (self.file, self.size, self.torn) = (file, 0, false);
        Ok(())
    }
}

fn open(path: &Path, how: OFlags) -> Result<(File, u64)> {
    // Not to wait for the reader of a fifo that somebody put there.
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags | how, Mode::RUSR | Mode::WUSR);
    let file = File::from(opened.map_err(|error| {
        let kind = match error {
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => ErrorKind::PermissionDenied,
            rustix::io::Errno::MFILE | rustix::io::Errno::NFILE => {
                ErrorKind::Exhausted("no file descriptor is left".into())
            }
            rustix::io::Errno::LOOP => ErrorKind::ConfigInvalid("it is a symbolic link".into()),
            _ => ErrorKind::ConfigInvalid("it cannot be opened".into()),
        };
        named(kind, path).caused_by(io::Error::from(error))
    })?);
    let there = file.metadata().map_err(|error| unusable(path, "it cannot be looked at").caused_by(error))?;
    if !there.is_file() {
        return Err(unusable(path, "something that is no file is in its place"));
    }
    Ok((file, there.len()))
}

fn unusable(path: &Path, why: &str) -> Error {
    named(ErrorKind::ConfigInvalid(why.to_owned()), path)
}

fn named(kind: ErrorKind, path: &Path) -> Error {
    Error::new(kind).on(format_args!("log {}", path.display()))
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn log(at: &tempfile::TempDir, max_size: Option<u64>) -> Log {
        Log::open(LogOrder { path: at.path().join("log"), max_size }).unwrap()
    }

    /// The records, without their times, which are checked.
    fn read(at: &tempfile::TempDir) -> Vec<String> {
        let text = String::from_utf8(std::fs::read(at.path().join("log")).unwrap()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        let mut times = Vec::new();
        let records = text.lines().map(|line| {
            let (time, record) = line.split_once(' ').unwrap();
            assert_eq!(time.len(), "2026-11-25T18:04:05.000000006+00:00".len(), "{time}");
            times.push(humantime::parse_rfc3339(&time.replace("+00:00", "Z")).unwrap());
            record.to_owned()
        });
        let records = records.collect();
        assert!(times.is_sorted(), "{times:?}");
        records
    }

    #[test]
    fn lines_are_records_and_pieces_are_marked() {
        let at = tempfile::tempdir().unwrap();
        let mut log = log(&at, None);
        log.add(Channel::Stdout, b"one\n\nthree\npiece");
        log.add(Channel::Stderr, b"bad\n");
        log.add(Channel::Stdout, b" of it\n");
        let records = ["stdout F one", "stdout F ", "stdout F three", "stdout P piece"];
        assert_eq!(read(&at)[..4], records);
        assert_eq!(read(&at)[4..], ["stderr F bad", "stdout F  of it"]);
        let mode = std::fs::metadata(at.path().join("log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let at = tempfile::tempdir().unwrap();
        let mut log = log(&at, None);
        let long = "0123456789".repeat(2000);
        log.add(Channel::Stdout, format!("{long}\n").as_bytes());
        let exact = "x".repeat(PIECE);
        log.add(Channel::Stdout, format!("{exact}\n{exact}").as_bytes());
        let sizes: Vec<_> =
            read(&at).iter().map(|record| (record[7..8].to_owned(), record.len() - 9)).collect();
        let of = |tag: &str, size| (tag.to_owned(), size);
        let expected =
            [of("P", PIECE), of("P", PIECE), of("F", 20_000 - 2 * PIECE), of("F", PIECE), of("P", PIECE)];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn a_limit_keeps_the_newest_records_whole() {
        const LIMIT: u64 = 16_384;
        let at = tempfile::tempdir().unwrap();
        let mut log = log(&at, Some(LIMIT));
        let mut printed = Vec::new();
        for round in 0..50 {
            let text: String =
                (0..200).map(|line| format!("{round} {line} {}\n", "x".repeat(line))).collect();
            printed.extend(text.lines().map(|line| format!("stdout F {line}")));
            log.add(Channel::Stdout, text.as_bytes());
            let size = std::fs::metadata(at.path().join("log")).unwrap().len();
            assert!(size <= LIMIT && size == log.size, "{size}");
            let kept = read(&at);
            assert!(!kept.is_empty() && printed.ends_with(&kept));
        }
        // A record that is larger than the limit is kept all the same.
        log.order.max_size = Some(10);
        log.add(Channel::Stdout, b"larger than ten bytes\n");
        assert_eq!(read(&at), ["stdout F larger than ten bytes"]);
        assert!(!at.path().join("log.tmp").exists());
    }

    #[test]
    fn a_log_that_is_there_is_continued_and_its_length_counts() {
        let at = tempfile::tempdir().unwrap();
        log(&at, None).add(Channel::Stdout, b"one\n");
        let mut second = log(&at, Some(100));
        second.add(Channel::Stdout, b"two\n");
        assert_eq!(read(&at), ["stdout F one", "stdout F two"]);
        second.add(Channel::Stdout, b"three\n");
        assert_eq!(read(&at), ["stdout F three"]);
    }

    #[test]
    fn reopening_opens_the_new_file_and_leaves_the_same_one_alone() {
        let at = tempfile::tempdir().unwrap();
        let mut log = log(&at, None);
        log.add(Channel::Stdout, b"one\n");
        log.reopen().unwrap();
        log.add(Channel::Stdout, b"two\n");
        assert_eq!(read(&at), ["stdout F one", "stdout F two"]);
        std::fs::rename(at.path().join("log"), at.path().join("old")).unwrap();
        log.add(Channel::Stdout, b"three\n");
        log.reopen().unwrap();
        log.add(Channel::Stdout, b"four\n");
        assert_eq!(read(&at), ["stdout F four"]);
        assert!(std::fs::read_to_string(at.path().join("old")).unwrap().ends_with(" three\n"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let at = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(at.path().join("elsewhere"), at.path().join("link")).unwrap();
        nix::unistd::mkfifo(&at.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["link", "fifo", "missing/log", ""] {
            let error = Log::open(LogOrder { path: at.path().join(name), max_size: None }).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{name}: {error:?}");
            assert!(error.to_string().contains("log "), "{error}");
        }
        assert!(!at.path().join("elsewhere").exists());
    }

    #[test]
    fn bytes_of_any_value_are_kept() {
        let at = tempfile::tempdir().unwrap();
        let mut log = log(&at, None);
        let data = [vec![0; 70_000], (0..=255).collect::<Vec<u8>>(), vec![b'\n'; 5000]].concat();
        log.add(Channel::Stdout, &data);
        let text = std::fs::read(at.path().join("log")).unwrap();
        let mut found = Vec::new();
        for line in text.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n') {
            let record = &line["2026-11-25T18:04:05.000000006+00:00 stdout ".len()..];
            found.extend_from_slice(&record[2..]);
            if record[0] == b'F' {
                found.push(b'\n');
            }
        }
        assert!(found == data);
        assert_eq!(log.batch.capacity(), 0);
    }

    #[test]
    fn a_disk_that_is_full_loses_text_and_nothing_else() {
        let at = tempfile::tempdir().unwrap();
        let mut log = log(&at, None);
        log.add(Channel::Stdout, b"one\n");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut log.file, full);
        log.add(Channel::Stdout, b"lost\n");
        log.add(Channel::Stderr, b"lost, too\n");
        assert_eq!(log.failures, 2);
        // Half of a record was written when the disk became full.
        log.file = file;
        log.file.write_all(b"2026").unwrap();
        log.torn = true;
        log.add(Channel::Stdout, b"four\n");
        let text = std::fs::read_to_string(at.path().join("log")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[1]), (3, "2026"));
        assert!(lines[2].ends_with("stdout F four"), "{text}");
    }
}
