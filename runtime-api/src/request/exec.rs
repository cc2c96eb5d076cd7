//! What callers ask of second programs in a container.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{ExecId, StdinMode};

/// A program to run inside a container. What is not given is taken from the container's own process.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessRequest {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `KEY=value` pairs that are added; later ones win.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: Option<PathBuf>,
    /// User and group ids.
    pub user: Option<(u32, u32)>,
    /// Further group ids.
    pub groups: Vec<u32>,
    /// The names of the capabilities it has (`CAP_CHOWN`).
    pub capabilities: Option<Vec<String>>,
    /// Whether it gets a terminal.
    pub terminal: bool,
}

impl ProcessRequest {
    /// A program with its arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push(format!("{key}={value}"));
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Sets the user and group.
    #[must_use]
    pub const fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Sets further groups.
    #[must_use]
    pub fn groups(mut self, gids: impl IntoIterator<Item = u32>) -> Self {
        self.groups = gids.into_iter().collect();
        self
    }

    /// Sets the capabilities that it has (`CAP_CHOWN`), and no others.
    #[must_use]
    pub fn capabilities<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.capabilities = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Gives it a terminal.
    #[must_use]
    pub const fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }
}

/// Asks for a second program with the caller's streams attached.
#[non_exhaustive]
#[derive(Debug)]
pub struct ExecRequest {
    /// The program.
    pub process: ProcessRequest,
    /// After this time it and its descendants are killed. `None` is unlimited, zero is invalid.
    pub timeout: Option<Duration>,
    /// Open files that the program gets besides its three streams, numbered from 3; needs `exec.descriptors`. They are
    /// closed here once the program has them.
    pub descriptors: Vec<Arc<OwnedFd>>,
}

impl ExecRequest {
    /// A program without a time limit.
    #[must_use]
    pub const fn new(process: ProcessRequest) -> Self {
        Self { process, timeout: None, descriptors: Vec::new() }
    }

    /// Limits its time.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Gives it an open file: the first one is number 3, the next one 4.
    #[must_use]
    pub fn descriptor(mut self, file: impl Into<OwnedFd>) -> Self {
        self.descriptors.push(Arc::new(file.into()));
        self
    }
}

/// Asks for a second program whose output is collected.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ExecSyncRequest {
    /// The program.
    pub process: ProcessRequest,
    /// After this time it and its descendants are killed. `None` is unlimited, zero is invalid.
    pub timeout: Option<Duration>,
    /// How many bytes of standard output and standard error are kept together; the rest is read and dropped.
    pub output_limit: usize,
}

impl ExecSyncRequest {
    /// What the CRI asks for: 16 MiB.
    pub const DEFAULT_OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

    /// A program without a time limit, with the default output limit.
    #[must_use]
    pub const fn new(process: ProcessRequest) -> Self {
        Self { process, timeout: None, output_limit: Self::DEFAULT_OUTPUT_LIMIT }
    }

    /// Limits its time.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Limits how much output is kept.
    #[must_use]
    pub const fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }
}

/// Asks for a session that outlives the caller.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ExecSessionRequest {
    /// The session's id, free until now within the container.
    pub session: ExecId,
    /// The program.
    pub process: ProcessRequest,
    /// Its standard input.
    pub stdin: StdinMode,
}

impl ExecSessionRequest {
    /// A session without input.
    #[must_use]
    pub const fn new(session: ExecId, process: ProcessRequest) -> Self {
        Self { session, process, stdin: StdinMode::Closed }
    }

    /// Sets what happens to standard input.
    #[must_use]
    pub const fn stdin(mut self, stdin: StdinMode) -> Self {
        self.stdin = stdin;
        self
    }
}
