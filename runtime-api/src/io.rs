//! Streams that callers hand to exec and attach.

use std::fmt;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::{Error, ErrorKind, Result};

/// Something to read a program's input from.
pub type BoxRead = Box<dyn AsyncRead + Send + Unpin>;
/// Something to write a program's output to.
pub type BoxWrite = Box<dyn AsyncWrite + Send + Unpin>;

/// The size of a terminal in character cells.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl WindowSize {
    /// A size; `None` if either is zero, which terminals take for "unknown".
    #[must_use]
    pub const fn new(rows: u16, columns: u16) -> Option<Self> {
        if rows == 0 || columns == 0 { None } else { Some(Self { rows, columns }) }
    }
}

/// The caller's ends of a program's streams. A stream that is not given is closed (input) or dropped (output).
#[non_exhaustive]
#[derive(Default)]
pub struct Streams {
    /// Where input comes from. Its end closes the program's input once, unless the container keeps it open.
    pub stdin: Option<BoxRead>,
    /// Where standard output goes; with a terminal, everything.
    pub stdout: Option<BoxWrite>,
    /// Where standard error goes.
    pub stderr: Option<BoxWrite>,
    /// The wanted size of the terminal; only the newest value counts.
    pub resize: Option<watch::Receiver<Option<WindowSize>>>,
}

impl Streams {
    /// No streams at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Sets where input comes from.
    #[must_use]
    pub fn stdin(mut self, from: impl AsyncRead + Send + Unpin + 'static) -> Self {
        self.stdin = Some(Box::new(from));
        self
    }

    /// Sets where standard output goes.
    #[must_use]
    pub fn stdout(mut self, to: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        self.stdout = Some(Box::new(to));
        self
    }

    /// Sets where standard error goes.
    #[must_use]
    pub fn stderr(mut self, to: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        self.stderr = Some(Box::new(to));
        self
    }

    /// Sets the source of terminal sizes.
    #[must_use]
    pub fn resize(mut self, sizes: watch::Receiver<Option<WindowSize>>) -> Self {
        self.resize = Some(sizes);
        self
    }
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("resize", &self.resize.is_some())
            .finish()
    }
}

/// The keys that detach a client without ending the program, such as `ctrl-p,ctrl-q`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

impl DetachKeys {
    /// The byte sequence; empty means that no keys detach.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for DetachKeys {
    type Err = Error;

    /// Reads a comma-separated list of single characters and `ctrl-X`, X being a letter or one of `@[\]^_`.
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let key = |part: &str| match part.as_bytes() {
            [one] if one.is_ascii() => Some(*one),
            [b'c', b't', b'r', b'l', b'-', letter] => match letter.to_ascii_uppercase() {
                upper @ (b'A'..=b'Z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_') => Some(upper & 0x1f),
                _ => None,
            },
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.split(',').map(key).collect();
        bytes.map(Self).ok_or_else(|| {
            Error::new(ErrorKind::InvalidArgument(format!(
                "detach keys {text:?} must be single characters or ctrl-X, separated by commas"
            )))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_read_as_people_write_them() {
        assert_eq!("ctrl-p,ctrl-q".parse::<DetachKeys>().unwrap().bytes(), [16, 17]);
        assert_eq!("a,ctrl-@,ctrl-]".parse::<DetachKeys>().unwrap().bytes(), [b'a', 0, 29]);
        assert!("".parse::<DetachKeys>().unwrap().bytes().is_empty());
        for bad in ["ctrl-", "ctrl-1", "ab", ",", "alt-x"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad:?}");
        }
    }
}
