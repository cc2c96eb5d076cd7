//! A caller that lives and lets go: of an operation at each of its waits, and then of the value or not.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use manyrun_tests::host;
use manyrun_tests::life::{Life, SCENARIOS, Step};
use manyrun_tests::patience::{LIMIT, within};
use runtime_api::{ContainerStatus, SharedRuntime};

use crate::case::{Again, Case, Moment, Random, Victims};
use crate::field::Field;
use crate::kills::Aftermath;
use crate::truth::Progress;

/// No operation that ends has more waits.
const MOST_WAITS: u64 = 24;

pub(crate) async fn campaign(binary: &'static str, amount: u64) {
    if let Some(need) = host::lacks(binary) {
        return host::skipped(&need);
    }
    let _alone = crate::ALONE.lock().await;
    let mut field = Field::new(binary).await;
    let mut random = Random::new(crate::seed());
    for _ in 0..amount {
        let chosen = usize::try_from(random.one_of(SCENARIOS.len() as u64)).unwrap();
        let scenario = &SCENARIOS[chosen];
        let step = usize::try_from(random.one_of(scenario.steps.len() as u64)).unwrap();
        let waits = 1 + random.one_of(MOST_WAITS);
        let (keep, force) = (random.one_of(2) == 0, random.one_of(3) == 0);
        let what = format!("{} step {step} after {waits} waits, keep {keep}, force {force}", scenario.name);
        println!("{what}");
        let case = Case {
            scenario,
            moment: Moment::After(step),
            victims: Victims::CALLER,
            again: Again::Once,
            force,
            guest: false,
        };
        within(Duration::from_secs(120), &what, one(&mut field, &case, step, waits, keep)).await;
    }
    println!("{amount} callers let go on {binary}");
    field.leave().await;
}

async fn one(field: &mut Field, case: &Case, step: usize, waits: u64, keep: bool) {
    let life = field.life(case.scenario, case.guest);
    let runtime = field.place.open(&field.place.config()).await;
    // The exec that hangs would go on with its task, which holds on to the value.
    for before in case.scenario.steps[..step].iter().filter(|before| **before != Step::Hang) {
        within(LIMIT, "a step", life.step(&runtime, *before)).await.unwrap();
    }
    let mut progress = Progress { begun: step + 1, ended: step, failed: false };
    if case.scenario.steps[step] == Step::Hang {
        // Here it is the exec itself that is let go of.
        let exec = AtMost { left: waits, inner: Box::pin(runtime.exec_sync(&life.id, life.hang())) };
        let ended = within(LIMIT, "the exec", tokio::time::timeout(Duration::from_secs(1), exec)).await;
        assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    } else {
        let done = AtMost { left: waits, inner: Box::pin(life.step(&runtime, case.scenario.steps[step])) };
        if let Some(done) = within(LIMIT, "the step", done).await {
            done.unwrap();
            progress.ended += 1;
        }
    }
    let aftermath =
        Aftermath { field, life: &life, case, progress, killed: case.victims, half_deleted: keep };
    if keep {
        settle(&runtime, &life).await;
        aftermath.check_with(&runtime).await;
        runtime.shutdown().await;
        drop(runtime);
    } else {
        drop(runtime);
        let next = field.place.open(&field.place.config()).await;
        settle(&next, &life).await;
        aftermath.check_with(&next).await;
        next.shutdown().await;
        drop(next);
    }
    aftermath.assert_nothing_left().await;
}

/// A dropped create is undone soon: by a task of the value, or by the next one once that task has let go.
async fn settle(runtime: &SharedRuntime, life: &Life) {
    within(LIMIT, "the undoing of a create", async {
        while runtime.state(&life.id).await.is_ok_and(|state| state.status == ContainerStatus::Creating) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A future that is let go of after so many waits; then it gives `None`.
struct AtMost<F> {
    left: u64,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for AtMost<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.inner.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => {
                self.left -= 1;
                if self.left == 0 { Poll::Ready(None) } else { Poll::Pending }
            }
        }
    }
}
