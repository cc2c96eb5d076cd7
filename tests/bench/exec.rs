//! An exec whose output is collected, against the runtime's own `exec` with its output in pipes.
//!
//! The program is the static probe with the script `exit:0`, which does what `/bin/true` does: a container of the
//! benchmark has no other program.

use std::path::Path;
use std::time::{Duration, Instant};

use runtime_api::{ContainerId, CreateRequest, DeleteRequest, ExecEnd, ExecSyncRequest, SharedRuntime};
use runtime_test::{Workload, bundle};
use tokio::process::Command;

use crate::compare::Pairs;
use crate::place::Part;
use crate::table::Table;
use crate::{Result, found, open, told};

const RATIO: f64 = 1.3;
const WARM_UP: usize = 5;

pub(crate) async fn measure(pairs: usize, binary: &str, place: &Part, table: &mut Table) -> Result<()> {
    let bundle = place.bundles.join("bundle");
    bundle::write(&bundle, &Workload::ready_forever())?;
    let state = place.state.join("ours");
    let runtime = open(binary, &state, "ours").await?;
    let id = ContainerId::new(format!("exec-{binary}"))?;
    runtime.create(CreateRequest::new(id.clone(), &bundle)).await.map_err(told)?;
    runtime.start(&id).await.map_err(told)?;
    let program = found(binary)?;
    let mut times = Pairs::default();
    for pair in 0..WARM_UP + pairs {
        let (our_time, bare_time) = if pair % 2 == 0 {
            let first = ours(&runtime, &id).await?;
            (first, bare(&program, &state, &id).await?)
        } else {
            let first = bare(&program, &state, &id).await?;
            (ours(&runtime, &id).await?, first)
        };
        if pair >= WARM_UP {
            times.add(our_time, bare_time);
        }
    }
    runtime.delete(&id, DeleteRequest::force()).await.map_err(told)?;
    runtime.shutdown().await;
    times.report(&format!("exec_sync on {binary}"), RATIO, table);
    Ok(())
}

async fn ours(runtime: &SharedRuntime, id: &ContainerId) -> Result<Duration> {
    let request = ExecSyncRequest::new(Workload::exits(0).process());
    let began = Instant::now();
    let outcome = runtime.exec_sync(id, request).await.map_err(told)?;
    let took = began.elapsed();
    if outcome.end == ExecEnd::Exited(0) { Ok(took) } else { Err(format!("{outcome:?}").into()) }
}

async fn bare(program: &Path, state: &Path, id: &ContainerId) -> Result<Duration> {
    let mut command = Command::new(program);
    command.arg("--root").arg(state.join("root")).args(["exec", id.as_str()]);
    command.args(Workload::exits(0).argv());
    let began = Instant::now();
    let output = command.output().await?;
    let took = began.elapsed();
    if output.status.success() { Ok(took) } else { Err(format!("{output:?}").into()) }
}
