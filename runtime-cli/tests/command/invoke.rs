//! Calls the built command in a directory of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use runtime_test::{Workload, bundle};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than any of these calls takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a call gave.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A directory for one test: `bundle/`, `state/`, and `tmp/` for what the command keeps for itself.
#[derive(Debug)]
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.path("tmp")).unwrap();
        place
    }

    pub(crate) fn with(workload: &Workload) -> Self {
        let place = Self::new();
        bundle::write(&place.path("bundle"), workload).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.text(name)
    }

    /// The command, with nothing of the caller's configuration.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manyrun"));
        command
            .args(args)
            .env_remove("MANYRUN_CONFIG")
            .env_remove("MANYRUN_LOG")
            .env_remove("CONTAINERS_CONF")
            .env_remove("CONTAINERS_CONF_OVERRIDE")
            .env("TMPDIR", self.path("tmp"))
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> Answer {
        finish(self.command(args).spawn().unwrap())
    }

    /// `manyrun run` with this place's state directory; `args` end with the bundle.
    pub(crate) fn run(&self, args: &[&str]) -> Answer {
        self.call(&self.run_args(args).iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn run_args(&self, args: &[&str]) -> Vec<String> {
        let state = self.text("state");
        ["run", "--state-dir", state.as_str()].iter().chain(args).map(ToString::to_string).collect()
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Answer {
        let mut command = self.command(&[]);
        let mut child = command.args(self.run_args(args)).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        finish(child)
    }

    /// Nothing is left of any container: the state directory holds constant files of snapshots at most.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let mut left = files(&self.path("state"));
        left.retain(|file| !file.ends_with("/handler.json") && !file.ends_with("/capabilities.json"));
        left.extend(files(&self.path("tmp")));
        assert!(left.is_empty(), "left: {left:#?}");
    }

    /// Not even a state directory was made.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        assert!(!self.path("state").exists(), "left: {:#?}", files(&self.path("state")));
        self.assert_nothing_left();
    }
}

/// Waits for the end of a call, and kills it when it takes too long.
#[track_caller]
pub(crate) fn finish(child: Child) -> Answer {
    let pid = child.id();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(DEADLINE) else {
        signal(pid, Signal::KILL);
        panic!("it did not end within {DEADLINE:?}");
    };
    let output = output.unwrap();
    let code = output.status.code();
    let answer = Answer {
        code: code.unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(code.is_some(), "it died: {answer:?}");
    answer
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Reads lines of a running call, each within the deadline.
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    pub(crate) fn of(stdout: ChildStdout) -> Self {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
                if tell.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
            // What is written later must not meet a closed pipe.
            let _ = reader.read_to_end(&mut Vec::new());
        });
        Self(told)
    }

    #[track_caller]
    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(DEADLINE).expect("a line within the deadline").trim_end().to_owned()
    }
}

fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}
