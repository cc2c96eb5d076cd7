//! From evidence to answers.

use std::path::Path;

use runtime_api::{Capabilities, CapabilitiesBuilder, Capability, Evidence, EvidenceSource, Result};

use crate::config::VmConfig;
use crate::evidence::{Finding, Findings};

/// What the monitor, the host or this crate give, whichever the shim.
const BY_DESIGN: &[(Capability, &str)] = &[
    (Capability::Attach, "the monitor serves a socket for each container"),
    (Capability::DiskStats, "the file system of the container's root is asked with statvfs"),
    (Capability::Events, "inotify sees the files by which containers begin and end"),
    (Capability::Log, "the monitor writes the log"),
    (Capability::LogReopen, "the monitor is asked through its control socket"),
    (Capability::MonitorProbe, "the monitor is found by its pid and start time"),
    (Capability::Reopen, "the monitor and the shim outlive this process, and every container has a record"),
    (Capability::CgroupParent, "the private copy of the bundle names the cgroup"),
];

/// What needs methods of the Task service.
const BY_METHOD: &[(Capability, &[&str])] = &[
    (Capability::KillAll, &["Kill"]),
    (Capability::Exec, &["Exec"]),
    (Capability::ExecSync, &["Exec"]),
    (Capability::ExecTty, &["Exec", "ResizePty"]),
    (Capability::ExecSession, &["Exec"]),
    (Capability::AttachResize, &["ResizePty"]),
    (Capability::Pause, &["Pause", "Resume"]),
    (Capability::Update, &["Update"]),
    (Capability::Stats, &["Stats"]),
];

/// What holds where the containers of a shim are plain processes of the host.
const ON_THE_HOST: &[Capability] = &[
    Capability::KillCreated,
    Capability::KillPaused,
    Capability::KillRealTime,
    Capability::PortForward,
    Capability::HostVisiblePid,
];

/// What needs somebody who saves, besides the method.
const BY_SAVER: &[Capability] =
    &[Capability::Checkpoint, Capability::CheckpointLeaveRunning, Capability::Restore];

/// What the Task service has no way for.
const NO_WAY: &[(Capability, &str)] = &[
    (Capability::CheckpointPreDump, "the Task service has no way to copy memory beforehand"),
    (Capability::CheckpointTcpEstablished, NOT_RESTORED),
    (Capability::CheckpointFileLocks, NOT_RESTORED),
    (Capability::Descriptors, "the Task service hands on no open files"),
    (Capability::ExecDescriptors, "the Task service hands on no open files"),
    (Capability::Notify, "the Task service passes on no notify socket"),
];

const NOT_RESTORED: &str = "shims can be told to save it and cannot be told to restore it";

/// Faults of versions of shims, for which there is nothing that could be asked: the binary, its version, what it takes away,
/// and why.
const FAULTS: &[(&str, &str, Capability, &str)] = &[(
    "containerd-shim-runc-v2-rs",
    "0.2.0",
    Capability::ExecTty,
    "the shim loses the end of what a program has printed on its terminal when it ends",
)];

/// What a handler can do.
pub(crate) fn answers(config: &VmConfig, findings: &Findings) -> Result<Capabilities> {
    let mut builder = Capabilities::builder();
    for (capability, said) in BY_DESIGN {
        builder = builder.yes(*capability, Evidence::design(*said));
    }
    for (capability, why) in NO_WAY {
        builder = builder.no(*capability, *why, Evidence::design(*why));
    }
    for (capability, methods) in BY_METHOD {
        if findings.methods.is_empty() {
            // Taken away below, unless it is only the binary that is missing.
            let said = "the binary is missing; a shim that runs has the method or says that it has not";
            builder = builder.yes(*capability, Evidence::design(said));
            continue;
        }
        builder = by_method(builder, *capability, methods, findings);
    }
    for capability in BY_SAVER {
        builder = by_saver(builder, *capability, findings);
    }
    for capability in ON_THE_HOST {
        let name = config.shim.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
        let seen = |said: &str| Evidence::new(EvidenceSource::Version, name.clone(), said);
        builder = if config.takes_runc_options() {
            builder.yes(*capability, seen("a shim for runc, which runs plain processes of the host"))
        } else {
            let why = "the shim is not known to run plain processes of the host";
            builder.no(*capability, why, seen("a name that is in no table"))
        };
    }
    let mut all = builder.build()?;
    for (shim, version, capability, why) in FAULTS {
        let name = config.shim.as_deref().ok().and_then(Path::file_name);
        if name.is_some_and(|name| name == *shim) && findings.version.as_deref() == Some(version) {
            let evidence = Evidence::new(EvidenceSource::Version, format!("{shim} -v"), *version);
            all = all.without(*capability, why, &evidence);
        }
    }
    if let Some(why) = &findings.silent {
        // What is built on a shim is worth nothing without one.
        let evidence = Evidence::new(EvidenceSource::Probe, "the start of the shim", why.clone());
        let why = format!("the shim does not work: {why}");
        all = Capability::ALL.iter().fold(all, |answers, each| answers.without(*each, &why, &evidence));
    }
    Ok(config.disabled.iter().fold(all, |answers, (capability, place)| {
        let evidence = Evidence::new(EvidenceSource::Configuration, place.clone(), "capabilities.disable");
        answers.without(*capability, &format!("disabled by {place}"), &evidence)
    }))
}

