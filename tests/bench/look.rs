//! What needs no command: the states of a thousand containers, a signal, the use of resources.
//!
//! A thousand real containers would take gigabytes. So a few real ones are made, a third of them created, a third running
//! and a third ended, and their records are copied under other ids until there are a thousand. A copy is looked at like
//! the container that it is copied from: the same files are read and the same processes are asked for.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use runtime_api::{
    Capability, ContainerId, ContainerStatus, CreateRequest, DeleteRequest, KillRequest, SharedRuntime,
    Signal,
};
use runtime_test::{Workload, bundle};
use serde_json::Value;

use crate::place::Part;
use crate::table::{Table, median, quantile, shown};
use crate::{Result, open, told};

const CONTAINERS: usize = 1000;
/// Real ones of each kind.
const REAL: usize = 10;
const ROUNDS: usize = 30;
const CALLS: usize = 1000;

pub(crate) async fn measure(binary: &str, place: &Part, table: &mut Table) -> Result<()> {
    let state = place.state.join("ours");
    let runtime = open(binary, &state, "ours").await?;
    let real = make(&runtime, &place.bundles).await?;
    let looked = look(&runtime, &real, &state.join("containers"), table).await;
    for (id, _) in &real {
        runtime.delete(id, DeleteRequest::force()).await.map_err(told)?;
    }
    runtime.shutdown().await;
    looked
}

async fn look(
    runtime: &SharedRuntime,
    real: &[(ContainerId, ContainerStatus)],
    containers: &Path,
    table: &mut Table,
) -> Result<()> {
    let running = real.iter().find(|(_, status)| *status == ContainerStatus::Running).map(|(id, _)| id);
    let running = running.ok_or("nothing runs")?;
    kill(runtime, running, table).await?;
    if runtime.capabilities().has(Capability::Stats) {
        stats(runtime, running, table).await?;
    }
    let ids = copy(real, containers)?;
    let looked = states(runtime, &ids, table).await;
    // Deleting copies as containers would end the processes of the real ones.
    for copy in &ids[real.len()..] {
        std::fs::remove_dir_all(containers.join(copy.as_str()))?;
    }
    looked
}

/// Real containers of each kind.
async fn make(runtime: &SharedRuntime, bundles: &Path) -> Result<Vec<(ContainerId, ContainerStatus)>> {
    let (forever, ends) = (bundles.join("forever"), bundles.join("ends"));
    bundle::write(&forever, &Workload::ready_forever())?;
    bundle::write(&ends, &Workload::exits(3))?;
    let mut made = Vec::new();
    for number in 0..REAL {
        for status in [ContainerStatus::Created, ContainerStatus::Running, ContainerStatus::Stopped] {
            let id = ContainerId::new(format!("look-{status:?}-{number}").to_lowercase())?;
            let bundle = if status == ContainerStatus::Stopped { &ends } else { &forever };
            runtime.create(CreateRequest::new(id.clone(), bundle)).await.map_err(told)?;
            if status != ContainerStatus::Created {
                runtime.start(&id).await.map_err(told)?;
            }
            if status == ContainerStatus::Stopped {
                runtime.wait(&id).await.map_err(told)?;
            }
            made.push((id, status));
        }
    }
    Ok(made)
}

/// Copies the records of real containers until there are a thousand; gives all ids.
fn copy(real: &[(ContainerId, ContainerStatus)], containers: &Path) -> Result<Vec<ContainerId>> {
    let mut ids: Vec<ContainerId> = real.iter().map(|(id, _)| id.clone()).collect();
    for (of, _) in real.iter().cycle().take(CONTAINERS - real.len()) {
        let id = ContainerId::new(format!("{of}-copy{}", ids.len()))?;
        let (from, to) = (containers.join(of.as_str()), containers.join(id.as_str()));
        std::fs::create_dir(&to)?;
        let mut record: Value = serde_json::from_slice(&std::fs::read(from.join("record.json"))?)?;
        record["id"] = Value::from(id.as_str());
        std::fs::write(to.join("record.json"), record.to_string())?;
        for name in ["lock", "exit"] {
            if from.join(name).exists() {
                std::fs::copy(from.join(name), to.join(name))?;
            }
        }
        ids.push(id);
    }
    Ok(ids)
}

