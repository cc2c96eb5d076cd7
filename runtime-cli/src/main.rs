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
mod print;
mod probe;
mod reference;
mod run;
mod state_dir;

use std::io::{IsTerminal as _, Write as _};
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
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(refusal) => return print::closed(explain(&refusal)),
    };
    if let Err(what) = log_to_stderr() {
        tell(&what);
        return ExitCode::from(WRONG_USAGE);
    }
    print::closed(match command_line.command {
        Command::Run(args) => run::main(&args),
        Command::List(args) => containers::list(&args),
        Command::Delete(args) => containers::delete(&args),
        Command::Handlers(command) => handlers::main(&command),
        Command::Conformance(command) => conformance::main(&command),
        Command::Probe(args) => probe::main(&args),
        Command::Logs(args) => logs::main(&args),
    })
}

/// The code of wrong usage, which is also that of the parser.
const WRONG_USAGE: u8 = 2;

/// Prints help or what is wrong with the command line.
fn explain(refusal: &clap::Error) -> ExitCode {
    let printed = refusal.print().and_then(|()| std::io::stdout().flush());
    if let (Err(error), false) = (printed, refusal.use_stderr()) {
        print::keep(&error);
    }
    ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(WRONG_USAGE))
}

/// The log is help for people: that it cannot be written keeps nothing from its end.
fn log_to_stderr() -> Result<(), String> {
    const NAME: &str = "MANYRUN_LOG";
    let wanted = match std::env::var(NAME) {
        Ok(text) if !text.trim().is_empty() => text,
        Ok(_) | Err(std::env::VarError::NotPresent) => "error".to_owned(),
        Err(error) => return Err(format!("{NAME}: {error}")),
    };
    let filter = tracing_subscriber::EnvFilter::try_new(&wanted).map_err(|error| {
        format!("{NAME}={wanted:?} is no level (such as debug) and no list of TARGET=LEVEL: {error}")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .init();
    Ok(())
}

/// Tells an error on one line, and gives the exit code that fits it.
fn fail(error: &Error) -> u8 {
    tell(&error.report());
    error.exit_code()
}

/// Writes a line to standard error. That nobody reads it must not keep the command from its work.
fn tell(text: &str) {
    print::err(format!("manyrun: {text}\n").as_bytes());
}
