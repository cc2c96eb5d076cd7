//! `manyrun list` and `manyrun delete`: the containers that are there, whoever made them.
//!
//! No configuration is read: a container keeps the handler that it was created with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use runtime_api::{ContainerId, ContainerState, DeleteRequest, Error, Result};
use runtime_handlers::{HandlerTable, Listed, Listing, Runtime};
use serde_json::{Value, json};

use crate::json::Output;
use crate::run::clock;
use crate::state_dir::StateDir;
use crate::{backends, fail, tell};

/// Show the containers that are there, whichever program created them.
///
/// Exit codes: 1 when the containers of a handler could not be listed, or the record of one is damaged; standard error then
/// names it, and the others are shown.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    place: StateDir,
    /// Write them as JSON to this file, "-" for standard output (the text then goes to standard error).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Delete containers with all that is left of them.
///
/// A container that runs is not deleted without --force.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    manyrun delete web\n  \
    manyrun delete --force web db")]
pub(crate) struct Delete {
    #[command(flatten)]
    place: StateDir,
    /// Kill what still runs. An id that is not there is then no error.
    #[arg(long, short)]
    force: bool,
    /// The containers.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<ContainerId>,
}

pub(crate) fn list(args: &List) -> ExitCode {
    with_facade(&args.place, async |facade| {
        let output = Output::open(args.json.as_deref())?;
        let listing = facade.list().await?;
        let mut notes: Vec<_> = listing.notes.iter().map(ToString::to_string).collect();
        notes.extend(damaged(facade, &args.place.base()?, &listing).await);
        show(&listing, &output);
        output.write(&document(&listing, &notes))?;
        for note in &notes {
            tell(note);
        }
        Ok(u8::from(!notes.is_empty()))
    })
}

pub(crate) fn delete(args: &Delete) -> ExitCode {
    with_facade(&args.place, async |facade| {
        let mut code = 0;
        for id in &args.ids {
            let request = if args.force { DeleteRequest::force() } else { DeleteRequest::new() };
            if let Err(error) = facade.delete(id, request).await {
                let is_running = !args.force && error.is_wrong_state();
                let error = if is_running { error.hint("--force kills it first") } else { error };
                let failed = fail(&error);
                code = if code == 0 { failed } else { code };
            }
        }
        Ok(code)
    })
}

/// Works on what is below a state directory.
fn with_facade(place: &StateDir, work: impl AsyncFnOnce(&Runtime) -> Result<u8>) -> ExitCode {
    let worked = clock().and_then(|clock| {
        clock.block_on(async {
            let facade = Runtime::new(HandlerTable::new([]), backends::registry()?, place.base()?);
            let worked = work(&facade).await;
            facade.shutdown().await;
            worked
        })
    });
    ExitCode::from(worked.unwrap_or_else(|error: Error| fail(&error)))
}

/// One line for each, under the names of the columns.
fn show(listing: &Listing, output: &Output) {
    let head = ["ID", "HANDLER", "STATUS", "PID", "CREATED", "BUNDLE"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(listing.containers.iter().map(row)).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        output.say(cells.join("  ").trim_end());
    }
}

fn row(listed: &Listed) -> [String; 6] {
    let ContainerState { id, status, pid, bundle, created_at, exit, .. } = &listed.state;
    let status = exit.as_ref().map_or_else(|| status.to_string(), |exit| format!("{status} ({exit})"));
    [
        id.to_string(),
        listed.handler.to_string(),
        status,
        pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        date(*created_at),
        // What a path holds must not reach the terminal as a command.
        bundle.to_string_lossy().escape_debug().to_string(),
    ]
}

fn date(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// What is wrong with containers that have a directory and are not listed: one that has just gone is no trouble.
async fn damaged(facade: &Runtime, base: &Path, listing: &Listing) -> Vec<String> {
    let mut notes = Vec::new();
    for directory in subdirectories(base).iter().flat_map(|handler| subdirectories(handler)) {
        // Of a handler that cannot be opened is told once.
        let place = directory.display().to_string();
        if listing.notes.iter().any(|note| note.to_string().starts_with(&place)) {
            continue;
        }
        for container in subdirectories(&directory.join("containers")) {
            let name =
                container.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let Ok(id) = ContainerId::new(name) else { continue };
            if listing.containers.iter().any(|listed| listed.state.id == id) {
                continue;
            }
            match facade.state(&id).await {
                Err(error) if !error.is_not_found() => {
                    notes.push(error.hint(format!("`manyrun delete --force {id}` removes it")).report());
                }
                _ => {}
            }
        }
    }
    notes
}

/// What cannot be read has none: the listing has told of that.
fn subdirectories(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    let mut all: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    all.sort();
    all
}

fn document(listing: &Listing, notes: &[String]) -> Value {
    let containers = listing.containers.iter();
    json!({
        "schema": 1,
        "containers": containers
            .map(|each| json!({"handler": each.handler, "snapshot": each.snapshot, "state": each.state}))
            .collect::<Vec<_>>(),
        "notes": notes,
    })
}
