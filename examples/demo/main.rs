//! `make demo`: one bundle under every handler of this machine, one line each.
//!
//! The lesson: the program below never asks which runtime it talks to. It opens whatever the handler table names, and
//! everything it prints comes from the trait.

mod life;
mod report;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use runtime_api::{ErrorKind, HandlerConfig, HandlerName, Result};
use runtime_handlers::{HandlerTable, Registry, Runtime, load};
use runtime_oci::OciFactory;
use runtime_test::{FakeFactory, Workload, bundle};
use runtime_vm::VmFactory;

use life::{Outcome, Stage};

/// What the demo's own container prints.
const GREETING: &str = "hello from a container";

/// Runs one bundle under every handler of this machine.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// An OCI bundle; one that prints a greeting unless given.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Only this handler.
    #[arg(long, value_name = "NAME")]
    handler: Option<HandlerName>,
    /// The handler table; found as by the manyrun command unless given.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match demonstrate(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "demo: {}", error.report());
            ExitCode::from(2)
        }
    }
}

async fn demonstrate(arguments: Arguments) -> Result<ExitCode> {
    let table = load::search(arguments.config.as_deref())?;
    let registry =
        Registry::new().register(FakeFactory::new()?)?.register(OciFactory)?.register(VmFactory::default())?;
    let place = tempfile::Builder::new().prefix("demo").tempdir().map_err(unusable)?;
    let (bundle, is_own) = match &arguments.bundle {
        Some(bundle) => (bundle.clone(), false),
        None => (greeting_bundle(place.path())?, true),
    };
    say(&format!("bundle: {}\n", bundle.display()))?;

    let is_chosen = arguments.handler.is_some();
    let facade = Runtime::new(table, registry, place.path().join("state"));
    let stage = Stage { facade: &facade, place: place.path(), bundle: &bundle, is_own };
    let (mut ran, mut failed) = (0, 0);
    for config in chosen(&facade.table(), arguments.handler.as_ref())? {
        let outcome = match stage.live(config).await {
            // Who asks for one handler by name is not served by hearing that it was left out.
            Outcome::LeftOut(why) if is_chosen => Outcome::Failed(why),
            outcome => outcome,
        };
        match outcome {
            Outcome::Ran(_) => ran += 1,
            Outcome::Failed(_) => failed += 1,
            Outcome::LeftOut(_) => {}
            Outcome::Interrupted => return Ok(ExitCode::from(130)),
        }
        say(&report::lines(config, &outcome))?;
    }
    facade.shutdown().await;
    say(&format!("demo: {ran} handlers ran, {failed} failed\n"))?;
    Ok(if failed == 0 && ran > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes to standard output; a macro that prints would panic where that cannot be written.
fn say(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| {
        let what = ErrorKind::Unavailable("standard output cannot be written".to_owned());
        runtime_api::Error::new(what).during_step("print").caused_by(error)
    })
}

fn chosen<'a>(table: &'a HandlerTable, name: Option<&HandlerName>) -> Result<Vec<&'a HandlerConfig>> {
    match name {
        Some(name) => Ok(vec![table.select(Some(name))?]),
        None => Ok(table.handlers.values().collect()),
    }
}

fn greeting_bundle(place: &Path) -> Result<PathBuf> {
    let at = place.join("bundle");
    bundle::write(&at, &Workload::says(GREETING)).map_err(unusable)?;
    Ok(at)
}

fn unusable(error: io::Error) -> runtime_api::Error {
    let what = ErrorKind::ConfigInvalid("the directory for temporary files cannot be used".to_owned());
    runtime_api::Error::new(what).during_step("prepare the demo").caused_by(error)
}
