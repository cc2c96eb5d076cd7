//! Which runtime a container gets is configuration, not code.
//!
//! Two handlers stand in a table; one container is created under each; later calls need only the container's id. What is
//! not in the table is refused with the names that are, and an unknown key with its line.

use std::io::Write as _;

use runtime_api::{ContainerId, CreateRequest, DeleteRequest, HandlerName};
use runtime_handlers::native::{self, Source};
use runtime_handlers::{Registry, Runtime};
use runtime_oci::OciFactory;
use runtime_test::{FakeFactory, Workload, bundle};

const TABLE: &str = r#"
default = "everyday"

[runtimes.everyday]
kind = "fake"

[runtimes.small]
kind = "fake"
options = { profile = "minimal" }

[runtimes.crun]
kind = "oci"
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    let place = tempfile::tempdir()?;
    let bundle = place.path().join("bundle");
    bundle::write(&bundle, &Workload::exits(3))?;

    let table = native::parse(&[Source::new("handlers.toml", TABLE)])?;
    let registry = Registry::new().register(FakeFactory::new()?)?.register(OciFactory)?;
    let runtime = Runtime::new(table, registry, place.path().join("state"));

    for name in ["everyday", "small"] {
        let handler = HandlerName::new(name)?;
        let id = ContainerId::new(format!("on-{name}"))?;
        runtime.create(Some(&handler), CreateRequest::new(id.clone(), &bundle)).await?;
        runtime.start(&id).await?;
        let status = runtime.wait(&id).await?;
        writeln!(out, "{id}: {status}")?;
        runtime.delete(&id, DeleteRequest::new()).await?;
    }

    let unknown = HandlerName::new("kata")?;
    let refused = runtime.create(Some(&unknown), CreateRequest::new(ContainerId::new("x")?, &bundle)).await;
    if let Err(error) = refused {
        writeln!(out, "{}", error.report())?;
    }
    let misspelt = TABLE.replace("options", "optoins");
    if let Err(error) = native::parse(&[Source::new("handlers.toml", misspelt)]) {
        writeln!(out, "{}", error.report())?;
    }
    runtime.shutdown().await;
    Ok(())
}
