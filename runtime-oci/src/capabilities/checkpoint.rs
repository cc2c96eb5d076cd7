//! Whether containers can be saved and restored.

use runtime_api::{CapabilitiesBuilder, Capability, Evidence, EvidenceSource};

use super::probe;
use crate::dialect::{Dialect, Saver};
use crate::evidence::{CheckpointFindings, Finding};

/// An answer: why not, if not, and on what evidence.
type Verdict = (Option<String>, Evidence);

pub(super) fn answers(
    mut builder: CapabilitiesBuilder,
    found: &CheckpointFindings,
    dialect: &Dialect,
) -> CapabilitiesBuilder {
    let checkpoint = verb("checkpoint", &found.checkpoint, found, dialect);
    let restore = verb("restore", &found.restore, found, dialect);
    let option = |name: &str| named_option(name, found, &checkpoint);
    let rows = [
        (Capability::CheckpointLeaveRunning, leave_running(dialect, option("leave-running"))),
        (Capability::CheckpointTcpEstablished, option("tcp-established")),
        (Capability::CheckpointFileLocks, option("file-locks")),
        (Capability::CheckpointPreDump, pre_dump(found, option("pre-dump"))),
        (Capability::Restore, restore),
        (Capability::Checkpoint, checkpoint.clone()),
    ];
    for (capability, (why_not, evidence)) in rows {
        builder = match why_not {
            None => builder.yes(capability, evidence),
            Some(why) => builder.no(capability, why, evidence),
        };
    }
    builder
}

/// A verb needs the runtime to know it, and what saves and restores to work.
fn verb(name: &str, known: &Finding, found: &CheckpointFindings, dialect: &Dialect) -> Verdict {
    if !known.yes {
        return (Some(format!("the runtime has no such verb: {}", known.said)), of(known));
    }
    match (dialect.saver, &found.saver) {
        (Some(Saver::Itself), _) => (None, of(known)),
        (Some(Saver::Criu), Some(criu)) if criu.yes => (None, of(criu)),
        (Some(Saver::Criu), Some(criu)) => (Some(criu.said.clone()), of(criu)),
        (Some(Saver::Criu), None) => (
            Some(format!("it has {name} without checkpoint, so nothing could be restored")),
            of(&found.checkpoint),
        ),
        (None, _) => {
            (Some("this program is not known to save containers by criu or by itself".to_owned()), of(known))
        }
    }
}

/// An option needs the verb to work, and to know it.
fn named_option(name: &str, found: &CheckpointFindings, checkpoint: &Verdict) -> Verdict {
    if checkpoint.0.is_some() {
        return checkpoint.clone();
    }
    let why = (!found.names(name)).then(|| format!("the runtime's checkpoint has no option --{name}"));
    (why, of(&found.checkpoint))
}

fn leave_running(dialect: &Dialect, option: Verdict) -> Verdict {
    match (dialect.saver, option) {
        (Some(Saver::Itself), (None, _)) => (
            Some(
                "the runtime ends the container and continues it below its own command, where no monitor sees it"
                    .to_owned(),
            ),
            Evidence::new(EvidenceSource::Version, "--version", format!("the table for {:?}", dialect.name)),
        ),
        (_, option) => option,
    }
}

/// It is of use only with the kernel's help, and when a later checkpoint can build on it.
fn pre_dump(found: &CheckpointFindings, option: Verdict) -> Verdict {
    if option.0.is_some() {
        return option;
    }
    if !found.names("parent-path") {
        let why = "the runtime's checkpoint has no option --parent-path, so nothing could build on it";
        return (Some(why.to_owned()), of(&found.checkpoint));
    }
    match &found.pre_dump {
        Some(tracked) if !tracked.yes => {
            (Some(format!("the kernel does not track changes of memory: {}", tracked.said)), of(tracked))
        }
        Some(tracked) => (None, of(tracked)),
        None => {
            (Some("nobody could be asked whether memory can be tracked".to_owned()), of(&found.checkpoint))
        }
    }
}

fn of(finding: &Finding) -> Evidence {
    probe(&finding.asked, &finding.said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::Capabilities;

    fn finding(yes: bool, said: &str) -> Finding {
        Finding::new(yes, "asked".into(), said)
    }

    fn all() -> CheckpointFindings {
        let options =
            ["image-path", "leave-running", "tcp-established", "file-locks", "pre-dump", "parent-path"];
        CheckpointFindings {
            checkpoint: finding(true, "it takes much"),
            options: options.map(str::to_owned).to_vec(),
            restore: finding(true, "it takes much"),
            saver: Some(finding(true, "criu 4 looks good")),
            pre_dump: Some(finding(true, "exit code 0")),
        }
    }

    fn given(found: &CheckpointFindings, name: &str) -> Capabilities {
        answers(Capabilities::builder(), found, Dialect::of(name)).build().unwrap()
    }

    #[test]
    fn everything_is_there_when_criu_works() {
        let given = given(&all(), "runc");
        let wanted = |each: &Capability| each.id().starts_with("checkpoint") || *each == Capability::Restore;
        assert!(Capability::ALL.iter().filter(|each| wanted(each)).all(|each| given.has(*each)));
    }

    #[test]
    fn without_criu_there_is_nothing_and_the_reason_is_criu() {
        let found = CheckpointFindings { saver: Some(finding(false, "criu is not on PATH")), ..all() };
        let given = given(&found, "runc");
        for each in [Capability::Checkpoint, Capability::Restore, Capability::CheckpointFileLocks] {
            assert_eq!(given.why_not(each), Some("criu is not on PATH"));
        }
    }

    #[test]
    fn a_verb_or_an_option_that_is_missing_is_named() {
        let found = CheckpointFindings { restore: finding(false, "unknown command restore"), ..all() };
        let without = given(&found, "runc");
        assert!(without.why_not(Capability::Restore).unwrap().contains("unknown command restore"));
        assert!(without.has(Capability::Checkpoint));
        let found = CheckpointFindings { options: vec!["image-path".into()], ..all() };
        assert!(
            given(&found, "runc").why_not(Capability::CheckpointFileLocks).unwrap().contains("--file-locks")
        );
        let found = CheckpointFindings { pre_dump: Some(finding(false, "tracking is OFF")), ..all() };
        assert!(
            given(&found, "runc").why_not(Capability::CheckpointPreDump).unwrap().contains("tracking is OFF")
        );
    }
}
