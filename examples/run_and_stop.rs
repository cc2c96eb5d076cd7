//! A container's life with a polite end: create, start, stop with a grace, delete. The log stays.
//!
//! `run_and_stop [HANDLER]`: on the fake unless a handler is named.

use std::time::Duration;

use runtime_api::{ContainerId, CreateRequest, DeleteRequest, HandlerName, LogConfig, StopRequest};
use runtime_handlers::{HandlerTable, Registry, Runtime};
use runtime_oci::OciFactory;
use runtime_test::{FakeFactory, Workload, bundle};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    println!("{id} on {handler}: {}", state.status);
    runtime.start(&id).await?;
    println!("{id}: {}", runtime.state(&id).await?.status);

    // A program that has not armed its handler yet would not hear the signal.
    while !std::fs::read_to_string(&log)?.contains("ready") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = runtime.stop(&id, StopRequest::within(Duration::from_secs(10))).await?;
    println!("{id}: {status}");
    runtime.delete(&id, DeleteRequest::new()).await?;
    print!("the log: {}", std::fs::read_to_string(&log)?);
    runtime.shutdown().await;
    Ok(())
}
