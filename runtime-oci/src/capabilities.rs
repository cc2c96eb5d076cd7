//! From evidence to answers. Nothing here looks at the name of a binary.

mod checkpoint;

use serde_json::Value;

use runtime_api::{Capabilities, CapabilitiesBuilder, Capability, Evidence, EvidenceSource, Result};
use runtime_host::cgroup::Hierarchies;

use crate::config::OciConfig;
use crate::dialect::{Dialect, Reach};
use crate::evidence::{Finding, Findings};
use crate::exec::affinity;

/// What a handler can do.
pub(crate) fn answers(
    config: &OciConfig,
    findings: &Findings,
    dialect: &Dialect,
    host: &Hierarchies,
) -> Result<Capabilities> {
    let mut builder = Capabilities::builder();
    for (capability, said) in BY_DESIGN {
        builder = builder.yes(*capability, Evidence::design(*said));
    }
    for capability in NOT_YET {
        builder =
            builder.no(*capability, "runtime-oci does not implement it", Evidence::design("not implemented"));
    }
    builder = from_reach(builder, findings, dialect, host);
    builder = if findings.own_kernel.yes {
        builder.yes(Capability::KernelSeparated, probe(&findings.own_kernel.asked, &findings.own_kernel.said))
    } else {
        let why = "the runtime does not say that it brings a kernel";
        builder.no(
            Capability::KernelSeparated,
            why,
            probe(&findings.own_kernel.asked, &findings.own_kernel.said),
        )
    };
    builder = placed(builder, config, dialect, host);
    builder = with_sessions(builder, dialect);
    let from_probe = |finding: &Finding| probe(&finding.asked, &finding.said);
    for (capability, finding) in [
        (Capability::JsonErrors, &findings.json_errors),
        (Capability::NoCgroups, &findings.no_cgroups),
        (Capability::Update, &findings.update),
        (Capability::Descriptors, &findings.preserve_fds),
        (Capability::ExecTty, &findings.exec_console),
        (Capability::ExecDescriptors, &findings.exec_descriptors),
    ] {
        builder = if finding.yes {
            builder.yes(capability, from_probe(finding))
        } else {
            builder.no(capability, format!("the runtime refuses it: {}", finding.said), from_probe(finding))
        };
    }
    builder = from_features(builder, findings);
    builder = counted(builder, host);
    builder = reached(builder, dialect);
    builder = checkpoint::answers(builder, &findings.checkpoint, dialect);
    let mut all = builder.build()?;
    let claim = &findings.is_runtime;
    if !claim.yes && !claim.asked.is_empty() {
        // What is built on a runtime is worth nothing without one.
        let why = format!("this is no OCI runtime: {}: {}", claim.asked, claim.said);
        let evidence = probe(&claim.asked, &claim.said);
        all = Capability::ALL.iter().fold(all, |answers, each| answers.without(*each, &why, &evidence));
    }
    if config.execs_begin_on_first_cpu {
        all = on_first_cpu(all, findings);
    }
    Ok(config.disabled.iter().fold(all, |answers, (capability, place)| {
        let evidence = Evidence::new(EvidenceSource::Configuration, place.clone(), "capabilities.disable");
        answers.without(*capability, &format!("disabled by {place}"), &evidence)
    }))
}

/// An exec that begins where it should not is worse than none: somebody keeps a CPU free of it.
fn on_first_cpu(all: Capabilities, findings: &Findings) -> Capabilities {
    let Err(why) = affinity::is_heeded(findings.features.as_ref()) else { return all };
    let why = format!("the handler says exec_cpu_affinity, and {why}");
    let (asked, said) = (findings.features_asked.asked.clone(), findings.features_asked.said.clone());
    let evidence = Evidence::new(EvidenceSource::Features, asked, said);
    let execs = [Capability::Exec, Capability::ExecSync, Capability::ExecSession];
    execs.into_iter().fold(all, |answers, each| answers.without(each, &why, &evidence))
}

