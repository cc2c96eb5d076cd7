//! The methods of the Task service, over the model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_shim_protos::api;
use containerd_shim_protos::cgroups::metrics;
use containerd_shim_protos::types::task::{ProcessInfo, Status};
use protobuf::{Message as _, MessageField};
use runtime_api::{
    Capabilities, Capability, ContainerId, ContainerStatus, Evidence, Operation, Result, Signal, Stats,
    WindowSize,
};
use runtime_test::fake::model::{Blueprint, ExecTerms};
use runtime_test::fake::program::{self, BundleSpec};
use runtime_vm::task::any::Payload;
use runtime_vm::task::metrics::V1;
use ttrpc::Code;

use super::events::Event;
use super::refusal::Refusal;
use super::saving;
use super::service::Reply;
use super::streams::{self, Io, Outlets, Reader};
use super::world::{Exec, Exit, Parts, Player, Task, World};

/// The code of an exec that could not be started.
const NOT_STARTED: i32 = 255;

impl World {
    pub(super) fn create(
        self: &Arc<Self>,
        request: api::CreateTaskRequest,
    ) -> Reply<api::CreateTaskResponse> {
        let id = ContainerId::new(&request.id)?;
        let bundle = PathBuf::from(&request.bundle);
        let spec = BundleSpec::read(&bundle)?;
        let name = spec.program.argv.first().cloned();
        program::check(&spec.rootfs, &spec.program).map_err(|error| Refusal::of(&error, name.as_deref()))?;
        let options = request.options.into_option().map(Payload::from).unwrap_or_default();
        let image = Some(Path::new(&request.checkpoint)).filter(|image| !image.as_os_str().is_empty());
        let saved = image.map(saving::read).transpose()?;
        let io = Io {
            terminal: request.terminal,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        let key = self.act(|parts| parts.model.reserve(&id))?;
        let blueprint = Blueprint {
            bundle: bundle.clone(),
            rootfs: spec.rootfs.clone(),
            program: spec.program,
            annotations: spec.annotations,
            labels: std::collections::BTreeMap::new(),
            terminal: io.terminal,
            input_open: io.terminal || !io.stdin.is_empty(),
            input_kept: false,
            stop_signal: Signal::TERM,
            limits: spec.limits,
        };
        let opened = Outlets::open(&io).map_err(|error| cannot_open(&error));
        let (outlets, input) = opened.inspect_err(|_| self.act(|parts| parts.model.abandon(key, false)))?;
        let (_, ending) = self.act(|parts| {
            parts.model.fill(key, blueprint)?;
            let mut init = Player::new(io);
            init.outlets = Some(outlets);
            let (rootfs, execs) = (spec.rootfs, std::collections::BTreeMap::new());
            let task = Task { id: id.clone(), key, bundle, rootfs, init, execs, options, saved };
            parts.tasks.insert(id.to_string(), task);
            parts.model.ending(&id)
        })?;
        if let Some(input) = input {
            self.spawn(streams::feed(Arc::clone(self), input, Reader::Init(key)));
        }
        self.spawn(Arc::clone(self).see_init_end(id.to_string(), key, ending));
        self.tell(Event::created(id.as_str()));
        let mut answer = api::CreateTaskResponse::new();
        answer.pid = std::process::id();
        Ok(answer)
    }

    pub(super) fn start(self: &Arc<Self>, request: &api::StartRequest) -> Reply<api::StartResponse> {
        if request.exec_id.is_empty() {
            self.act(|parts| {
                let task = parts.known(&request.id)?;
                let (id, name, key, saved) =
                    (task.id.clone(), task.id.to_string(), task.key, task.saved.take());
                match (parts.status(&name)?, saved) {
                    (Status::CREATED, Some(saved)) => {
                        parts.model.revive(key, &saved).map(drop).ok_or_else(saving::makes_no_sense)
                    }
                    (Status::CREATED, None) => parts.model.start(&id).map_err(Refusal::from),
                    (other, _) => Err(Refusal::wrong_state("start", word(other))),
                }
            })?;
            self.tell(Event::started(&request.id));
        } else {
            self.start_exec(&request.id, &request.exec_id)?;
        }
        let mut answer = api::StartResponse::new();
        answer.pid = std::process::id();
        Ok(answer)
    }

    fn start_exec(self: &Arc<Self>, id: &str, exec: &str) -> Reply<()> {
        let started = self.act(|parts| {
            let task = parts.known(id)?;
            let (container, rootfs) = (task.id.clone(), task.rootfs.clone());
            let found = task.exec(exec)?;
            if found.key.is_some() || found.player.ended().is_some() {
                return Err(Refusal::wrong_state("start", "running"));
            }
            let (outlets, input) = Outlets::open(&found.player.io).map_err(|error| cannot_open(&error))?;
            let terms = ExecTerms {
                operation: Operation::Exec,
                timeout: None,
                output: usize::MAX,
                input: input.is_some(),
                terminal: found.player.io.terminal.then_some(found.size),
                descriptors: Vec::new(),
            };
            let program = found.program.clone();
            found.player.outlets = Some(outlets);
            let name = program.argv.first().cloned();
            let begun = program::check(&rootfs, &program)
                .and_then(|()| parts.model.exec(&container, program, terms))
                .map_err(|error| Refusal::of(&error, name.as_deref()));
            let found = parts.known(id)?.exec(exec)?;
            match begun {
                Ok(key) => {
                    found.key = Some(key);
                    Ok((key, input))
                }
                Err(refusal) => {
                    found.player.outlets = None;
                    let exit = Exit { code: NOT_STARTED, at: std::time::SystemTime::now() };
                    found.player.exit.send_replace(Some(exit));
                    Err(refusal)
                }
            }
        });
        let (key, input) = started?;
        if let Some(input) = input {
            self.spawn(streams::feed(Arc::clone(self), input, Reader::Exec(key)));
        }
        self.spawn(Arc::clone(self).see_exec_end(id.to_owned(), exec.to_owned(), key));
        Ok(())
    }

    pub(super) fn exec(&self, request: api::ExecProcessRequest) -> Reply<api::Empty> {
        let document = request.spec.map(|spec| spec.value).unwrap_or_default();
        self.act(|parts| {
            match parts.status(&request.id)? {
                Status::RUNNING => {}
                other => return Err(Refusal::wrong_state("exec in", word(other))),
            }
            let task = parts.known(&request.id)?;
            if task.execs.contains_key(&request.exec_id) {
                return Err(Refusal::new(
                    Code::ALREADY_EXISTS,
                    format!("id {}: already exists", request.exec_id),
                ));
            }
            let program = program::read_process(&document)?;
            let size = console_size(&document).unwrap_or_default();
            let io = Io {
                terminal: request.terminal,
                stdin: request.stdin,
                stdout: request.stdout,
                stderr: request.stderr,
            };
            let exec = Exec { player: Player::new(io), program, size, key: None };
            task.execs.insert(request.exec_id, exec);
            Ok(api::Empty::new())
        })
    }

    pub(super) fn state(&self, request: &api::StateRequest) -> Reply<api::StateResponse> {
        self.act(|parts| {
            let status = parts.status(&request.id)?;
            let task = parts.known(&request.id)?;
            let mut answer = api::StateResponse::new();
            answer.id.clone_from(&request.id);
            answer.exec_id.clone_from(&request.exec_id);
            answer.bundle = task.bundle.to_string_lossy().into_owned();
            let mut pid = std::process::id();
            let (player, status) = if request.exec_id.is_empty() {
                (&task.init, status)
            } else {
                let exec = task.exec(&request.exec_id)?;
                let status = match (exec.player.ended(), exec.key) {
                    (Some(_), _) => Status::STOPPED,
                    (None, Some(_)) => Status::RUNNING,
                    (None, None) => Status::CREATED,
                };
                if exec.key.is_none() {
                    pid = 0;
                }
                (&exec.player, status)
            };
            answer.pid = pid;
            answer.status = status.into();
            answer.terminal = player.io.terminal;
            answer.stdin.clone_from(&player.io.stdin);
            answer.stdout.clone_from(&player.io.stdout);
            answer.stderr.clone_from(&player.io.stderr);
            if let Some(exit) = player.ended() {
                answer.exit_status = status_of(exit);
                answer.exited_at = MessageField::some(exit.at.into());
            }
            Ok(answer)
        })
    }

    pub(super) async fn wait(&self, request: &api::WaitRequest) -> Reply<api::WaitResponse> {
        let mut exit = self.act(|parts| {
            let task = parts.known(&request.id)?;
            let player =
                if request.exec_id.is_empty() { &task.init } else { &task.exec(&request.exec_id)?.player };
            Ok::<_, Refusal>(player.exit.subscribe())
        })?;
        let told = exit.wait_for(Option::is_some).await.map(|exit| *exit);
        let Ok(Some(exit)) = told else { return Err(Refusal::not_found(&request.id)) };
        let mut answer = api::WaitResponse::new();
        answer.exit_status = status_of(exit);
        answer.exited_at = MessageField::some(exit.at.into());
        Ok(answer)
    }

    pub(super) fn kill(self: &Arc<Self>, request: &api::KillRequest) -> Reply<api::Empty> {
        let number = i32::try_from(request.signal).unwrap_or_default();
        let signal = Signal::from_number(number)?;
        let finished = || Refusal::new(Code::NOT_FOUND, "process already finished");
        self.act(|parts| {
            let task = parts.known(&request.id)?;
            let id = task.id.clone();
            if !request.exec_id.is_empty() {
                let exec = task.exec(&request.exec_id)?;
                let runs = exec.key.filter(|_| exec.player.ended().is_none());
                match runs {
                    None => return Err(finished()),
                    Some(key) if signal == Signal::KILL => parts.model.kill_exec(key),
                    Some(key) => parts.model.signal_exec(key, number),
                }
                return Ok(());
            }
            if task.init.ended().is_some() {
                return Err(finished());
            }
            if parts.model.state(&id)?.status != ContainerStatus::Stopped {
                parts.model.kill(&id, signal, request.all, &everything()?)?;
            }
            Ok::<_, Refusal>(())
        })?;
        if signal == Signal::KILL {
            self.spawn(Arc::clone(self).cut_soon(request.id.clone(), request.exec_id.clone()));
        }
        Ok(api::Empty::new())
    }

    /// What a killed program wrote and nobody takes is lost.
    async fn cut_soon(self: Arc<Self>, id: String, exec: String) {
        let last_words = self.act(|parts| Some(parts.outlets(&id, &exec)?.last_words()));
        if let Some(last_words) = last_words
            && !last_words.await
        {
            self.act(|parts| {
                if let Some(outlets) = parts.outlets(&id, &exec) {
                    outlets.cut();
                }
            });
        }
    }

    pub(super) fn resize(&self, request: &api::ResizePtyRequest) -> Reply<api::Empty> {
        let narrow = |wide: u32| u16::try_from(wide).unwrap_or(u16::MAX);
        let size = WindowSize::new(narrow(request.height), narrow(request.width));
        let size = size.ok_or_else(|| Refusal::new(Code::INVALID_ARGUMENT, "a size of zero"))?;
        self.act(|parts| {
            let task = parts.known(&request.id)?;
            let id = task.id.clone();
            if request.exec_id.is_empty() {
                parts.model.resize(Operation::AttachResize, &id, size)?;
                return Ok(api::Empty::new());
            }
            let exec = task.exec(&request.exec_id)?;
            if !exec.player.io.terminal {
                return Err(Refusal::new(Code::FAILED_PRECONDITION, "the exec has no terminal"));
            }
            exec.size = (size.rows, size.columns);
            if let Some(key) = exec.key {
                parts.model.resize_exec(key, (size.rows, size.columns));
            }
            Ok(api::Empty::new())
        })
    }

    pub(super) fn close_io(&self, request: &api::CloseIORequest) -> Reply<api::Empty> {
        self.act(|parts| {
            let task = parts.known(&request.id)?;
            let player = if request.exec_id.is_empty() {
                &mut task.init
            } else {
                &mut task.exec(&request.exec_id)?.player
            };
            if let Some(outlets) = player.outlets.as_mut().filter(|_| request.stdin) {
                outlets.close_input();
            }
            Ok(api::Empty::new())
        })
    }

    pub(super) fn pids(&self, request: &api::PidsRequest) -> Reply<api::PidsResponse> {
        let count = self.act(|parts| {
            let id = parts.known(&request.id)?.id.clone();
            Ok::<_, Refusal>(parts.model.stats(&id)?.pids.map_or(1, |pids| pids.current))
        })?;
        let mut answer = api::PidsResponse::new();
        for _ in 0..count {
            let mut info = ProcessInfo::new();
            info.pid = std::process::id();
            answer.processes.push(info);
        }
        Ok(answer)
    }

    pub(super) fn pause(&self, request: &api::PauseRequest) -> Reply<api::Empty> {
        self.act(|parts| {
            let id = parts.known(&request.id)?.id.clone();
            parts.model.pause(&id)?;
            Ok(api::Empty::new())
        })
    }

    pub(super) fn resume(&self, request: &api::ResumeRequest) -> Reply<api::Empty> {
        self.act(|parts| {
            let id = parts.known(&request.id)?.id.clone();
            parts.model.resume(&id)?;
            Ok(api::Empty::new())
        })
    }

    pub(super) fn update(&self, request: &api::UpdateTaskRequest) -> Reply<api::Empty> {
        let bytes = request.resources.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
        let malformed = |error: serde_json::Error| Refusal::new(Code::INVALID_ARGUMENT, error.to_string());
        self.act(|parts| {
            let id = parts.known(&request.id)?.id.clone();
            parts.model.update(&id, &serde_json::from_slice(bytes).map_err(malformed)?)?;
            Ok(api::Empty::new())
        })
    }

    pub(super) fn stats(&self, request: &api::StatsRequest) -> Reply<api::StatsResponse> {
        let stats = self.act(|parts| {
            let id = parts.known(&request.id)?.id.clone();
            Ok::<_, Refusal>(parts.model.stats(&id)?)
        })?;
        let mut any = protobuf::well_known_types::any::Any::new();
        any.type_url = V1.to_owned();
        any.value = metrics_of(&stats).write_to_bytes().unwrap_or_default();
        let mut answer = api::StatsResponse::new();
        answer.stats = MessageField::some(any);
        Ok(answer)
    }

    pub(super) fn delete(&self, request: &api::DeleteRequest) -> Reply<api::DeleteResponse> {
        let exit = self.act(|parts| {
            if request.exec_id.is_empty() {
                return match parts.status(&request.id)? {
                    Status::CREATED | Status::STOPPED => Ok(parts.remove(&request.id)),
                    other => Err(Refusal::wrong_state("delete", word(other))),
                };
            }
            let exec = parts.known(&request.id)?.exec(&request.exec_id)?;
            let exit = exec.player.ended();
            if exec.key.is_some() && exit.is_none() {
                return Err(Refusal::wrong_state("delete", "running"));
            }
            let removed = parts.known(&request.id)?.execs.remove(&request.exec_id);
            if let Some(mut exec) = removed {
                parts.remove_exec(&mut exec);
            }
            Ok(exit)
        })?;
        let mut answer = api::DeleteResponse::new();
        answer.pid = std::process::id();
        if let Some(exit) = exit {
            answer.exit_status = status_of(exit);
            answer.exited_at = MessageField::some(exit.at.into());
        }
        Ok(answer)
    }

    pub(super) fn connect(&self, request: &api::ConnectRequest) -> Reply<api::ConnectResponse> {
        self.act(|parts| parts.known(&request.id).map(drop))?;
        let mut answer = api::ConnectResponse::new();
        (answer.shim_pid, answer.task_pid) = (std::process::id(), std::process::id());
        Ok(answer)
    }

    pub(super) fn shut_down(&self, request: &api::ShutdownRequest) -> Reply<api::Empty> {
        if request.now || self.act(|parts| parts.tasks.is_empty()) {
            self.leave();
        }
        Ok(api::Empty::new())
    }
}

impl Parts {
    pub(super) fn known(&mut self, id: &str) -> Reply<&mut Task> {
        self.tasks.get_mut(id).ok_or_else(|| Refusal::not_found(&format!("container {id}")))
    }

