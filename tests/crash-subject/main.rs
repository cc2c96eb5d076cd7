//! A caller that lives a container's life while it is killed, or what it relies on: what `crashes` and `vm_execs` aim at.
//!
//! ```text
//! crash-subject RUNTIME STATE CGROUP PROGRESS BUNDLES LOG ID SCENARIO [MOMENT [halt]]
//! ```
//! It waits for a line on standard input, opens a value over STATE, lives the life, and appends `begin N`, `end N` and
//! `failed N WHY` to PROGRESS. MOMENT says when it kills itself: `after:N` when step N is over, `during:N:MICROS` so long
//! after step N has begun; with `halt` it only stops then, until somebody lets it go on. Without it somebody else decides.
//! The scenario `none` opens the value and ends.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use manyrun_tests::handler;
use manyrun_tests::life::{Life, Scenario};
use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use runtime_api::{ContainerId, OpenContext};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crash-subject: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let [runtime, state, cgroup, progress, bundles, log, id, scenario, when @ ..] = arguments else {
        return Err("usage: see its source".into());
    };
    let mut progress = File::options().append(true).create(true).open(progress)?;
    let mut moment = Moment::parse(when)?;
    std::io::stdin().read_line(&mut String::new())?;
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    io.block_on(async {
        let config = handler::config(runtime)?;
        let opened = handler::open(&config, OpenContext::new(state, cgroup)).await;
        let runtime = opened.map_err(|error| error.report())?;
        if let Some(scenario) = Scenario::named(scenario) {
            let (bundles, log) = (PathBuf::from(bundles), PathBuf::from(log));
            let life = Life { scenario, id: ContainerId::new(id.as_str())?, bundles, log };
            for (number, step) in scenario.steps.iter().enumerate() {
                progress.write_all(format!("begin {number}\n").as_bytes())?;
                moment.begins(number);
                let done = life.step(&runtime, *step).await;
                if let Err(error) = done {
                    progress.write_all(format!("failed {number} {}\n", error.report()).as_bytes())?;
                    return Err(error.report().into());
                }
                progress.write_all(format!("end {number}\n").as_bytes())?;
                moment.ends(number);
            }
        }
        runtime.shutdown().await;
        Ok(())
    })
}

/// When it kills or stops itself.
enum Moment {
    Never,
    After(usize, Signal),
    During(usize, Sender<()>),
}

impl Moment {
    fn parse(when: &[String]) -> Result<Self> {
        let Some(moment) = when.first() else { return Ok(Self::Never) };
        let halts = when.get(1).is_some_and(|word| word == "halt");
        let signal = if halts { Signal::SIGSTOP } else { Signal::SIGKILL };
        let parts: Vec<&str> = moment.split(':').collect();
        match parts.as_slice() {
            ["after", step] => Ok(Self::After(step.parse()?, signal)),
            ["during", step, micros] => {
                let (begun, waiting) = channel();
                let delay = Duration::from_micros(micros.parse()?);
                std::thread::spawn(move || {
                    // Nothing more is ever sent: the second wait is a sleep.
                    if waiting.recv().is_ok() && waiting.recv_timeout(delay) == Err(RecvTimeoutError::Timeout)
                    {
                        end(signal);
                    }
                });
                Ok(Self::During(step.parse()?, begun))
            }
            _ => Err(format!("no moment: {moment}").into()),
        }
    }

    fn begins(&mut self, number: usize) {
        if let Self::During(step, begun) = self
            && *step == number
        {
            let _ = begun.send(());
        }
    }

    fn ends(&self, number: usize) {
        if let Self::After(step, signal) = self
            && *step == number
        {
            end(*signal);
        }
    }
}

fn end(signal: Signal) {
    let _ = kill(getpid(), signal);
}
