//! One process of the model: a script on virtual time.
//!
//! Signals follow Linux. The init of a container gets only KILL and STOP from outside and what it traps; any other process
//! gets the default action for what it does not trap.

mod saved;

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::mem;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::script::{self, Family, Life, Step, Trap};

pub use saved::Saved;

/// A moment of virtual time: how long after the world began.
pub type Moment = Duration;

/// A pid of the model; nothing on the host has it.
pub(super) type Pid = u32;

const KILL: i32 = 9;
const CONT: i32 = 18;
const STOP: i32 = 19;
/// The first signal number that is queued; earlier ones are merged while they are pending.
const FIRST_QUEUED: i32 = 34;

/// What a process runs: a command line of the probe and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The command line, the program's name first.
    pub argv: Vec<String>,
    /// `KEY=value` pairs; the last one of a key counts.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// Whose it is, and what it may do.
    pub who: Who,
}

/// Whose a process is, and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Who {
    /// The user.
    pub uid: u32,
    /// The first group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The capabilities that it uses, a bit for each.
    pub effective: u64,
    /// The capabilities that it and its children can ever have.
    pub bounding: u64,
    /// Whether a program cannot give it more.
    pub no_new_privileges: bool,
}

impl Program {
    /// What the probe would do with this command line: a script that it cannot read is told on standard error.
    fn steps(&self) -> Vec<Step> {
        script::parse(self.argv.iter().skip(1))
            .unwrap_or_else(|why| vec![Step::Err(format!("manyrun-probe: {why}")), Step::Exit(64)])
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let value = |pair: &'_ str| pair.split_once('=').filter(|(key, _)| *key == name).map(|_| ());
        let pair = self.env.iter().rev().find(|pair| value(pair).is_some())?;
        pair.split_once('=').map(|(_, value)| value)
    }
}

/// One of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A program's standard input: a pipe.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// What was written and not read yet.
    pub bytes: VecDeque<u8>,
    /// Whether nothing more will come.
    pub closed: bool,
}

/// What a process sees and changes around itself while it runs.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// The moment.
    pub now: Moment,
    /// Its standard input.
    pub input: &'a mut Input,
    /// How many processes there are in the container.
    pub processes: usize,
    /// The size of its terminal, rows and columns, if it has one.
    pub terminal: Option<(u16, u16)>,
    /// What it writes.
    pub output: Vec<(Stream, Vec<u8>)>,
    /// The children that it starts, and the signals that they ignore.
    pub children: Vec<(Life, Vec<i32>)>,
    /// How many steps it makes.
    pub steps: u32,
    /// How much memory there is left for it.
    pub memory_left: u64,
    /// Whether it died because there was not enough.
    pub out_of_memory: bool,
}

impl<'a> Surroundings<'a> {
    /// A moment, an input and a number of processes; no terminal, nothing written or started yet.
    pub(super) fn new(now: Moment, input: &'a mut Input, processes: usize) -> Self {
        Self {
            now,
            input,
            processes,
            terminal: None,
            output: Vec::new(),
            children: Vec::new(),
            steps: 0,
            memory_left: u64::MAX,
            out_of_memory: false,
        }
    }

    fn line(&mut self, text: &str) {
        self.output.push((Stream::Stdout, format!("{text}\n").into_bytes()));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    No,
    Until(Option<Moment>),
    Input,
    Tick { at: Option<Moment>, number: u64, period: Duration },
}

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// Its pid.
    pub pid: Pid,
    /// Its parent; 0 for a container's init and for the first process of an exec.
    pub parent: Pid,
    /// The exec that collects its output; the container's own otherwise.
    pub sink: Option<u64>,
    /// The memory that it has taken.
    pub memory: u64,
    /// Where it listens.
    pub listens: Vec<(Family, u16)>,
    /// The open files that it was given, from number 3.
    pub descriptors: Vec<Arc<OwnedFd>>,
    init: bool,
    program: Arc<Program>,
    steps: Vec<Step>,
    next: usize,
    waiting: Waiting,
    traps: BTreeMap<i32, Trap>,
    pending: Vec<i32>,
    suspended: bool,
}

impl Process {
    /// A process that has not run its first step.
    pub(super) fn new(pid: Pid, init: bool, program: Arc<Program>) -> Self {
        Self {
            pid,
            parent: 0,
            sink: None,
            descriptors: Vec::new(),
            memory: 0,
            listens: Vec::new(),
            init,
            steps: program.steps(),
            program,
            next: 0,
            waiting: Waiting::No,
            traps: BTreeMap::new(),
            pending: Vec::new(),
            suspended: false,
        }
    }

