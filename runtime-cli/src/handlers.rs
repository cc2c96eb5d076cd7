//! `manyrun handlers`: what the configuration says.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use runtime_api::{Error, HandlerConfig, HandlerName, Result};
use runtime_handlers::{HandlerTable, Snapshot, load};
use serde_json::{Value, json};

use crate::json::Output;
use crate::{backends, fail, tell};

/// Look at the handlers that the configuration offers.
///
/// Without --config the file is the one that MANYRUN_CONFIG names, or /etc/manyrun/handlers.toml with its drop-ins, or
/// the built-in handlers.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every handler.
    #[command(
        after_help = "Examples:\n  manyrun handlers show --origin\n  manyrun handlers show --config FILE --json -"
    )]
    Show {
        #[command(flatten)]
        place: Place,
        /// Show where each handler was written, too.
        #[arg(long)]
        origin: bool,
    },
    /// Check the configuration without touching the host.
    ///
    /// Exit codes: 0 clean or notes only, 1 an error (with --strict also a note), 2 wrong usage or an unreadable file.
    Check {
        #[command(flatten)]
        place: Place,
        /// Notes are errors.
        #[arg(long)]
        strict: bool,
    },
    /// Show one handler as a container would get it; the default one unless named.
    Select {
        #[command(flatten)]
        place: Place,
        /// The handler.
        #[arg(value_name = "NAME")]
        name: Option<HandlerName>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write the answer as JSON to this file, "-" for standard output (text then goes to standard error).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn main(command: &Command) -> ExitCode {
    let done = match command {
        Command::Show { place, origin } => show(place, *origin),
        Command::Check { place, strict } => return ExitCode::from(check(place, *strict)),
        Command::Select { place, name } => select(place, name.as_ref()),
    };
    ExitCode::from(done.map_or_else(|error| fail(&error), |()| 0))
}

fn show(place: &Place, origin: bool) -> Result<()> {
    let output = Output::open(place.json.as_deref())?;
    let table = load::search(place.config.as_deref())?;
    for config in table.handlers.values() {
        let mark = if table.default.as_ref() == Some(&config.name) { "*" } else { " " };
        let written = if origin { format!("  {}", config.origin) } else { String::new() };
        output.say(&format!(
            "{mark} {:<20} {:<6} {}{written}",
            config.name.as_str(),
            config.kind.as_str(),
            binaries(config)
        ));
    }
    if origin {
        for (name, place) in &table.switched_off {
            output.say(&format!("- {:<20} off    {place}", name.as_str()));
        }
        for note in &table.notes {
            output.say(&format!("note: {note}"));
        }
    }
    output.write(&document(&table))
}

fn check(place: &Place, strict: bool) -> u8 {
    let output = match Output::open(place.json.as_deref()) {
        Ok(output) => output,
        Err(error) => return usage(&error),
    };
    let table = match load::search(place.config.as_deref()) {
        Ok(table) => table,
        Err(error) if is_unreadable(&error) => return usage(&error),
        Err(error) => return complain(&output, &error),
    };
    let registry = match backends::registry() {
        Ok(registry) => registry,
        Err(error) => return complain(&output, &error),
    };
    let errors: Vec<_> = table
        .handlers
        .values()
        .filter_map(|config| registry.check(config).err())
        .map(|e| e.report())
        .collect();
    for note in &table.notes {
        output.say(&format!("note: {note}"));
    }
    for error in &errors {
        tell(error);
    }
    output.say(&format!(
        "{} handlers, {} errors, {} notes",
        table.handlers.len(),
        errors.len(),
        table.notes.len()
    ));
    let mut report = document(&table);
    report["errors"] = json!(errors);
    if let Err(error) = output.write(&report) {
        return usage(&error);
    }
    u8::from(!errors.is_empty() || (strict && !table.notes.is_empty()))
}

fn select(place: &Place, name: Option<&HandlerName>) -> Result<()> {
    let output = Output::open(place.json.as_deref())?;
    let table = load::search(place.config.as_deref())?;
    let config = table.select(name)?;
    backends::registry()?.check(config)?;
    let snapshot = Snapshot::of(config);
    output.say(&format!("handler   {}", config.name));
    output.say(&format!("kind      {}", config.kind));
    output.say(&format!("binary    {}", binaries(config)));
    output.say(&format!("snapshot  {}", snapshot.id()));
    output.say(&format!("origin    {}", config.origin));
    output.write(&json!({"schema": 1, "snapshot": snapshot.id(), "handler": config}))
}

fn binaries(config: &HandlerConfig) -> String {
    let paths: Vec<_> = config.paths.iter().map(|path| path.display().to_string()).collect();
    match (paths.is_empty(), config.kind.as_str()) {
        (true, "oci") => format!("{} on PATH", config.name),
        (true, _) => String::new(),
        (false, _) => paths.join(", "),
    }
}

fn document(table: &HandlerTable) -> Value {
    json!({
        "schema": 1,
        "default": table.default,
        "sources": table.sources,
        "handlers": table.handlers,
        "switched_off": table.switched_off,
        "notes": table.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// Whether the trouble is the file itself and not what it says.
fn is_unreadable(error: &Error) -> bool {
    use runtime_api::ErrorKind::{NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | PermissionDenied) || is_no_text(error)
}

fn is_no_text(error: &Error) -> bool {
    // What the loader refuses names the file alone; what the parser refuses names a line of it.
    error.subject().is_some_and(|subject| Path::new(subject).exists())
}

fn usage(error: &Error) -> u8 {
    fail(error);
    2
}

fn complain(output: &Output, error: &Error) -> u8 {
    fail(error);
    let document = json!({"schema": 1, "errors": [error.report()]});
    output.write(&document).map_or_else(|error| usage(&error), |()| 1)
}
