//! A container's life with a polite end: create, start, stop with a grace, delete. The log stays.
//!
//! `run_and_stop [HANDLER]`: on the fake unless a handler is named.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use runtime_api::{ContainerId, CreateRequest, DeleteRequest, Error, HandlerName, LogConfig, StopRequest};
use runtime_handlers::{HandlerTable, Registry, Runtime};
use runtime_oci::OciFactory;
use runtime_test::{FakeFactory, Workload, bundle};

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = live().await else { return ExitCode::SUCCESS };
    // The report says what failed, on what, why, and what to do about it.
    let report = error.downcast_ref::<Error>().map_or_else(|| error.to_string(), Error::report);
    let _ = writeln!(io::stderr(), "run_and_stop: {report}");
    ExitCode::FAILURE
}

async fn live() -> Result<(), Box<dyn std::error::Error>> {
    // A macro that prints would panic where standard output cannot be written.
    let mut out = io::stdout();
    let handler = HandlerName::new(std::env::args().nth(1).unwrap_or_else(|| "fake".to_owned()))?;
    let place = tempfile::tempdir()?;
    let bundle = place.path().join("bundle");
    // Says "ready", and ends with code 7 when TERM arrives.
    bundle::write(&bundle, &Workload::exits_on_term(7))?;

    let registry = Registry::new().register(FakeFactory::new()?)?.register(OciFactory)?;
    let runtime = Runtime::new(HandlerTable::built_in(), registry, place.path().join("state"));
    let id = ContainerId::new(format!("run-and-stop-{}", std::process::id()))?;
    let log = place.path().join("log");

    let request = CreateRequest::new(id.clone(), &bundle).log(LogConfig::cri_file(&log));
    let state = runtime.create(Some(&handler), request).await?;
    writeln!(out, "{id} on {handler}: {}", state.status)?;
    runtime.start(&id).await?;
    writeln!(out, "{id}: {}", runtime.state(&id).await?.status)?;

    // A program that has not armed its handler yet would not hear the signal.
    while !std::fs::read_to_string(&log)?.contains("ready") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = runtime.stop(&id, StopRequest::within(Duration::from_secs(10))).await?;
    writeln!(out, "{id}: {status}")?;
    runtime.delete(&id, DeleteRequest::new()).await?;
    write!(out, "the log: {}", std::fs::read_to_string(&log)?)?;
    runtime.shutdown().await;
    Ok(())
}
