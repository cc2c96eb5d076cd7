//! Containers outlive the program that made them.
//!
//! The first value creates and starts a container and is dropped, as if the program had been restarted. The second one,
//! over the same directory, finds it running, although the handler table has changed meanwhile.
//!
//! `survive_restart [HANDLER]`: on the fake unless a handler is named. (A fake's containers live as long as the process;
//! those of a real handler would be found by another process too.)

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use runtime_api::{ContainerId, CreateRequest, DeleteRequest, HandlerName, StopRequest};
use runtime_handlers::{HandlerTable, Registry, Runtime};
use runtime_oci::OciFactory;
use runtime_test::{FakeFactory, Workload, bundle};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    let handler = HandlerName::new(std::env::args().nth(1).unwrap_or_else(|| "fake".to_owned()))?;
    let place = tempfile::tempdir()?;
    let bundle = place.path().join("bundle");
    bundle::write(&bundle, &Workload::forever())?;
    let state = place.path().join("state");
    let id = ContainerId::new(format!("survivor-{}", std::process::id()))?;

    let before = open(HandlerTable::built_in(), &state)?;
    before.create(Some(&handler), CreateRequest::new(id.clone(), &bundle)).await?;
    before.start(&id).await?;
    before.shutdown().await;
    drop(before);

    // No handlers at all any more: the container keeps the configuration that it was created under.
    let after = open(HandlerTable::new([]), &state)?;
    writeln!(out, "{id} on {handler}: {} after the restart", after.state(&id).await?.status)?;
    let status = after.stop(&id, StopRequest::within(Duration::ZERO)).await?;
    writeln!(out, "{id}: {status}")?;
    after.delete(&id, DeleteRequest::new()).await?;
    after.shutdown().await;
    Ok(())
}

fn open(table: HandlerTable, state: &Path) -> runtime_api::Result<Runtime> {
    let registry = Registry::new().register(FakeFactory::new()?)?.register(OciFactory)?;
    Ok(Runtime::new(table, registry, state))
}
