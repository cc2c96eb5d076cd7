//! How a clause says what it found.

use std::fmt;

use runtime_api::Error;

/// The outcome of a check: nothing to say, or what was found instead.
pub type Checked<T = ()> = Result<T, Violation>;

/// What was found instead of what the clause promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    /// This was found.
    pub fn new(found: impl Into<String>) -> Self {
        Self(found.into())
    }

    /// An operation of the host failed while the clause was being prepared or observed.
    pub fn host(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self(format!("{what}: {error}"))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An operation that must succeed and did not. The error names the operation and the container by itself.
impl From<Error> for Violation {
    fn from(error: Error) -> Self {
        Self(format!("must succeed: {}", error.report()))
    }
}

/// Breaks the clause with a formatted message unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        if !$holds {
            return Err($crate::Violation::new(format!($($message)+)));
        }
    };
}

/// Breaks the clause unless both values are equal; shows what was found and what was expected.
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($message:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if *found != *expected {
                    return Err($crate::Violation::new(format!(
                        "{}: expected {expected:?}, found {found:?}",
                        format_args!($($message)+)
                    )));
                }
            }
        }
    };
}

/// Breaks the clause unless the result is an error of the kind that the pattern describes; gives the error.
macro_rules! refused {
    ($result:expr, $kind:pat $(if $guard:expr)?, $($message:tt)+) => {
        match $result {
            Err(error) if matches!(error.kind(), $kind $(if $guard)?) => error,
            Err(error) => {
                return Err($crate::Violation::new(format!(
                    "{}: must be refused with {}, and was with: {}",
                    format_args!($($message)+),
                    stringify!($kind),
                    error.report()
                )));
            }
            Ok(outcome) => {
                return Err($crate::Violation::new(format!(
                    "{}: must be refused with {}, and succeeded: {outcome:?}",
                    format_args!($($message)+),
                    stringify!($kind),
                )));
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq, refused};

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::{ErrorKind, Operation, Result};

    fn refusal(result: Result<u8>) -> Checked {
        refused!(result, ErrorKind::NotFound, "state of {}", "a");
        Ok(())
    }

    #[test]
    fn only_the_named_kind_will_do() {
        refusal(Err(Error::not_found(Operation::State, "a"))).unwrap();
        let other = refusal(Err(Error::new(ErrorKind::AlreadyExists))).unwrap_err();
        assert_eq!(
            other.to_string(),
            "state of a: must be refused with ErrorKind::NotFound, and was with: already exists"
        );
        let none = refusal(Ok(7)).unwrap_err();
        assert!(none.to_string().ends_with("and succeeded: 7"), "{none}");
    }

    #[test]
    fn a_difference_is_shown_from_both_sides() {
        let check = || -> Checked {
            ensure!(true, "never said");
            ensure_eq!(1 + 1, 3, "the sum of {}", "two ones");
            Ok(())
        };
        assert_eq!(check().unwrap_err().to_string(), "the sum of two ones: expected 3, found 2");
    }
}
