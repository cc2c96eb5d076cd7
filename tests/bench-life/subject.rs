//! Our side: lives through the trait, as a program that uses it would have them.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Instant;

use runtime_api::{
    ContainerId, CreateRequest, HandlerConfig, HandlerName, OpenContext, Origin, RuntimeExt as _,
    RuntimeFactory as _, RuntimeKind,
};
use runtime_oci::OciFactory;

use crate::{CGROUP, Result};

/// Answers each line `go` with the nanoseconds of one life.
pub(crate) fn serve(runtime: &str, bundle: &Path, state: &Path) -> Result<()> {
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let config = HandlerConfig::new(
        HandlerName::new(runtime)?,
        RuntimeKind::new("oci")?,
        Origin::other("the benchmark"),
    );
    let context = OpenContext::new(state, format!("{CGROUP}/ours"));
    let runtime = io.block_on(OciFactory.open(&config, context))?;
    let mut out = std::io::stdout().lock();
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        if line?.trim() != "go" {
            return Err("the only command is \"go\"".into());
        }
        let id = ContainerId::new(format!("ours-{number}"))?;
        let began = Instant::now();
        let status = io.block_on(runtime.run_to_exit(CreateRequest::new(id, bundle)));
        let took = began.elapsed();
        let status = status.map_err(|error| error.report())?;
        if !status.success() {
            return Err(format!("the program ended with {status}").into());
        }
        writeln!(out, "{}", took.as_nanos())?;
        out.flush()?;
    }
    io.block_on(runtime.shutdown());
    Ok(())
}