async fn states(runtime: &SharedRuntime, ids: &[ContainerId], table: &mut Table) -> Result<()> {
    let forks = Forks::begin()?;
    let began = Instant::now();
    let listed = runtime.list().await.map_err(told)?;
    let first = began.elapsed();
    // What has changed a moment ago is read again each time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let of = |wanted| listed.iter().filter(|state| state.status == wanted).count();
    let mix = [ContainerStatus::Created, ContainerStatus::Running, ContainerStatus::Stopped].map(of);
    if listed.len() != CONTAINERS || mix.iter().any(|count| *count < CONTAINERS / 4) {
        return Err(format!("{} containers were listed, of each kind {mix:?}", listed.len()).into());
    }
    let (mut lists, mut rounds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        runtime.list().await.map_err(told)?;
        lists.push(began.elapsed());
        let began = Instant::now();
        for id in ids {
            runtime.state(id).await.map_err(told)?;
        }
        rounds.push(began.elapsed());
    }
    let forks = forks.count()?;
    let target = Duration::from_millis(10);
    // The first of all reads every record.
    let note = format!("{forks}; created, running, stopped: {mix:?}; the first time {}", shown(first));
    table.add("list of 1,000 containers", median(&lists[1..]), target, note, forks.any());
    table.add("state of each of 1,000 containers", median(&rounds), target, forks.to_string(), forks.any());
    Ok(())
}

async fn kill(runtime: &SharedRuntime, id: &ContainerId, table: &mut Table) -> Result<()> {
    // Its default action is to do nothing.
    let request = KillRequest::new(Signal::from_number(28).map_err(told)?);
    let forks = Forks::begin()?;
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        runtime.kill(id, request).await.map_err(told)?;
        times.push(began.elapsed());
    }
    add_call("kill", &times, Duration::from_micros(100), forks.count()?, table);
    Ok(())
}

async fn stats(runtime: &SharedRuntime, id: &ContainerId, table: &mut Table) -> Result<()> {
    let forks = Forks::begin()?;
    let mut times = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        runtime.stats(id).await.map_err(told)?;
        times.push(began.elapsed());
    }
    add_call("stats", &times, Duration::from_micros(300), forks.count()?, table);
    Ok(())
}

fn add_call(what: &str, times: &[Duration], target: Duration, forks: ForksMade, table: &mut Table) {
    let note = format!("{forks}; 90th of 100: {}", shown(quantile(times, 0.9)));
    table.add(what, median(times), target, note, forks.any());
}

/// Counts the children of this process. A child that was waited for has left page faults in its parent's account, and one
/// that was not is still there.
struct Forks {
    faults: i64,
}

/// What was counted.
#[derive(Clone, Copy)]
struct ForksMade {
    ended: bool,
    living: usize,
}

impl Forks {
    fn begin() -> Result<Self> {
        Ok(Self { faults: faults_of_children()? })
    }

    fn count(&self) -> Result<ForksMade> {
        let mut living = 0;
        for task in std::fs::read_dir("/proc/self/task")? {
            let children = std::fs::read_to_string(task?.path().join("children"))?;
            living += children.split_whitespace().count();
        }
        Ok(ForksMade { ended: faults_of_children()? != self.faults, living })
    }
}

fn faults_of_children() -> Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN)?.minor_page_faults())
}

impl ForksMade {
    fn any(self) -> bool {
        self.ended || self.living > 0
    }
}

impl std::fmt::Display for ForksMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.ended, self.living) {
            (false, 0) => f.write_str("no fork"),
            (ended, living) => write!(f, "FORKED: {living} children live, some ended: {ended}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_counted() {
        let forks = Forks::begin().unwrap();
        assert!(!forks.count().unwrap().any());
        std::process::Command::new("true").status().unwrap();
        assert!(forks.count().unwrap().any());
    }
}