    /// A child of this process that only waits. It inherits what is ignored, as an exec of a new program does.
    pub(super) fn child(&self, pid: Pid, life: Life, ignored: &[i32]) -> Self {
        let argv = vec![self.program.argv[0].clone(), life.step().to_arg()];
        let program = Program {
            argv,
            env: self.program.env.clone(),
            cwd: self.program.cwd.clone(),
            who: self.program.who.clone(),
        };
        let mut child = Self::new(pid, false, Arc::new(program));
        child.parent = self.pid;
        child.sink = self.sink;
        child.traps = ignored.iter().map(|signal| (*signal, Trap::Ignore)).collect();
        child
    }

    /// When it wants to run next, if time alone can make it run.
    pub(super) fn wake(&self) -> Option<Moment> {
        if self.suspended {
            return None;
        }
        match self.waiting {
            Waiting::No => Some(Moment::ZERO),
            Waiting::Until(at) | Waiting::Tick { at, .. } => at,
            Waiting::Input => None,
        }
    }

    /// Whether it waits for standard input.
    pub(super) fn reads(&self) -> bool {
        !self.suspended && self.waiting == Waiting::Input
    }

    /// Whether its standard input is the container's.
    pub(super) fn reads_container(&self) -> bool {
        self.init
    }

    /// Whether any signal is trapped or ignored.
    pub(super) fn traps_anything(&self) -> bool {
        !self.traps.is_empty()
    }

    /// Takes a signal from outside. Gives the exit code if the process dies of it at once; a frozen one dies of KILL
    /// alone and keeps the rest until it runs again.
    pub(super) fn receive(
        &mut self,
        signal: i32,
        frozen: bool,
        around: &mut Surroundings<'_>,
    ) -> Option<i32> {
        match signal {
            KILL => return Some(128 + KILL),
            CONT => self.suspended = false,
            _ => {}
        }
        if signal >= FIRST_QUEUED || !self.pending.contains(&signal) {
            self.pending.push(signal);
        }
        if frozen { None } else { self.run(around) }
    }

    /// Runs until it waits or ends; gives the exit code of an end.
    pub(super) fn run(&mut self, around: &mut Surroundings<'_>) -> Option<i32> {
        loop {
            if let Some(code) = self.take_signals(around) {
                return Some(code);
            }
            if self.suspended || self.still_waits(around) {
                return None;
            }
            let Some(step) = self.steps.get(self.next).cloned() else { return Some(0) };
            self.next += 1;
            around.steps += 1;
            if let Some(code) = self.step(step, around) {
                return Some(code);
            }
        }
    }

    /// Acts on what is pending; a suspended process only on KILL and CONT, which never come this far.
    fn take_signals(&mut self, around: &mut Surroundings<'_>) -> Option<i32> {
        while !self.suspended && !self.pending.is_empty() {
            let signal = self.pending.remove(0);
            if let Some(code) = self.act(signal, around) {
                return Some(code);
            }
        }
        None
    }

    fn act(&mut self, signal: i32, around: &mut Surroundings<'_>) -> Option<i32> {
        match (signal, self.traps.get(&signal)) {
            (STOP, _) => self.suspended = true,
            (_, Some(Trap::Exit(code))) => return Some(i32::from(*code)),
            (_, Some(Trap::Say)) => around.line(&format!("signal {signal}")),
            (_, Some(Trap::Winsize)) => around.line(&script::shown_size(around.terminal)),
            (_, Some(Trap::Ignore)) => {}
            // CHLD, CONT, URG and WINCH do nothing by default.
            (17 | CONT | 23 | 28, None) => {}
            (_, None) if self.init => {}
            // TSTP, TTIN and TTOU.
            (20..=22, None) => self.suspended = true,
            (_, None) => return Some(128 + signal),
        }
        None
    }

    /// Writes to a descriptor; a small text fits into any pipe at once.
    fn write_to(&self, number: u8, text: &str, around: &mut Surroundings<'_>) -> Option<i32> {
        let given = usize::from(number).checked_sub(3).and_then(|nth| self.descriptors.get(nth));
        let Some(file) = given.and_then(|file| file.try_clone().ok()) else {
            let why = format!("manyrun-probe: descriptor {number} is not open\n");
            around.output.push((Stream::Stderr, why.into_bytes()));
            return Some(71);
        };
        std::fs::File::from(file).write_all(format!("{text}\n").as_bytes()).err().map(|_| 74)
    }

