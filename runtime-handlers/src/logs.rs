//! Reading a container's log back: lines as the program printed them, from a file in the format of the CRI.
//!
//! A log has one record a line, `TIME stdout|stderr P|F TEXT`, and a long line is several records, of which all but the
//! last are marked `P`. [`LogReader`] puts them together again. It copes with what logs go through: a record that is
//! being written, lines that are no records, a rename with a new file in the old place, a file that is cut to size.
//!
//! ```no_run
//! # async fn run() -> runtime_api::Result<()> {
//! use runtime_handlers::logs::{LogOptions, LogReader};
//!
//! let mut log = LogReader::open("/var/log/web.log", LogOptions::new().tail(10))?;
//! while let Some(line) = log.next().await? {
//!     println!("{}", String::from_utf8_lossy(&line.text));
//! }
//! # Ok(())
//! # }
//! ```

mod decode;
mod tail;
mod time;

use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, Metadata};
use std::future::Future;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use runtime_api::{Error, ErrorKind as Kind, Result};

use decode::Decoder;
pub use decode::{LogLine, LogStream};
pub use time::parse_time;

/// How often a log that is followed is looked at.
const POLL: Duration = Duration::from_millis(100);
/// A piece of a line is handed out when for so many looks nothing more came.
const LINGER: u32 = 10;
/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// What to read of a log.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Of what is there, only so many lines, the last ones.
    pub tail: Option<u64>,
    /// Only lines that were begun at this time or later.
    pub since: Option<SystemTime>,
    /// The longest text that is kept in memory of one line; a longer line comes in pieces.
    pub line_limit: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { tail: None, since: None, line_limit: 1024 * 1024 }
    }
}

impl LogOptions {
    /// Everything; lines of up to 1 MiB come whole.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only the last lines of what is there.
    #[must_use]
    pub const fn tail(mut self, lines: u64) -> Self {
        self.tail = Some(lines);
        self
    }

    /// Only what was printed since.
    #[must_use]
    pub const fn since(mut self, time: SystemTime) -> Self {
        self.since = Some(time);
        self
    }

    /// The longest text that comes whole.
    #[must_use]
    pub const fn line_limit(mut self, bytes: usize) -> Self {
        self.line_limit = bytes;
        self
    }
}

type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whether more is expected.
enum Following {
    No,
    Until(Ended),
    /// The container has ended: what is there now is all.
    Over,
}