    /// How an init stands. It runs until its end was told, although the model has come to it.
    fn status(&mut self, id: &str) -> Reply<Status> {
        let task = self.known(id)?;
        let (id, ended) = (task.id.clone(), task.init.ended().is_some());
        Ok(match self.model.state(&id)?.status {
            ContainerStatus::Created => Status::CREATED,
            ContainerStatus::Paused => Status::PAUSED,
            ContainerStatus::Stopped if ended => Status::STOPPED,
            _ => Status::RUNNING,
        })
    }

    fn outlets(&mut self, id: &str, exec: &str) -> Option<&mut Outlets> {
        let task = self.tasks.get_mut(id)?;
        let player = if exec.is_empty() { &mut task.init } else { &mut task.execs.get_mut(exec)?.player };
        player.outlets.as_mut()
    }
}

impl Task {
    fn exec(&mut self, exec: &str) -> Reply<&mut Exec> {
        self.execs.get_mut(exec).ok_or_else(|| Refusal::not_found(&format!("exec {exec}")))
    }
}

fn cannot_open(error: &std::io::Error) -> Refusal {
    Refusal::new(Code::UNKNOWN, format!("failed to open a fifo: {error}"))
}

fn word(status: Status) -> &'static str {
    match status {
        Status::CREATED => "created",
        Status::RUNNING => "running",
        Status::PAUSED => "paused",
        _ => "stopped",
    }
}

