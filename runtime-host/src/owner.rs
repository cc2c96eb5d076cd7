//! Whose an act is: a runtime value of a process. It counts only while that value lives, for its tasks end with it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::process::Identity;

/// A value, told from the others of its process by a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    process: Identity,
    value: u64,
}

/// The values of this process that live.
static LIVING: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

impl Owner {
    /// Whether the value still lives. Of another process only the process can be asked after.
    #[must_use]
    pub fn lives(self) -> bool {
        if self.process == Identity::own() {
            return LIVING.lock().unwrap_or_else(PoisonError::into_inner).contains(&self.value);
        }
        self.process.lives()
    }
}

/// Held by a value for as long as its tasks run.
#[derive(Debug)]
pub struct Life(Owner);

impl Life {
    /// A new value of this process.
    #[must_use]
    pub fn begin() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let value = NEXT.fetch_add(1, Ordering::Relaxed);
        LIVING.lock().unwrap_or_else(PoisonError::into_inner).insert(value);
        Self(Owner { process: Identity::own(), value })
    }

    /// Whose acts are those of this value.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.0
    }

    /// Its tasks have ended, though the value is still there.
    pub fn end(&self) {
        LIVING.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0.value);
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_ends_with_its_value_and_not_with_its_process() {
        let (one, other) = (Life::begin(), Life::begin());
        let owner = one.owner();
        assert!(owner.lives() && other.owner().lives());
        drop(one);
        assert!(!owner.lives() && other.owner().lives());
        let stranger = Owner { process: Identity { start: 1, ..Identity::own() }, value: 0 };
        assert!(!stranger.lives());
    }
}
