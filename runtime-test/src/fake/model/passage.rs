//! How time passes: who runs when, and what follows from an end.

use runtime_api::{ContainerStatus, EventKind, ExitCause, ExitStatus};

use crate::Defect;

use super::exec::{self, Exec};
use super::sessions::Session;
use super::{Chunk, Container, Input, Key, Model, Moment, Pid, Process, Stream, Surroundings, resources};

impl Model {
    /// When something will happen by itself next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        let containers = self.containers.iter().flat_map(|container| {
            let runs = self.runs(container);
            let processes = container.processes.iter().filter(move |_| runs).filter_map(Process::wake);
            let kill = container.stopping.and_then(|stopping| stopping.kill_at);
            processes.chain(kill).chain(self.own_start(container))
        });
        let sessions = self.sessions.values().filter_map(Session::wake);
        containers.chain(self.execs.values().filter_map(Exec::wake)).chain(sessions).min()
    }

    /// Lets time pass, and everything happen that is due, in order. Tells whether anything did.
    pub fn advance(&mut self, to: Moment) -> bool {
        let mut happened = false;
        while let Some(at) = self.next_wake().filter(|at| *at <= to) {
            self.now = self.now.max(at);
            self.run_due();
            happened = true;
        }
        self.now = self.now.max(to);
        happened
    }

    /// Writes to the standard input of a container or a session, which gives up what nobody can read any more.
    pub fn write_input(&mut self, key: Key, bytes: &[u8]) {
        let (bytes, ended) = self.typed(key, bytes);
        self.with_input(key, |input| {
            if !input.closed {
                input.bytes.extend(bytes);
            }
            input.closed |= ended;
        });
    }

    /// A client's input is at its end, which closes the program's unless it is kept open.
    pub fn end_input(&mut self, key: Key) {
        let container = self.containers.iter().find(|container| container.key == key);
        let kept = match self.sessions.get(&key) {
            Some(session) => session.input_kept && !self.has(Defect::SessionInputIsNotKept),
            None => {
                let kept = container.and_then(|one| one.blueprint.as_ref()).is_none_or(|one| one.input_kept);
                kept && !(self.has(Defect::KeptInputEnds) && self.terminal_of(key).is_none())
            }
        };
        if !kept && !self.has(Defect::InputNeverEnds) {
            self.with_input(key, |input| input.closed = true);
        }
    }

    /// A container's program prints this, unless it has ended.
    pub fn print(&mut self, key: Key, text: String) {
        let at = self.containers.iter().position(|one| one.key == key && !one.processes.is_empty());
        if let Some(at) = at {
            self.keep_output(at, 0, vec![(Stream::Stdout, text.into_bytes())]);
        }
    }

    /// How much of a standard input was not read yet.
    #[must_use]
    pub fn unread_input(&self, key: Key) -> usize {
        if let Some(session) = self.sessions.get(&key) {
            return session.input.bytes.len();
        }
        self.containers.iter().find(|one| one.key == key).map_or(0, |one| one.input.bytes.len())
    }

    fn with_input(&mut self, key: Key, change: impl FnOnce(&mut Input)) {
        let container = self.containers.iter_mut().find(|container| container.key == key);
        let session = self.sessions.get_mut(&key);
        let input = container.map(|one| &mut one.input).or(session.map(|one| &mut one.input));
        if let Some(input) = input {
            change(input);
            self.run_due();
        }
    }

    /// Whether a container's processes run.
    pub(super) fn runs(&self, container: &Container) -> bool {
        container.thawed()
            || container.status == ContainerStatus::Paused && self.has(Defect::PauseDoesNotFreeze)
    }

    /// Runs everything that can run at this moment.
    pub(super) fn run_due(&mut self) {
        let mut at = 0;
        while at < self.containers.len() {
            if self.own_start(&self.containers[at]).is_some_and(|start| start <= self.now) {
                self.containers[at].status = ContainerStatus::Running;
                self.containers[at].started_at = Some(self.now);
                self.happened(at, EventKind::Started);
            }
            self.run_processes(at);
            if self.containers[at]
                .stopping
                .is_some_and(|one| one.kill_at.is_some_and(|kill_at| kill_at <= self.now))
            {
                self.end(at, 137);
            }
            at += 1;
        }
        self.run_execs();
        self.run_sessions();
    }

    fn run_processes(&mut self, at: usize) {
        let mut nth = 0;
        while self.runs(&self.containers[at]) && nth < self.containers[at].processes.len() {
            let now = self.now;
            let process = &self.containers[at].processes[nth];
            let due = process.wake().is_some_and(|wake| wake <= now) || process.reads();
            let ended = due && self.run_one(at, nth, |process, around| process.run(around));
            nth += usize::from(!ended);
        }
    }

    /// Lets one process act and sees to what follows from it. Tells whether it ended.
    pub(super) fn run_one(
        &mut self,
        at: usize,
        nth: usize,
        act: impl FnOnce(&mut Process, &mut Surroundings<'_>) -> Option<i32>,
    ) -> bool {
        let container = &mut self.containers[at];
        let count = container.processes.len();
        let memory_left = resources::memory_left(container);
        let process = &mut container.processes[nth];
        let pid = process.pid;
        let own_input = process.reads_container();
        let mut nothing = Input { closed: true, ..Input::default() };
        let exec = process.sink.and_then(|key| self.execs.get_mut(&key));
        let size = exec.as_ref().and_then(|exec| exec.terminal_size());
        let of_session = process.sink.and_then(|key| self.sessions.get(&key)?.terminal.as_ref());
        let size = size.or(of_session.map(|terminal| terminal.size));
        let exec = exec.and_then(|exec| exec.input_of(pid));
        let session = process.sink.and_then(|key| self.sessions.get_mut(&key)?.input_of(pid));
        let input = if own_input { &mut container.input } else { exec.or(session).unwrap_or(&mut nothing) };
        let mut around = Surroundings::new(self.now, input, count);
        around.memory_left = memory_left;
        around.terminal = container.terminal.as_ref().filter(|_| process.sink.is_none()).map(|one| one.size);
        if process.sink.is_some() {
            around.terminal = size;
        }
        let code = act(process, &mut around);
        let (output, children) = (around.output, around.children);
        container.steps += u64::from(around.steps);
        container.oom_kills += u64::from(around.out_of_memory);
        let for_want_of_memory = around.out_of_memory;
        for (life, ignored) in children {
            self.last_pid += 1;
            let child = self.containers[at].processes[nth].child(self.last_pid, life, &ignored);
            self.containers[at].processes.push(child);
        }
        self.keep_output(at, nth, output);
        if for_want_of_memory && !self.has(Defect::OomIsNotTold) {
            self.happened(at, EventKind::OutOfMemory);
        }
        if let Some(code) = code {
            self.end_process(at, pid, code, for_want_of_memory);
        }
        code.is_some()
    }

    pub(super) fn keep_output(&mut self, at: usize, nth: usize, output: Vec<(Stream, Vec<u8>)>) {
        let (sink, container) = (self.containers[at].processes[nth].sink, self.containers[at].key);
        for (stream, bytes) in output {
            match sink {
                None => {
                    let (stream, bytes) = self.displayed(at, stream, bytes);
                    self.output.push(Chunk { container, at: self.now, stream, bytes });
                }
                Some(session) if self.sessions.contains_key(&session) => {
                    let (stream, bytes) = self.displayed_by_session(session, stream, bytes);
                    self.output.push(Chunk { container: session, at: self.now, stream, bytes });
                }
                Some(exec) => exec::keep(&mut self.execs, self.defect, exec, (stream, &bytes)),
            }
        }
    }

    /// A process is gone: with the init everything goes, otherwise its children become the init's.
    fn end_process(&mut self, at: usize, pid: Pid, code: i32, for_want_of_memory: bool) {
        let container = &mut self.containers[at];
        if container.processes.first().is_some_and(|init| init.pid == pid) {
            let short = container.started_at == Some(self.now) && code != 137;
            self.haunted.short_lives += u32::from(short);
            let spoilt = short && self.haunted.short_lives > 1 && self.has(Defect::ShortLifeHasNoCode);
            let told = for_want_of_memory && !self.has(Defect::OomIsHidden);
            let cause = if told { ExitCause::OomKilled } else { ExitCause::Exited };
            return self.end_with(at, if spoilt { 0 } else { code }, cause);
        }
        let init = container.processes[0].pid;
        container.processes.retain(|process| process.pid != pid);
        for process in container.processes.iter_mut().filter(|process| process.parent == pid) {
            process.parent = init;
        }
        self.exec_process_ended(pid, code);
        self.session_process_ended(pid, code);
    }

    /// The init has ended, and with it the container.
    pub(super) fn end(&mut self, at: usize, code: i32) {
        self.end_with(at, code, ExitCause::Exited);
    }

    pub(super) fn end_with(&mut self, at: usize, code: i32, cause: ExitCause) {
        let lost = !self.watched && self.has(Defect::ReopenLosesExits);
        let now = self.time_of(self.now);
        let container = &mut self.containers[at];
        if container.status == ContainerStatus::Stopped {
            return;
        }
        let status = if lost {
            ExitStatus::new(None, ExitCause::StateLost, now)
        } else {
            ExitStatus::new(Some(code), cause, now)
        };
        // It is set once: this is the only place, and Stopped is final.
        let _ = container.ending.set(status.clone());
        container.status = ContainerStatus::Stopped;
        container.stopping = None;
        container.processes.clear();
        let (key, silent) = (container.key, container.deleting && self.defect == Some(Defect::ForceIsSilent));
        if self.has(Defect::EndsAreToldTwice) {
            self.happened(at, EventKind::Exited(status.clone()));
        }
        if !silent {
            self.happened(at, EventKind::Exited(status));
        }
        self.container_of_execs_ended(key);
        self.container_of_sessions_ended(key);
    }

    pub(super) fn thaw(&mut self, at: usize) {
        self.containers[at].status = ContainerStatus::Running;
        for nth in (0..self.containers[at].processes.len()).rev() {
            if nth < self.containers[at].processes.len() {
                self.run_one(at, nth, Process::run);
            }
        }
        self.run_due();
    }

    /// When a created container starts although nobody started it.
    fn own_start(&self, container: &Container) -> Option<Moment> {
        let starts = container.status == ContainerStatus::Created && self.has(Defect::CreatedStartsByItself);
        starts.then(|| container.created_at + Moment::from_millis(400))
    }

    /// Runs a copy of the program and keeps what it prints, if that is little and the program then ends.
    pub(super) fn rehearse(&mut self, at: usize) {
        let container = &self.containers[at];
        let Some(mut copy) = container.processes.first().cloned() else { return };
        let mut input = container.input.clone();
        let mut around = Surroundings::new(self.now, &mut input, 1);
        let ended = copy.run(&mut around).is_some();
        let output = around.output;
        let little = output.iter().all(|(stream, bytes)| *stream == Stream::Stdout && bytes.len() < 100);
        if ended && little {
            self.keep_output(at, 0, output);
        }
    }
}
