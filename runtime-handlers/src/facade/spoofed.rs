//! Containers that are there by name only. An engine that needs no process to hold the namespaces of a sandbox marks the
//! sandbox's own container as spoofed, and treats it like any other: it is created, started, listed, stopped and deleted,
//! and no runtime hears of it.
//!
//! Each has a file below `<base>/.spoofed`, for all processes. A change holds the lock of that directory, and is one rename.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use runtime_api::{
    Capabilities, Capability, ContainerId, ContainerState, ContainerStatus, CreateRequest, DeleteRequest,
    Error, ErrorKind, Evidence, ExitStatus, KillRequest, Operation, Result, RuntimeImpl, RuntimeInfo,
    RuntimeKind, Signal, StopRequest,
};
use serde::{Deserialize, Serialize};

use super::bundle::BundleFacts;
use crate::regular_file;
use crate::replace::replace;
use crate::snapshot::{Snapshot, failed};

const FOLDER: &str = ".spoofed";
/// Beside the files of containers, whose names do not begin with a dot.
const LOCK: &str = ".lock";
const SCHEMA: u32 = 1;
/// Annotations and labels are what can be large in a file.
const LARGEST: u64 = 16 << 20;
/// How soon who waits sees the end that another process brought about.
const PAUSE: Duration = Duration::from_millis(50);
/// The code of what was killed.
const KILLED: i32 = 137;

#[derive(Serialize, Deserialize)]
struct Record {
    schema: u32,
    /// `<handler>/<snapshot>`.
    home: String,
    state: ContainerState,
}

/// The spoofed containers of one handler's snapshot, as a runtime of their own.
#[derive(Debug)]
pub(super) struct Spoofed {
    folder: PathBuf,
    home: String,
    info: RuntimeInfo,
    capabilities: Capabilities,
}

/// The snapshot of a spoofed container; `None` for an id that is none.
pub(super) fn whereabouts(base: &Path, id: &ContainerId) -> Result<Option<Snapshot>> {
    Ok(read(&base.join(FOLDER).join(id.as_str()))?.and_then(|record| Snapshot::from_text(&record.home)))
}

/// All spoofed containers.
#[derive(Debug, Default)]
pub(super) struct All {
    /// They, and where they belong.
    pub(super) found: Vec<(Snapshot, ContainerState)>,
    /// What is wrong with each file that cannot be read.
    pub(super) damaged: Vec<Error>,
}

pub(super) fn all(base: &Path) -> Result<All> {
    let folder = base.join(FOLDER);
    let mut all = All::default();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        Err(error) => return Err(failed(&folder, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| failed(&folder, error))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match read(&entry.path()) {
            Ok(record) => {
                let whole = |record: Record| Some((Snapshot::from_text(&record.home)?, record.state));
                all.found.extend(record.and_then(whole));
            }
            Err(error) => all.damaged.push(error),
        }
    }
    Ok(all)
}

impl Spoofed {
    pub(super) fn of(base: &Path, snapshot: &Snapshot) -> Result<Self> {
        let no = |builder: runtime_api::CapabilitiesBuilder, each: &Capability| {
            builder.no(*each, "nothing runs in a spoofed container", Evidence::design("it is a name only"))
        };
        let capabilities = Capability::ALL.iter().fold(Capabilities::builder(), no).build()?;
        let info = RuntimeInfo::new(RuntimeKind::new("spoofed")?, snapshot.handler().clone(), "spoofed");
        Ok(Self { folder: base.join(FOLDER), home: snapshot.to_string(), info, capabilities })
    }

    fn path(&self, id: &ContainerId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    fn get(&self, operation: Operation, id: &ContainerId) -> Result<ContainerState> {
        let record = read(&self.path(id)).map_err(|error| error.during(operation))?;
        let ours = record.filter(|record| record.home == self.home);
        ours.map(|record| record.state).ok_or_else(|| Error::not_found(operation, id))
    }

    /// Keeps everybody else from changing anything until it is dropped. Nobody holds it for longer than a file takes.
    fn lock(&self) -> Result<File> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|error| failed(&self.folder, error))?;
        let path = self.folder.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| failed(&path, error))?;
        file.lock().map_err(|error| failed(&path, error))?;
        Ok(file)
    }

    fn put(&self, state: ContainerState) -> Result<()> {
        let path = self.path(&state.id);
        let text = serde_json::to_vec(&Record { schema: SCHEMA, home: self.home.clone(), state })
            .map_err(|error| failed(&path, io::Error::new(io::ErrorKind::InvalidData, error)))?;
        replace(&path, &text).map_err(|error| failed(&path, error))
    }

    /// Changes a container that is in a state in which the operation is admitted.
    fn change(
        &self,
        operation: Operation,
        id: &ContainerId,
        change: impl FnOnce(&mut ContainerState),
    ) -> Result<ContainerState> {
        let _alone = self.lock()?;
        let mut state = self.get(operation, id)?;
        operation.admit(id, state.status, false)?;
        let before = state.clone();
        change(&mut state);
        if state != before {
            self.put(state.clone()).map_err(|error| error.during(operation))?;
        }
        Ok(state)
    }
}

