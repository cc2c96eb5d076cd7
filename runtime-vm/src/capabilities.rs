//! From evidence to answers.

use runtime_api::{Capabilities, Capability, Evidence, EvidenceSource, Result};
use runtime_host::cgroup::Hierarchies;

use crate::config::VmConfig;

/// What the monitor, the Task service or this crate give, whichever the shim.
const BY_DESIGN: &[(Capability, &str)] = &[
    (Capability::KillAll, "the Task service's Kill has a flag for it"),
    (Capability::Attach, "the monitor serves a socket for each container"),
    (Capability::AttachResize, "the Task service has ResizePty"),
    (Capability::Pause, "the Task service has Pause and Resume"),
    (Capability::Update, "the Task service has Update"),
    (Capability::Stats, "the Task service has Stats"),
    (Capability::DiskStats, "the file system of the container's root is asked with statvfs"),
    (Capability::Events, "inotify sees the files by which containers begin and end"),
    (Capability::Log, "the monitor writes the log"),
    (Capability::LogReopen, "the monitor is asked through its control socket"),
    (Capability::MonitorProbe, "the monitor is found by its pid and start time"),
    (Capability::Reopen, "the monitor and the shim outlive this process, and every container has a record"),
    (Capability::CgroupParent, "the private copy of the bundle names the cgroup"),
];

/// What holds where the shim's containers are processes of the host.
const ON_THE_HOST: &[Capability] = &[
    Capability::KillCreated,
    Capability::KillPaused,
    Capability::KillRealTime,
    Capability::PortForward,
    Capability::HostVisiblePid,
];

/// What a handler can do.
pub(crate) fn answers(config: &VmConfig, _host: &Hierarchies) -> Result<Capabilities> {
    let mut builder = Capabilities::builder();
    for (capability, said) in BY_DESIGN {
        builder = builder.yes(*capability, Evidence::design(*said));
    }
    for capability in ON_THE_HOST {
        builder = if config.takes_runc_options() {
            builder.yes(*capability, Evidence::design("a runc shim runs plain processes of the host"))
        } else {
            let why = "the shim is not known to run plain processes of the host";
            builder.no(*capability, why, Evidence::design(why))
        };
    }
    let all = builder.build()?;
    Ok(config.disabled.iter().fold(all, |answers, (capability, place)| {
        let evidence = Evidence::new(EvidenceSource::Configuration, place.clone(), "capabilities.disable");
        answers.without(*capability, &format!("disabled by {place}"), &evidence)
    }))
}
