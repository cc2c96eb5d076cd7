//! Second programs in a container.

use std::collections::BTreeMap;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use runtime_api::{ContainerId, ContainerStatus, ExecEnd, ExecOutcome, Operation, Result};

use crate::Defect;

use crate::fake::terminal::{Terminal, shown};

use super::{Input, Key, Model, Moment, Pid, Process, Program, Stream};

/// Names an exec.
pub type ExecKey = u64;

/// What an exec is given.
#[derive(Clone, Debug)]
pub struct ExecTerms {
    /// How it was asked for: with streams, or to be collected.
    pub operation: Operation,
    /// After this time it is killed.
    pub timeout: Option<Duration>,
    /// How many bytes are kept of what it prints.
    pub output: usize,
    /// Whether it has input.
    pub input: bool,
    /// The first size of its terminal, rows and columns, if it has one; zeros where none is wanted.
    pub terminal: Option<(u16, u16)>,
    /// Open files besides its streams.
    pub descriptors: Vec<Arc<OwnedFd>>,
}

/// How long output is still read that a background child holds open.
const DRAIN: Duration = Duration::from_secs(1);
/// How much input passes where a defect cuts it.
const CUT: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Exec {
    container: Key,
    main: Pid,
    operation: Operation,
    input: Input,
    terminal: Option<Terminal>,
    taken_in: usize,
    timeout_at: Option<Moment>,
    drain: Option<Duration>,
    output_left: usize,
    exited: Option<(i32, Moment)>,
    done: bool,
    outcome: ExecOutcome,
}

impl Exec {
    pub(super) fn wake(&self) -> Option<Moment> {
        match self.exited {
            _ if self.done => None,
            None => self.timeout_at,
            Some((_, at)) => self.drain.and_then(|drain| at.checked_add(drain)),
        }
    }

    /// The input of its first process.
    pub(super) fn input_of(&mut self, pid: Pid) -> Option<&mut Input> {
        (self.main == pid).then_some(&mut self.input)
    }

    /// The size of its terminal.
    pub(super) fn terminal_size(&self) -> Option<(u16, u16)> {
        self.terminal.as_ref().map(|terminal| terminal.size)
    }

    fn finish(&mut self, end: ExecEnd) {
        self.outcome.end = end;
        self.done = true;
    }
}