fn end(state: &mut ContainerState, code: i32) {
    if state.status != ContainerStatus::Stopped {
        state.status = ContainerStatus::Stopped;
        state.exit = Some(ExitStatus::exited(code, SystemTime::now()));
    }
}

#[async_trait]
impl RuntimeImpl for Spoofed {
    fn info(&self) -> &RuntimeInfo {
        &self.info
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn create(&self, request: CreateRequest) -> Result<ContainerState> {
        let _alone = self.lock()?;
        if read(&self.path(&request.id))?.is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists)
                .during(Operation::Create)
                .on(format_args!("container \"{}\"", request.id)));
        }
        let annotations = BundleFacts::read(&request.bundle).annotations;
        let (created, now) = (ContainerStatus::Created, SystemTime::now());
        let mut state = ContainerState::new(request.id, created, request.bundle, now);
        state.annotations = annotations;
        state.labels = request.labels;
        self.put(state.clone())?;
        Ok(state)
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        let run = |state: &mut ContainerState| {
            state.status = ContainerStatus::Running;
            state.started_at = Some(SystemTime::now());
        };
        self.change(Operation::Start, id, run).map(|_| ())
    }

    async fn state(&self, id: &ContainerId) -> Result<ContainerState> {
        self.get(Operation::State, id)
    }

    async fn list(&self) -> Result<Vec<ContainerState>> {
        let base = self.folder.parent().unwrap_or(&self.folder);
        let ours = all(base)?.found.into_iter().filter(|(snapshot, _)| snapshot.to_string() == self.home);
        let mut states: Vec<_> = ours.map(|(_, state)| state).collect();
        states.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(states)
    }

    async fn kill(&self, id: &ContainerId, request: KillRequest) -> Result<()> {
        // There is nobody whom another signal could reach.
        let kill = |state: &mut ContainerState| {
            if request.signal == Signal::KILL {
                end(state, KILLED);
            }
        };
        self.change(Operation::Kill, id, kill).map(|_| ())
    }

    async fn stop(&self, id: &ContainerId, request: StopRequest) -> Result<ExitStatus> {
        let stop = |state: &mut ContainerState| {
            let politely = state.status == ContainerStatus::Running && request.grace != Some(Duration::ZERO);
            end(state, if politely { 0 } else { KILLED });
        };
        let state = self.change(Operation::Stop, id, stop)?;
        state.exit.ok_or_else(|| Error::not_found(Operation::Stop, id))
    }

    async fn wait(&self, id: &ContainerId) -> Result<ExitStatus> {
        let mut state = self.get(Operation::Wait, id)?;
        loop {
            if let Some(exit) = state.exit {
                return Ok(exit);
            }
            tokio::time::sleep(PAUSE).await;
            state = match self.get(Operation::Wait, id) {
                // Who deletes what has not ended kills it.
                Err(error) if error.is_not_found() => {
                    return Ok(ExitStatus::exited(KILLED, SystemTime::now()));
                }
                found => found?,
            };
        }
    }

    async fn delete(&self, id: &ContainerId, request: DeleteRequest) -> Result<()> {
        let operation = Operation::Delete;
        let _alone = self.lock()?;
        match self.get(operation, id) {
            Err(error) if request.force && error.is_not_found() => return Ok(()),
            // What is damaged can be forced away, too.
            Err(error) if !request.force => return Err(error),
            Ok(state) if !request.force => operation.admit(id, state.status, false)?,
            _ => {}
        }
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
            _ => Ok(()),
        }
    }
}

/// The file of a container; `None` if there is none.
fn read(path: &Path) -> Result<Option<Record>> {
    let text = match regular_file::read(path, LARGEST) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, error)),
    };
    let damaged = |what: String| Error::new(ErrorKind::ConfigInvalid(what)).on(path.display());
    let record: Record =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("it is damaged: {error}")))?;
    if record.schema != SCHEMA || path.file_name() != Some(record.state.id.as_str().as_ref()) {
        return Err(damaged(format!("it is of the format {} for {}", record.schema, record.state.id)));
    }
    Ok(Some(record))
}
