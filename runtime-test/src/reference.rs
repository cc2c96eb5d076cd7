//! Names for runtimes on a command line: `KIND[:NAME][@VARIANT]`.

use std::fmt;
use std::str::FromStr;

use runtime_api::{Error, ErrorKind, Result, RuntimeKind};

/// Which runtime is meant: `fake`, `fake:minimal`, `oci:crun`, `oci:/usr/bin/crun`, `vm:runc@crun`.
///
/// ```
/// use runtime_test::RuntimeRef;
/// let reference: RuntimeRef = "vm:runc@crun".parse()?;
/// assert_eq!((reference.kind().as_str(), reference.name()), ("vm", Some("runc")));
/// assert_eq!(reference.variant(), Some("crun"));
/// assert_eq!(reference.to_string(), "vm:runc@crun");
/// # Ok::<(), runtime_api::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeRef {
    kind: RuntimeKind,
    name: Option<String>,
    variant: Option<String>,
}

impl RuntimeRef {
    /// The kind of backend.
    #[must_use]
    pub const fn kind(&self) -> &RuntimeKind {
        &self.kind
    }

    /// What follows the colon: a profile, a binary's name or its path.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What follows the last `@`.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }
}

impl FromStr for RuntimeRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (rest, variant) = match text.rsplit_once('@') {
            Some((rest, variant)) => (rest, Some(variant)),
            None => (text, None),
        };
        let (kind, name) = match rest.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (rest, None),
        };
        if name == Some("") || variant == Some("") {
            return Err(invalid(text, "a part after ':' or '@' is empty"));
        }
        let kind = RuntimeKind::new(kind).map_err(|error| invalid(text, &error.kind().to_string()))?;
        Ok(Self { kind, name: name.map(str::to_owned), variant: variant.map(str::to_owned) })
    }
}

impl fmt::Display for RuntimeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(name) = &self.name {
            write!(f, ":{name}")?;
        }
        if let Some(variant) = &self.variant {
            write!(f, "@{variant}")?;
        }
        Ok(())
    }
}

fn invalid(text: &str, why: &str) -> Error {
    let shown: String = text.chars().take(60).collect();
    Error::new(ErrorKind::InvalidArgument(format!(
        "runtime {shown:?} is not of the form KIND[:NAME][@VARIANT]: {why}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_back_as_written() {
        for text in ["fake", "fake:minimal", "oci:/usr/bin/crun", "vm@v3", "vm:runc@crun"] {
            assert_eq!(text.parse::<RuntimeRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_malformed_reference_is_refused_with_its_text() {
        for text in ["", ":x", "oci:", "oci:crun@", "OCI:crun", "a b"] {
            let error = text.parse::<RuntimeRef>().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{text:?}");
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
