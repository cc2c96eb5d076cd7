//! The measure for `make bench`: whole container lives with conmon and an OCI runtime, driven by hand.
//!
//! It does what any caller of conmon must do and nothing more: a private bundle directory, conmon with a sync pipe and a
//! start pipe, the runtime's `start`, the exit file seen by inotify, the runtime's `delete`. Each line `go` on standard
//! input is one life; its time in nanoseconds is printed as one line.
//!
//! ```text
//! bench-baseline CONMON RUNTIME CONFIG WORK
//! ```
//! CONFIG is a `config.json` in which `@ID@` stands for the container's id; WORK is an empty directory.

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::{pipe2, read, write};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long any single wait may take.
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [conmon, runtime, config, work] = arguments.as_slice() else {
        return Err("usage: bench-baseline CONMON RUNTIME CONFIG WORK".into());
    };
    let lives = Lives::prepare(conmon, runtime, Path::new(config), Path::new(work))?;
    let mut out = io::stdout().lock();
    for (number, line) in io::stdin().lock().lines().enumerate() {
        if line?.trim() != "go" {
            return Err("the only command is \"go\"".into());
        }
        let began = Instant::now();
        let code = lives.live(&format!("baseline-{number}"))?;
        let took = began.elapsed();
        if code != "0" {
            return Err(format!("the program ended with {code}").into());
        }
        writeln!(out, "{}", took.as_nanos())?;
        out.flush()?;
    }
    Ok(())
}

/// Everything that is the same for each life.
struct Lives {
    conmon: String,
    runtime: String,
    config: String,
    bundles: PathBuf,
    exits: PathBuf,
    root: PathBuf,
    exit_files: Inotify,
}

impl Lives {
    fn prepare(conmon: &str, runtime: &str, config: &Path, work: &Path) -> Result<Self> {
        // Conmon runs in the bundle directory, where a relative path would mean something else.
        let work = work.canonicalize()?;
        let [bundles, exits, root] = ["bundles", "exits", "root"].map(|name| work.join(name));
        for directory in [&bundles, &exits, &root] {
            fs::create_dir_all(directory)?;
        }
        let exit_files = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        exit_files.add_watch(&exits, AddWatchFlags::IN_MOVED_TO)?;
        Ok(Self {
            conmon: conmon.to_owned(),
            runtime: runtime.to_owned(),
            config: fs::read_to_string(config)?,
            bundles,
            exits,
            root,
            exit_files,
        })
    }

    /// Create, start, wait, delete. Gives what conmon wrote into the exit file.
    fn live(&self, id: &str) -> Result<String> {
        let bundle = self.bundles.join(id);
        fs::create_dir(&bundle)?;
        fs::write(bundle.join("config.json"), self.config.replace("@ID@", id))?;
        self.create(id, &bundle)?;
        self.run(&["start", id])?;
        let code = self.wait(id)?;
        self.run(&["delete", id])?;
        fs::remove_file(self.exits.join(id))?;
        fs::remove_dir_all(&bundle)?;
        Ok(code)
    }

    fn create(&self, id: &str, bundle: &Path) -> Result<()> {
        let (sync_ours, sync_theirs) = pipe2(OFlag::O_CLOEXEC)?;
        let (start_theirs, start_ours) = pipe2(OFlag::O_CLOEXEC)?;
        for fd in [&sync_theirs, &start_theirs] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        let mut monitor = Command::new(&self.conmon)
            .args(["--api-version", "1", "-c", id, "-n", id, "-u", id])
            .args(["-r", &self.runtime])
            .arg("-b")
            .arg(bundle)
            .arg("-p")
            .arg(bundle.join("pidfile"))
            .arg("-P")
            .arg(bundle.join("conmon-pidfile"))
            .arg("--exit-dir")
            .arg(&self.exits)
            .arg("--persist-dir")
            .arg(bundle)
            .args(["--full-attach", "-l", "none"])
            .arg(format!("--runtime-arg=--root={}", self.root.display()))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("_OCI_SYNCPIPE", sync_theirs.as_raw_fd().to_string())
            .env("_OCI_STARTPIPE", start_theirs.as_raw_fd().to_string())
            .current_dir(bundle)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        drop((sync_theirs, start_theirs));
        write(&start_ours, &[0])?;
        drop(start_ours);
        let ended = monitor.wait()?;
        if !ended.success() {
            return Err(format!("conmon: {ended}").into());
        }
        let answer = read_line(&sync_ours)?;
        // `{"data": PID}` on success, `{"data": -1, "message": ..}` or nothing at all on failure.
        if answer.is_empty() || answer.contains("-1") {
            return Err(format!("create: {answer:?}").into());
        }
        Ok(())
    }

    fn run(&self, verb: &[&str]) -> Result<()> {
        let ended = Command::new(&self.runtime)
            .arg(format!("--root={}", self.root.display()))
            .args(verb)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        if ended.success() { Ok(()) } else { Err(format!("{verb:?}: {ended}").into()) }
    }

    /// Waits until conmon has moved the exit file of `id` to its place.
    fn wait(&self, id: &str) -> Result<String> {
        let file = self.exits.join(id);
        let until = Instant::now() + DEADLINE;
        while !file.exists() {
            await_readable(&self.exit_files, until)?;
            // The events only wake us: the file itself is the answer.
            self.exit_files.read_events()?;
        }
        Ok(fs::read_to_string(file)?)
    }
}

fn read_line(from: &OwnedFd) -> Result<String> {
    let until = Instant::now() + DEADLINE;
    let mut line = Vec::new();
    let mut chunk = [0; 512];
    while !line.contains(&b'\n') {
        await_readable(from, until)?;
        match read(from, &mut chunk)? {
            0 => break,
            count => line.extend_from_slice(&chunk[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn await_readable(fd: &impl AsFd, until: Instant) -> Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::try_from(left)?)? {
        0 => Err("nothing came within the deadline".into()),
        _ => Ok(()),
    }
}
