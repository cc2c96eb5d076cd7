//! `manyrun conformance`: the suite of `runtime-test`, over every backend of this program.

use std::process::ExitCode;

use runtime_api::{Error, ErrorKind, Result};
use runtime_test::cli::{self, ConformanceCommand};
use runtime_test::{FakeHarness, Harness, RuntimeRef};

use crate::harness;

pub(crate) fn main(command: &ConformanceCommand) -> ExitCode {
    cli::run(command, &resolve)
}

fn resolve(text: &str) -> Result<Box<dyn Harness>> {
    let reference: RuntimeRef = text.parse()?;
    match (reference.kind().as_str(), reference.name(), reference.variant()) {
        ("fake", profile, None) => {
            let harness = FakeHarness::named(profile).map_err(|error| place(error, text))?;
            Ok(Box::new(harness))
        }
        ("oci", ..) => Ok(Box::new(harness::oci(&reference)?)),
        ("vm", Some(_), _) => Ok(Box::new(harness::vm(&reference)?)),
        ("vm", None, _) => Err(refusal(
            text,
            ErrorKind::Unavailable(
                "this version has no shim of its own; name one, such as vm:runc".to_owned(),
            ),
        )),
        _ => Err(refusal(
            text,
            ErrorKind::InvalidArgument(
                "known are fake, fake:minimal, oci:NAME, oci:PATH, vm:SHIM and vm:SHIM@RUNTIME".to_owned(),
            ),
        )),
    }
}

fn refusal(text: &str, kind: ErrorKind) -> Error {
    place(Error::new(kind), text)
}

fn place(error: Error, text: &str) -> Error {
    error.during_step("open").on(format_args!("runtime {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_open_the_harness_they_name() {
        for text in ["fake", "fake:minimal", "oci:crun", "vm:runc", "vm:runc@crun"] {
            assert_eq!(resolve(text).unwrap().reference(), text);
        }
        for (text, unavailable) in [("vm", true), ("fake:big", false), ("jail", false)] {
            let Err(error) = resolve(text) else { panic!("{text} was accepted") };
            assert_eq!(matches!(error.kind(), ErrorKind::Unavailable(_)), unavailable, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