/// conmon knows the end of a process of the host: of the program, or of what waits for it in a sandbox.
fn with_sessions(builder: CapabilitiesBuilder, dialect: &Dialect) -> CapabilitiesBuilder {
    let said = match (dialect.reach, dialect.is_known()) {
        (Reach::Host, true) => "conmon runs the program, which is signalled by its pid on the host",
        (Reach::Runtime, _) => {
            "conmon runs what waits for the program, which the runtime signals by its pid inside"
        }
        (Reach::Host, false) => return builder.no(Capability::ExecSession, NOT_MET, unknown()),
    };
    builder.yes(Capability::ExecSession, Evidence::design(said))
}

/// A yes for programs that are known to run plain processes of the host. `sandboxed` is why not elsewhere.
fn on_the_host(
    builder: CapabilitiesBuilder,
    dialect: &Dialect,
    capability: Capability,
    evidence: Evidence,
    sandboxed: &'static str,
) -> CapabilitiesBuilder {
    match (dialect.reach, dialect.is_known()) {
        (Reach::Host, true) => builder.yes(capability, evidence),
        (Reach::Host, false) => builder.no(capability, NOT_MET, unknown()),
        (Reach::Runtime, _) => builder.no(capability, sandboxed, evidence),
    }
}

/// Why a program without a table gets no yes that rests on how its containers run.
const NOT_MET: &str = "this program is not known to run plain processes of the host";

fn unknown() -> Evidence {
    Evidence::new(EvidenceSource::Version, "--version", "a name that is in no table")
}

/// What conmon, the kernel or this crate give, whichever the runtime.
const BY_DESIGN: &[(Capability, &str)] = &[
    (Capability::Exec, "the runtime's exec is run with pipes"),
    (Capability::ExecSync, "the runtime's exec is run with pipes"),
    (Capability::Attach, "conmon serves a socket for each container"),
    (Capability::AttachResize, "conmon takes sizes through its control fifo"),
    (Capability::DiskStats, "the file system of the container's root is asked with statvfs"),
    (Capability::Events, "inotify sees the files by which containers begin and end"),
    (Capability::Log, "conmon writes the log"),
    (Capability::LogReopen, "conmon is asked through its control fifo"),
    (Capability::MonitorProbe, "conmon is found by its pid and start time"),
    (Capability::Reopen, "conmon outlives this process, and every container has a record"),
];

/// What is in the contract and not yet in this backend.
const NOT_YET: &[Capability] = &[Capability::ExecCgroup];

/// Whether the network inside of containers can be entered.
fn reached(builder: CapabilitiesBuilder, dialect: &Dialect) -> CapabilitiesBuilder {
    if dialect.reach == Reach::Runtime {
        return builder.no(
            Capability::PortForward,
            "what listens in a container does so in a network stack that the host cannot enter",
            Evidence::new(
                EvidenceSource::Version,
                "--version",
                "its containers are no plain processes of the host",
            ),
        );
    }
    let user = rustix::process::geteuid();
    if dialect.is_known() && !user.is_root() {
        let why = "only root may enter the network of a container";
        return builder.no(
            Capability::PortForward,
            why,
            probe("the effective user", &format!("id {}", user.as_raw())),
        );
    }
    let made = Evidence::design("connections are made in the network namespace of the init");
    on_the_host(builder, dialect, Capability::PortForward, made, "")
}

/// Whether the host counts what containers use.
fn counted(builder: CapabilitiesBuilder, host: &Hierarchies) -> CapabilitiesBuilder {
    let mounts = "/proc/self/mountinfo";
    let missing: Vec<_> =
        ["cpuacct", "memory"].into_iter().filter(|name| host.place(name, "/").is_none()).collect();
    if missing.is_empty() {
        return builder.yes(
            Capability::Stats,
            probe(mounts, "cgroups that count processor time and memory are mounted"),
        );
    }
    builder.no(
        Capability::Stats,
        format!("no cgroup hierarchy counts {}", missing.join(" and ")),
        probe(mounts, "no cgroup v2, and a controller of version 1 is missing"),
    )
}

