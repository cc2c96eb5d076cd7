//! What a runtime may or may not be able to do, with the reason for each "no" and the evidence for each answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Operation, Result};

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $variant:ident = $id:literal $(implies $($implied:ident),+)?;)+) => {
        /// One thing that a runtime may be unable to do.
        ///
        /// Ids follow one grammar, `area` or `area.variant`; a variant implies its area.
        #[non_exhaustive]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Capability {
            $($(#[doc = $doc])+ #[serde(rename = $id)] $variant,)+
        }

        impl Capability {
            /// Every capability, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The dotted id: `checkpoint.leave-running`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)+ }
            }

            /// One sentence for people.
            #[must_use]
            pub fn summary(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim(),)+ }
            }

            /// What a runtime that declares this one must declare too.
            #[must_use]
            pub const fn implies(self) -> &'static [Self] {
                match self { $(Self::$variant => &[$($(Self::$implied),+)?],)+ }
            }
        }
    };
}

capabilities! {
    /// Signals other than KILL are accepted for a container that was created and not started.
    KillCreated = "kill.created";
    /// Signals other than KILL are accepted for a paused container and stay pending until it is resumed.
    KillPaused = "kill.paused";
    /// Signals above 31 can be sent.
    KillRealTime = "kill.real-time";
    /// A signal can be sent to every process of the container at once.
    KillAll = "kill.all";
    /// Run a second program with streams attached.
    Exec = "exec";
    /// Run a second program and collect its output.
    ExecSync = "exec.sync";
    /// An exec can have a terminal of its own.
    ExecTty = "exec.tty" implies Exec;
    /// An exec can be given open files besides its three streams.
    ExecDescriptors = "exec.descriptors" implies Exec;
    /// Exec sessions that outlive the caller: start, attach, stop, state, cleanup, resize.
    ExecSession = "exec.session";
    /// An exec's processes can be found and ended even after a double fork.
    ExecCgroup = "exec.cgroup";
    /// Connect to the streams of the container's program.
    Attach = "attach";
    /// The size of the container's terminal can be changed.
    AttachResize = "attach.resize" implies Attach;
    /// Freeze and thaw.
    Pause = "pause";
    /// Change resource limits of a living container.
    Update = "update";
    /// Read processor, memory and process counts.
    Stats = "stats";
    /// Read the use of the container's file system.
    DiskStats = "stats.disk";
    /// Save a container to an image.
    Checkpoint = "checkpoint";
    /// A checkpoint can leave the container running.
    CheckpointLeaveRunning = "checkpoint.leave-running" implies Checkpoint;
    /// A checkpoint can hold established TCP connections.
    CheckpointTcpEstablished = "checkpoint.tcp-established" implies Checkpoint;
    /// A checkpoint can hold file locks.
    CheckpointFileLocks = "checkpoint.file-locks" implies Checkpoint;
    /// A checkpoint can be prepared while the container goes on running.
    CheckpointPreDump = "checkpoint.pre-dump" implies Checkpoint;
    /// Continue a container from an image.
    Restore = "restore";
    /// The program's output is written to a log file in the CRI format.
    Log = "log";
    /// The log file can be opened anew after a rotation.
    LogReopen = "log.reopen" implies Log;
    /// Connect to a port inside the container.
    PortForward = "port-forward";
    /// The monitor process can be asked for.
    MonitorProbe = "monitor.probe";
    /// A stream of what happens to containers.
    Events = "events";
    /// Containers live on when the value is dropped, and a new value over the same directory finds them.
    Reopen = "reopen";
    /// The runtime reports its errors as JSON records.
    JsonErrors = "errors.json";
    /// Containers can be run without cgroups.
    NoCgroups = "cgroups.none";
    /// A create can name the cgroup below which a container goes.
    CgroupParent = "cgroups.parent";
    /// The program's readiness messages (`sd_notify`) are passed on to a socket of the caller.
    Notify = "notify";
    /// A create can hand open descriptors to the program.
    Descriptors = "descriptors";
    /// Mounts can be id-mapped.
    IdMappedMounts = "mounts.id-mapped";
    /// Mounts can be read-only recursively.
    RecursiveReadOnlyMounts = "mounts.recursive-read-only";
    /// The container has a kernel of its own.
    KernelSeparated = "isolation.kernel";
    /// The reported pid is that of the container's init, seen from the host.
    HostVisiblePid = "pid.host-visible";
    /// The runtime pulls images by itself, inside its isolation.
    GuestImagePull = "image.guest-pull";
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// Where an answer comes from. Never the name of a binary.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceSource {
    /// The backend's own construction decides it.
    Design,
    /// The runtime's `features` document.
    Features,
    /// A command or system call that was tried.
    Probe,
    /// The version that the runtime reports.
    Version,
    /// A handler's configuration took it away.
    Configuration,
}

/// What was looked at, and what it said.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What kind of evidence.
    pub source: EvidenceSource,
    /// What was asked: a command line, a file, a line of configuration. Empty for [`EvidenceSource::Design`].
    pub asked: String,
    /// What it said, shortened.
    pub said: String,
}

impl Evidence {
    /// Evidence from `source`: `asked` gave `said`.
    pub fn new(source: EvidenceSource, asked: impl Into<String>, said: impl Into<String>) -> Self {
        Self { source, asked: asked.into(), said: said.into() }
    }

    /// The backend's own construction decides it.
    pub fn design(said: impl Into<String>) -> Self {
        Self::new(EvidenceSource::Design, "", said)
    }
}

