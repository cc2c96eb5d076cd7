//! This process's standard input, as far as it may be read.

use std::io::stdin;

use rustix::fs::{FileType, fstat, stat};
use rustix::process::getpgrp;
use rustix::termios::{isatty, tcgetpgrp};

/// What there is to read for the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Nothing: it is closed, or `/dev/null`, or the terminal of somebody else's foreground job.
    Nothing,
    /// A file, a pipe, a socket.
    Stream,
    /// A terminal, and this process is in its foreground.
    Terminal,
}

impl Input {
    pub(super) fn look() -> Self {
        let Ok(ours) = fstat(stdin()) else { return Self::Nothing };
        if isatty(stdin()) {
            // Reading a terminal from the background would stop this process.
            return if tcgetpgrp(stdin()).is_ok_and(|front| front == getpgrp()) {
                Self::Terminal
            } else {
                Self::Nothing
            };
        }
        let is_device = FileType::from_raw_mode(ours.st_mode) == FileType::CharacterDevice;
        if is_device && stat("/dev/null").is_ok_and(|null| null.st_rdev == ours.st_rdev) {
            return Self::Nothing;
        }
        Self::Stream
    }
}
