//! All handlers behind one value: containers are created under a handler and found again by their id.

mod bundle;
mod by_id;
mod listing;
mod questions;
mod spoofed;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use runtime_api::{
    Container, ContainerId, ContainerState, ContainerStore, CreateRequest, DeleteRequest, Error, ErrorKind,
    HandlerConfig, HandlerName, Operation, RestoreRequest, Result, SharedRuntime,
};
use tokio::sync::OnceCell;

use bundle::BundleFacts;
pub use listing::{Listed, Listing};
pub use questions::{Handler, MountSupport, Offered};
use spoofed::Spoofed;

use crate::diff::{self, Change};
use crate::intercept::Layers;
use crate::memory_store::MemoryStore;
use crate::registry::{Registry, subject};
use crate::reservation::{self, Reservation, Taken};
use crate::snapshot::Snapshot;
use crate::stack;
use crate::table::HandlerTable;

/// How long a factory may probe its binaries and recover what an earlier process left.
const OPENING: Duration = Duration::from_secs(120);

/// Creates containers under handlers, and sends every later call to the configuration the container was created with.
///
/// A container stays with its handler's *snapshot*: the configuration at the time of its creation, which is kept beside
/// its records. The table may change, and the process may be another one; the container is still reached through the
/// runtime, the root and the arguments that made it.
///
/// Ids are unique below one base directory, across handlers and processes. A container that was made without the facade
/// is found too, but its id is guarded by its own handler alone.
///
/// A container whose annotation `spoofed.crio.io` is `true`, where its handler allows that, is there by name only: it is
/// created, started, listed, stopped and deleted like any other, no runtime hears of it, and exec and the like are refused.
///
/// A runtime value is opened when it is first needed, and stays open. All calls go through the layers of [`stack`].
#[derive(Debug)]
pub struct Runtime {
    table: ArcSwap<HandlerTable>,
    registry: Registry,
    base: PathBuf,
    store: Arc<dyn ContainerStore>,
    open: Mutex<BTreeMap<Snapshot, Arc<OnceCell<Opened>>>>,
    layers: MakeLayers,
    reloading: Mutex<()>,
}

/// A backend that is open, and what stands in front of it under the handlers of the table that it was last asked under.
#[derive(Debug)]
struct Opened {
    backend: SharedRuntime,
    front: Mutex<(Arc<HandlerTable>, SharedRuntime)>,
}

/// What makes a program's own layers for a handler.
struct MakeLayers(Box<dyn Fn(&HandlerConfig) -> Layers + Send + Sync>);

impl Default for MakeLayers {
    fn default() -> Self {
        Self(Box::new(|_| Vec::new()))
    }
}

impl fmt::Debug for MakeLayers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MakeLayers")
    }
}

impl Runtime {
    /// The handlers of `table`, opened by the factories of `registry`, with state below `base`. Nothing is touched yet.
    pub fn new(table: impl Into<Arc<HandlerTable>>, registry: Registry, base: impl Into<PathBuf>) -> Self {
        Self {
            table: ArcSwap::new(table.into()),
            registry,
            base: base.into(),
            store: Arc::new(MemoryStore::new()),
            open: Mutex::default(),
            layers: MakeLayers::default(),
            reloading: Mutex::default(),
        }
    }

    /// Puts layers of the program's own, made anew for each handler that is opened, where [`stack`] has a place for them.
    #[must_use]
    pub fn with_layers(mut self, make: impl Fn(&HandlerConfig) -> Layers + Send + Sync + 'static) -> Self {
        self.layers = MakeLayers(Box::new(make));
        self
    }

    /// Keeps identities in another store than a [`MemoryStore`].
    #[must_use]
    pub fn with_store(mut self, store: Arc<dyn ContainerStore>) -> Self {
        self.store = store;
        self
    }

    /// The handlers that can be chosen now. What was got stays as it is when others are loaded.
    #[must_use]
    pub fn table(&self) -> Arc<HandlerTable> {
        self.table.load_full()
    }

    /// Replaces the handlers that can be chosen, and tells what is different. Nobody ever sees a mixture of both. Containers
    /// stay with the configuration that they were created with, and values that are open stay open; limits, policies and
    /// disabled capabilities count from the next call on.
    ///
    /// # Errors
    /// Those of `read`; the handlers of before then stay in use.
    pub fn reload(&self, read: impl FnOnce() -> Result<HandlerTable>) -> Result<Vec<Change>> {
        // Who read first must not be the last to swap.
        let _alone = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let new = read().map_err(|error| {
            let hint = error.advice().map(|advice| format!("{advice}; ")).unwrap_or_default();
            error.hint(format!("{hint}the handlers of before stay in use"))
        })?;
        let new = Arc::new(new);
        let old = self.table.swap(Arc::clone(&new));
        Ok(diff::between(&old, &new))
    }

