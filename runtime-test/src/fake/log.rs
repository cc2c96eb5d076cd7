//! Log files in the CRI format: `TIME stdout|stderr P|F TEXT`.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use runtime_api::{Error, ErrorKind, LogConfig, LogDriver, Result};

use super::model::Stream;

/// The longest text of one entry; longer lines are written in parts.
const LONGEST: usize = 8192;

/// The smallest limit that a log's size can have.
const SMALLEST_LIMIT: u64 = 8192;

/// How defective a log is.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a defect of its own")]
pub(super) struct Lenience {
    pub(super) makes_directories: bool,
    pub(super) follows_links: bool,
    pub(super) times_are_wrong: bool,
    pub(super) ends_every_line: bool,
}

/// An open log file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
    max_size: Option<u64>,
    lenience: Lenience,
}

impl LogFile {
    /// Opens the log that a request asks for, if it asks for one.
    ///
    /// # Errors
    /// `ConfigInvalid`, `InvalidArgument`.
    pub(super) fn open(config: &LogConfig, lenience: Lenience) -> Result<Option<Self>> {
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
        if config.max_size.is_some_and(|size| size < SMALLEST_LIMIT) {
            let why = format!("the size limit of a log must be at least {SMALLEST_LIMIT} bytes");
            return Err(Error::new(ErrorKind::InvalidArgument(why)).on(path.display()));
        }
        check(path, lenience)?;
        let file = append(path).map_err(|error| {
            Error::new(ErrorKind::ConfigInvalid("the log cannot be opened".to_owned()))
                .on(path.display())
                .caused_by(error)
        })?;
        let written = file.metadata().map_or(0, |file| file.len());
        Ok(Some(Self { path: path.clone(), file, written, max_size: config.max_size, lenience }))
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
        let at = if self.lenience.times_are_wrong { SystemTime::UNIX_EPOCH } else { at };
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
            let ended = ended || self.lenience.ends_every_line;
            self.entry(&mut entries, if ended { &full } else { &part }, rest)?;
        }
        self.file.write_all(&entries)
    }

    /// Opens the file anew, unless the path still is the open file.
    ///
    /// # Errors
    /// Those of looking at and opening the path.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let open = self.file.metadata()?;
        let same = fs::symlink_metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino()));
        if !same {
            self.file = append(&self.path)?;
            self.written = self.file.metadata()?.len();
        }
        Ok(())
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

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn check(path: &Path, lenience: Lenience) -> Result<()> {
    let refused = |why: &str| Error::new(ErrorKind::ConfigInvalid(why.to_owned())).on(path.display());
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        if !lenience.makes_directories {
            return Err(
                refused("the log's parent directory does not exist").hint("make it before the create")
            );
        }
        fs::create_dir_all(parent).map_err(|error| refused("no directory").caused_by(error))?;
    }
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_symlink() && !lenience.follows_links => {
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
        let mut log = LogFile::open(&LogConfig::cri_file(&path), Lenience::default()).unwrap().unwrap();
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1);
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
        let mut log = LogFile::open(&config, Lenience::default()).unwrap().unwrap();
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
        let mut log = LogFile::open(&LogConfig::cri_file(&path), Lenience::default()).unwrap().unwrap();
        log.write(SystemTime::UNIX_EPOCH, Stream::Stdout, b"old\n").unwrap();
        log.reopen().unwrap();
        assert_eq!(lines(&path), ["stdout F old"]);
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        log.reopen().unwrap();
        log.write(SystemTime::UNIX_EPOCH, Stream::Stdout, b"new\n").unwrap();
        assert_eq!(lines(&path), ["stdout F new"]);
    }

    #[test]
    fn links_and_missing_directories_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).unwrap();
        for bad in ["link", "missing/log", "."] {
            let config = LogConfig::cri_file(dir.path().join(bad));
            let error = LogFile::open(&config, Lenience::default()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{bad}: {error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
