//! One side of the comparison: a process that lives a container's life whenever it is told.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::Result;

/// Far more than a life takes on any machine.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Side {
    name: &'static str,
    process: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Side {
    pub(crate) fn start(name: &'static str, program: &Path, arguments: &[&OsStr]) -> Result<Self> {
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{name}: {} cannot be started: {error}", program.display()))?;
        let (Some(commands), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(format!("{name}: its streams were not piped").into());
        };
        Ok(Self { name, process, commands, answers: BufReader::new(answers).lines() })
    }

    /// One life; gives what it took.
    pub(crate) async fn live(&mut self) -> Result<Duration> {
        let name = self.name;
        let answer = async {
            self.commands.write_all(b"go\n").await?;
            self.answers.next_line().await
        };
        let line = timeout(DEADLINE, answer)
            .await
            .map_err(|_| format!("{name}: no life within {} s", DEADLINE.as_secs()))?
            .map_err(|error| format!("{name}: {error}"))?
            .ok_or_else(|| format!("{name}: it ended; what it said is above"))?;
        Ok(Duration::from_nanos(line.trim().parse().map_err(|_| format!("{name}: it said {line:?}"))?))
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        drop(self.commands);
        let status = timeout(DEADLINE, self.process.wait()).await??;
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", self.name).into()) }
    }
}