fn status_of(exit: Exit) -> u32 {
    u32::try_from(exit.code).unwrap_or(u32::MAX)
}

/// The model is asked for nothing that it cannot do.
fn everything() -> Result<Capabilities> {
    let all = Capability::ALL.iter();
    all.fold(Capabilities::builder(), |all, each| all.yes(*each, Evidence::design("the model does it")))
        .build()
}

/// The first size of a terminal, rows and columns.
fn console_size(document: &[u8]) -> Option<(u16, u16)> {
    let process: serde_json::Value = serde_json::from_slice(document).ok()?;
    let side = |name: &str| u16::try_from(process["consoleSize"][name].as_u64()?).ok();
    Some((side("height")?, side("width")?))
}

fn metrics_of(stats: &Stats) -> metrics::Metrics {
    let mut all = metrics::Metrics::new();
    let usage = all.cpu.mut_or_insert_default().usage.mut_or_insert_default();
    (usage.total, usage.user, usage.kernel) = (stats.cpu.usage_ns, stats.cpu.user_ns, stats.cpu.kernel_ns);
    let memory = all.memory.mut_or_insert_default();
    memory.rss = stats.memory.rss;
    let usage = memory.usage.mut_or_insert_default();
    (usage.usage, usage.limit) = (stats.memory.usage, stats.memory.limit.unwrap_or_default());
    all.memory_oom_control.mut_or_insert_default().oom_kill = stats.memory.oom_kills.unwrap_or_default();
    if let Some(told) = &stats.pids {
        let pids = all.pids.mut_or_insert_default();
        (pids.current, pids.limit) = (told.current, told.limit.unwrap_or_default());
    }
    all
}

/// The path of the program in which a fake shim runs: its binary, as far as it has one.
pub(super) fn this_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| Path::new("/proc/self/exe").to_owned())
}
