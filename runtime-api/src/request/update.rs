//! The request of an update.

use oci_spec::runtime::LinuxResources;
use serde_json::Value;

use crate::{Error, ErrorKind, Result};

/// Asks for other resource limits. What is not given stays.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct UpdateRequest {
    /// The limits, as in an OCI `config.json`.
    pub resources: LinuxResources,
}

impl UpdateRequest {
    /// These limits.
    #[must_use]
    pub const fn new(resources: LinuxResources) -> Self {
        Self { resources }
    }

    /// Refuses a request that asks for nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`].
    pub fn check(&self) -> Result<()> {
        let asks = serde_json::to_value(&self.resources).is_ok_and(|value| !is_hollow(&value));
        if asks {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidArgument("an update without any limit changes nothing".into())))
    }
}

/// Whether a document holds nothing but empty objects and lists.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.values().all(is_hollow),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_asks_for_nothing_is_refused() {
        let request = |text: &str| UpdateRequest::new(serde_json::from_str(text).unwrap());
        for hollow in ["{}", r#"{"memory":{}}"#, r#"{"cpu":{},"hugepageLimits":[]}"#] {
            assert!(matches!(request(hollow).check().unwrap_err().kind(), ErrorKind::InvalidArgument(_)));
        }
        request(r#"{"memory":{"limit":-1}}"#).check().unwrap();
    }
}