/// What a create may ask for besides the bundle.
fn placed(
    builder: CapabilitiesBuilder,
    config: &OciConfig,
    dialect: &Dialect,
    host: &Hierarchies,
) -> CapabilitiesBuilder {
    let builder = if config.systemd_cgroup || host.freezer_file().is_some() {
        builder.yes(
            Capability::CgroupParent,
            Evidence::design("the cgroup stands in the spec that the runtime gets"),
        )
    } else {
        let nothing = probe("/proc/self/mountinfo", "no cgroup hierarchy");
        builder.no(Capability::CgroupParent, "no cgroup hierarchy is mounted", nothing)
    };
    let evidence =
        Evidence::design("conmon passes on what comes to a socket that is mounted into the container");
    on_the_host(
        builder,
        dialect,
        Capability::Notify,
        evidence,
        "its programs cannot reach a socket of the host",
    )
}

/// What depends on whether the host sees what runs in a container.
fn from_reach(
    builder: CapabilitiesBuilder,
    findings: &Findings,
    dialect: &Dialect,
    host: &Hierarchies,
) -> CapabilitiesBuilder {
    let version = findings.version.as_deref().unwrap_or("unknown");
    let name = if dialect.is_known() { dialect.name } else { "unknown programs" };
    let table = |said: &str| {
        let asked = format!("--version: {} {version}", findings.name.as_deref().unwrap_or("no name"));
        Evidence::new(EvidenceSource::Version, asked, format!("the table for {name}: {said}"))
    };
    let builder = match (dialect.reach, dialect.is_known()) {
        (Reach::Host, true) => builder.yes(Capability::HostVisiblePid, table("plain processes of the host")),
        (Reach::Host, false) => builder.no(Capability::HostVisiblePid, NOT_MET, table("nothing is known")),
        (Reach::Runtime, _) => builder.no(
            Capability::HostVisiblePid,
            "the pid is that of the sandbox",
            table("processes live in a sandbox"),
        ),
    };
    match (dialect.reach, dialect.is_known()) {
        (Reach::Host, true) => through_the_kernel(builder, host),
        (Reach::Host, false) => BY_THE_HOST
            .iter()
            .fold(builder, |builder, each| builder.no(*each, NOT_MET, table("nothing is known"))),
        (Reach::Runtime, _) => through_the_runtime(builder, dialect, table),
    }
}

/// What needs to know where the processes of a container are.
const BY_THE_HOST: &[Capability] = &[
    Capability::KillCreated,
    Capability::KillRealTime,
    Capability::KillAll,
    Capability::KillPaused,
    Capability::Pause,
];

/// Signals and freezing for processes of the host.
fn through_the_kernel(builder: CapabilitiesBuilder, host: &Hierarchies) -> CapabilitiesBuilder {
    let created = "signals go to the init through a pid file descriptor, in every state";
    let builder = builder
        .yes(Capability::KillCreated, Evidence::design(created))
        .yes(Capability::KillRealTime, Evidence::design("pid file descriptors take every signal"))
        .yes(Capability::KillAll, Evidence::design("signals go to every process of the container's cgroup"));
    let frozen = Evidence::design("signals to frozen processes stay pending in the kernel");
    match host.freezer_file() {
        Some(file) => builder
            .yes(Capability::KillPaused, frozen)
            .yes(Capability::Pause, probe(MOUNTS, &format!("cgroups with {file} are mounted"))),
        None => builder.no(Capability::KillPaused, "nothing can be paused", frozen).no(
            Capability::Pause,
            "no cgroup hierarchy with a freezer is mounted",
            probe(MOUNTS, "neither a freezer hierarchy nor cgroup v2"),
        ),
    }
}

const MOUNTS: &str = "/proc/self/mountinfo";