    /// Where identities are kept. Status is never here: ask [`Runtime::state`].
    #[must_use]
    pub fn store(&self) -> &dyn ContainerStore {
        &*self.store
    }

    /// Where state is kept.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The runtime value of a handler as it is configured now; of the default handler if none is named.
    ///
    /// # Errors
    /// Those of [`HandlerTable::select`], [`Registry::check`] and [`open`](runtime_api::RuntimeFactory::open).
    pub async fn runtime(&self, handler: Option<&HandlerName>) -> Result<SharedRuntime> {
        let table = self.table();
        let config = table.select(handler)?;
        self.value_with(&Snapshot::of(config), Some(config)).await
    }

    /// Creates a container under a handler; under the default one if none is named.
    ///
    /// **Cancel**: as [`create`](runtime_api::RuntimeImpl::create); the id is free again.
    ///
    /// # Errors
    /// Those of [`Runtime::runtime`] and [`create`](runtime_api::RuntimeImpl::create);
    /// [`AlreadyExists`](runtime_api::ErrorKind::AlreadyExists) also when another handler has the id;
    /// [`ConfigInvalid`](runtime_api::ErrorKind::ConfigInvalid) when the handler does not allow an
    /// annotation or a memory limit of the bundle.
    pub async fn create(
        &self,
        handler: Option<&HandlerName>,
        request: CreateRequest,
    ) -> Result<ContainerState> {
        let asked = request.clone();
        self.place(handler, Operation::Create, &asked, None, |runtime| async move {
            runtime.create(request).await
        })
        .await
    }

    /// Continues a container from an image, under a handler; under the default one if none is named.
    ///
    /// # Errors
    /// As [`Runtime::create`], and those of [`restore`](runtime_api::RuntimeImpl::restore).
    pub async fn restore(
        &self,
        handler: Option<&HandlerName>,
        request: RestoreRequest,
    ) -> Result<ContainerState> {
        let asked = request.create.clone();
        let image = request.image.clone();
        self.place(handler, Operation::Restore, &asked, Some(image), |runtime| async move {
            runtime.restore(request).await
        })
        .await
    }

    /// [`start`](runtime_api::RuntimeImpl::start) of the container's own runtime value. Why a program could not be started is
    /// kept in the store, until it was started after all.
    ///
    /// # Errors
    /// Those of the method, and those of [`Runtime::of`].
    pub async fn start(&self, id: &ContainerId) -> Result<()> {
        let (snapshot, runtime) = self.find(id, Operation::Start).await?;
        let made = self.made(id);
        let done = runtime.start(id).await;
        // What was refused for other reasons says nothing of the program.
        let failure = match &done {
            Ok(()) => None,
            Err(error) if matches!(error.kind(), ErrorKind::Rejected { .. }) => Some(error.report()),
            Err(_) => return done,
        };
        if let Err(error) = self.remember_start(id, failure, made, (&snapshot, &runtime)).await {
            tracing::warn!(container = %id, "how the start went was not kept: {}", error.report());
        }
        done
    }

    /// When the container was made that the store has under this id.
    fn made(&self, id: &ContainerId) -> Option<SystemTime> {
        self.store.get(id).ok().flatten().map(|container| container.created_at)
    }

    async fn remember_start(
        &self,
        id: &ContainerId,
        failure: Option<String>,
        made: Option<SystemTime>,
        (snapshot, runtime): (&Snapshot, &SharedRuntime),
    ) -> Result<()> {
        let same = |each: &Container| Some(each.created_at) == made && each.start_failure != failure;
        if self.store.get(id)?.filter(same).is_none() {
            return Ok(());
        }
        // Meanwhile it may be deleted, and another one created under its id: not while the id is held. What was made past
        // the facade has no file to hold.
        let held = reservation::take_again(&self.base, id, snapshot).await?;
        if held.is_none() && reservation::whereabouts(&self.base, id).is_some() {
            return Err(reservation::taken(id, "it is being created or deleted at this moment"));
        }
        let Some(mut container) = self.store.get(id)?.filter(same) else { return Ok(()) };
        container.start_failure = failure;
        self.store.add(container)?;
        // Who deleted it meanwhile must not find it again.
        match runtime.state(id).await {
            Err(error) if error.is_not_found() => self.store.delete(id),
            _ => Ok(()),
        }
    }

