//! The workbench of a clause: a runtime in a scratch directory, and what bodies need to make and watch containers.

mod crilog;
mod exec_tap;
mod subject;
mod tap;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime_api::{
    Capability, ContainerId, CreateRequest, LogConfig, RestoreRequest, SharedRuntime, StdinMode,
};

use crate::{BundleOptions, Checked, Clause, Harness, Scratch, Violation, Workload};

pub use exec_tap::ExecTap;
pub use subject::{Output, Subject};
pub use tap::Tap;

/// How often a wait for something observable looks again.
const POLL: Duration = Duration::from_millis(5);

/// How long something that a program prints may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a program that cannot be watched is given to arm its traps.
const BLIND_START: Duration = Duration::from_secs(1);

/// What a clause works with.
pub struct Bench {
    clause: &'static Clause,
    harness: Arc<dyn Harness>,
    scratch: Scratch,
    /// Nothing only while a reopen is under way.
    runtime: Mutex<Option<SharedRuntime>>,
    anonymous: AtomicUsize,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("clause", &self.clause.id).field("scratch", &self.scratch).finish()
    }
}

impl Bench {
    /// A bench over a fresh runtime value.
    ///
    /// # Errors
    /// Those of [`Harness::open`].
    pub async fn open(
        clause: &'static Clause,
        harness: Arc<dyn Harness>,
        scratch: Scratch,
    ) -> runtime_api::Result<Self> {
        let runtime = Mutex::new(Some(harness.open(&scratch).await?));
        Ok(Self { clause, harness, scratch, runtime, anonymous: AtomicUsize::default() })
    }

