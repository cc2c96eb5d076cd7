//! What the program in a container is to do.

use std::time::Duration;

use runtime_api::ProcessRequest;

use crate::probe;
use crate::script::{Life, Step, Trap};

/// What several workloads print once their traps are armed, so that a test knows when signals may be sent.
pub const READY: &str = "ready";

const TERM: i32 = 15;
const WINCH: i32 = 28;

/// A script for the probe program.
///
/// ```
/// use runtime_test::{Step, Workload};
/// let workload = Workload::says("hello").then(Step::Exit(3));
/// assert_eq!(workload.argv(), ["/manyrun-probe", "out:hello", "exit:3"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    steps: Vec<Step>,
}

impl Workload {
    /// These steps, one after the other. Without any it ends at once with code 0.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// Ends at once with this code.
    #[must_use]
    pub fn exits(code: u8) -> Self {
        Self::new([Step::Exit(code)])
    }

    /// Ends with this code after some time.
    #[must_use]
    pub fn exits_after(time: Duration, code: u8) -> Self {
        Self::new([Step::Sleep(time), Step::Exit(code)])
    }

    /// Says nothing and never ends by itself. As the init of a container it ignores every signal but KILL; run by an
    /// exec it dies of the first one.
    #[must_use]
    pub fn forever() -> Self {
        Self::new([Step::Forever])
    }

    /// Says [`READY`] and never ends by itself.
    #[must_use]
    pub fn ready_forever() -> Self {
        Self::new([Step::Out(READY.into()), Step::Forever])
    }

    /// Ignores TERM, says [`READY`] and never ends by itself.
    #[must_use]
    pub fn ignores_term() -> Self {
        Self::new([Step::Trap(TERM, Trap::Ignore), Step::Out(READY.into()), Step::Forever])
    }

    /// Says [`READY`] and ends with this code when TERM arrives.
    #[must_use]
    pub fn exits_on_term(code: u8) -> Self {
        Self::exits_on(TERM, code)
    }

    /// Says [`READY`] and ends with this code when the signal arrives.
    #[must_use]
    pub fn exits_on(signal: i32, code: u8) -> Self {
        Self::new([Step::Trap(signal, Trap::Exit(code)), Step::Out(READY.into()), Step::Forever])
    }

    /// Says [`READY`] and then `signal N` for each of these signals that arrives, for ever.
    #[must_use]
    pub fn says_signals(signals: &[i32]) -> Self {
        let traps = signals.iter().map(|signal| Step::Trap(*signal, Trap::Say));
        Self::new(traps.chain([Step::Out(READY.into()), Step::Forever]))
    }

    /// Prints one line and ends with code 0.
    #[must_use]
    pub fn says(text: impl Into<String>) -> Self {
        Self::new([Step::Out(text.into())])
    }

    /// Says [`READY`] and then the size of its terminal each time it is told of another one, for ever.
    #[must_use]
    pub fn tells_sizes() -> Self {
        Self::new([Step::Trap(WINCH, Trap::Winsize), Step::Out(READY.into()), Step::Forever])
    }

    /// Prints `tick 1`, `tick 2` and so on, one per period, for ever.
    #[must_use]
    pub fn ticks(period: Duration) -> Self {
        Self::new([Step::Tick(period)])
    }

    /// Copies standard input to standard output and ends with code 0 at the end of input.
    #[must_use]
    pub fn echoes() -> Self {
        Self::new([Step::Cat])
    }

    /// Prints this many bytes of [`filling`](crate::script::filling) and ends with code 0.
    #[must_use]
    pub fn fills(bytes: u64) -> Self {
        Self::new([Step::Fill(bytes)])
    }

    /// Takes this much memory, says [`READY`] and never ends by itself.
    #[must_use]
    pub fn eats(bytes: u64) -> Self {
        Self::new([Step::Eat(bytes), Step::Out(READY.into()), Step::Forever])
    }

    /// Starts children that live for ever, one of them in a session of its own, says [`READY`] and never ends.
    #[must_use]
    pub fn forks_a_tree() -> Self {
        Self::new([
            Step::Child(Life::Forever),
            Step::Orphan(Life::Forever),
            Step::Out(READY.into()),
            Step::Forever,
        ])
    }

    /// Adds a step at the end.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// The steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The command line inside a container: the probe program's path and one argument per step.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        std::iter::once(probe::PATH.to_owned()).chain(self.steps.iter().map(Step::to_arg)).collect()
    }

    /// The same as a program for an exec.
    #[must_use]
    pub fn process(&self) -> ProcessRequest {
        ProcessRequest::new(self.argv())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script;

    #[test]
    fn a_workload_is_read_back_from_its_command_line() {
        let workload = Workload::forks_a_tree().then(Step::Exit(1));
        let argv = workload.argv();
        assert_eq!(argv[0], probe::PATH);
        assert_eq!(script::parse(&argv[1..]).unwrap(), workload.steps());
        assert_eq!(workload.process().argv, argv);
    }
}
