//! `manyrun handlers`: what the configuration says.

mod check;
mod inputs;
mod select;
mod show;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use runtime_api::Result;
use runtime_handlers::resolve::ThisHost;
use runtime_handlers::{HandlerTable, convert, diff};
use serde_json::json;

use crate::json::Output;
use crate::{fail, tell};
pub(crate) use inputs::Input;

/// Look at the handlers that the configuration offers: Manyrun's own, or that of CRI-O, containerd or podman.
///
/// Without a path it is what this host has: the file that MANYRUN_CONFIG names, /etc/manyrun/handlers.toml with its
/// drop-ins, /etc/crio, /etc/containerd/config.toml, what podman reads, or the built-in handlers. `manyrun run` reads only
/// Manyrun's own of these unless --config, --crio, --containerd or --containers is given to it.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every handler, and which of them this host cannot offer.
    #[command(
        after_help = "Examples:\n  manyrun handlers show --origin\n  manyrun handlers show --crio /etc/crio --json -"
    )]
    Show {
        #[command(flatten)]
        place: Place,
        /// Show where each handler and each of its keys was written, too.
        #[arg(long)]
        origin: bool,
    },
    /// Check the configuration.
    ///
    /// Each complaint names the file, the line, the table and the key. In the configuration of another program an unknown
    /// key, and a handler that cannot be used, are notes.
    ///
    /// Exit codes: 0 clean or notes only, 1 an error (with --strict also a note), 2 wrong usage or an unreadable file.
    Check {
        #[command(flatten)]
        place: Place,
        /// Notes are errors.
        #[arg(long)]
        strict: bool,
        /// Look for the files that the handlers name on this host, too.
        #[arg(long)]
        host: bool,
        /// Check that the handlers which the Kubernetes RuntimeClasses in this file name are there; repeat it for several.
        #[arg(long, value_name = "FILE")]
        runtime_class: Vec<PathBuf>,
    },
    /// Show one handler as a container would get it, and why it is this one; the default one unless something is asked for.
    #[command(
        after_help = "Examples:\n  manyrun handlers select --can checkpoint\n  manyrun handlers select --crio /etc/crio --runtime-class class.yaml"
    )]
    Select {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        wish: select::Wish,
    },
    /// Write the handlers as configuration of another program, to standard output.
    ///
    /// What it cannot say is told on standard error.
    #[command(
        after_help = "Example:\n  manyrun handlers convert --crio /etc/crio --to native > handlers.toml"
    )]
    Convert {
        #[command(flatten)]
        place: Place,
        /// Whose configuration to write.
        #[arg(long, value_name = "DIALECT")]
        to: Target,
    },
    /// Tell what is different between two configurations.
    ///
    /// Each is DIALECT:PATH, where DIALECT is native, crio, containerd or containers, and PATH what the option of that name
    /// takes. It may be left out where the name of the file or directory tells it: crio, crio.conf, crio.conf.d, containerd,
    /// config.toml, containers, containers.conf, manyrun, handlers.toml.
    ///
    /// Exit codes: 0 nothing is different, 1 something is, 2 a configuration cannot be read.
    #[command(after_help = "Example:\n  manyrun handlers diff crio:/etc/crio native:handlers.toml")]
    Diff {
        /// The configuration before.
        #[arg(value_name = "OLD")]
        old: OsString,
        /// The configuration now.
        #[arg(value_name = "NEW")]
        new: OsString,
        /// Write the answer as JSON to this file, "-" for standard output (text then goes to standard error).
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

/// What can be written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Target {
    /// For /etc/manyrun/handlers.toml.
    Native,
    /// For /etc/crio/crio.conf.d.
    Crio,
    /// For /etc/containerd/config.toml.
    Containerd,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    #[command(flatten)]
    input: Input,
    /// Write the answer as JSON to this file, "-" for standard output (text then goes to standard error).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn main(command: &Command) -> ExitCode {
    let done = match command {
        Command::Show { place, origin } => place
            .input
            .read()
            .and_then(|found| show::show(&found, *origin, &Output::open(place.json.as_deref())?)),
        Command::Check { place, strict, host, runtime_class } => {
            let how = check::How { strict: *strict, host: *host, classes: runtime_class };
            return ExitCode::from(check::check(&place.input, place.json.as_deref(), &how));
        }
        Command::Select { place, wish } => select::select(place, wish),
        Command::Convert { place, to } => convert(place, *to),
        Command::Diff { old, new, json } => return ExitCode::from(compare(old, new, json.as_deref())),
    };
    ExitCode::from(done.map_or_else(|error| fail(&error), |()| 0))
}

fn convert(place: &Place, to: Target) -> Result<()> {
    let output = Output::open(place.json.as_deref())?;
    let table = place.input.read()?.table;
    let converted = match to {
        Target::Native => convert::to_native(&table),
        Target::Crio => convert::to_crio(&with_paths_of_programs(table.found_first(&ThisHost))),
        Target::Containerd => convert::to_containerd(&table.found_first(&ThisHost)),
    };
    output.say(converted.text.trim_end());
    let left_out: Vec<_> = converted.left_out.iter().map(ToString::to_string).collect();
    for note in &left_out {
        tell(&format!("note: {note}"));
    }
    output.write(&json!({"schema": 1, "text": converted.text, "left_out": left_out}))
}

/// The table with the paths of programs that it names barely: CRI-O wants paths.
fn with_paths_of_programs(mut table: HandlerTable) -> HandlerTable {
    for config in table.handlers.values_mut() {
        if let Some(first) = config.paths.first_mut()
            && let Ok(found) = which::which(&*first)
        {
            *first = found;
        }
    }
    table
}

fn compare(old: &OsStr, new: &OsStr, json: Option<&Path>) -> u8 {
    let read = |path: &OsStr| inputs::by_name(path).map(|found| found.table);
    let tables = Output::open(json).and_then(|output| Ok((output, read(old)?, read(new)?)));
    let (output, old, new): (Output, HandlerTable, HandlerTable) = match tables {
        Ok(tables) => tables,
        Err(error) => return check::usage(&error),
    };
    let changes: Vec<_> = diff::between(&old, &new).iter().map(ToString::to_string).collect();
    for change in &changes {
        output.say(change);
    }
    match output.write(&json!({"schema": 1, "changes": changes})) {
        Ok(()) => u8::from(!changes.is_empty()),
        Err(error) => check::usage(&error),
    }
}
