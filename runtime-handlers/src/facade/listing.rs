//! All containers of all handlers.

use std::collections::BTreeSet;

use runtime_api::{Container, ContainerState, ErrorKind, HandlerName, Origin, Result};

use super::bundle::BundleFacts;
use super::{Runtime, spoofed};
use crate::snapshot::Snapshot;
use crate::table::Note;

/// One container and where it lives.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The handler it was created with.
    pub handler: HandlerName,
    /// The snapshot of the handler.
    pub snapshot: String,
    /// How it stands.
    pub state: ContainerState,
}

/// All containers that could be asked for, and a note for each snapshot that could not.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The containers, the oldest first.
    pub containers: Vec<Listed>,
    /// Snapshots that could not be opened or listed, such as those of a kind that is not registered.
    pub notes: Vec<Note>,
}

impl Runtime {
    /// How all containers below the base stand, whichever process created them.
    ///
    /// # Errors
    /// When the base cannot be read. A snapshot that cannot be opened fails alone: it becomes a note.
    pub async fn list(&self) -> Result<Listing> {
        self.listing().await.map(|(listing, _)| listing)
    }

    /// Finds the containers that an earlier process left, and brings the store up to date: what is there and not in the
    /// store is added, what is in the store and not there is removed. A record that is damaged is made anew where its
    /// container is there, and one that cannot be read for another reason is left; a note tells of each. Meant for the start of a process.
    ///
    /// # Errors
    /// Those of [`Runtime::list`] and of the store.
    pub async fn readopt(&self) -> Result<Listing> {
        let (mut listing, asked) = self.listing().await?;
        for error in self.store.damaged()? {
            let origin = Origin::other(error.subject().unwrap_or("the store").to_owned());
            listing.notes.push(Note::new(origin, error.report()));
        }
        let mut alive = BTreeSet::new();
        for listed in &listing.containers {
            alive.insert(listed.state.id.clone());
            let is_lost = match self.store.get(&listed.state.id) {
                Ok(found) => found.is_none(),
                // Of all others, such as one of a newer release, is only told, as above.
                Err(error) => matches!(error.kind(), ErrorKind::ConfigInvalid(_)),
            };
            if is_lost {
                self.store.add(identity(listed))?;
            }
        }
        for container in self.store.list()? {
            // A spoofed one is asked for by its file, whatever became of its handler.
            let asked = if container.spoofed {
                matches!(spoofed::whereabouts(&self.base, &container.id), Ok(None))
            } else {
                asked.contains(&(container.handler.clone(), container.snapshot.clone()))
            };
            if asked && !alive.contains(&container.id) {
                self.store.delete(&container.id)?;
            }
        }
        Ok(listing)
    }

    async fn listing(&self) -> Result<(Listing, BTreeSet<(HandlerName, String)>)> {
        let mut listing = Listing::default();
        let mut asked = BTreeSet::new();
        for snapshot in Snapshot::scan(&self.base)? {
            let states = match self.value(&snapshot).await {
                Ok(runtime) => runtime.list().await,
                Err(error) => Err(error),
            };
            match states {
                Ok(states) => {
                    asked.insert((snapshot.handler().clone(), snapshot.id().to_owned()));
                    listing.containers.extend(states.into_iter().map(|state| Listed {
                        handler: snapshot.handler().clone(),
                        snapshot: snapshot.id().to_owned(),
                        state,
                    }));
                }
                Err(error) => {
                    let origin = Origin::other(snapshot.directory(&self.base).display().to_string());
                    listing.notes.push(Note::new(origin, error.report()));
                }
            }
        }
        let spoofed = spoofed::all(&self.base)?;
        for (snapshot, state) in spoofed.found {
            let (handler, snapshot) = (snapshot.handler().clone(), snapshot.id().to_owned());
            listing.containers.push(Listed { handler, snapshot, state });
        }
        for error in spoofed.damaged {
            let origin = Origin::other(error.subject().unwrap_or(".spoofed").to_owned());
            listing.notes.push(Note::new(origin, error.report()));
        }
        listing
            .containers
            .sort_by(|a, b| (a.state.created_at, &a.state.id).cmp(&(b.state.created_at, &b.state.id)));
        Ok((listing, asked))
    }
}

/// What can be said of a container that only its runtime knows.
fn identity(listed: &Listed) -> Container {
    let state = &listed.state;
    let mut container = Container::new(
        state.id.clone(),
        &state.bundle,
        listed.handler.clone(),
        listed.snapshot.as_str(),
        state.created_at,
    );
    container.labels.clone_from(&state.labels);
    container.annotations.clone_from(&state.annotations);
    BundleFacts::default().describe(&mut container);
    container
}
