//! Where an engine keeps its containers' identities.

use std::fmt;

use crate::{Container, ContainerId, Error, Result};

/// Decides whether a container is meant. It may call the store.
pub type ContainerFilter<'a> = &'a dyn Fn(&Container) -> bool;
/// Looks at one container. It may call the store.
pub type ContainerReducer<'a> = &'a (dyn Fn(&Container) + Sync);

/// A set of containers by id. Thread-safe; filters and reducers see a snapshot and may call the store.
///
/// Methods fail only where the store is on disk; a store in memory never does.
pub trait ContainerStore: fmt::Debug + Send + Sync + 'static {
    /// Inserts, or replaces the container with the same id.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn add(&self, container: Container) -> Result<()>;

    /// The container with exactly this id.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn get(&self, id: &ContainerId) -> Result<Option<Container>>;

    /// Removes it; an absent one is fine.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn delete(&self, id: &ContainerId) -> Result<()>;

    /// All containers, the newest first; those of the same time ordered by id. Records that cannot be read are left out;
    /// [`damaged`](ContainerStore::damaged) tells of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn list(&self) -> Result<Vec<Container>>;

    /// What is wrong with each record that cannot be read: an error that names it. A store in memory has none.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn damaged(&self) -> Result<Vec<Error>> {
        Ok(Vec::new())
    }

    /// How many there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn size(&self) -> Result<usize> {
        Ok(self.list()?.len())
    }

    /// The newest container that the filter accepts.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn first(&self, filter: ContainerFilter<'_>) -> Result<Option<Container>> {
        Ok(self.list()?.into_iter().find(|container| filter(container)))
    }

    /// Shows every container of one snapshot to the reducer; what is added meanwhile is not shown.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn apply_all(&self, reducer: ContainerReducer<'_>) -> Result<()> {
        for container in self.list()? {
            reducer(&container);
        }
        Ok(())
    }
}
