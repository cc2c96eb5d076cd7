//! A process as it stands in an image: everything but the pid, with times as seen from the moment of the checkpoint.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Input, Moment, Pid, Process, Program, Waiting, Who};
use crate::script::{Step, Trap};

/// A process in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedProcess {
    /// Which process of the image is its parent; nothing for the init.
    parent: Option<usize>,
    argv: Vec<String>,
    env: Vec<String>,
    cwd: std::path::PathBuf,
    who: Who,
    next: usize,
    waiting: SavedWait,
    /// Traps as steps of a script.
    traps: Vec<String>,
    pending: Vec<i32>,
    suspended: bool,
    memory: u64,
}

/// What a process waits for; times are what is left of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SavedWait {
    No,
    Until(Option<Duration>),
    Input,
    Tick { left: Option<Duration>, number: u64, period: Duration },
}

/// All of a container in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The init first.
    pub(crate) processes: Vec<SavedProcess>,
    unread: Vec<u8>,
}

impl Saved {
    /// What there is of these processes, execs left out.
    pub(in crate::fake) fn of(processes: &[Process], input: &Input, now: Moment) -> Self {
        let own: Vec<&Process> = processes.iter().filter(|process| process.sink.is_none()).collect();
        let index = |pid: Pid| own.iter().position(|process| process.pid == pid);
        let processes = own.iter().map(|process| process.save(index(process.parent), now)).collect();
        Self { processes, unread: input.bytes.iter().copied().collect() }
    }

    /// Forgets how far the programs had come.
    pub(crate) fn rewind(&mut self) {
        for process in &mut self.processes {
            process.next = 0;
            process.waiting = SavedWait::No;
            process.traps.clear();
        }
        self.processes.truncate(1);
    }

    /// The processes again, with pids from `fresh`; nothing if the image makes no sense.
    pub(in crate::fake) fn revive(
        &self,
        mut fresh: impl FnMut() -> Pid,
        now: Moment,
    ) -> Option<Vec<Process>> {
        let pids: Vec<Pid> = self.processes.iter().map(|_| fresh()).collect();
        let revived: Option<Vec<Process>> =
            self.processes.iter().enumerate().map(|(nth, saved)| saved.revive(nth, &pids, now)).collect();
        revived.filter(|processes| !processes.is_empty())
    }

    /// What was written to the program and not read.
    pub(in crate::fake) fn unread(&self) -> impl Iterator<Item = u8> + '_ {
        self.unread.iter().copied()
    }
}

impl Process {
    fn save(&self, parent: Option<usize>, now: Moment) -> SavedProcess {
        let left = |at: Option<Moment>| at.map(|at| at.saturating_sub(now));
        let waiting = match self.waiting {
            Waiting::No => SavedWait::No,
            Waiting::Until(at) => SavedWait::Until(left(at)),
            Waiting::Input => SavedWait::Input,
            Waiting::Tick { at, number, period } => SavedWait::Tick { left: left(at), number, period },
        };
        SavedProcess {
            parent,
            argv: self.program.argv.clone(),
            env: self.program.env.clone(),
            cwd: self.program.cwd.clone(),
            who: self.program.who.clone(),
            next: self.next,
            waiting,
            traps: self.traps.iter().map(|(signal, trap)| Step::Trap(*signal, *trap).to_arg()).collect(),
            pending: self.pending.clone(),
            suspended: self.suspended,
            memory: self.memory,
        }
    }
}

impl SavedProcess {
    fn revive(&self, nth: usize, pids: &[Pid], now: Moment) -> Option<Process> {
        let program = Program {
            argv: self.argv.clone(),
            env: self.env.clone(),
            cwd: self.cwd.clone(),
            who: self.who.clone(),
        };
        if program.argv.is_empty() {
            return None;
        }
        let mut process = Process::new(pids[nth], nth == 0, Arc::new(program));
        process.parent = match self.parent {
            Some(parent) => *pids.get(parent)?,
            None => 0,
        };
        let at = |left: Option<Duration>| left.and_then(|left| now.checked_add(left));
        process.next = self.next;
        process.waiting = match self.waiting {
            SavedWait::No => Waiting::No,
            SavedWait::Until(left) => Waiting::Until(at(left)),
            SavedWait::Input => Waiting::Input,
            SavedWait::Tick { left, number, period } => Waiting::Tick { at: at(left), number, period },
        };
        for step in crate::script::parse(&self.traps).ok()? {
            let Step::Trap(signal, trap) = step else { return None };
            let _: Option<Trap> = process.traps.insert(signal, trap);
        }
        process.pending.clone_from(&self.pending);
        process.suspended = self.suspended;
        process.memory = self.memory;
        Some(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Workload;
    use crate::fake::process::Surroundings;

    #[test]
    fn a_process_goes_on_where_it_was_saved_at_another_time() {
        let millis = Duration::from_millis;
        let steps = [Step::Trap(15, Trap::Exit(7)), Step::Sleep(millis(100)), Step::Exit(3)];
        let program = Program {
            argv: Workload::new(steps).argv(),
            env: Vec::new(),
            cwd: "/".into(),
            who: Who::default(),
        };
        let mut one = Process::new(1, true, Arc::new(program));
        let mut input = Input::default();
        one.run(&mut Surroundings::new(millis(10), &mut input, 1));
        let saved = Saved::of(std::slice::from_ref(&one), &input, millis(50));
        let text = serde_json::to_string(&saved).unwrap();
        let again: Saved = serde_json::from_str(&text).unwrap();
        assert_eq!(again, saved);
        let mut revived = again.revive(|| 9, millis(5000)).unwrap();
        assert_eq!((revived[0].pid, revived[0].wake()), (9, Some(millis(5060))));
        assert_eq!(
            revived[0].receive(15, false, &mut Surroundings::new(millis(5000), &mut input, 1)),
            Some(7)
        );
    }
}
