//! Takes away the capabilities that a handler's configuration disables.
//!
//! This layer only changes what is declared. The [guard](crate::guard) reads the declaration and refuses.

use runtime_api::{Capabilities, Capability, Evidence, EvidenceSource};

use crate::intercept::{Call, Interceptor, Rest};

/// The layer of `capabilities.disable`.
#[derive(Clone, Debug, Default)]
pub struct Narrow(Vec<(Capability, String)>);

impl Narrow {
    /// Takes these away; each comes with the place that says so.
    #[must_use]
    pub fn new(disabled: Vec<(Capability, String)>) -> Self {
        Self(disabled)
    }
}

impl Interceptor for Narrow {
    fn around<'a>(&'a self, _call: &'a Call<'a>, rest: Rest<'a>) -> Rest<'a> {
        rest
    }

    fn narrow(&self, inner: Capabilities) -> Capabilities {
        self.0.iter().fold(inner, |left, (capability, place)| {
            let evidence = Evidence::new(EvidenceSource::Configuration, place, "capabilities.disable");
            left.without(*capability, &format!("disabled by the configuration at {place}"), &evidence)
        })
    }
}
