//! The command `manyrun`.
#![forbid(unsafe_code)]

mod backends;
mod conformance;
mod containers;
mod handlers;
mod harness;
mod host;
mod json;
mod logs;
mod probe;
mod reference;
mod run;
mod state_dir;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runtime_api::Error;
use runtime_test::cli::ConformanceCommand;

/// Run containers under a runtime that a configuration file names, and test runtimes.
///
/// The log goes to standard error; MANYRUN_LOG sets its level (such as debug, or runtime_handlers=debug).
#[derive(Debug, Parser)]
#[command(name = "manyrun", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    List(containers::List),
    Delete(containers::Delete),
    #[command(subcommand)]
    Handlers(handlers::Command),
    /// Test whether a runtime keeps the contract.
    #[command(subcommand)]
    Conformance(ConformanceCommand),
    Probe(probe::Args),
    Logs(logs::Args),
}

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    log_to_stderr();
    match command_line.command {
        Command::Run(args) => run::main(&args),
        Command::List(args) => containers::list(&args),
        Command::Delete(args) => containers::delete(&args),
        Command::Handlers(command) => handlers::main(&command),
        Command::Conformance(command) => conformance::main(&command),
        Command::Probe(args) => probe::main(&args),
        Command::Logs(args) => logs::main(&args),
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MANYRUN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Tells an error on one line, and gives the exit code that fits it.
fn fail(error: &Error) -> u8 {
    tell(&error.report());
    error.exit_code()
}

/// Writes a line to standard error. That nobody reads it must not keep the command from its work.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "manyrun: {text}");
}
