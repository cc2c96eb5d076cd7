//! `make bench`: what the backends cost, against the bare programs and against fixed targets.
//!
//! Everything that is compared is measured side by side in one run: pairs alternate, and so does who goes first; what
//! counts are medians, where something is compared those of the differences in the pairs. The program prints one row for
//! each target and ends with 1 when one is missed.
//!
//! ```text
//! bench [PAIRS [PART...]]      400 pairs of all parts unless given; parts: life, exec, look, shim,
//!                             handlers
//! ```
//! The state of both sides is on a memory file system where the host has one, as it is on a node; `MANYRUN_BENCH_STATE`
//! names another directory.

mod compare;
mod exec;
mod handlers;
mod life;
mod look;
mod place;
mod shim;
mod side;
mod subject;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use manyrun_tests::{handler, host};
use runtime_api::{Error, OpenContext, SharedRuntime};

use place::Place;
use table::Table;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// With so many the verdict on a life moves by a hundredth from run to run on a machine that is not idle.
const PAIRS: usize = 400;
/// Fewer pairs say little: it moves by a twentieth then.
const FEWEST_PAIRS: usize = 50;
/// The cgroup under which each side has its own.
const CGROUP: &str = "/manyrun/bench";
const PARTS: &[&str] = &["life", "exec", "look", "shim", "handlers"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["subject", runtime, bundle, state] => {
            subject::serve(runtime, Path::new(bundle), Path::new(state)).map(|()| true)
        }
        [] => run(PAIRS, PARTS),
        [pairs] => parse(pairs).and_then(|pairs| run(pairs, PARTS)),
        [pairs, parts @ ..] => parse(pairs).and_then(|pairs| run(pairs, parts)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
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

/// Whether every target is met.
fn run(pairs: usize, parts: &[&str]) -> Result<bool> {
    if let Some(part) = parts.iter().find(|part| !PARTS.contains(part)) {
        return Err(format!("no part {part:?}; the parts are {}", PARTS.join(", ")).into());
    }
    // Reading files needs no runtime.
    let runtimes = if parts == ["handlers"] { &[][..] } else { &["crun", "runc", "vm:runc"] };
    if let Some(need) = runtimes.iter().copied().find_map(host::lacks) {
        return Err(format!("nothing was measured: {need}").into());
    }
    let place = Place::make()?;
    println!("{place}");
    let io = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut table = Table::default();
    let measured = io.block_on(async {
        for part in parts {
            match *part {
                "life" => life::measure(pairs, "crun", &place.part("life")?, &mut table).await?,
                "exec" => {
                    for runtime in ["runc", "crun"] {
                        exec::measure(pairs, runtime, &place.part(&format!("exec-{runtime}"))?, &mut table)
                            .await?;
                    }
                }
                "look" => look::measure("crun", &place.part("look")?, &mut table).await?,
                "handlers" => handlers::measure(&place.part("handlers")?, &mut table)?,
                _ => shim::measure(pairs, &place.part("shim")?, &mut table).await?,
            }
        }
        Result::Ok(())
    });
    remove_cgroups();
    measured?;
    print!("{table}");
    Ok(table.is_met())
}

/// Our side: a value as any program would open it.
async fn open(runtime: &str, state: &Path, cgroup: &str) -> Result<SharedRuntime> {
    let context = OpenContext::new(state, format!("{CGROUP}/{cgroup}"));
    handler::open(&handler::config(runtime).map_err(told)?, context).await.map_err(told)
}

#[expect(clippy::needless_pass_by_value, reason = "it is used where errors are mapped")]
fn told(error: Error) -> Box<dyn std::error::Error> {
    error.report().into()
}

fn found(command: &str) -> Result<PathBuf> {
    host::find(command).ok_or_else(|| format!("{command} is not on PATH").into())
}

/// Runtimes make the parents of a container's cgroup and leave them; they are empty now.
fn remove_cgroups() {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        for name in ["baseline", "ours", ""] {
            let _ = std::fs::remove_dir(hierarchy.join(&CGROUP[1..]).join(name));
        }
    }
}