    fn still_waits(&mut self, around: &mut Surroundings<'_>) -> bool {
        match self.waiting {
            Waiting::No => false,
            Waiting::Until(at) => {
                let over = at.is_some_and(|at| at <= around.now);
                if over {
                    self.waiting = Waiting::No;
                }
                !over
            }
            Waiting::Tick { at, number, period } => {
                if at.is_some_and(|at| at <= around.now) {
                    around.steps += 1;
                    around.line(&format!("tick {number}"));
                    let at = around.now.checked_add(period);
                    self.waiting = Waiting::Tick { at, number: number + 1, period };
                }
                true
            }
            Waiting::Input => {
                let bytes: Vec<u8> = mem::take(&mut around.input.bytes).into();
                if !bytes.is_empty() {
                    around.output.push((Stream::Stdout, bytes));
                }
                if around.input.closed {
                    self.waiting = Waiting::No;
                }
                !around.input.closed
            }
        }
    }

    fn step(&mut self, step: Step, around: &mut Surroundings<'_>) -> Option<i32> {
        match step {
            Step::Out(text) => around.line(&text),
            Step::Raw(text) => around.output.push((Stream::Stdout, text.into_bytes())),
            Step::Err(text) => around.output.push((Stream::Stderr, format!("{text}\n").into_bytes())),
            Step::Fill(bytes) => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                around.output.push((Stream::Stdout, script::filling(bytes)));
            }
            Step::Eat(bytes) if bytes > around.memory_left => {
                around.out_of_memory = true;
                return Some(128 + KILL);
            }
            Step::Eat(bytes) => {
                self.memory += bytes;
                around.memory_left -= bytes;
            }
            // The model hands on no descriptors.
            Step::Descriptor(number) => around.line(&format!("fd {number} closed")),
            Step::Listen(family, port) => self.listens.push((family, port)),
            Step::Exit(code) => return Some(i32::from(code)),
            Step::Sleep(time) => self.waiting = Waiting::Until(around.now.checked_add(time)),
            Step::Forever => self.waiting = Waiting::Until(None),
            Step::Trap(signal, trap) => {
                self.traps.insert(signal, trap);
            }
            // An init cannot kill or stop itself.
            Step::Raise(KILL | STOP) if self.init => {}
            Step::Raise(KILL) => return Some(128 + KILL),
            Step::Raise(signal) => self.pending.push(signal),
            Step::Cat => self.waiting = Waiting::Input,
            Step::Env(name) => match self.program.variable(&name) {
                Some(value) => around.line(&format!("{name}={value}")),
                None => around.line(&format!("{name} unset")),
            },
            // Nobody else has files here.
            Step::Lock(_) => {}
            Step::Cwd => around.line(&self.program.cwd.display().to_string()),
            Step::Args => around.line(&script::shown_args(&self.program.argv[1..])),
            Step::Procs => {
                let started = around.children.len();
                around.line(&format!("procs {}", around.processes + started));
            }
            Step::Who => {
                let Who { uid, gid, groups, .. } = &self.program.who;
                around.line(&script::shown_who(*uid, *gid, groups));
            }
            Step::Caps => {
                let who = &self.program.who;
                // The kernel takes the capabilities of a program that does not belong to root.
                let effective = if who.uid == 0 { who.effective } else { 0 };
                around.line(&script::shown_caps(effective, who.bounding, who.no_new_privileges));
            }
            Step::To(number, text) => return self.write_to(number, &text, around),
            Step::Tty => around.line(if around.terminal.is_some() { "tty yes" } else { "tty no" }),
            Step::Winsize => around.line(&script::shown_size(around.terminal)),
            Step::Child(life) | Step::Orphan(life) => {
                let ignored = self.traps.iter().filter(|(_, trap)| **trap == Trap::Ignore);
                around.children.push((life, ignored.map(|(signal, _)| *signal).collect()));
            }
            Step::Tick(period) => {
                self.waiting = Waiting::Tick { at: Some(around.now), number: 1, period };
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Workload;

    fn process(init: bool, workload: &Workload) -> Process {
        let program = Program {
            argv: workload.argv(),
            env: vec!["A=1".into(), "B=x=y".into(), "A=2".into()],
            cwd: "/srv".into(),
            who: Who::default(),
        };
        Process::new(1, init, Arc::new(program))
    }

    fn run(process: &mut Process, millis: u64, input: &mut Input) -> (Option<i32>, String) {
        let mut around = Surroundings::new(Moment::from_millis(millis), input, 1);
        let code = process.run(&mut around);
        (code, text(&around))
    }

    fn text(around: &Surroundings<'_>) -> String {
        around.output.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    #[test]
    fn a_script_runs_until_it_waits_and_goes_on_when_it_is_time() {
        let millis = Duration::from_millis;
        let steps = [
            Step::Env("A".into()),
            Step::Env("B".into()),
            Step::Env("C".into()),
            Step::Cwd,
            Step::Sleep(millis(10)),
            Step::Procs,
            Step::Exit(3),
        ];
        let mut input = Input::default();
        let mut one = process(true, &Workload::new(steps));
        assert_eq!(run(&mut one, 5, &mut input), (None, "A=2\nB=x=y\nC unset\n/srv\n".into()));
        assert_eq!(one.wake(), Some(millis(15)));
        assert_eq!(run(&mut one, 14, &mut input), (None, String::new()));
        assert_eq!(run(&mut one, 15, &mut input), (Some(3), "procs 1\n".into()));
    }

    #[test]
    fn an_init_ignores_what_it_does_not_trap_and_others_die_of_it() {
        for (init, expected) in [(true, None), (false, Some(143))] {
            let mut input = Input::default();
            let mut one = process(init, &Workload::forever());
            run(&mut one, 0, &mut input);
            let mut around = Surroundings::new(Moment::ZERO, &mut input, 1);
            assert_eq!(one.receive(15, false, &mut around), expected);
            assert_eq!(one.receive(9, true, &mut around), Some(137), "KILL acts on a frozen process too");
        }
    }

    #[test]
    fn signals_to_a_frozen_process_wait_until_it_runs() {
        let mut input = Input::default();
        let mut one = process(true, &Workload::says_signals(&[15, 40]));
        run(&mut one, 0, &mut input);
        let mut around = Surroundings::new(Moment::ZERO, &mut input, 1);
        for signal in [15, 15, 40, 40] {
            assert_eq!(one.receive(signal, true, &mut around), None);
        }
        assert_eq!(text(&around), "");
        assert_eq!(run(&mut one, 0, &mut input).1, "signal 15\nsignal 40\nsignal 40\n");
    }

    #[test]
    fn the_size_of_the_terminal_is_told_when_it_changes() {
        let mut input = Input::default();
        let trap = Step::Trap(28, Trap::Winsize);
        let mut one = process(true, &Workload::new([Step::Tty, Step::Winsize, trap, Step::Forever]));
        assert_eq!(run(&mut one.clone(), 0, &mut input).1, "tty no\nwinsize none\n");
        let mut around = Surroundings::new(Moment::ZERO, &mut input, 1);
        around.terminal = Some((24, 80));
        one.run(&mut around);
        around.terminal = Some((5, 6));
        one.receive(28, false, &mut around);
        assert_eq!(text(&around), "tty yes\nwinsize 24 80\nwinsize 5 6\n");
    }

    #[test]
    fn a_stopped_process_goes_on_after_cont() {
        let mut input = Input::default();
        let mut one = process(true, &Workload::ticks(Duration::from_millis(10)));
        assert_eq!(run(&mut one, 0, &mut input).1, "tick 1\n");
        let mut around = Surroundings::new(Moment::ZERO, &mut input, 1);
        one.receive(19, false, &mut around);
        assert_eq!(one.wake(), None);
        assert_eq!(run(&mut one, 10, &mut input).1, "");
        let mut around = Surroundings::new(Moment::from_millis(25), &mut input, 1);
        one.receive(18, false, &mut around);
        assert_eq!(text(&around), "tick 2\n");
    }

    #[test]
    fn an_unreadable_script_ends_as_the_probe_does() {
        let mut one = process(true, &Workload::forever());
        one.steps = Program {
            argv: vec!["x".into(), "bad".into()],
            env: vec![],
            cwd: "/".into(),
            who: Who::default(),
        }
        .steps();
        let (code, text) = run(&mut one, 0, &mut Input::default());
        assert_eq!((code, text.as_str()), (Some(64), "manyrun-probe: step \"bad\": no such step\n"));
    }
}
