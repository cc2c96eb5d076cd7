//! The one table of operations. Guard, backends, fake, suite, docs and reports read it; nobody writes the rule twice.

use std::fmt;
use std::time::Duration;

use crate::{Capability, ContainerStatus, Error, ErrorKind, Result};

/// What a runtime can be asked to do: one value per method of [`RuntimeImpl`](crate::RuntimeImpl) that acts.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Make a container without running its program.
    Create,
    /// Run the program.
    Start,
    /// Ask for one container's state.
    State,
    /// Ask for all containers' states.
    List,
    /// Send a signal.
    Kill,
    /// End the program: politely, then by force.
    Stop,
    /// Wait for the end.
    Wait,
    /// Forget the container.
    Delete,
    /// Run a second program with streams attached.
    Exec,
    /// Run a second program and collect its output.
    ExecSync,
    /// Start a session that outlives the caller.
    ExecStart,
    /// Attach to a session.
    ExecAttach,
    /// Ask for a session's state.
    ExecState,
    /// End a session's program.
    ExecStop,
    /// Forget a session.
    ExecCleanup,
    /// Change the size of a session's terminal.
    ExecResize,
    /// Connect to the program's streams.
    Attach,
    /// Change the size of the program's terminal.
    AttachResize,
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Change resource limits.
    Update,
    /// Read resource use.
    Stats,
    /// Read file system use.
    DiskStats,
    /// Save to an image.
    Checkpoint,
    /// Continue from an image.
    Restore,
    /// Open the log file anew after a rotation.
    ReopenLog,
    /// Connect to a port inside.
    PortForward,
    /// Ask whether the monitor lives.
    ProbeMonitor,
    /// Subscribe to what happens.
    Events,
}

/// From which states an operation is legal.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The id must not be known yet.
    UnknownId,
    /// The id must be known and in one of these states.
    In(&'static [ContainerStatus]),
    /// No container is concerned.
    NoContainer,
}

/// What an operation does to the status.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The status stays.
    Same,
    /// The status becomes this one.
    Becomes(ContainerStatus),
    /// It may stay or become this one, as the request and the program have it.
    MayBecome(ContainerStatus),
    /// The id is unknown afterwards.
    Gone,
}

/// Whether the same call may be made again after it succeeded.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// A second call succeeds and changes nothing more.
    Yes,
    /// A second call is refused.
    No,
    /// A second call succeeds with `force` only.
    WithForce,
    /// A second call acts a second time.
    ActsAgain,
}

/// One row of the table.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationRow {
    /// The name in ids, reports and errors: `exec.sync`.
    pub id: &'static str,
    /// The capability that must be declared, or `None` for the core that every runtime has.
    pub needs: Option<Capability>,
    /// Where it is legal.
    pub from: Precondition,
    /// Where it leads.
    pub effect: Effect,
    /// Whether it may be repeated.
    pub repeat: Repeat,
    /// How long it may take unless the handler says otherwise. `None` is unlimited. A stop adds its grace.
    pub deadline: Option<Duration>,
}

use ContainerStatus::{Created, Paused, Running, Stopped};

const ANY: &[ContainerStatus] = &[Created, Running, Paused, Stopped];
const LIVE: &[ContainerStatus] = &[Created, Running, Paused];
const RUNNING: &[ContainerStatus] = &[Running];

const fn seconds(n: u64) -> Option<Duration> {
    Some(Duration::from_secs(n))
}

impl Operation {
    /// Every operation, core first.
    pub const ALL: &[Self] = &[
        Self::Create,
        Self::Start,
        Self::State,
        Self::List,
        Self::Kill,
        Self::Stop,
        Self::Wait,
        Self::Delete,
        Self::Exec,
        Self::ExecSync,
        Self::ExecStart,
        Self::ExecAttach,
        Self::ExecState,
        Self::ExecStop,
        Self::ExecCleanup,
        Self::ExecResize,
        Self::Attach,
        Self::AttachResize,
        Self::Pause,
        Self::Resume,
        Self::Update,
        Self::Stats,
        Self::DiskStats,
        Self::Checkpoint,
        Self::Restore,
        Self::ReopenLog,
        Self::PortForward,
        Self::ProbeMonitor,
        Self::Events,
    ];