/// One capability's answer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why not; `None` is a yes.
    pub why_not: Option<String>,
    /// What the answer rests on.
    pub evidence: Evidence,
}

impl Answer {
    /// Whether the capability is there.
    #[must_use]
    pub const fn is_yes(&self) -> bool {
        self.why_not.is_none()
    }
}

/// The answers of one runtime value: complete, consistent, constant for the life of the value.
///
/// ```
/// use runtime_api::{Capabilities, Capability, Evidence};
/// let answers = Capabilities::builder()
///     .yes(Capability::Pause, Evidence::design("the freezer is always there"))
///     .no(Capability::Checkpoint, "criu is not on PATH", Evidence::design("looked for criu"))
///     .build()?;
/// assert!(answers.has(Capability::Pause));
/// assert_eq!(answers.why_not(Capability::Checkpoint), Some("criu is not on PATH"));
/// # Ok::<(), runtime_api::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeMap<Capability, Answer>);

impl Capabilities {
    /// Starts with "no" for everything.
    #[must_use]
    pub fn builder() -> CapabilitiesBuilder {
        CapabilitiesBuilder(BTreeMap::new())
    }

    /// Whether the capability is declared.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.0.get(&capability).is_some_and(Answer::is_yes)
    }

    /// The reason for a "no", `None` for a "yes".
    #[must_use]
    pub fn why_not(&self, capability: Capability) -> Option<&str> {
        match self.0.get(&capability) {
            Some(answer) => answer.why_not.as_deref(),
            None => Some(NOT_PROVIDED),
        }
    }

    /// Every capability with its answer, in the order of [`Capability::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Capability, &Answer)> {
        self.0.iter().map(|(capability, answer)| (*capability, answer))
    }

    /// The refusal that an undeclared capability must be met with, or Ok.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the reason.
    pub fn require(&self, capability: Capability) -> Result<()> {
        match self.why_not(capability) {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::Unsupported { capability, why: why.to_owned() })),
        }
    }

    /// [`Capabilities::require`] for what `operation` needs, with the operation named.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the reason.
    pub fn require_for(&self, operation: Operation) -> Result<()> {
        match operation.row().needs {
            None => Ok(()),
            Some(capability) => self.require(capability).map_err(|error| error.during(operation)),
        }
    }

    /// Takes one capability away, and whatever implies it. Answers can only be narrowed, never widened.
    #[must_use]
    pub fn without(mut self, capability: Capability, why: &str, evidence: &Evidence) -> Self {
        for (each, answer) in &mut self.0 {
            let hit = *each == capability || each.implies().contains(&capability);
            if hit && answer.is_yes() {
                *answer = Answer { why_not: Some(why.to_owned()), evidence: evidence.clone() };
            }
        }
        self
    }
}

const NOT_PROVIDED: &str = "this backend does not provide it";

/// Collects answers for [`Capabilities`].
#[derive(Clone, Debug)]
pub struct CapabilitiesBuilder(BTreeMap<Capability, Answer>);

impl CapabilitiesBuilder {
    /// Declares a capability. The last answer for a capability counts.
    #[must_use]
    pub fn yes(mut self, capability: Capability, evidence: Evidence) -> Self {
        self.0.insert(capability, Answer { why_not: None, evidence });
        self
    }

    /// Denies a capability, with the reason that users will read.
    #[must_use]
    pub fn no(
        mut self,
        capability: Capability,
        why: impl Into<Cow<'static, str>>,
        evidence: Evidence,
    ) -> Self {
        let why = why.into().into_owned();
        self.0.insert(capability, Answer { why_not: Some(why), evidence });
        self
    }

    /// Checks that the answers agree with each other.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a capability is declared and one that it implies is not.
    pub fn build(mut self) -> Result<Capabilities> {
        for capability in Capability::ALL {
            self.0.entry(*capability).or_insert_with(|| Answer {
                why_not: Some(NOT_PROVIDED.to_owned()),
                evidence: Evidence::design("not implemented"),
            });
        }
        let answers = Capabilities(self.0);
        for (capability, answer) in answers.iter() {
            for implied in capability.implies() {
                if answer.is_yes() && !answers.has(*implied) {
                    return Err(Error::new(ErrorKind::Internal(format!(
                        "capability {capability} is declared, but {implied}, which it implies, is not"
                    ))));
                }
            }
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_needs_its_area() {
        let lonely = Capabilities::builder().yes(Capability::ExecTty, Evidence::design("x")).build();
        assert!(matches!(lonely.unwrap_err().kind(), ErrorKind::Internal(_)));
    }

    #[test]
    fn answers_are_complete_and_only_narrow() {
        let all = Capability::ALL
            .iter()
            .fold(Capabilities::builder(), |b, c| b.yes(*c, Evidence::design("x")))
            .build()
            .unwrap();
        assert_eq!(all.iter().count(), Capability::ALL.len());
        let less = all.without(Capability::Checkpoint, "switched off", &Evidence::design("x"));
        assert!(!less.has(Capability::Checkpoint) && !less.has(Capability::CheckpointPreDump));
        assert!(less.has(Capability::Restore));
        let refusal = less.require_for(Operation::Checkpoint).unwrap_err();
        assert_eq!(refusal.to_string(), "checkpoint: not supported (checkpoint): switched off");
    }

    #[test]
    fn ids_are_unique_and_every_capability_is_explained() {
        let ids: std::collections::BTreeSet<_> = Capability::ALL.iter().map(|c| c.id()).collect();
        assert_eq!(ids.len(), Capability::ALL.len());
        assert!(Capability::ALL.iter().all(|c| c.summary().ends_with('.')));
    }
}