/// Signals and freezing where only the runtime reaches the processes.
fn through_the_runtime(
    builder: CapabilitiesBuilder,
    dialect: &Dialect,
    table: impl Fn(&str) -> Evidence,
) -> CapabilitiesBuilder {
    let last = format!("its kill takes signals up to {}", dialect.last_signal);
    let rows = [
        (Capability::KillCreated, dialect.kills_created, "its kill refuses a created container"),
        (Capability::KillPaused, dialect.kills_paused, "its kill refuses a paused container"),
        (Capability::KillRealTime, dialect.last_signal >= 64, last.as_str()),
    ];
    let builder = builder
        .yes(Capability::Pause, table("its pause needs no freezer of the host"))
        .yes(Capability::KillAll, table("its kill has --all"));
    rows.into_iter().fold(builder, |builder, (capability, yes, said)| {
        if yes {
            builder.yes(capability, table("its kill takes it"))
        } else {
            builder.no(capability, format!("the runtime cannot: {said}"), table(said))
        }
    })
}

fn from_features(builder: CapabilitiesBuilder, findings: &Findings) -> CapabilitiesBuilder {
    let asked = &findings.features_asked.asked;
    let Some(document) = &findings.features else {
        let why = format!("the runtime has no features document: {}", findings.features_asked.said);
        let evidence =
            || Evidence::new(EvidenceSource::Features, asked.clone(), findings.features_asked.said.clone());
        return [Capability::IdMappedMounts, Capability::RecursiveReadOnlyMounts]
            .into_iter()
            .fold(builder, |builder, each| builder.no(each, why.clone(), evidence()));
    };
    let rro = document
        .get("mountOptions")
        .and_then(Value::as_array)
        .is_some_and(|options| options.iter().any(|option| option == "rro"));
    let id_mapped =
        document.pointer("/linux/mountExtensions/idmap/enabled").and_then(Value::as_bool).unwrap_or(false);
    let rows = [
        (Capability::IdMappedMounts, id_mapped, "linux.mountExtensions.idmap.enabled"),
        (Capability::RecursiveReadOnlyMounts, rro, "rro in mountOptions"),
    ];
    rows.into_iter().fold(builder, |builder, (capability, yes, key)| {
        let evidence = Evidence::new(EvidenceSource::Features, asked.clone(), format!("{key}: {yes}"));
        if yes {
            builder.yes(capability, evidence)
        } else {
            builder.no(capability, format!("its features document does not say {key}"), evidence)
        }
    })
}

fn probe(asked: &str, said: &str) -> Evidence {
    Evidence::new(EvidenceSource::Probe, asked, said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    async fn of(name: &str) -> Capabilities {
        let at = tempfile::tempdir().unwrap();
        let handler = runtime_api::HandlerConfig::new(
            runtime_api::HandlerName::new("x").unwrap(),
            runtime_api::RuntimeKind::new("oci").unwrap(),
            runtime_api::Origin::other("test"),
        );
        let config = OciConfig::from_handler(&handler).unwrap();
        let findings = crate::evidence::gather(&Layout::new(at.path()), &config, None, None, "b").await;
        answers(&config, &findings, Dialect::of(name), &Hierarchies::of_host()).unwrap()
    }

    #[tokio::test]
    async fn a_program_that_nobody_knows_gets_no_yes_for_where_its_processes_are() {
        let (known, unknown) = (of("runc").await, of("something-new").await);
        let more = [
            Capability::ExecSession,
            Capability::HostVisiblePid,
            Capability::Notify,
            Capability::PortForward,
        ];
        for each in BY_THE_HOST.iter().chain(&more) {
            assert_eq!(unknown.why_not(*each), Some(NOT_MET), "{each:?}");
            assert_ne!(known.why_not(*each), Some(NOT_MET), "{each:?}");
        }
        assert!(known.has(Capability::KillAll) && known.has(Capability::ExecSession));
    }
}