    /// The operation's row.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "it is the table: one entry per operation, read as a whole")]
    pub const fn row(self) -> OperationRow {
        use Effect::{Becomes, Gone, MayBecome, Same};
        use Precondition::{In, NoContainer, UnknownId};
        const fn row(
            id: &'static str,
            needs: Option<Capability>,
            from: Precondition,
            effect: Effect,
            repeat: Repeat,
            deadline: Option<Duration>,
        ) -> OperationRow {
            OperationRow { id, needs, from, effect, repeat, deadline }
        }
        match self {
            Self::Create => row("create", None, UnknownId, Becomes(Created), Repeat::No, seconds(240)),
            Self::Start => row("start", None, In(&[Created]), Becomes(Running), Repeat::No, seconds(60)),
            Self::State => row("state", None, In(ANY), Same, Repeat::Yes, seconds(10)),
            Self::List => row("list", None, NoContainer, Same, Repeat::Yes, seconds(10)),
            Self::Kill => row("kill", None, In(LIVE), MayBecome(Stopped), Repeat::ActsAgain, seconds(10)),
            Self::Stop => row("stop", None, In(ANY), Becomes(Stopped), Repeat::Yes, seconds(15)),
            Self::Wait => row("wait", None, In(ANY), Same, Repeat::Yes, None),
            Self::Delete => {
                row("delete", None, In(&[Created, Stopped]), Gone, Repeat::WithForce, seconds(60))
            }
            Self::Exec => row("exec", Some(Capability::Exec), In(RUNNING), Same, Repeat::ActsAgain, None),
            Self::ExecSync => {
                row("exec.sync", Some(Capability::ExecSync), In(RUNNING), Same, Repeat::ActsAgain, None)
            }
            Self::ExecStart => {
                row("exec.start", Some(Capability::ExecSession), In(RUNNING), Same, Repeat::No, seconds(60))
            }
            Self::ExecAttach => {
                row("exec.attach", Some(Capability::ExecSession), In(RUNNING), Same, Repeat::ActsAgain, None)
            }
            Self::ExecState => {
                row("exec.state", Some(Capability::ExecSession), In(ANY), Same, Repeat::Yes, seconds(10))
            }
            Self::ExecStop => {
                row("exec.stop", Some(Capability::ExecSession), In(ANY), Same, Repeat::Yes, seconds(15))
            }
            Self::ExecCleanup => {
                row("exec.cleanup", Some(Capability::ExecSession), In(ANY), Same, Repeat::Yes, seconds(15))
            }
            Self::ExecResize => row(
                "exec.resize",
                Some(Capability::ExecSession),
                In(RUNNING),
                Same,
                Repeat::ActsAgain,
                seconds(10),
            ),
            Self::Attach => row("attach", Some(Capability::Attach), In(LIVE), Same, Repeat::ActsAgain, None),
            Self::AttachResize => row(
                "attach.resize",
                Some(Capability::AttachResize),
                In(LIVE),
                Same,
                Repeat::ActsAgain,
                seconds(10),
            ),
            Self::Pause => {
                row("pause", Some(Capability::Pause), In(RUNNING), Becomes(Paused), Repeat::No, seconds(10))
            }
            Self::Resume => row(
                "resume",
                Some(Capability::Pause),
                In(&[Paused]),
                Becomes(Running),
                Repeat::No,
                seconds(10),
            ),
            Self::Update => row("update", Some(Capability::Update), In(LIVE), Same, Repeat::Yes, seconds(10)),
            Self::Stats => row("stats", Some(Capability::Stats), In(LIVE), Same, Repeat::Yes, seconds(10)),
            Self::DiskStats => {
                row("stats.disk", Some(Capability::DiskStats), In(LIVE), Same, Repeat::Yes, seconds(10))
            }
            Self::Checkpoint => row(
                "checkpoint",
                Some(Capability::Checkpoint),
                In(&[Running, Paused]),
                MayBecome(Stopped),
                Repeat::No,
                seconds(300),
            ),
            Self::Restore => row(
                "restore",
                Some(Capability::Restore),
                UnknownId,
                Becomes(Running),
                Repeat::No,
                seconds(300),
            ),
            Self::ReopenLog => {
                row("log.reopen", Some(Capability::LogReopen), In(LIVE), Same, Repeat::Yes, seconds(10))
            }
            Self::PortForward => {
                row("port-forward", Some(Capability::PortForward), In(RUNNING), Same, Repeat::ActsAgain, None)
            }
            Self::ProbeMonitor => {
                row("monitor.probe", Some(Capability::MonitorProbe), In(LIVE), Same, Repeat::Yes, seconds(10))
            }
            Self::Events => {
                row("events", Some(Capability::Events), NoContainer, Same, Repeat::ActsAgain, seconds(10))
            }
        }
    }

    /// The name in ids, reports and errors.
    #[must_use]
    pub const fn id(self) -> &'static str {
        self.row().id
    }

    /// Refuses a wrong state, uniformly. Backends call it under their own per-container lock, so that the state
    /// cannot change between the answer and the act.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] with the states in which the operation would be legal.
    pub fn admit(self, subject: impl fmt::Display, is: ContainerStatus, stopping: bool) -> Result<()> {
        let Precondition::In(allowed) = self.row().from else { return Ok(()) };
        // A container that is being stopped may be stopped again, shortening its grace, but not deleted.
        let being_stopped = stopping && self == Self::Delete && is != Stopped;
        if allowed.contains(&is) && !being_stopped {
            return Ok(());
        }
        Err(Error::new(ErrorKind::WrongState { is, stopping, allowed })
            .during(self)
            .on(format_args!("container \"{subject}\"")))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_every_operation_is_listed() {
        let ids: BTreeSet<_> = Operation::ALL.iter().map(|op| op.id()).collect();
        assert_eq!(ids.len(), Operation::ALL.len());
        assert_eq!(Operation::ALL.len(), Operation::Events as usize + 1);
    }

    #[test]
    fn the_effect_of_an_operation_is_a_legal_change() {
        for op in Operation::ALL {
            let row = op.row();
            let (Precondition::In(from), Effect::Becomes(to) | Effect::MayBecome(to)) =
                (row.from, row.effect)
            else {
                continue;
            };
            for status in from {
                assert!(*status == to || status.may_become(to), "{op}: {status} -> {to}");
            }
        }
    }

    #[test]
    fn a_refusal_names_what_would_be_legal() {
        let error = Operation::Start.admit("web", Running, false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "start container \"web\": wrong state: it is running; allowed is created"
        );
        Operation::Delete.admit("web", Created, false).unwrap();
        Operation::Delete.admit("web", Created, true).unwrap_err();
    }
}
