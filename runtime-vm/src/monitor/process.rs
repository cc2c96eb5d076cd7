//! The monitor as a program: it lets go of everything that it was born with, and lives.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

use super::launch::ShimLaunch;
use super::life::live;

/// How much a monitor complains in its life.
const COMPLAINTS: usize = 1024 * 1024;

/// Runs the monitor whose directory is given. Standard input and output must be pipes: the word to go on, and the report.
/// Standard error is where it complains.
///
/// It must be called first thing in `main`, before there are threads and descriptors.
///
/// # Errors
/// Why this process cannot be a monitor.
pub fn run(dir: &Path) -> io::Result<ExitCode> {
    close_what_was_inherited()?;
    // It outlives the terminal and the session of whoever started it. Whoever leads a group is not detached, and nobody
    // who starts a monitor makes it one.
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/")?;
    let (go_on, report) = take_pipes()?;
    tracing_subscriber::fmt()
        .with_writer(std::sync::Mutex::new(Complaints { left: COMPLAINTS }))
        .with_ansi(false)
        .with_target(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lived = runtime.block_on(async {
        let go_on = pipe::Receiver::from_owned_fd(go_on)?;
        let report = pipe::Sender::from_owned_fd(report)?;
        // Who goes away takes no monitor along.
        let _hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let until = async {
            terminate.recv().await;
        };
        let launch = ShimLaunch::in_this_process().map_err(io::Error::other)?;
        Ok::<_, io::Error>(live(dir, &launch, report, go_on, until).await)
    })?;
    // What is blocking in a thread of the runtime, if anything is, is nothing to wait for.
    runtime.shutdown_background();
    Ok(match lived {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error.report(), "there is no shim");
            ExitCode::FAILURE
        }
    })
}

/// Standard error, until enough was said: it is a file that nobody cuts.
struct Complaints {
    left: usize,
}

impl io::Write for Complaints {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if self.left > 0 {
            self.left = self.left.saturating_sub(text.len());
            io::stderr().write_all(text)?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whoever starts programs may have descriptors that were not marked to be closed: they would be open for ever here.
fn close_what_was_inherited() -> io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in open {
        // The one that the directory was read through is closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// Takes the pipes at standard input and output, and puts nothing in their place.
fn take_pipes() -> io::Result<(OwnedFd, OwnedFd)> {
    let pipes = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&nothing)?;
    nix::unistd::dup2_stdout(&nothing)?;
    Ok(pipes)
}
