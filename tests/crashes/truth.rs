//! What may be found after somebody was killed.

use manyrun_tests::life::{Scenario, Step};
use runtime_api::{ContainerState, ContainerStatus, ExitCause};

use crate::case::Victims;

/// How a container stands, as far as a case decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Unknown,
    Alive(ContainerStatus),
    Stopped(Option<i32>),
}

use Seen::{Alive, Stopped, Unknown};

const CREATED: Seen = Alive(ContainerStatus::Created);
const RUNNING: Seen = Alive(ContainerStatus::Running);
/// Ended with its checkpoint.
pub(crate) const SAVED: Seen = Stopped(Some(0));
const PAUSED: Seen = Alive(ContainerStatus::Paused);

impl Seen {
    pub(crate) fn of(state: Option<&ContainerState>, victims: Victims) -> Self {
        let Some(state) = state else { return Unknown };
        let Some(exit) = &state.exit else { return Alive(state.status) };
        // A lost code has one cause only, and a cause has a code. But one that its shim left behind was killed.
        let lost = exit.cause == ExitCause::MonitorLost;
        let fits = match exit.code {
            None => lost,
            Some(0) if exit.cause == ExitCause::Checkpointed => true,
            Some(137) if victims.shim => lost || exit.cause == ExitCause::Exited,
            Some(_) => exit.cause == ExitCause::Exited,
        };
        assert!(fits, "{state:?}");
        Stopped(exit.code)
    }

    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Alive(_))
    }
}

/// How far a caller came, from what it wrote down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) begun: usize,
    pub(crate) ended: usize,
    /// Whether the step that it came to last failed.
    pub(crate) failed: bool,
}

impl Progress {
    /// `may_fail` says that something may have been killed under the caller.
    pub(crate) fn read(text: &str, may_fail: bool) -> Self {
        let mut progress = Self::default();
        for line in text.lines() {
            let number = || line.split(' ').nth(1).and_then(|word| word.parse::<usize>().ok()).unwrap();
            match line.split(' ').next() {
                Some("begin") => progress.begun = number() + 1,
                Some("end") => progress.ended = number() + 1,
                Some("failed") if may_fail => {
                    println!("the caller: {line}");
                    // A life whose code is another one says that something "is wrong".
                    let is_a_defect = line.contains("internal error") && !line.ends_with("is wrong");
                    assert!(!is_a_defect, "{line}");
                    progress.failed = true;
                }
                // The advice of an error may have lines of its own.
                _ if progress.failed => {}
                _ => panic!("the caller failed before it was killed: {line}"),
            }
        }
        progress
    }

    /// The step that was under way.
    pub(crate) fn interrupted(self, scenario: &Scenario) -> Option<Step> {
        (self.begun > self.ended).then(|| scenario.steps[self.ended])
    }

    /// Whether a step is over.
    pub(crate) fn done(self, scenario: &Scenario, step: Step) -> bool {
        scenario.steps[..self.ended].contains(&step)
    }

    /// Whether a step was begun.
    pub(crate) fn began(self, scenario: &Scenario, step: Step) -> bool {
        scenario.steps[..self.begun].contains(&step)
    }
}

/// What differs between runtimes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Can {
    /// The exit code is not lost with the monitor.
    pub(crate) outlive_its_monitor: bool,
    pub(crate) save: bool,
}

/// What the container may be.
pub(crate) fn allowed(scenario: &Scenario, progress: Progress, killed: Victims, can: Can) -> Vec<Seen> {
    let mut now = vec![Unknown];
    for (number, step) in scenario.steps[..progress.begun].iter().enumerate() {
        let after = if *step == Step::Save && !can.save { now.clone() } else { after(scenario, *step, &now) };
        if number >= progress.ended {
            now.extend(after);
        } else {
            now = after;
        }
    }
    let ends_by_itself = ending(scenario, progress);
    if ends_by_itself && now.contains(&RUNNING) {
        now.push(Stopped(Some(scenario.code)));
    }
    let was_alive = now.iter().any(|seen| seen.is_alive());
    if was_alive && (killed.init || killed.shim) {
        // One that was dead already, or that is frozen, does not notice. What its shim left behind was killed.
        now.push(Stopped(Some(137)));
    }
    if killed.shim {
        now.retain(|seen| !seen.is_alive());
    }
    // A shim keeps what its monitor did not write down; conmon takes it along. Without the one or the other nobody reads what
    // the program says, and a program that cannot speak may end.
    let teller_dies = if can.outlive_its_monitor { killed.shim } else { killed.monitor };
    let started = progress.began(scenario, Step::Start);
    if teller_dies && was_alive && (killed.init || ends_by_itself || started) {
        now.push(Stopped(None));
    }
    now
}

/// Whether a living program is about to end without anybody's doing.
pub(crate) fn ending(scenario: &Scenario, progress: Progress) -> bool {
    (scenario.ends && progress.began(scenario, Step::Start)) || progress.began(scenario, Step::Stop)
}

fn after(scenario: &Scenario, step: Step, before: &[Seen]) -> Vec<Seen> {
    match step {
        Step::Create => vec![CREATED],
        Step::Start | Step::Resume => vec![RUNNING],
        Step::Exec | Step::Hang | Step::Session | Step::EndSession | Step::Reopen => before.to_vec(),
        Step::Pause => vec![PAUSED],
        Step::Save => vec![SAVED],
        Step::Stop | Step::Wait => vec![Stopped(Some(scenario.code))],
        Step::Delete | Step::Force => vec![Unknown],
    }
}
