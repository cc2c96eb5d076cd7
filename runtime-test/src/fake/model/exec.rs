//! Second programs in a container, whose output is collected.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use runtime_api::{ContainerId, ContainerStatus, ExecEnd, ExecOutcome, Operation, Result};

use crate::Defect;

use super::{Key, Model, Moment, Pid, Process, Program, Stream};

/// Names an exec.
pub type ExecKey = u64;

/// What an exec may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecLimits {
    /// After this time it is killed.
    pub timeout: Option<Duration>,
    /// How many bytes are kept of what it prints.
    pub output: usize,
}

/// How long output is still read that a background child holds open.
const DRAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Exec {
    container: Key,
    main: Pid,
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
    pub fn exec(&mut self, id: &ContainerId, program: Program, limits: ExecLimits) -> Result<ExecKey> {
        let at = self.find(Operation::ExecSync, id)?;
        let created = self.containers[at].status == ContainerStatus::Created;
        let pretended = created && self.has(Defect::ExecBeforeStartIsOk);
        if !pretended {
            self.admit(Operation::ExecSync, at)?;
        }
        if self.containers[at].stopping.is_some() && self.has(Defect::StopRefusesExecs) {
            Operation::ExecSync.admit(id, ContainerStatus::Stopped, true)?;
        }
        self.last_key += 1;
        let (key, main) = (self.last_key, self.fresh_pid());
        let drain = (!self.has(Defect::ExecWaitsForChildren)).then_some(DRAIN);
        let unlimited = self.has(Defect::OutputLimitIsIgnored);
        let exec = Exec {
            container: self.containers[at].key,
            main,
            timeout_at: limits.timeout.and_then(|timeout| self.now.checked_add(timeout)),
            drain,
            output_left: if unlimited { usize::MAX } else { limits.output },
            exited: None,
            done: pretended,
            outcome: ExecOutcome::new(ExecEnd::Exited(0)),
        };
        self.execs.insert(key, exec);
        if !pretended {
            let mut process = Process::new(main, false, Arc::new(program));
            process.sink = Some(key);
            self.containers[at].processes.push(process);
            self.run_due();
        }
        Ok(key)
    }

    /// Takes the outcome of an exec that is over.
    pub fn collect(&mut self, key: ExecKey) -> Option<ExecOutcome> {
        self.execs.get(&key).filter(|exec| exec.done)?;
        self.execs.remove(&key).map(|exec| exec.outcome)
    }

    /// Nobody wants an exec any more: it dies with its tree.
    pub fn drop_exec(&mut self, key: ExecKey) {
        if let Some(exec) = self.execs.remove(&key)
            && exec.exited.is_none()
        {
            self.kill_tree(exec.container, exec.main);
        }
    }

    pub(super) fn exec_process_ended(&mut self, pid: Pid, code: i32) {
        if let Some(exec) = self.execs.values_mut().find(|exec| exec.main == pid) {
            exec.exited = Some((code, self.now));
        }
    }

    pub(super) fn container_of_execs_ended(&mut self, container: Key) {
        let killed = if self.has(Defect::KilledExecSucceeds) { 0 } else { 137 };
        for exec in self.execs.values_mut().filter(|exec| exec.container == container && !exec.done) {
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
        let zero = self.has(Defect::ExecCodeIsZero);
        let Some(exec) = self.execs.get_mut(&key) else { return };
        let due = exec.wake().is_some_and(|wake| wake <= self.now);
        let (container, main) = (exec.container, exec.main);
        match exec.exited {
            Some((code, _)) if due || !held => exec.finish(ExecEnd::Exited(if zero { 0 } else { code })),
            None if due => {
                self.kill_tree(container, main);
                let hidden = self.has(Defect::TimeoutIsHidden);
                let end = if hidden { ExecEnd::Exited(137) } else { ExecEnd::TimedOut };
                if let Some(exec) = self.execs.get_mut(&key) {
                    exec.finish(end);
                }
            }
            _ => {}
        }
    }

    /// Ends a process and everything that descends from it.
    fn kill_tree(&mut self, container: Key, root: Pid) {
        let spared = self.has(Defect::TimeoutSparesDescendants);
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
    let takers = execs.iter_mut().filter(|(each, exec)| (**each == key || shared) && !exec.done);
    for (_, exec) in takers {
        let kept = bytes.len().min(exec.output_left);
        exec.output_left -= kept;
        exec.outcome.truncated |= kept < bytes.len();
        let mixed = defect == Some(Defect::ExecMixesStreams);
        match stream {
            Stream::Stderr if !mixed => exec.outcome.stderr.extend(&bytes[..kept]),
            _ => exec.outcome.stdout.extend(&bytes[..kept]),
        }
    }
}
