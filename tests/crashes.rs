//! The caller is killed, or lets go of what it asked for, at any moment of a container's life; or its monitor or its shim are
//! killed, with the caller or without. Whoever opens the same state directory next finds the truth, and can go on.
//!
//! `MANYRUN_TEST_CRASHES` is how many random cases a campaign has on runc and on crun, besides those that are always run. The
//! other runtimes have a third of them, except for execs on youki. A campaign that kills behind a shim and
//! would have fewer than ten has none: it kills when a step is over, and never within one. The cases are the same each time;
//! `MANYRUN_TEST_SEED` set to a number means others. A case that fails is printed as text; `MANYRUN_TEST_CASE` set to that text
//! runs it alone, again and again.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test fails it")]

#[path = "crashes/case.rs"]
mod case;
#[path = "crashes/drops.rs"]
mod drops;
#[path = "crashes/execs.rs"]
mod execs;
#[path = "crashes/field.rs"]
mod field;
#[path = "crashes/kills.rs"]
mod kills;
#[path = "crashes/tracer.rs"]
mod tracer;
#[path = "crashes/truth.rs"]
mod truth;
#[path = "crashes/victims.rs"]
mod victims;

use std::time::Duration;

use manyrun_tests::host;
use manyrun_tests::life::{SAVED, SCENARIOS, Scenario, Step};
use manyrun_tests::patience::within;
use tokio::sync::Mutex;

use case::{Case, Random};
use field::Field;

/// Cases that once failed, or that no random choice should miss. They are lives of host runtimes.
const FIXED: &[&str] = &[
    "short after:1 caller+init once live",
    "whole after:1 caller+monitor once live",
    "whole after:5 caller+monitor once force",
    "whole after:1 caller+monitor+init once live",
    "whole after:3 caller once live",
    "whole after:3 caller+init once live",
    "whole after:7 caller once live",
    "forced after:3 caller once force",
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
async fn who_is_killed_behind_the_shim_in_go() {
    campaign("vm:runc", amount() / FEWER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_behind_the_shim_in_go_with_crun() {
    campaign("vm:runc@crun", amount() / FEWER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_killed_behind_the_shim_in_rust() {
    campaign("vm:runc-rs", amount() / FEWER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_whose_caller_is_killed_on_runc() {
    of_checkpoints("runc", amount()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_whose_caller_is_killed_on_runsc() {
    of_checkpoints("runsc", amount() / FEWER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_in_which_somebody_is_killed_behind_the_shim_in_go() {
    of_checkpoints("vm:runc", amount()).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_lets_go_behind_the_shim_in_go() {
    drops::campaign("vm:runc", amount() / FEWER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execs_that_are_let_go_of_on_runc() {
    execs::campaign("runc", amount()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execs_that_are_let_go_of_on_crun() {
    execs::campaign("crun", amount()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execs_that_are_let_go_of_on_youki() {
    execs::campaign("youki", amount()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execs_that_are_let_go_of_on_runsc() {
    execs::campaign("runsc", amount() / FEWER).await;
}

/// From so many random cases on a campaign is a long one.
const LONG: u64 = 10;

/// What differs from runtime to runtime needs fewer cases than what is common to all.
const FEWER: u64 = 3;

/// Campaigns measure how many calls a life takes; two at once would only be slower.
static ALONE: Mutex<()> = Mutex::const_new(());

fn amount() -> u64 {
    std::env::var("MANYRUN_TEST_CRASHES").map_or(15, |text| text.parse().unwrap())
}

/// Where chance begins, the same each time unless somebody wants to see other cases.
fn seed() -> u64 {
    let seed = std::env::var("MANYRUN_TEST_SEED").map_or(1, |text| text.parse().unwrap());
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
    if field.place.has_shim() && amount < LONG {
        for scenario in of_a_short_campaign() {
            steps_of(&mut field, scenario, false, &mut random).await;
        }
        return field.leave().await;
    }
    let mut calls = Vec::new();
    for scenario in SCENARIOS {
        calls.push(kills::count_calls(&mut field, scenario).await);
    }
    let fixed = if field.place.has_shim() { &[] } else { FIXED };
    for text in fixed {
        one(&mut field, &Case::parse(text)).await;
    }
    // Every moment between two steps; in a short campaign, of the longest life only, in a very short one of none.
    let swept = match amount {
        ..5 => 0,
        5..LONG => 1,
        _ => SCENARIOS.len(),
    };
    for scenario in &SCENARIOS[..swept] {
        steps_of(&mut field, scenario, swept > 1, &mut random).await;
    }
    for _ in 0..amount {
        let case = Case::random(&mut random, &calls, binary);
        one(&mut field, &case).await;
    }
    println!("{} lives on {binary} were cut off", field.lives());
    field.leave().await;
}

/// Somebody is killed at a moment of a checkpoint: one after the other, from its beginning on, and when it is over.
async fn of_checkpoints(binary: &'static str, amount: u64) {
    if let Some(need) = host::lacks(binary) {
        return host::skipped(&need);
    }
    let _alone = ALONE.lock().await;
    let mut field = Field::new(binary).await;
    if !field.saves().await {
        return field.leave().await;
    }
    if let Ok(text) = std::env::var("MANYRUN_TEST_CASE") {
        let case = Case::parse(&text);
        for _ in 0..amount {
            one(&mut field, &case).await;
        }
        return field.leave().await;
    }
    let mut random = Random::new(seed());
    let save = SAVED.steps.iter().position(|step| *step == Step::Save).unwrap();
    for case in Case::of_step(binary, SAVED, save, amount >= LONG, &mut random) {
        one(&mut field, &case).await;
    }
    for number in 0..amount {
        one(&mut field, &Case::during(binary, SAVED, save, number * CHECKPOINT / amount, &mut random)).await;
    }
    println!("{} lives on {binary} were cut off", field.lives());
    field.leave().await;
}

/// How many microseconds a checkpoint takes at most, on a host that has little else to do.
const CHECKPOINT: u64 = 200_000;

/// Behind a shim a short campaign kills between the steps of a life only: what is killed within one meets moments of the
/// shim that no test can choose, which is for long campaigns.
fn of_a_short_campaign() -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().filter(|scenario| scenario.name == "whole")
}

async fn steps_of(field: &mut Field, scenario: &'static Scenario, long: bool, random: &mut Random) {
    for step in 0..scenario.steps.len() {
        for case in Case::of_step(field.place.binary, scenario, step, long, random) {
            one(field, &case).await;
        }
    }
}

async fn one(field: &mut Field, case: &Case) {
    println!("MANYRUN_TEST_CASE=\"{case}\"");
    within(Duration::from_secs(120), &format!("case {case}"), kills::run(field, case)).await;
}
