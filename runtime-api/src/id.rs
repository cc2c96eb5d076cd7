//! Parsed names: a value of one of these types has been checked once and needs no second look.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind};

/// The longest container, sandbox or exec id. Longer ones would not leave room for the files that carry them.
const ID_MAX: usize = 76;

/// Letters and digits, joined by single `.`, `_` or `-`.
fn check_id(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    if text.len() > ID_MAX {
        return Err(format!(
            "{what} {} is {} bytes long; at most {ID_MAX} are allowed",
            shown(text),
            text.len()
        ));
    }
    let mut after_letter = false;
    for byte in text.bytes() {
        let letter = byte.is_ascii_alphanumeric();
        if !(letter || after_letter && matches!(byte, b'.' | b'_' | b'-')) {
            return Err(id_shape(what, text));
        }
        after_letter = letter;
    }
    if after_letter { Ok(()) } else { Err(id_shape(what, text)) }
}

fn id_shape(what: &str, text: &str) -> String {
    format!("{what} {} must be letters and digits joined by single '.', '_' or '-'", shown(text))
}

fn check_handler(what: &str, text: &str) -> Result<(), String> {
    let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let goes_on_well = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if starts_well && goes_on_well && text.len() <= 128 {
        return Ok(());
    }
    if text.is_empty() {
        return Err(format!("{what} is empty"));
    }
    Err(format!(
        "{what} {} must start with a letter or digit, go on with letters, digits, '.', '_' or '-', and be at most 128 bytes long",
        shown(text)
    ))
}

fn check_kind(what: &str, text: &str) -> Result<(), String> {
    let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let goes_on_well = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if starts_well && goes_on_well && text.len() <= 32 {
        return Ok(());
    }
    Err(format!("{what} {} must be lower-case letters, digits and '-', at most 32 bytes", shown(text)))
}

/// Quotes text that came from outside, so that a newline or a 300-byte name cannot spoil a log line.
fn shown(text: &str) -> String {
    const LIMIT: usize = 40;
    if text.chars().count() <= LIMIT {
        format!("{text:?}")
    } else {
        let head: String = text.chars().take(LIMIT).collect();
        format!("{head:?}...")
    }
}

macro_rules! parsed_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and keeps it.
            ///
            /// # Errors
            /// [`ErrorKind::InvalidArgument`], which quotes the text and says which rule it breaks.
            pub fn new(text: impl Into<String>) -> crate::Result<Self> {
                let text = text.into();
                match $check($what, &text) {
                    Ok(()) => Ok(Self(text)),
                    Err(why) => Err(Error::new(ErrorKind::InvalidArgument(why))),
                }
            }

            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> crate::Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> crate::Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

parsed_name!(
    /// The id of a container: 1 to 76 letters and digits, joined by single `.`, `_` or `-`.
    ///
    /// The shape makes an id safe as one path component, one cgroup name and one argument of a command line.
    /// ```
    /// use runtime_api::ContainerId;
    /// assert!(ContainerId::new("web-1.a").is_ok());
    /// for bad in ["", "../x", "-v", "a..b", "a\n", "a/"] {
    ///     assert!(ContainerId::new(bad).is_err());
    /// }
    /// ```
    ContainerId,
    "container id",
    check_id
);

parsed_name!(
    /// The id of an exec session; the same shape as a [`ContainerId`].
    ExecId,
    "exec id",
    check_id
);

parsed_name!(
    /// The id of a sandbox (a pod); the same shape as a [`ContainerId`].
    SandboxId,
    "sandbox id",
    check_id
);

parsed_name!(
    /// The name of a runtime handler: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    HandlerName,
    "handler name",
    check_handler
);

parsed_name!(
    /// The kind of a backend, such as `oci`, `vm` or `fake`. Open: the registry decides which kinds exist.
    RuntimeKind,
    "runtime kind",
    check_kind
);

impl HandlerName {
    /// Whether a Kubernetes `RuntimeClass` could name this handler (a DNS label: lower case, digits, `-`, at most 63).
    #[must_use]
    pub fn fits_runtime_class(&self) -> bool {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        self.0.len() <= 63 && self.0.bytes().all(inner) && !self.0.starts_with('-') && !self.0.ends_with('-')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_written_rule() {
        for good in ["a", "A9", "a-b", "a.b_c-d", &"x".repeat(76)] {
            assert!(ContainerId::new(good).is_ok(), "{good:?}");
        }
        let long = "x".repeat(300);
        for bad in ["", ".", "..", "../x", "a/b", "a b", "a\n", "-a", "a-", "a--b", "é", "a\0", long.as_str()]
        {
            let error = ContainerId::new(bad).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{bad:?}");
            assert!(error.to_string().len() < 200, "the message stays short: {error}");
            assert!(!error.to_string().contains('\n'), "the message stays on one line: {error}");
        }
    }

    #[test]
    fn handler_names_allow_more_than_a_runtime_class() {
        let handler = HandlerName::new("Kata_qemu.v2").unwrap();
        assert!(!handler.fits_runtime_class());
        assert!(HandlerName::new("kata-qemu").unwrap().fits_runtime_class());
        assert!(HandlerName::new("a".repeat(129)).is_err());
        assert!(HandlerName::new("-x").is_err());
    }

    #[test]
    fn a_stored_id_is_checked_again_when_read() {
        assert!(serde_json::from_str::<ContainerId>("\"../x\"").is_err());
        assert_eq!(serde_json::from_str::<ContainerId>("\"x\"").unwrap().as_str(), "x");
    }
}