/// Reads a log, line by line.
pub struct LogReader {
    path: PathBuf,
    options: LogOptions,
    /// `None` while the log is not there yet.
    file: Option<File>,
    position: u64,
    decoder: Decoder,
    lines: VecDeque<LogLine>,
    /// How many more lines that are ended do not count.
    skip: u64,
    following: Following,
    idle: u32,
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader")
            .field("path", &self.path)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl LogReader {
    /// Opens a log, to read what is there.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, and `ConfigInvalid` for what is no file.
    pub fn open(path: impl Into<PathBuf>, options: LogOptions) -> Result<Self> {
        Self::new(path.into(), options, Following::No)
    }

    /// Opens a log, to read what is there and what comes until `ended`: the end of the container, as its `wait` tells it.
    /// The log need not be there yet.
    ///
    /// # Errors
    /// `PermissionDenied`, and `ConfigInvalid` for what is no file.
    pub fn follow(
        path: impl Into<PathBuf>,
        options: LogOptions,
        ended: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self> {
        Self::new(path.into(), options, Following::Until(Box::pin(ended)))
    }

    fn new(path: PathBuf, options: LogOptions, following: Following) -> Result<Self> {
        let decoder = Decoder::new(options.line_limit);
        let lines = VecDeque::new();
        let mut reader =
            Self { path, options, file: None, position: 0, decoder, lines, skip: 0, following, idle: 0 };
        match open(&reader.path) {
            Ok(file) => reader.begin(file),
            Err(error) if error.kind() == ErrorKind::NotFound && !reader.reads_once() => Ok(()),
            Err(error) => Err(error),
        }
        .map_err(|error| unreadable(&reader.path, error))?;
        Ok(reader)
    }

    /// How many lines of the file were no records, up to now. They are passed over.
    #[must_use]
    pub const fn malformed(&self) -> u64 {
        self.decoder.malformed
    }

    /// The next line; `None` after the last one. Cancel safe: a call that is dropped loses nothing.
    ///
    /// # Errors
    /// Those of reading the file. The same call may help later.
    pub async fn next(&mut self) -> Result<Option<LogLine>> {
        loop {
            while let Some(line) = self.lines.pop_front() {
                if self.counts(&line) {
                    return Ok(Some(line));
                }
            }
            let read = self.read().and_then(|more| if more { Ok(true) } else { self.move_on() });
            if read.map_err(|error| unreadable(&self.path, error))? {
                self.idle = 0;
                continue;
            }
            match &mut self.following {
                Following::Until(ended) => {
                    self.idle = self.idle.saturating_add(1);
                    if self.idle > LINGER && self.decoder.has_begun() {
                        self.decoder.flush(&mut self.lines);
                        continue;
                    }
                    if tokio::time::timeout(POLL, ended).await.is_ok() {
                        self.following = Following::Over;
                    }
                }
                Following::No | Following::Over => {
                    if !self.decoder.has_begun() {
                        return Ok(None);
                    }
                    self.decoder.flush(&mut self.lines);
                }
            }
        }
    }

    const fn reads_once(&self) -> bool {
        matches!(self.following, Following::No)
    }

    fn counts(&mut self, line: &LogLine) -> bool {
        if self.skip > 0 {
            self.skip -= u64::from(line.ended);
            return false;
        }
        self.options.since.is_none_or(|since| line.time >= since)
    }

    /// Begins with a file, at the place that the options ask for.
    fn begin(&mut self, mut file: File) -> io::Result<()> {
        if let Some(count) = self.options.tail.take() {
            let end = file.metadata()?.len();
            let start = tail::start_of_last(&file, end, count)?;
            self.skip = ended_lines(&mut file, start, end)?.saturating_sub(count);
            self.position = file.seek(SeekFrom::Start(start))?;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Reads on; false at the end of the file.
    fn read(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let mut chunk = vec![0; CHUNK];
        let count = loop {
            match file.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.position += count as u64;
        self.decoder.feed(&chunk[..count], &mut self.lines);
        Ok(count > 0)
    }

    /// At the end of the file: whether there is more, in a new file in its place, or because it was cut.
    fn move_on(&mut self) -> io::Result<bool> {
        if self.reads_once() {
            return Ok(false);
        }
        let Some(file) = &mut self.file else {
            return match open(&self.path) {
                Ok(file) => self.begin(file).map(|()| true),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            };
        };
        let now = file.metadata()?;
        let there = match std::fs::metadata(&self.path) {
            Ok(there) => there,
            // It was renamed, and the new one is not there yet.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if place(&there) != place(&now) {
            // Whoever writes has gone over to the new file, but not before it wrote the last of the old one.
            if self.read()? {
                return Ok(true);
            }
            let next = match open(&self.path) {
                Ok(next) => next,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            };
            self.file = Some(next);
        } else if now.len() < self.position {
            file.rewind()?;
        } else {
            return Ok(false);
        }
        self.position = 0;
        self.decoder.file_ended();
        Ok(true)
    }
}

/// How many lines are ended between two places of a file.
fn ended_lines(file: &mut File, start: u64, end: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(start))?;
    // Nothing is kept of the lines, so the limit does not matter.
    let (mut decoder, mut lines, mut count) = (Decoder::new(CHUNK), VecDeque::new(), 0);
    let mut rest = file.take(end - start);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = rest.read(&mut chunk)?;
        decoder.feed(&chunk[..read], &mut lines);
        if read == 0 {
            decoder.flush(&mut lines);
        }
        count += lines.drain(..).filter(|line| line.ended || read == 0).count() as u64;
        if read == 0 {
            return Ok(count);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Looked at first: a fifo would be waited for.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    File::open(path)
}

fn place(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let told = |kind| Error::new(kind).during_step("read").on(format_args!("log {}", path.display()));
    let kind = match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::PermissionDenied => Kind::PermissionDenied,
        // Our own word, which says everything.
        ErrorKind::InvalidInput => return told(Kind::ConfigInvalid(error.to_string())),
        _ => Kind::Unavailable("it cannot be read".to_owned()),
    };
    told(kind).caused_by(error)
}

#[cfg(test)]
mod tests;