    /// Forgets a container. With force an unknown id is Ok.
    ///
    /// # Errors
    /// Those of [`Runtime::of`] and [`delete`](runtime_api::RuntimeImpl::delete).
    pub async fn delete(&self, id: &ContainerId, request: DeleteRequest) -> Result<()> {
        let (snapshot, runtime) = match self.find(id, Operation::Delete).await {
            Err(error) if request.force && error.is_not_found() => return self.store.delete(id),
            found => found?,
        };
        let made = self.made(id);
        runtime.delete(id, request).await?;
        let held = reservation::take_again(&self.base, id, &snapshot).await;
        // The same id may have been created again since: then it keeps its place in the store and its file.
        if self.made(id) == made {
            self.store.delete(id)?;
        }
        if let Some(held) = held?
            && matches!(runtime.state(id).await, Err(error) if error.is_not_found())
        {
            held.give_back();
        }
        Ok(())
    }

    /// The runtime value that a container belongs to.
    ///
    /// # Errors
    /// [`NotFound`](runtime_api::ErrorKind::NotFound) when no handler has the id; what opening its handler's snapshot
    /// fails with.
    pub async fn of(&self, id: &ContainerId, operation: Operation) -> Result<SharedRuntime> {
        self.find(id, operation).await.map(|(_, runtime)| runtime)
    }

    /// Ends the tasks of all open values and waits for them. Containers go on.
    pub async fn shutdown(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for opened in open.values().filter_map(|cell| cell.get()) {
            opened.backend.shutdown().await;
        }
    }

    async fn place<F: Future<Output = Result<ContainerState>>>(
        &self,
        handler: Option<&HandlerName>,
        operation: Operation,
        request: &CreateRequest,
        image: Option<PathBuf>,
        make: impl FnOnce(SharedRuntime) -> F,
    ) -> Result<ContainerState> {
        let table = self.table();
        let config = table.select(handler)?;
        let bundle = BundleFacts::read(&request.bundle);
        bundle.check(config).map_err(|error| {
            error.during(operation).on(format_args!("container \"{}\"", request.id)).hint(subject(config))
        })?;
        let snapshot = Snapshot::of(config);
        let runtime = if bundle.is_spoofed() {
            self.spoofed(&snapshot)?
        } else {
            self.value_with(&snapshot, Some(config)).await?
        };
        let mut reservation = self.reserve(&request.id).await.map_err(|error| error.during(operation))?;
        reservation.give(&snapshot)?;
        match make(runtime.clone()).await {
            Ok(state) => {
                let mut container = self.identity(request, &snapshot, &state, bundle);
                container.restored_from = image;
                if let Err(error) = self.store.add(container) {
                    // A container that nobody remembers must not be left; the store's failure is the one to tell.
                    let _ = runtime.delete(&request.id, DeleteRequest::force()).await;
                    reservation.give_back();
                    return Err(error.during(operation));
                }
                reservation.keep();
                Ok(state)
            }
            Err(error) => {
                if matches!(error.kind(), ErrorKind::AlreadyExists) {
                    reservation.keep();
                } else {
                    reservation.give_back();
                }
                Err(error)
            }
        }
    }

    /// Takes the id, also from a file that was left over.
    async fn reserve(&self, id: &ContainerId) -> Result<Reservation> {
        match reservation::take(&self.base, id).await? {
            Taken::Free(reservation) => Ok(reservation),
            Taken::UnderWay => Err(reservation::taken(id, "it is being created or deleted at this moment")),
            Taken::Given(whose, reservation) => match self.knows(&whose, id).await {
                Ok(true) => {
                    Err(reservation::taken(id, &format!("the handler \"{}\" has it", whose.handler())))
                }
                Ok(false) => Ok(reservation),
                Err(error) => Err(error),
            },
        }
    }

