//! The list of clauses that a backend is known to break.

use runtime_api::{Error, ErrorKind, Result};
use serde::Deserialize;

use crate::clauses;

/// One clause that is known to fail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownFailure {
    /// The clause's id.
    pub clause: String,
    /// Why it fails.
    pub reason: String,
    /// Where it is reported, with a reproduction.
    pub link: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    known: Vec<KnownFailure>,
}

/// Reads a list of known failures.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`] for TOML that is broken or has unknown keys, for a clause that does not exist or is
/// listed twice, and for an empty reason or link.
pub fn parse(text: &str) -> Result<Vec<KnownFailure>> {
    let document: Document = toml::from_str(text).map_err(|error| invalid(&error.to_string()))?;
    for (index, failure) in document.known.iter().enumerate() {
        if clauses::find(&failure.clause).is_none() {
            return Err(invalid(&format!("there is no clause \"{}\"", failure.clause)));
        }
        if failure.reason.trim().is_empty() || failure.link.trim().is_empty() {
            return Err(invalid(&format!("clause \"{}\" needs a reason and a link", failure.clause)));
        }
        if document.known[..index].iter().any(|earlier| earlier.clause == failure.clause) {
            return Err(invalid(&format!("clause \"{}\" is listed twice", failure.clause)));
        }
    }
    Ok(document.known)
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::ConfigInvalid(why.trim().to_owned())).during_step("read the known failures")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let text = "[[known]]\nclause = \"start.runs-the-program\"\nreason = \"r\"\nlink = \"l\"\n";
        assert_eq!(parse(text).unwrap()[0].clause, "start.runs-the-program");
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_list_that_says_nothing_useful_is_refused() {
        let entry = |clause: &str, reason: &str| {
            format!("[[known]]\nclause = \"{clause}\"\nreason = \"{reason}\"\nlink = \"l\"\n")
        };
        let good = entry("start.runs-the-program", "r");
        for bad in [
            "known = 1".to_owned(),
            "[[known]]\nclaus = \"x\"".to_owned(),
            entry("no.such-clause", "r"),
            entry("start.runs-the-program", " "),
            format!("{good}{good}"),
        ] {
            let error = parse(&bad).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{bad}");
        }
    }
}
