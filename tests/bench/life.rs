//! A whole life (create, start, wait, delete) of a program that ends at once, against a program that drives conmon and
//! the same runtime by hand.
//!
//! Both sides are processes that stay: each waits for a line `go`, lives one life, and answers with the nanoseconds it
//! took. So neither the start of a process nor the load of the machine falls on one side only.

use std::path::Path;

use runtime_test::{Workload, bundle};
use serde_json::{Value, json};

use crate::compare::Pairs;
use crate::place::Part;
use crate::side::Side;
use crate::table::Table;
use crate::{CGROUP, Result, found};

/// At most this many times the baseline.
const RATIO: f64 = 1.10;
/// Lives that are not counted: files enter the page cache, capabilities are probed.
pub(crate) const WARM_UP: usize = 5;

pub(crate) async fn measure(pairs: usize, runtime: &str, place: &Part, table: &mut Table) -> Result<()> {
    let (mut ours, mut baseline) = sides(runtime, place)?;
    for _ in 0..WARM_UP {
        ours.live().await?;
        baseline.live().await?;
    }
    let mut lives = Pairs::default();
    for pair in 0..pairs {
        let (our_life, baseline_life) = if pair % 2 == 0 {
            let first = ours.live().await?;
            (first, baseline.live().await?)
        } else {
            let first = baseline.live().await?;
            (ours.live().await?, first)
        };
        lives.add(our_life, baseline_life);
    }
    ours.end().await?;
    baseline.end().await?;
    lives.report(&format!("a whole life on {runtime}"), RATIO, table);
    Ok(())
}

/// Both sides, over one bundle.
fn sides(runtime: &str, place: &Part) -> Result<(Side, Side)> {
    let bundle = place.bundles.join("bundle");
    bundle::write(&bundle, &Workload::exits(0))?;
    let config = place.bundles.join("baseline.json");
    std::fs::write(&config, baseline_config(&bundle)?)?;
    let work = place.state.join("baseline");
    std::fs::create_dir(&work)?;

    let here = std::env::current_exe()?;
    let ours = Side::start(
        "runtime-oci",
        &here,
        &["subject".as_ref(), runtime.as_ref(), bundle.as_os_str(), place.state.join("ours").as_os_str()],
    )?;
    let baseline = Side::start(
        "baseline",
        &here.with_file_name("bench-baseline"),
        &[found("conmon")?.as_os_str(), found(runtime)?.as_os_str(), config.as_os_str(), work.as_os_str()],
    )?;
    Ok((ours, baseline))
}

/// The bundle's config with the changes that `runtime-oci` makes too: the root as an absolute path, a cgroup of its own.
pub(crate) fn baseline_config(bundle: &Path) -> Result<String> {
    let mut config: Value = serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
    config["root"]["path"] = json!(bundle.join("rootfs"));
    config["linux"]["cgroupsPath"] = json!(format!("{CGROUP}/baseline/@ID@"));
    Ok(config.to_string())
}