    /// Whether a container of this id is there. A snapshot whose directory is gone has no containers.
    async fn knows(&self, snapshot: &Snapshot, id: &ContainerId) -> Result<bool> {
        if spoofed::whereabouts(&self.base, id)?.is_some() {
            return Ok(true);
        }
        match self.value(snapshot).await {
            Ok(runtime) => Ok(!matches!(runtime.state(id).await, Err(error) if error.is_not_found())),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn identity(
        &self,
        request: &CreateRequest,
        snapshot: &Snapshot,
        state: &ContainerState,
        bundle: BundleFacts,
    ) -> Container {
        let mut container = Container::new(
            request.id.clone(),
            &request.bundle,
            snapshot.handler().clone(),
            snapshot.id(),
            state.created_at,
        );
        container.labels.clone_from(&request.labels);
        container.annotations.clone_from(&state.annotations);
        container.sandbox.clone_from(&request.sandbox);
        container.log_path.clone_from(&request.log.path);
        container.stop_signal = request.stop_signal;
        bundle.describe(&mut container);
        container
    }

    /// The value that the spoofed containers of a snapshot belong to. Its handler is not opened for it.
    fn spoofed(&self, snapshot: &Snapshot) -> Result<SharedRuntime> {
        let value: SharedRuntime = Arc::new(Spoofed::of(&self.base, snapshot)?);
        match self.table().handlers.get(snapshot.handler()) {
            Some(config) => self.in_front(&value, config),
            None => Ok(value),
        }
    }

    /// Where a container lives: by the id's file, or else by asking every snapshot.
    async fn find(&self, id: &ContainerId, operation: Operation) -> Result<(Snapshot, SharedRuntime)> {
        match spoofed::whereabouts(&self.base, id) {
            Ok(None) => {}
            Ok(Some(snapshot)) => return self.spoofed(&snapshot).map(|value| (snapshot, value)),
            // What is damaged can be deleted by force.
            Err(error) => match reservation::whereabouts(&self.base, id) {
                Some(snapshot) if operation == Operation::Delete => {
                    return self.spoofed(&snapshot).map(|value| (snapshot, value));
                }
                _ => return Err(error.during(operation)),
            },
        }
        if let Some(snapshot) = reservation::whereabouts(&self.base, id) {
            match self.value(&snapshot).await {
                Ok(runtime) => return Ok((snapshot, runtime)),
                // The file names a snapshot whose directory is gone: it says nothing any more.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.during(operation)),
            }
        }
        let mut closed = Vec::new();
        for snapshot in Snapshot::scan(&self.base)? {
            match self.value(&snapshot).await {
                Ok(runtime) => {
                    if !matches!(runtime.state(id).await, Err(error) if error.is_not_found()) {
                        return Ok((snapshot, runtime));
                    }
                }
                Err(error) => closed.push(format!("{snapshot} could not be asked: {}", error.report())),
            }
        }
        let missing = Error::not_found(operation, id);
        Err(if closed.is_empty() { missing } else { missing.hint(closed.join("; ")) })
    }

    /// The value over a snapshot that was found.
    async fn value(&self, snapshot: &Snapshot) -> Result<SharedRuntime> {
        self.value_with(snapshot, None).await
    }

    /// The value over a snapshot, opened once however many callers need it; `chosen` is its configuration, where the caller
    /// has it from a table.
    async fn value_with(&self, snapshot: &Snapshot, chosen: Option<&HandlerConfig>) -> Result<SharedRuntime> {
        let table = self.table();
        let cell = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(open.entry(snapshot.clone()).or_default())
        };
        let opened = cell.get_or_try_init(|| self.open_value(snapshot, chosen, &table)).await?;
        let mut front = opened.front.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&front.0, &table) {
            // A handler that is gone keeps the limits that it had.
            if let Some(config) = current(&table, snapshot) {
                front.1 = self.in_front(&opened.backend, config)?;
            }
            front.0 = table;
        }
        Ok(Arc::clone(&front.1))
    }

    async fn open_value(
        &self,
        snapshot: &Snapshot,
        chosen: Option<&HandlerConfig>,
        table: &Arc<HandlerTable>,
    ) -> Result<Opened> {
        let config = match chosen.or_else(|| current(table, snapshot)) {
            Some(config) => config.clone(),
            None => snapshot.read(&self.base)?,
        };
        self.registry.check(&config)?;
        let factory = self.registry.factory(&config)?;
        let opening = factory.open(&config, snapshot.context(&self.base));
        let opened = tokio::time::timeout(OPENING, opening)
            .await
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::TimedOut(OPENING))));
        let backend = opened.map_err(|error| error.during_step("open").on(subject(&config)))?;
        // After the opening, so that a handler that cannot be opened leaves nothing; before any container.
        snapshot.write(&self.base, &config)?;
        let front = self.in_front(&backend, &config)?;
        Ok(Opened { backend, front: Mutex::new((Arc::clone(table), front)) })
    }

    fn in_front(&self, backend: &SharedRuntime, config: &HandlerConfig) -> Result<SharedRuntime> {
        stack::with(Arc::clone(backend), config, (self.layers.0)(config))
    }
}

/// The table's configuration while it still is this snapshot.
fn current<'a>(table: &'a HandlerTable, snapshot: &Snapshot) -> Option<&'a HandlerConfig> {
    table.handlers.get(snapshot.handler()).filter(|config| Snapshot::of(config) == *snapshot)
}

#[cfg(test)]
mod tests;
