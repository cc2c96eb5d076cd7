//! `make bench`: what a whole container life costs through `runtime-oci`, against a program that drives conmon and the
//! same runtime by hand.
//!
//! Both sides are processes that stay: each waits for a line `go`, lives one life (create, start, wait, delete) of a
//! program that ends at once, and answers with the nanoseconds it took. So neither the start of a process nor the load
//! of the machine falls on one side only: lives alternate, and so does who goes first.
//!
//! ```text
//! bench-life [PAIRS [RUNTIME]]      100 pairs on crun unless given
//! ```

mod report;
mod side;
mod subject;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use manyrun_tests::host;
use runtime_test::{Workload, bundle};
use serde_json::{Value, json};

use report::Report;
use side::Side;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Fewer pairs say little: the medians move by a tenth from run to run.
const FEWEST_PAIRS: usize = 50;
/// Lives that are not counted: files enter the page cache, capabilities are probed.
const WARM_UP: usize = 5;
/// The cgroup under which each side has its own.
const CGROUP: &str = "/manyrun/bench";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["subject", runtime, bundle, state] => {
            subject::serve(runtime, Path::new(bundle), Path::new(state)).map(|()| true)
        }
        [] => compare(100, "crun"),
        [pairs] => parse(pairs).and_then(|pairs| compare(pairs, "crun")),
        [pairs, runtime] => parse(pairs).and_then(|pairs| compare(pairs, runtime)),
        _ => Err("usage: bench-life [PAIRS [RUNTIME]]".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-life: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(pairs: &str) -> Result<usize> {
    let pairs = pairs.parse().map_err(|_| format!("PAIRS is a number, not {pairs:?}"))?;
    if pairs < FEWEST_PAIRS {
        return Err(format!("{pairs} pairs are too few: at least {FEWEST_PAIRS}").into());
    }
    Ok(pairs)
}

/// Whether the target is met.
fn compare(pairs: usize, runtime: &str) -> Result<bool> {
    if let Some(need) = host::lacks(runtime) {
        return Err(format!("nothing was measured: {need}").into());
    }
    let place = tempfile::Builder::new().prefix("bench").tempdir()?;
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = io.block_on(async {
        let (mut ours, mut baseline) = sides(runtime, place.path())?;
        for _ in 0..WARM_UP {
            ours.live().await?;
            baseline.live().await?;
        }
        let mut report = Report::new(runtime);
        for pair in 0..pairs {
            let (our_life, baseline_life) = if pair % 2 == 0 {
                let first = ours.live().await?;
                (first, baseline.live().await?)
            } else {
                let first = baseline.live().await?;
                (ours.live().await?, first)
            };
            report.add(our_life, baseline_life);
        }
        ours.end().await?;
        baseline.end().await?;
        Result::Ok(report)
    });
    remove_cgroups();
    let report = report?;
    print!("{report}");
    Ok(report.is_met())
}

/// Both sides, over one bundle.
fn sides(runtime: &str, place: &Path) -> Result<(Side, Side)> {
    let bundle = place.join("bundle");
    bundle::write(&bundle, &Workload::exits(0))?;
    let config = place.join("baseline.json");
    std::fs::write(&config, baseline_config(&bundle)?)?;
    let work = place.join("baseline");
    std::fs::create_dir(&work)?;

    let here = std::env::current_exe()?;
    let ours = Side::start(
        "runtime-oci",
        &here,
        &["subject".as_ref(), runtime.as_ref(), bundle.as_os_str(), place.join("state").as_os_str()],
    )?;
    let baseline = Side::start(
        "baseline",
        &here.with_file_name("bench-baseline"),
        &[found("conmon")?.as_os_str(), found(runtime)?.as_os_str(), config.as_os_str(), work.as_os_str()],
    )?;
    Ok((ours, baseline))
}

fn found(command: &str) -> Result<PathBuf> {
    host::find(command).ok_or_else(|| format!("{command} is not on PATH").into())
}

/// The bundle's config with the changes that `runtime-oci` makes too: the root as an absolute path, a cgroup of its own.
fn baseline_config(bundle: &Path) -> Result<String> {
    let mut config: Value = serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
    config["root"]["path"] = json!(bundle.join("rootfs"));
    config["linux"]["cgroupsPath"] = json!(format!("{CGROUP}/baseline/@ID@"));
    Ok(config.to_string())
}

/// Runtimes make the parents of a container's cgroup and leave them; they are empty now.
fn remove_cgroups() {
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        for name in ["baseline", "ours", ""] {
            let _ = std::fs::remove_dir(hierarchy.path().join(&CGROUP[1..]).join(name));
        }
    }
    for name in ["baseline", "ours", ""] {
        let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(&CGROUP[1..]).join(name));
    }
}