/// An answer that rests on what the shim said about the methods that it takes.
fn by_method(
    builder: CapabilitiesBuilder,
    capability: Capability,
    methods: &[&str],
    findings: &Findings,
) -> CapabilitiesBuilder {
    let unasked = Finding::new(false, "", "nothing");
    let asked: Vec<&Finding> =
        methods.iter().map(|method| findings.methods.get(*method).unwrap_or(&unasked)).collect();
    let evidence =
        |finding: &Finding| Evidence::new(EvidenceSource::Probe, finding.asked.clone(), finding.said.clone());
    match asked.iter().find(|finding| !finding.yes) {
        Some(finding) => {
            let why = format!("the shim does not do it: {}", finding.said);
            builder.no(capability, why, evidence(finding))
        }
        None => {
            builder.yes(capability, asked.first().map_or_else(|| Evidence::design(""), |one| evidence(one)))
        }
    }
}

/// An answer that rests on who saves besides.
fn by_saver(
    builder: CapabilitiesBuilder,
    capability: Capability,
    findings: &Findings,
) -> CapabilitiesBuilder {
    let has_method = findings.methods.get("Checkpoint").is_some_and(|method| method.yes);
    match &findings.saver {
        Some(saver) if has_method => {
            let evidence = Evidence::new(EvidenceSource::Probe, saver.asked.clone(), saver.said.clone());
            if saver.yes {
                builder.yes(capability, evidence)
            } else {
                builder.no(capability, saver.said.clone(), evidence)
            }
        }
        _ => by_method(builder, capability, &["Checkpoint"], findings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::{HandlerConfig, HandlerName, Origin, RuntimeKind};

    fn config() -> VmConfig {
        let name = HandlerName::new("runc").unwrap();
        let kind = RuntimeKind::new("vm").unwrap();
        VmConfig::from_handler(&HandlerConfig::new(name, kind, Origin::other("a test"))).unwrap()
    }

    fn findings(without: &str) -> Findings {
        let methods = BY_METHOD.iter().flat_map(|(_, methods)| *methods).map(|method| {
            let yes = *method != without;
            ((*method).to_owned(), Finding::new(yes, format!("Task/{method}"), "no  such\ncontainer"))
        });
        Findings { methods: methods.collect(), ..Findings::default() }
    }

    #[test]
    fn a_method_that_the_shim_has_not_got_takes_its_capability_away() {
        let all = answers(&config(), &findings("")).unwrap();
        assert!(all.has(Capability::Pause) && all.has(Capability::Stats));
        let less = answers(&config(), &findings("Resume")).unwrap();
        assert!(!less.has(Capability::Pause) && less.has(Capability::Stats));
        let why = less.why_not(Capability::Pause).unwrap();
        assert_eq!(why, "the shim does not do it: no such container");
    }

    #[test]
    fn saving_takes_the_method_and_somebody_who_saves() {
        let saver = |yes: bool| Some(Finding::new(yes, "criu check", "criu is not on PATH"));
        let with = |method: bool, saver: Option<Finding>| {
            let mut findings = Findings { saver, ..findings("") };
            let said = if method { "no such container" } else { "Checkpoint is not supported" };
            let answer = Finding::new(method, "Task/Checkpoint", said);
            findings.methods.insert("Checkpoint".to_owned(), answer);
            answers(&config(), &findings).unwrap()
        };
        assert!(BY_SAVER.iter().all(|each| with(true, saver(true)).has(*each)));
        for (answers, why) in [
            (with(true, saver(false)), "criu is not on PATH"),
            (with(false, saver(true)), "the shim does not do it: Checkpoint is not supported"),
            (with(false, None), "the shim does not do it: Checkpoint is not supported"),
        ] {
            assert!(BY_SAVER.iter().all(|each| answers.why_not(*each) == Some(why)), "{why}");
        }
        assert!(with(true, saver(true)).why_not(Capability::CheckpointFileLocks).is_some());
    }

    #[test]
    fn a_shim_that_does_not_start_can_do_nothing() {
        let silent = Findings { silent: Some("it said nothing".to_owned()), ..findings("") };
        let none = answers(&config(), &silent).unwrap();
        assert!(none.iter().all(|(_, answer)| !answer.is_yes()));
        assert!(none.why_not(Capability::Log).unwrap().contains("it said nothing"));
    }
}
