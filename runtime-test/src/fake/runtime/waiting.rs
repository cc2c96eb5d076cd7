//! Stop and wait, and what a defective value remembers of those who called them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use runtime_api::{ContainerId, Error, ExitStatus, Operation, Result, StopRequest};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep_until};

use crate::Defect;

use super::FakeRuntime;
use crate::fake::model::{Ending, Key};
use crate::fake::world::World;

/// What a defective value remembers; a sound one never looks.
#[derive(Debug, Default)]
pub(super) struct Misdeeds {
    one_at_a_time: tokio::sync::Mutex<()>,
    answered: Mutex<BTreeSet<Key>>,
    waited_for: Mutex<BTreeSet<Key>>,
}

impl Misdeeds {
    /// Waits until no other container is worked on, where a defect demands it.
    pub(super) async fn turn(&self, demanded: bool) -> Option<MutexGuard<'_, ()>> {
        if demanded { Some(self.one_at_a_time.lock().await) } else { None }
    }
}

/// Does something when the future that holds it is dropped midway.
pub(super) struct WhenDropped<F: FnMut()>(pub(super) Option<F>);

impl<F: FnMut()> Drop for WhenDropped<F> {
    fn drop(&mut self) {
        if let Some(act) = &mut self.0 {
            act();
        }
    }
}

impl FakeRuntime {
    pub(super) async fn stop_and_wait(&self, id: &ContainerId, request: StopRequest) -> Result<ExitStatus> {
        let _turn = self.misdeeds.turn(self.defect(Defect::OneLifeAtATime)).await;
        let (key, ending) = self.world.act(|parts| parts.model.stop(id, request.grace))?;
        let forgetful = self.defect(Defect::DroppedStopIsForgotten);
        let _guard =
            WhenDropped(forgetful.then_some(|| self.world.act(|parts| parts.model.give_up_stop(key))));
        let whole_grace = request.grace.and_then(|grace| Instant::now().checked_add(grace));
        let status = self.world.end_of(&ending).await;
        let by_itself = status.code != Some(137);
        if let Some(over) = whole_grace.filter(|_| by_itself && self.defect(Defect::StopTakesItsGrace)) {
            sleep_until(over).await;
        }
        Ok(status)
    }

    pub(super) async fn wait_for_end(&self, id: &ContainerId) -> Result<ExitStatus> {
        let (key, ending) = self.world.act(|parts| parts.model.ending(id))?;
        let refused = || Error::not_found(Operation::Wait, id);
        if self.defect(Defect::WaitForgetsLateCallers) && contains(&self.misdeeds.answered, key) {
            return Err(refused());
        }
        if self.defect(Defect::OneWaiterIsAnswered) && !insert(&self.misdeeds.waited_for, key) {
            return Err(refused());
        }
        let mut guard = WhenDropped(self.defect(Defect::DroppedWaitKills).then_some(|| {
            self.world.act(|parts| parts.model.end_all());
        }));
        let status = self.end_seen(&self.world, &ending).await;
        guard.0 = None;
        remove(&self.misdeeds.waited_for, key);
        insert(&self.misdeeds.answered, key);
        if self.defect(Defect::DeleteFailsWaiters) && self.world.look(|parts| parts.model.is_deleted(key)) {
            return Err(refused());
        }
        Ok(status)
    }

    /// The end as those who wait are told it.
    async fn end_seen(&self, world: &Arc<World>, ending: &Ending) -> ExitStatus {
        let mut status = world.end_of(ending).await;
        if self.defect(Defect::WaitCutsTheCode) {
            status.code = status.code.map(|code| code.min(192));
        }
        status
    }
}

fn contains(keys: &Mutex<BTreeSet<Key>>, key: Key) -> bool {
    keys.lock().unwrap_or_else(PoisonError::into_inner).contains(&key)
}

fn insert(keys: &Mutex<BTreeSet<Key>>, key: Key) -> bool {
    keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
}

fn remove(keys: &Mutex<BTreeSet<Key>>, key: Key) {
    keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
}
