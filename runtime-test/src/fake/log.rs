//! Log files in the CRI format: `TIME stdout|stderr P|F TEXT`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use runtime_api::{Error, ErrorKind, LogConfig, LogDriver, Result};

use crate::Defect;

use super::model::Stream;

/// The longest text of one entry; longer lines are written in parts.
const LONGEST: usize = 8192;

/// The smallest limit that a log's size can have.
const SMALLEST_LIMIT: u64 = 8192;

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    max_size: Option<u64>,
    defect: Option<Defect>,
    reopened_at: Option<SystemTime>,
    drops_next: bool,
}

impl LogFile {
    /// Opens the log that a request asks for, if it asks for one.
    ///
    /// # Errors
    /// `ConfigInvalid`, `InvalidArgument`.
    pub(super) fn open(config: &LogConfig, defect: Option<Defect>) -> Result<Option<Self>> {
        let path = match (config.driver, &config.path) {
            (LogDriver::None, _) => return Ok(None),
            (LogDriver::CriFile, Some(path)) => path,
            (LogDriver::CriFile, None) => {
                return Err(Error::new(ErrorKind::InvalidArgument("a log file needs a path".to_owned())));
            }
            _ => {
                let why = "the fake runtime writes log files in the CRI format only".to_owned();
                return Err(Error::new(ErrorKind::ConfigInvalid(why)));
            }
        };
        let tiny = config.max_size.is_some_and(|size| size < SMALLEST_LIMIT);
        if tiny && defect != Some(Defect::TinyLogLimitIsAccepted) {
            let why = format!("the size limit of a log must be at least {SMALLEST_LIMIT} bytes");
            return Err(Error::new(ErrorKind::InvalidArgument(why)).on(path.display()));
        }
        check(path, defect)?;
        if defect == Some(Defect::LogIsBegunAnew) {
            // Whether there was one to remove is the defect's own affair.
            let _ = fs::remove_file(path);
        }
        let mode = if defect == Some(Defect::LogIsPublic) { 0o644 } else { 0o600 };
        let file = append(path, mode).map_err(|error| {
            Error::new(ErrorKind::ConfigInvalid("the log cannot be opened".to_owned()))
                .on(path.display())
                .caused_by(error)
        })?;
        let written = file.metadata().map_or(0, |file| file.len());
        let max_size = config.max_size.filter(|_| defect != Some(Defect::LogLimitIsIgnored));
        let (path, reopened_at, drops_next) = (path.clone(), None, false);
        Ok(Some(Self { path, file, written, max_size, defect, reopened_at, drops_next }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what a program wrote at once. A line that is not ended is written as a part.
    ///
    /// # Errors
    /// Those of writing and renaming the file.
    pub(super) fn write(&mut self, at: SystemTime, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        if std::mem::take(&mut self.drops_next) {
            return Ok(());
        }
        let text = if self.has(Defect::LogDropsBinaryData) {
            bytes.iter().copied().filter(|byte| *byte != 0).collect()
        } else {
            Cow::Borrowed(bytes)
        };
        let bytes = text.as_ref();
        let at = if self.has(Defect::LogTimesAreWrong) { SystemTime::UNIX_EPOCH } else { at };
        let time = humantime::format_rfc3339_nanos(at).to_string();
        let prefix = |tag| format!("{}+00:00 {name} {tag} ", time.trim_end_matches('Z'));
        let (part, full) = (prefix('P'), prefix('F'));
        let mut entries = Vec::with_capacity(bytes.len() * 2);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
            let mut rest = text;
            while rest.len() > LONGEST {
                let (head, later) = rest.split_at(LONGEST);
                self.entry(&mut entries, &part, head)?;
                rest = later;
            }
            let ended = ended || self.has(Defect::LogEndsEveryLine);
            self.entry(&mut entries, if ended { &full } else { &part }, rest)?;
        }
        self.file.write_all(&entries)
    }

    /// Opens the file anew, unless the path still is the open file.
    ///
    /// # Errors
    /// `ConfigInvalid` when the place of the file cannot be used.
    pub(super) fn reopen(&mut self, now: SystemTime) -> Result<()> {
        if self.has(Defect::ReopenKeepsTheOldFile) {
            return Ok(());
        }
        let again = self.reopened_at.replace(now).is_some_and(|last| {
            now.duration_since(last).is_ok_and(|apart| apart < Duration::from_millis(50))
        });
        if self.is_in_place() {
            self.drops_next |= again && self.has(Defect::ReopensTogetherLose);
            if self.has(Defect::ReopenBeginsAnew) {
                return self
                    .start_anew()
                    .map_err(|error| self.unusable("it cannot be begun anew").caused_by(error));
            }
            return Ok(());
        }
        match fs::symlink_metadata(&self.path) {
            Ok(there) if !there.is_file() => {
                return Err(self.unusable("something that is no file is in its place"));
            }
            Ok(there) if there.len() > 0 => {
                return Err(self.unusable("another file is in its place, whose content would be lost"));
            }
            _ => {}
        }
        self.file = append(&self.path, 0o600)
            .map_err(|error| self.unusable("it cannot be opened anew").caused_by(error))?;
        self.written = 0;
        self.drops_next = self.has(Defect::ReopenLosesALine);
        Ok(())
    }

    fn is_in_place(&self) -> bool {
        let place = |file: fs::Metadata| (file.dev(), file.ino());
        let open = self.file.metadata().map(place).ok();
        open.is_some() && open == fs::symlink_metadata(&self.path).map(place).ok()
    }

    fn unusable(&self, why: &str) -> Error {
        Error::new(ErrorKind::ConfigInvalid(why.to_owned())).on(format_args!("log {}", self.path.display()))
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn entry(&mut self, entries: &mut Vec<u8>, prefix: &str, text: &[u8]) -> io::Result<()> {
        let size = (prefix.len() + text.len() + 1) as u64;
        if self.max_size.is_some_and(|limit| self.written + size > limit) {
            self.file.write_all(entries)?;
            entries.clear();
            self.start_anew()?;
        }
        self.written += size;
        entries.extend(prefix.as_bytes());
        entries.extend(text);
        entries.push(b'\n');
        Ok(())
    }

    fn start_anew(&mut self) -> io::Result<()> {
        let mut fresh = self.path.clone().into_os_string();
        let _ = fresh.write_str(".tmp");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        fs::rename(&fresh, &self.path)?;
        self.file = file;
        self.written = 0;
        Ok(())
    }
}

fn append(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(mode).open(path)
}

fn check(path: &Path, defect: Option<Defect>) -> Result<()> {
    let refused = |why: &str| Error::new(ErrorKind::ConfigInvalid(why.to_owned())).on(path.display());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        if defect != Some(Defect::LogDirectoryIsMade) {
            return Err(
                refused("the log's parent directory does not exist").hint("make it before the create")
            );
        }
        fs::create_dir_all(parent).map_err(|error| refused("no directory").caused_by(error))?;
    }
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() && defect != Some(Defect::LogLinkIsFollowed) => {
            Err(refused("the log is a symbolic link, and links are not followed"))
        }
        Ok(there) if there.is_dir() => Err(refused("the log is a directory")),
        // What is missing is made; what cannot be looked at is told when it is opened.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn entries_have_a_time_a_stream_and_a_tag() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&LogConfig::cri_file(&path), None).unwrap().unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(1);
        log.write(at, Stream::Stdout, b"a\n\nb").unwrap();
        log.write(at, Stream::Stderr, b"c\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("1970-01-01T00:00:00.000000001+00:00 stdout F a\n"), "{text}");
        assert_eq!(lines(&path), ["stdout F a", "stdout F ", "stdout P b", "stderr F c"]);
    }

    #[test]
    fn long_lines_come_in_parts_and_large_logs_start_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let config = LogConfig::cri_file(&path).max_size(20_000);
        let mut log = LogFile::open(&config, None).unwrap().unwrap();
        let mut line = vec![b'x'; 2 * LONGEST + 1];
        line.push(b'\n');
        log.write(SystemTime::UNIX_EPOCH, Stream::Stdout, &line).unwrap();
        let tags: Vec<_> = lines(&path).iter().map(|line| line[7..8].to_owned()).collect();
        assert_eq!(tags, ["P", "P", "F"]);
        log.write(SystemTime::UNIX_EPOCH, Stream::Stdout, &line).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= 20_000);
    }

    #[test]
    fn reopening_changes_nothing_until_the_file_was_moved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&LogConfig::cri_file(&path), None).unwrap().unwrap();
        log.write(SystemTime::UNIX_EPOCH, Stream::Stdout, b"old\n").unwrap();
        log.reopen(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(lines(&path), ["stdout F old"]);
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        log.reopen(SystemTime::UNIX_EPOCH).unwrap_err();
        fs::remove_file(&path).unwrap();
        log.reopen(SystemTime::UNIX_EPOCH).unwrap();
        log.write(SystemTime::UNIX_EPOCH, Stream::Stdout, b"new\n").unwrap();
        assert_eq!(lines(&path), ["stdout F new"]);
    }

    #[test]
    fn links_and_missing_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).unwrap();
        for bad in ["link", "missing/log", "."] {
            let config = LogConfig::cri_file(dir.path().join(bad));
            let error = LogFile::open(&config, None).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{bad}: {error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
