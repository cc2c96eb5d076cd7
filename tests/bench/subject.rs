//! Our side: lives through the trait, as a program that uses it would have them.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Instant;

use runtime_api::{ContainerId, CreateRequest, RuntimeExt as _};

use crate::{Result, open};

/// Answers each line `go` with the nanoseconds of one life.
pub(crate) fn serve(runtime: &str, bundle: &Path, state: &Path) -> Result<()> {
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let runtime = io.block_on(open(runtime, state, "ours"))?;
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
