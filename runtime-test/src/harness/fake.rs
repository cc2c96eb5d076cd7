//! The harness of the fake runtime.

use std::sync::Arc;

use async_trait::async_trait;
use runtime_api::{Error, ErrorKind, Result, SharedRuntime};

use super::Harness;
use crate::fake::{self, FakeRuntime, Profile};
use crate::{Defect, Scratch};

/// Runs the clauses over the fake runtime, on virtual time.
#[derive(Clone, Debug)]
pub struct FakeHarness {
    profile: &'static str,
    defect: Option<Defect>,
}

impl FakeHarness {
    /// `fake`: everything that the model can do.
    #[must_use]
    pub const fn full() -> Self {
        Self { profile: "full", defect: None }
    }

    /// `fake:minimal`: the core that every runtime has, and nothing else.
    #[must_use]
    pub const fn minimal() -> Self {
        Self { profile: "minimal", defect: None }
    }

    /// The harness of a profile's name; without a name, the full one.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is no profile, with those that are.
    pub fn named(name: Option<&str>) -> Result<Self> {
        match name {
            None | Some("full") => Ok(Self::full()),
            Some("minimal") => Ok(Self::minimal()),
            Some(other) => Err(Error::new(ErrorKind::InvalidArgument(format!(
                "the fake has no profile {other:?}; it has {}",
                Profile::NAMES.join(" and ")
            )))),
        }
    }

    /// A fake that breaks the contract in one named way.
    #[must_use]
    pub const fn with_defect(mut self, defect: Defect) -> Self {
        self.defect = Some(defect);
        self
    }
}

#[async_trait]
impl Harness for FakeHarness {
    fn reference(&self) -> String {
        match self.profile {
            "full" => "fake".to_owned(),
            other => format!("fake:{other}"),
        }
    }

    async fn open(&self, at: &Scratch) -> Result<SharedRuntime> {
        let profile = if self.profile == "minimal" { Profile::minimal()? } else { Profile::full()? };
        let profile = match self.defect {
            Some(defect) => profile.with_defect(defect),
            None => profile,
        };
        Ok(Arc::new(FakeRuntime::open(&at.state_dir(), profile).await?))
    }

    fn virtual_time(&self) -> bool {
        true
    }

    fn leftovers(&self, at: &Scratch) -> Vec<String> {
        fake::leftovers(&at.state_dir())
    }
}
