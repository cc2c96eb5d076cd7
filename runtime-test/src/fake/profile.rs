//! What a fake runtime declares, and which defect it has.

use runtime_api::{Capabilities, Capability, Evidence, Result};

use crate::Defect;

/// What a fake runtime declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    name: &'static str,
    answers: Capabilities,
    defect: Option<Defect>,
}

impl Profile {
    /// The names that [`Profile::named`] knows.
    pub const NAMES: &[&str] = &["full", "minimal"];

    /// Everything that the model can do.
    ///
    /// # Errors
    /// None in practice: [`Internal`](runtime_api::ErrorKind::Internal) would mean that the answers contradict each
    /// other.
    pub fn full() -> Result<Self> {
        let answers = Capability::ALL.iter().fold(Capabilities::builder(), |answers, capability| {
            match why_never(*capability) {
                None => answers.yes(*capability, Evidence::design("the model does it")),
                Some(why) => answers.no(*capability, why, Evidence::design("the model of the fake runtime")),
            }
        });
        Ok(Self { name: "full", answers: answers.build()?, defect: None })
    }

    /// The core that every runtime has, and nothing else.
    ///
    /// # Errors
    /// As [`Profile::full`].
    pub fn minimal() -> Result<Self> {
        let answers = Capability::ALL.iter().fold(Capabilities::builder(), |answers, capability| {
            let why = "the minimal profile of the fake runtime has the core only";
            answers.no(*capability, why, Evidence::design("chosen by the profile"))
        });
        Ok(Self { name: "minimal", answers: answers.build()?, defect: None })
    }

    /// The profile of this name, if there is one.
    ///
    /// # Errors
    /// As [`Profile::full`].
    pub fn named(name: &str) -> Result<Option<Self>> {
        match name {
            "full" => Self::full().map(Some),
            "minimal" => Self::minimal().map(Some),
            _ => Ok(None),
        }
    }

    /// Takes one capability away, and whatever implies it.
    #[must_use]
    pub fn without(self, capability: Capability, why: &str) -> Self {
        let evidence = Evidence::design("taken away from the profile");
        Self { answers: self.answers.without(capability, why, &evidence), ..self }
    }

    /// Takes one capability away because a handler's configuration says so.
    pub(super) fn disabled(self, capability: Capability, by: &str) -> Self {
        let why = format!("switched off by {by}");
        let evidence = Evidence::new(runtime_api::EvidenceSource::Configuration, by, "disabled");
        Self { answers: self.answers.without(capability, &why, &evidence), ..self }
    }

    /// Gives it a defect.
    #[must_use]
    pub const fn with_defect(mut self, defect: Defect) -> Self {
        self.defect = Some(defect);
        self
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What it declares.
    #[must_use]
    pub const fn capabilities(&self) -> &Capabilities {
        &self.answers
    }

    /// Its defect.
    #[must_use]
    pub const fn defect(&self) -> Option<Defect> {
        self.defect
    }

    pub(super) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// What a value answers that is asked what it can do; `later` once it has made a container.
    pub(super) fn answers(&self, later: bool) -> Result<Capabilities> {
        let reasonless = self.has(Defect::ReasonIsMissing).then_some("");
        let widened = later && self.has(Defect::CapabilitiesChange);
        let answers = self.answers.iter().fold(Capabilities::builder(), |answers, (capability, answer)| {
            let evidence = answer.evidence.clone();
            match &answer.why_not {
                Some(_) if widened && capability == Capability::NoCgroups => {
                    answers.yes(capability, evidence)
                }
                Some(why) if capability == Capability::NoCgroups => {
                    answers.no(capability, reasonless.unwrap_or(why).to_owned(), evidence)
                }
                Some(why) => answers.no(capability, why.clone(), evidence),
                None if self.has(Defect::UnsupportedSaysOk) && capability == Capability::DiskStats => {
                    answers.no(capability, "the model has no disks", evidence)
                }
                None => answers.yes(capability, evidence),
            }
        });
        answers.build()
    }
}

/// Why the model cannot do something; nothing for what it can.
fn why_never(capability: Capability) -> Option<&'static str> {
    match capability {
        Capability::KillCreated
        | Capability::KillPaused
        | Capability::KillRealTime
        | Capability::KillAll
        | Capability::Exec
        | Capability::ExecDescriptors
        | Capability::ExecSync
        | Capability::ExecSession
        | Capability::ExecTty
        | Capability::Attach
        | Capability::AttachResize
        | Capability::Pause
        | Capability::Update
        | Capability::Stats
        | Capability::PortForward
        | Capability::Events
        | Capability::DiskStats
        | Capability::Checkpoint
        | Capability::CheckpointLeaveRunning
        | Capability::Restore
        | Capability::Log
        | Capability::LogReopen
        | Capability::MonitorProbe
        | Capability::Reopen => None,
        Capability::ExecCgroup | Capability::NoCgroups | Capability::CgroupParent => {
            Some("the model has no cgroups")
        }
        Capability::Descriptors => Some("the model's programs have no descriptors but the standard ones"),
        Capability::Notify => Some("the model's programs cannot reach a socket"),
        Capability::JsonErrors => Some("there is no runtime binary that could report errors"),
        Capability::HostVisiblePid => Some("the model's processes exist in this program only"),
        Capability::KernelSeparated => Some("the model isolates nothing"),
        Capability::IdMappedMounts | Capability::RecursiveReadOnlyMounts => Some("the model mounts nothing"),
        Capability::GuestImagePull => Some("the model has no images"),
        _ => Some("the model's programs have no connections, locks or memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minimal_is_the_core_and_full_can_be_narrowed() {
        let minimal = Profile::minimal().unwrap();
        assert!(minimal.capabilities().iter().all(|(_, answer)| !answer.is_yes()));
        let less = Profile::full().unwrap().without(Capability::Log, "not here");
        assert!(!less.capabilities().has(Capability::LogReopen), "it implies the log");
        assert!(less.capabilities().has(Capability::Pause));
        for name in Profile::NAMES {
            assert_eq!(Profile::named(name).unwrap().unwrap().name(), *name);
        }
    }
}
