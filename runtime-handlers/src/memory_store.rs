//! Containers' identities in memory.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use runtime_api::{Container, ContainerId, ContainerStore, Result};

/// A store that lives as long as the process. It never fails.
#[derive(Debug, Default)]
pub struct MemoryStore(RwLock<HashMap<ContainerId, Container>>);

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    // Each change is one insert or remove, so the map is whole even if a thread panicked while it held the lock.
    fn read(&self) -> RwLockReadGuard<'_, HashMap<ContainerId, Container>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<ContainerId, Container>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ContainerStore for MemoryStore {
    fn add(&self, container: Container) -> Result<()> {
        self.write().insert(container.id.clone(), container);
        Ok(())
    }

    fn get(&self, id: &ContainerId) -> Result<Option<Container>> {
        Ok(self.read().get(id).cloned())
    }

    fn delete(&self, id: &ContainerId) -> Result<()> {
        self.write().remove(id);
        Ok(())
    }

    fn list(&self) -> Result<Vec<Container>> {
        let mut all: Vec<_> = self.read().values().cloned().collect();
        all.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.id.cmp(&b.id)));
        Ok(all)
    }

    fn size(&self) -> Result<usize> {
        Ok(self.read().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;
    use runtime_api::HandlerName;
    use std::time::{Duration, SystemTime};

    fn container(name: &str, age: u64) -> Container {
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age);
        Container::new(id(name), "/b", HandlerName::new("h").unwrap(), "0", created)
    }

    #[test]
    fn the_newest_comes_first_and_equal_ages_by_id() {
        let store = MemoryStore::new();
        for (name, age) in [("old", 9), ("b", 1), ("a", 1)] {
            store.add(container(name, age)).unwrap();
        }
        let names: Vec<_> = store.list().unwrap().into_iter().map(|c| c.name).collect();
        assert_eq!(names, ["a", "b", "old"]);
        assert_eq!(store.size().unwrap(), 3);
        assert_eq!(store.first(&|c| c.name != "a").unwrap().unwrap().name, "b");
    }

    #[test]
    fn a_reducer_may_change_the_store() {
        let store = MemoryStore::new();
        store.add(container("a", 1)).unwrap();
        store.apply_all(&|c| store.delete(&c.id).unwrap()).unwrap();
        assert_eq!(store.get(&id("a")).unwrap(), None);
        store.delete(&id("a")).unwrap();
    }
}