impl Model {
    /// Starts a program in a running container.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn exec(&mut self, id: &ContainerId, program: Program, terms: ExecTerms) -> Result<ExecKey> {
        let operation = terms.operation;
        let at = self.find(operation, id)?;
        let pretended = self.pretends_to_exec(operation, self.containers[at].status);
        if !pretended {
            self.admit(operation, at)?;
        }
        if self.containers[at].stopping.is_some()
            && self.has_for(operation, Defect::StopRefusesExecs, Defect::StopRefusesAttachedExecs)
        {
            operation.admit(id, ContainerStatus::Stopped, true)?;
        }
        self.last_key += 1;
        let (key, main) = (self.last_key, self.fresh_pid());
        let patient =
            self.has_for(operation, Defect::ExecWaitsForChildren, Defect::AttachedExecWaitsForChildren);
        let unlimited = self.has(Defect::OutputLimitIsIgnored);
        let awaited = operation == Operation::Exec && self.has(Defect::AttachedInputIsAwaited);
        let exec = Exec {
            container: self.containers[at].key,
            main,
            operation,
            input: Input { closed: !(terms.input || awaited), ..Input::default() },
            terminal: None,
            taken_in: 0,
            timeout_at: terms.timeout.and_then(|timeout| self.now.checked_add(timeout)),
            drain: (!patient).then_some(DRAIN),
            output_left: if unlimited { usize::MAX } else { terms.output },
            exited: None,
            done: pretended,
            outcome: ExecOutcome::new(ExecEnd::Exited(0)),
        };
        let mut exec = exec;
        let deaf = operation == Operation::ExecSync && self.has(Defect::CollectedExecsHaveNoTerminal);
        if let Some(first) = terms.terminal.filter(|_| !deaf) {
            let size = if self.has(Defect::TerminalHasNoSize) { (0, 0) } else { first };
            let mut terminal = Terminal::default();
            terminal.size = size;
            exec.terminal = Some(terminal);
        }
        self.execs.insert(key, exec);
        if !pretended {
            let mut process = Process::new(main, false, Arc::new(program));
            process.sink = Some(key);
            if !self.has(Defect::DescriptorsAreSwapped) || terms.descriptors.len() < 2 {
                process.descriptors = terms.descriptors;
            } else {
                process.descriptors = terms.descriptors.into_iter().rev().collect();
            }
            self.containers[at].processes.push(process);
            self.containers[at].had_execs = true;
            self.run_due();
        }
        Ok(key)
    }

    /// Whether an exec ever ran in a container.
    #[must_use]
    pub fn has_run_an_exec(&self, id: &ContainerId) -> bool {
        self.containers.iter().any(|container| container.id == *id && container.had_execs)
    }

    /// Whether a defect lets an exec succeed where nothing can be run.
    pub fn pretends_to_exec(&self, operation: Operation, status: ContainerStatus) -> bool {
        status == ContainerStatus::Created
            && self.has_for(operation, Defect::ExecBeforeStartIsOk, Defect::AttachedExecBeforeStartIsOk)
    }

    /// Whether it has this defect of collected execs, or that one of execs with streams.
    fn has_for(&self, operation: Operation, collected: Defect, attached: Defect) -> bool {
        self.has(if operation == Operation::Exec { attached } else { collected })
    }

    /// Takes the outcome of an exec that is over.
    pub fn collect(&mut self, key: ExecKey) -> Option<ExecOutcome> {
        self.execs.get(&key).filter(|exec| exec.done)?;
        self.execs.remove(&key).map(|exec| exec.outcome)
    }

    /// Takes what an exec wrote since the last time; nothing if there is nothing yet, emptiness once nothing will come.
    pub fn take_exec_output(&mut self, key: ExecKey, stream: Stream) -> Option<Vec<u8>> {
        let Some(exec) = self.execs.get_mut(&key) else { return Some(Vec::new()) };
        let written = match stream {
            Stream::Stdout => mem::take(&mut exec.outcome.stdout),
            Stream::Stderr => mem::take(&mut exec.outcome.stderr),
        };
        if written.is_empty() && !exec.done { None } else { Some(written) }
    }

    /// Writes to an exec's standard input.
    pub fn write_exec_input(&mut self, key: ExecKey, bytes: &[u8]) {
        let cut = self.has(Defect::AttachedInputIsCut);
        let endless = self.has(Defect::TypedInputNeverEnds);
        if let Some(exec) = self.execs.get_mut(&key) {
            exec.taken_in += bytes.len();
            if let Some(terminal) = &mut exec.terminal {
                let typed = terminal.press(bytes);
                exec.outcome.stdout.extend(typed.echo);
                exec.input.bytes.extend(typed.input);
                exec.input.closed |= typed.ended && !endless;
            } else if !cut || exec.taken_in <= CUT {
                exec.input.bytes.extend(bytes);
            }
            self.run_due();
        }
    }

    /// An exec's standard input is at its end.
    pub fn end_exec_input(&mut self, key: ExecKey) {
        let endless = self.has(Defect::AttachedInputNeverEnds);
        match self.execs.get_mut(&key) {
            // On a terminal the end is a key, and a second one where a line was begun.
            Some(exec) if exec.terminal.is_some() => self.write_exec_input(key, &[4, 4]),
            Some(exec) if !endless => {
                exec.input.closed = true;
                self.run_due();
            }
            _ => {}
        }
    }

    /// Gives an exec's terminal another size, which its program is told of by a signal.
    pub fn resize_exec(&mut self, key: ExecKey, size: (u16, u16)) {
        const WINCH: i32 = 28;
        let deaf = self.has(Defect::SizesOfExecsAreLost) || self.has(Defect::TerminalHasNoSize);
        let Some(exec) = self.execs.get_mut(&key) else { return };
        let (container, main) = (exec.container, exec.main);
        let Some(terminal) = exec.terminal.as_mut().filter(|terminal| terminal.size != size && !deaf) else {
            return;
        };
        terminal.size = size;
        let Some(at) = self.containers.iter().position(|one| one.key == container) else { return };
        if let Some(nth) = self.containers[at].processes.iter().position(|one| one.pid == main) {
            let frozen = !self.runs(&self.containers[at]);
            self.run_one(at, nth, |process, around| process.receive(WINCH, frozen, around));
        }
        self.run_due();
    }

    /// The code with which an exec's program ended, although its children may still hold its output open.
    #[must_use]
    pub fn exec_code(&self, key: ExecKey) -> Option<i32> {
        let exec = self.execs.get(&key)?;
        match (exec.exited, &exec.outcome.end) {
            (Some((code, _)), _) => Some(code),
            (None, ExecEnd::Exited(code)) if exec.done => Some(*code),
            _ => None,
        }
    }

    /// Whether all that an exec wrote is known, and nothing will come any more.
    #[must_use]
    pub fn exec_is_over(&self, key: ExecKey) -> bool {
        self.execs.get(&key).is_none_or(|exec| exec.done)
    }

    /// Signals an exec's program, if it still runs.
    pub fn signal_exec(&mut self, key: ExecKey, number: i32) {
        let Some(exec) = self.execs.get(&key).filter(|exec| !exec.done && exec.exited.is_none()) else {
            return;
        };
        let (container, main) = (exec.container, exec.main);
        self.send_to_process(container, Some(main), number);
        self.run_due();
    }

    /// Kills an exec's program with all that descends from it.
    pub fn kill_exec(&mut self, key: ExecKey) {
        const KILLED: i32 = 137;
        let Some(exec) = self.execs.get(&key).filter(|exec| !exec.done && exec.exited.is_none()) else {
            return;
        };
        let (container, main) = (exec.container, exec.main);
        self.kill_tree(container, main, false);
        self.exec_process_ended(main, KILLED);
        self.run_due();
    }

    /// How much of an exec's standard input was not read yet; nothing once nobody will read it.
    #[must_use]
    pub fn unread_exec_input(&self, key: ExecKey) -> Option<usize> {
        let exec = self.execs.get(&key).filter(|exec| !exec.done && exec.exited.is_none())?;
        Some(exec.input.bytes.len())
    }

    /// Nobody wants an exec any more: it dies with its tree.
    pub fn drop_exec(&mut self, key: ExecKey) {
        if let Some(exec) = self.execs.remove(&key)
            && exec.exited.is_none()
            && !self.has(Defect::DroppedExecGoesOn)
        {
            self.kill_tree(exec.container, exec.main, false);
        }
    }

    pub(super) fn exec_process_ended(&mut self, pid: Pid, code: i32) {
        if let Some(exec) = self.execs.values_mut().find(|exec| exec.main == pid) {
            exec.exited = Some((code, self.now));
        }
    }

    pub(super) fn container_of_execs_ended(&mut self, container: Key) {
        let defect = self.defect;
        for exec in self.execs.values_mut().filter(|exec| exec.container == container && !exec.done) {
            let spoilt = match exec.operation {
                Operation::Exec => Defect::KilledAttachedExecSucceeds,
                _ => Defect::KilledExecSucceeds,
            };
            let killed = if defect == Some(spoilt) { 0 } else { 137 };
            let code = exec.exited.map_or(killed, |(code, _)| code);
            exec.finish(ExecEnd::Exited(code));
        }
    }

    pub(super) fn run_execs(&mut self) {
        let keys: Vec<ExecKey> =
            self.execs.iter().filter(|(_, exec)| !exec.done).map(|(key, _)| *key).collect();
        for key in keys {
            self.run_exec(key);
        }
    }

    fn run_exec(&mut self, key: ExecKey) {
        let held = self.containers.iter().flat_map(|one| &one.processes).any(|one| one.sink == Some(key));
        let Some(exec) = self.execs.get(&key) else { return };
        let due = exec.wake().is_some_and(|wake| wake <= self.now);
        let (container, main, operation, exited) = (exec.container, exec.main, exec.operation, exec.exited);
        let end = match exited {
            Some((code, _)) if due || !held => {
                let cut = self.has_for(operation, Defect::ExecCodeIsCut, Defect::AttachedCodeIsCut);
                ExecEnd::Exited(if cut && code > 100 { 0 } else { code })
            }
            None if due => {
                let spared = self.has_for(
                    operation,
                    Defect::TimeoutSparesDescendants,
                    Defect::AttachedTimeoutSparesDescendants,
                );
                self.kill_tree(container, main, spared);
                let hidden =
                    self.has_for(operation, Defect::TimeoutIsHidden, Defect::AttachedTimeoutIsHidden);
                if hidden { ExecEnd::Exited(137) } else { ExecEnd::TimedOut }
            }
            _ => return,
        };
        if let Some(exec) = self.execs.get_mut(&key) {
            exec.finish(end);
        }
    }

    /// Ends a process and everything that descends from it, which a defect spares.
    pub(super) fn kill_tree(&mut self, container: Key, root: Pid, spared: bool) {
        let Some(container) = self.containers.iter_mut().find(|one| one.key == container) else { return };
        let mut doomed = vec![root];
        // Children are listed after their parents, so one pass finds every descendant.
        for process in container.processes.iter().filter(|_| !spared) {
            if doomed.contains(&process.parent) {
                doomed.push(process.pid);
            }
        }
        let all = mem::take(&mut container.processes);
        container.processes = all.into_iter().filter(|process| !doomed.contains(&process.pid)).collect();
    }
}

