//! The caller is killed, or lets go of what it asked for, at any moment of a container's life. Whoever opens the same
//! state directory next finds the truth, and can go on.
//!
//! `MANYRUN_TEST_CRASHES` is how many random cases each campaign has on runc and on crun, besides those that are always run;
//! other runtimes have a third of them. A case that fails is printed as
//! text; `MANYRUN_TEST_CASE` set to that text runs it alone, again and again. `MANYRUN_TEST_SEED` repeats a whole campaign.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "oci_crashes/case.rs"]
mod case;
#[path = "oci_crashes/drops.rs"]
mod drops;
#[path = "oci_crashes/field.rs"]
mod field;
#[path = "oci_crashes/kills.rs"]
mod kills;
#[path = "oci_crashes/tracer.rs"]
mod tracer;
#[path = "oci_crashes/truth.rs"]
mod truth;

use std::time::{Duration, SystemTime};

use manyrun_tests::host;
use manyrun_tests::life::SCENARIOS;
use manyrun_tests::patience::within;
use tokio::sync::Mutex;

use case::{Case, Random};
use field::Field;

/// Cases that once failed, or that no random choice should miss.
const FIXED: &[&str] = &[
    "short after:1 init once live",
    "whole after:1 monitor once live",
    "whole after:5 monitor once force",
    "whole after:1 both once live",
    "whole after:3 none once live",
    "whole after:3 init once live",
    "whole after:7 none once live",
    "forced after:3 none once force",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_caller_on_runc() {
    campaign("runc", amount()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_caller_on_crun() {
    campaign("crun", amount()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_caller_on_youki() {
    campaign("youki", amount() / FEWER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_caller_on_runsc() {
    campaign("runsc", amount() / FEWER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_lets_go_on_runc() {
    drops::campaign("runc", amount()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_lets_go_on_crun() {
    drops::campaign("crun", amount()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_lets_go_on_youki() {
    drops::campaign("youki", amount() / FEWER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_lets_go_on_runsc() {
    drops::campaign("runsc", amount() / FEWER).await;
}

/// What differs from runtime to runtime needs fewer cases than what is common to all.
const FEWER: u64 = 3;

/// Campaigns measure how many calls a life takes; two at once would only be slower.
static ALONE: Mutex<()> = Mutex::const_new(());

fn amount() -> u64 {
    std::env::var("MANYRUN_TEST_CRASHES").map_or(15, |text| text.parse().unwrap())
}

/// A seed, and what to do to get the same one again.
fn seed() -> u64 {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    let seed = std::env::var("MANYRUN_TEST_SEED")
        .map_or_else(|_| u64::try_from(clock).unwrap(), |text| text.parse().unwrap());
    println!("MANYRUN_TEST_SEED={seed}");
    seed
}

async fn campaign(binary: &'static str, amount: u64) {
    if let Some(need) = host::lacks(binary) {
        return host::skipped(&need);
    }
    let _alone = ALONE.lock().await;
    let mut field = Field::new(binary).await;
    if let Ok(text) = std::env::var("MANYRUN_TEST_CASE") {
        let case = Case::parse(&text);
        for _ in 0..amount {
            one(&mut field, &case).await;
        }
        return field.leave().await;
    }
    let mut random = Random::new(seed());
    let mut calls = Vec::new();
    for scenario in SCENARIOS {
        calls.push(kills::count_calls(&mut field, scenario).await);
    }
    for text in FIXED {
        one(&mut field, &Case::parse(text)).await;
    }
    // Every moment between two steps; in a short campaign, of the longest life only, in a very short one of none.
    let swept = match amount {
        ..5 => 0,
        5..10 => 1,
        _ => SCENARIOS.len(),
    };
    for scenario in &SCENARIOS[..swept] {
        for step in 0..scenario.steps.len() {
            one(&mut field, &Case::after(scenario, step, &mut random)).await;
        }
    }
    for _ in 0..amount {
        let case = Case::random(&mut random, &calls);
        one(&mut field, &case).await;
    }
    println!("{} callers were killed on {binary}", field.lives());
    field.leave().await;
}

async fn one(field: &mut Field, case: &Case) {
    println!("MANYRUN_TEST_CASE=\"{case}\"");
    within(Duration::from_secs(120), &format!("case {case}"), kills::run(field, case)).await;
}
