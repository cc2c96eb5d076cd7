//! The command line of the suite, for the `manyrun` command and for backends of others.

mod commands;
mod sink;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use runtime_api::{Error, ErrorKind, Result};

use crate::Harness;
use crate::suite::SelfCall;

/// What the suite can be asked for. Mount it as a sub-command and hand what was parsed to [`run`].
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
#[non_exhaustive]
pub enum ConformanceCommand {
    /// Show every clause with its sentence.
    List(ListArgs),
    /// Run clauses against a runtime.
    ///
    /// INT or TERM ends it early: what runs is cleaned up, the rest is skipped; a second one ends it at once.
    ///
    /// Exit codes, the first that applies: 125 output was lost, 130 or 143 interrupted, 2 wrong usage or an unknown filter, 3 nothing ran, 1
    /// failures, 4 leaks only, 0.
    #[command(after_help = "Examples:\n  \
        run --runtime fake\n  \
        run --runtime oci:crun --filter create --filter stop.zero-grace-kills --json report.json")]
    Run(RunArgs),
    /// Tell what a clause is about.
    Explain(ExplainArgs),
    /// Run one clause in this process and print its outcome as one line.
    #[command(hide = true)]
    RunOne(RunOneArgs),
}

/// Arguments of `list`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListArgs {
    /// Write the list as JSON to this file, "-" for standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Arguments of `run`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunArgs {
    /// The runtime, such as fake, fake:minimal, oci:crun or oci:/usr/bin/crun.
    #[arg(long, value_name = "REF")]
    pub runtime: String,
    /// Only clauses whose id begins with this: an id, an area or a part. May be given several times.
    #[arg(long, value_name = "ID")]
    pub filter: Vec<String>,
    /// Write the report as JSON to this file, "-" for standard output (text then goes to standard error).
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// How many clauses may run at the same time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
    /// Keep the directories of clauses that passed too.
    #[arg(long)]
    pub keep: bool,
    /// Show only what is not right, and the closing lines.
    #[arg(long)]
    pub quiet: bool,
}

/// Arguments of `explain`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExplainArgs {
    /// The clause's id.
    pub id: String,
}

/// Arguments of the hidden `run-one`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOneArgs {
    /// The runtime.
    #[arg(long, value_name = "REF")]
    pub runtime: String,
    /// The scratch directory; a fresh one unless given.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// The clause's id.
    pub id: String,
}

/// Opens a harness for a reference.
pub type Resolve<'a> = &'a dyn Fn(&str) -> Result<Box<dyn Harness>>;

/// Does what was asked and gives the exit code. The program that calls this has mounted the command as its sub-command
/// `conformance`: for a process per clause it is called again with that word.
#[must_use]
pub fn run(command: &ConformanceCommand, resolve: Resolve<'_>) -> ExitCode {
    run_as(command, resolve, &["conformance"])
}

/// [`run`] for a program that has the command at another place: `words` stand between its name and the sub-command.
#[must_use]
pub fn run_as(command: &ConformanceCommand, resolve: Resolve<'_>, words: &[&str]) -> ExitCode {
    ExitCode::from(exit_code(command, resolve, words))
}

fn exit_code(command: &ConformanceCommand, resolve: Resolve<'_>, words: &[&str]) -> u8 {
    let done = match command {
        ConformanceCommand::List(args) => commands::list(args),
        ConformanceCommand::Explain(args) => commands::explain(args),
        ConformanceCommand::Run(args) => {
            self_call(words).and_then(|call| commands::run(args, resolve, &call))
        }
        ConformanceCommand::RunOne(args) => commands::run_one(args, resolve),
    };
    done.unwrap_or_else(|error| {
        sink::tell(&error.report());
        USAGE
    })
}

/// The whole command line of a backend's own test program, with one runtime.
///
/// ```no_run
/// # use runtime_test::FakeHarness;
/// fn main() -> std::process::ExitCode {
///     runtime_test::cli::main(FakeHarness::full)
/// }
/// ```
#[must_use]
pub fn main<H: Harness>(harness: impl Fn() -> H) -> ExitCode {
    let resolve = |reference: &str| -> Result<Box<dyn Harness>> {
        let ours = harness();
        if ours.reference() == reference {
            return Ok(Box::new(ours));
        }
        Err(Error::new(ErrorKind::InvalidArgument(format!(
            "runtime {reference:?} is not known here; this program tests {:?}",
            ours.reference()
        ))))
    };
    run_as(&Program::parse().command, &resolve, &[])
}

/// Test whether a container runtime keeps the contract.
#[derive(Parser)]
#[command(version)]
struct Program {
    #[command(subcommand)]
    command: ConformanceCommand,
}

const USAGE: u8 = 2;

fn self_call(words: &[&str]) -> Result<SelfCall> {
    let program = std::env::current_exe().map_err(|error| {
        Error::new(ErrorKind::Internal("this program's own file cannot be found".to_owned())).caused_by(error)
    })?;
    Ok(SelfCall { program, args: words.iter().map(OsString::from).collect() })
}

fn resolved(resolve: Resolve<'_>, reference: &str) -> Result<Arc<dyn Harness>> {
    resolve(reference).map(Arc::from)
}

#[cfg(test)]
mod tests;