/// Keeps what a process of an exec wrote, as far as there is room.
pub(super) fn keep(
    execs: &mut BTreeMap<ExecKey, Exec>,
    defect: Option<Defect>,
    key: ExecKey,
    written: (Stream, &[u8]),
) {
    let shared = defect == Some(Defect::ExecsShareTheirOutput);
    let (stream, bytes) = written;
    let on_terminal = execs.get(&key).is_some_and(|exec| exec.terminal.is_some());
    let split = defect == Some(Defect::TerminalSplitsStreams);
    let cut = defect == Some(Defect::TerminalCutsLargeOutput) && bytes.len() > CUT;
    let lines = if on_terminal { shown(if cut { &bytes[..CUT] } else { bytes }) } else { Vec::new() };
    let bytes = if on_terminal { lines.as_slice() } else { bytes };
    let stream = if on_terminal && !split { Stream::Stdout } else { stream };
    let takers = execs.iter_mut().filter(|(each, exec)| (**each == key || shared) && !exec.done);
    for (_, exec) in takers {
        let kept = bytes.len().min(exec.output_left);
        exec.output_left -= kept;
        exec.outcome.truncated |= kept < bytes.len();
        let mixed = match exec.operation {
            Operation::Exec => defect == Some(Defect::AttachedExecMixesStreams),
            _ => defect == Some(Defect::ExecMixesStreams),
        };
        match stream {
            Stream::Stderr if !mixed => exec.outcome.stderr.extend(&bytes[..kept]),
            _ => exec.outcome.stdout.extend(&bytes[..kept]),
        }
    }
}