    /// The clause.
    #[must_use]
    pub const fn clause(&self) -> &'static Clause {
        self.clause
    }

    /// Where everything of this clause is.
    #[must_use]
    pub const fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The runtime value, the newest after [`Bench::reopen`].
    ///
    /// # Panics
    /// While [`Bench::reopen`] is under way.
    #[must_use]
    pub fn runtime(&self) -> SharedRuntime {
        self.current().unwrap_or_else(|| panic!("the runtime is being reopened"))
    }

    /// The runtime value, if there is one now.
    pub(crate) fn current(&self) -> Option<SharedRuntime> {
        locked(&self.runtime).clone()
    }

    pub(crate) const fn harness(&self) -> &Arc<dyn Harness> {
        &self.harness
    }

    /// Whether the runtime declares the capability.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.runtime().capabilities().has(capability)
    }

    /// Whether what programs print can be observed: through the log, or by attaching.
    #[must_use]
    pub fn sees_output(&self) -> bool {
        self.has(Capability::Log) || self.has(Capability::Attach)
    }

    /// Ends and drops the runtime value, lets `meanwhile` pass without any, and opens another one over the same state
    /// directory.
    ///
    /// # Errors
    /// When the second value cannot be opened.
    pub async fn reopen(&self, meanwhile: Duration) -> Checked {
        let last = locked(&self.runtime).take();
        if let Some(last) = last {
            last.shutdown().await;
        }
        tokio::time::sleep(meanwhile).await;
        let next = self.harness.open(&self.scratch).await?;
        *locked(&self.runtime) = Some(next);
        Ok(())
    }

    /// An id for a container of this clause. The same name gives the same id.
    ///
    /// # Panics
    /// When `name` is not a short word of letters and digits.
    #[must_use]
    pub fn id(&self, name: &str) -> ContainerId {
        let text = format!("{}-{name}", self.scratch.token());
        ContainerId::new(text).unwrap_or_else(|error| panic!("clause {}: {error}", self.clause.id))
    }

    /// A new bundle that runs `workload`.
    ///
    /// # Errors
    /// Those of [`Harness::bundle`].
    pub fn bundle(&self, workload: &Workload) -> Checked<PathBuf> {
        self.bundle_with(workload, &BundleOptions::new())
    }

    /// A new bundle with more to say.
    ///
    /// # Errors
    /// Those of [`Harness::bundle`].
    pub fn bundle_with(&self, workload: &Workload, options: &BundleOptions) -> Checked<PathBuf> {
        Ok(self.harness.bundle(&self.scratch, workload, options)?)
    }

    /// Where a container's log goes.
    #[must_use]
    pub fn log_path(&self, id: &ContainerId) -> PathBuf {
        self.scratch.logs_dir().join(format!("{id}.log"))
    }

    /// A request with a log, where the runtime writes logs.
    #[must_use]
    pub fn request(&self, id: &ContainerId, bundle: &Path) -> CreateRequest {
        let request = CreateRequest::new(id.clone(), bundle);
        if self.has(Capability::Log) { request.log(LogConfig::cri_file(self.log_path(id))) } else { request }
    }

    /// A created container that is to run `workload`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn created(&self, workload: &Workload) -> Checked<Subject<'_>> {
        self.created_with(workload, |request| request).await
    }

    /// A container that runs `workload` in a bundle with more to say, and has said that it is ready.
    ///
    /// # Errors
    /// When it cannot be created or started, or never gets ready.
    pub async fn ready_in(&self, workload: &Workload, options: &BundleOptions) -> Checked<Subject<'_>> {
        let subject = self.created_in(workload, options).await?;
        subject.start().await?;
        subject.until_ready().await?;
        Ok(subject)
    }

    /// A created container from a bundle with more to say.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn created_in(&self, workload: &Workload, options: &BundleOptions) -> Checked<Subject<'_>> {
        let number = self.anonymous.fetch_add(1, Ordering::Relaxed) + 1;
        let id = self.id(&number.to_string());
        let bundle = self.bundle_with(workload, options)?;
        self.create(self.request(&id, &bundle)).await
    }

    /// A created container, with the request changed by `adapt`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn created_with(
        &self,
        workload: &Workload,
        adapt: impl FnOnce(CreateRequest) -> CreateRequest,
    ) -> Checked<Subject<'_>> {
        let number = self.anonymous.fetch_add(1, Ordering::Relaxed) + 1;
        let id = self.id(&number.to_string());
        let bundle = self.bundle(workload)?;
        self.create(adapt(self.request(&id, &bundle))).await
    }

    /// A created container with a terminal.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn created_on_a_terminal(&self, workload: &Workload) -> Checked<Subject<'_>> {
        let number = self.anonymous.fetch_add(1, Ordering::Relaxed) + 1;
        let id = self.id(&number.to_string());
        let bundle = self.bundle_with(workload, &BundleOptions::new().terminal())?;
        self.create(self.request(&id, &bundle)).await
    }

    /// The container of this request.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn create(&self, request: CreateRequest) -> Checked<Subject<'_>> {
        let id = request.id.clone();
        let has_input = request.stdin != StdinMode::Closed;
        self.runtime().create(request).await?;
        // A client of our own would be in the way of clauses that attach with input.
        let watched_by_attaching = !self.has(Capability::Log) && self.has(Capability::Attach) && !has_input;
        let tap = if watched_by_attaching { Some(Tap::attached(self, &id).await?) } else { None };
        Ok(Subject::new(self, id, tap))
    }

    /// Where images of checkpoints go.
    #[must_use]
    pub fn images_dir(&self) -> PathBuf {
        self.scratch.root().join("images")
    }

    /// A path for an image. The same name gives the same path.
    ///
    /// # Panics
    /// When the directory for images cannot be made.
    #[must_use]
    pub fn image(&self, name: &str) -> PathBuf {
        let dir = self.images_dir();
        std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        dir.join(name)
    }

    /// The container of this request, continued from an image.
    ///
    /// # Errors
    /// When it cannot be restored.
    pub async fn restore(&self, request: RestoreRequest) -> Checked<Subject<'_>> {
        let id = request.create.id.clone();
        self.runtime().restore(request).await?;
        let watched_by_attaching = !self.has(Capability::Log) && self.has(Capability::Attach);
        let tap = if watched_by_attaching { Some(Tap::attached(self, &id).await?) } else { None };
        Ok(Subject::new(self, id, tap))
    }

    /// A container that runs `workload`.
    ///
    /// # Errors
    /// When it cannot be created or started.
    pub async fn running(&self, workload: &Workload) -> Checked<Subject<'_>> {
        let subject = self.created(workload).await?;
        subject.start().await?;
        Ok(subject)
    }

    /// A container that runs `workload` and has said [`READY`](crate::workload::READY): signals may be sent.
    ///
    /// # Errors
    /// When it cannot be created or started, or never gets ready.
    pub async fn ready(&self, workload: &Workload) -> Checked<Subject<'_>> {
        let subject = self.running(workload).await?;
        subject.until_ready().await?;
        Ok(subject)
    }

    /// A container that ran `workload` to its end.
    ///
    /// # Errors
    /// When it cannot be created, started or waited for.
    pub async fn stopped(&self, workload: &Workload) -> Checked<Subject<'_>> {
        let subject = self.running(workload).await?;
        subject.wait().await?;
        Ok(subject)
    }

    /// Breaks the clause unless, soon, no process of this clause is left on the host.
    ///
    /// # Errors
    /// With the processes that were found.
    pub async fn no_process_is_left(&self) -> Checked {
        let look = || {
            let mut found = self.harness.leftovers(&self.scratch);
            if !self.harness.virtual_time() {
                found.extend(crate::audit::processes(&self.scratch));
            }
            found
        };
        let gone = poll_until(crate::audit::settling(self.harness.virtual_time()), || {
            look().is_empty().then_some(())
        })
        .await;
        match gone {
            Some(()) => Ok(()),
            None => Err(Violation::new(format!("left behind: {}", look().join("; ")))),
        }
    }

    /// Breaks the clause unless nothing is known of the id and nothing was left below the state directory.
    ///
    /// # Errors
    /// With what was found.
    pub async fn nothing_is_left_of(&self, id: &ContainerId) -> Checked {
        let runtime = self.runtime();
        if let Ok(state) = runtime.state(id).await {
            return Err(Violation::new(format!(
                "container \"{id}\" must be unknown, and is {}",
                state.status
            )));
        }
        let listed = runtime.list().await?;
        if listed.iter().any(|state| state.id == *id) {
            return Err(Violation::new(format!("container \"{id}\" must not be listed, and is")));
        }
        let mut found = crate::audit::files(&self.scratch, id.as_str());
        let give_up = tokio::time::Instant::now() + crate::audit::settling(self.harness.virtual_time());
        while !found.is_empty() && tokio::time::Instant::now() < give_up {
            tokio::time::sleep(POLL).await;
            found = crate::audit::files(&self.scratch, id.as_str());
        }
        if found.is_empty() {
            Ok(())
        } else {
            Err(Violation::new(format!("left behind: {}", found.join(", "))))
        }
    }
}

/// Looks every few milliseconds until `seen` gives something, for at most `limit`.
pub(crate) async fn poll_until<T>(limit: Duration, mut seen: impl FnMut() -> Option<T>) -> Option<T> {
    let give_up = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = seen() {
            return Some(found);
        }
        if tokio::time::Instant::now() >= give_up {
            return None;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A panic in one clause must not hide what the others would say, so a poisoned lock is used as it is.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
