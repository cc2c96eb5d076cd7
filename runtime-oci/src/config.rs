//! What this backend takes from a handler's configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use runtime_api::{Capability, Error, ErrorKind, HandlerConfig, HandlerName, Operation, Result};
use runtime_host::spec::is_plain_cgroup;

/// The options that only this backend understands: the handler's table `options`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    systemd_cgroup: bool,
    no_pivot: bool,
    no_new_keyring: bool,
}

/// A host OCI runtime as it is to be used.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct OciConfig {
    /// The handler's name.
    pub handler: HandlerName,
    /// Candidates for the runtime's binary; a bare name is looked up on `PATH`.
    pub binaries: Vec<PathBuf>,
    /// Binaries for images of other platforms, by `os/architecture` or `os/architecture/variant`.
    pub platform_paths: BTreeMap<String, PathBuf>,
    /// Arguments before the verb.
    pub args: Vec<String>,
    /// The runtime's own `--root`; below the state directory unless given.
    pub root: Option<PathBuf>,
    /// The monitor's binary; a bare name is looked up on `PATH`.
    pub monitor: PathBuf,
    /// Where the monitor gets a cgroup of its own.
    pub monitor_cgroup: MonitorCgroup,
    /// The monitor of an exec session goes to the cgroup of its container.
    pub sessions_monitored_inside: bool,
    /// An exec begins on the first of the CPUs that its container's spec gives it. Without a runtime that is believed to heed
    /// that, there are no execs.
    pub execs_begin_on_first_cpu: bool,
    /// `KEY=value` pairs for monitor and runtime.
    pub env: Vec<(String, String)>,
    /// The log is not synced to disk at the end.
    pub no_sync_log: bool,
    /// Cgroups are made by systemd.
    pub systemd_cgroup: bool,
    /// The root is changed without `pivot_root`, as a root on a ramdisk needs.
    pub no_pivot: bool,
    /// No new session keyring.
    pub no_new_keyring: bool,
    /// How long a create may take.
    pub create_timeout: Duration,
    /// How long a start may take.
    pub start_timeout: Duration,
    /// How long an exec may take to begin.
    pub exec_timeout: Duration,
    /// How long a container may live after KILL before a stop gives up.
    pub kill_timeout: Duration,
    /// Capabilities that are taken away, each with the place that says so.
    pub disabled: Vec<(Capability, String)>,
}

impl OciConfig {
    /// Reads a handler, its options strictly.
    ///
    /// # Errors
    /// `ConfigInvalid`, which names the key and where it was written.
    pub fn from_handler(config: &HandlerConfig) -> Result<Self> {
        let invalid = |what: String| {
            Error::new(ErrorKind::ConfigInvalid(what))
                .during_step("read handler")
                .on(format_args!("\"{}\" ({})", config.name, config.origin))
        };
        let options: Options = serde_json::from_value(serde_json::Value::Object(config.options.clone()))
            .map_err(|error| invalid(format!("options: {error}")))?;
        if let Some((key, why)) = unheeded(config) {
            return Err(invalid(format!(
                "{key} has no effect for the kind oci, so it is not accepted: {why}"
            )));
        }
        let monitor_cgroup = MonitorCgroup::parse(config.monitor.cgroup.as_deref(), options.systemd_cgroup)
            .map_err(|why| invalid(format!("monitor.cgroup: {why}")))?;
        let sessions_monitored_inside = match config.monitor.exec_cgroup.as_deref() {
            None | Some("") => false,
            Some("container") => true,
            Some(other) => {
                return Err(invalid(format!("monitor.exec_cgroup: {other:?} is not \"container\"")));
            }
        };
        let execs_begin_on_first_cpu = match config.exec_cpu_affinity.as_deref() {
            None | Some("") => false,
            Some("first") => true,
            Some(other) => return Err(invalid(format!("exec_cpu_affinity: {other:?} is not \"first\""))),
        };
        let mut env = Vec::new();
        for pair in &config.monitor.env {
            let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                return Err(invalid(format!("monitor.env: {pair:?} is not KEY=value")));
            };
            env.push((name.to_owned(), value.to_owned()));
        }
        let binaries = if config.paths.is_empty() {
            vec![PathBuf::from(config.name.as_str())]
        } else {
            config.paths.clone()
        };
        let default = |op: Operation| op.row().deadline.unwrap_or(Duration::from_secs(240));
        Ok(Self {
            handler: config.name.clone(),
            binaries,
            platform_paths: config.platform_paths.clone(),
            args: config.args.clone(),
            root: config.root.clone(),
            monitor: config.monitor.path.clone().unwrap_or_else(|| PathBuf::from("conmon")),
            monitor_cgroup,
            sessions_monitored_inside,
            execs_begin_on_first_cpu,
            env,
            no_sync_log: config.monitor.no_sync_log,
            systemd_cgroup: options.systemd_cgroup,
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
            create_timeout: config.timeouts.create.unwrap_or(default(Operation::Create)),
            start_timeout: config.timeouts.start.unwrap_or(default(Operation::Start)),
            exec_timeout: config.timeouts.exec.unwrap_or(default(Operation::Start)),
            kill_timeout: config.timeouts.stop.unwrap_or(Duration::from_secs(10)),
            disabled: config.disabled.clone(),
        })
    }
}

/// Where the monitor of a container goes.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MonitorCgroup {
    /// It stays in the cgroup of the process that creates the container.
    #[default]
    OfTheCaller,
    /// It gets a cgroup beside its container's, such as that of a pod.
    BesideTheContainer,
    /// It gets a cgroup below this one.
    Below(String),
}

impl MonitorCgroup {
    fn parse(text: Option<&str>, systemd_cgroup: bool) -> std::result::Result<Self, String> {
        match text {
            None | Some("") => Ok(Self::OfTheCaller),
            // The scope of a monitor would have to be asked for on the message bus.
            Some(_) if systemd_cgroup => Err("not supported together with options.systemd_cgroup".to_owned()),
            Some("pod") => Ok(Self::BesideTheContainer),
            Some(path) if is_plain_cgroup(path) => Ok(Self::Below(path.trim_end_matches('/').to_owned())),
            Some(other) => Err(format!("{other:?} is neither \"pod\" nor an absolute path of a cgroup")),
        }
    }
}

/// The first key that is set and that this backend would not heed. A setting without effect is worse than an error.
fn unheeded(config: &HandlerConfig) -> Option<(&'static str, &'static str)> {
    let keys = [
        (
            config.config_path.is_some(),
            "config_path",
            "OCI runtimes share no option for such a file; see args",
        ),
        (config.pull_image_in_guest, "pull_image_in_guest", "there is no guest"),
        (config.stream_websockets, "stream_websockets", "conmon serves a socket of its own kind"),
    ];
    keys.iter().find(|(set, ..)| *set).map(|(_, key, why)| (*key, *why))
}

/// The first candidate that is there, as an absolute path; the error tells what was looked for.
pub(crate) fn find_binary(candidates: &[PathBuf]) -> std::result::Result<PathBuf, String> {
    for candidate in candidates {
        if let Ok(found) = which::which(candidate) {
            return Ok(std::path::absolute(&found).unwrap_or(found));
        }
    }
    let list: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
    let bare = |path: &Path| path.components().count() == 1;
    let place =
        if candidates.iter().any(|path| bare(path)) { " (bare names are looked up on PATH)" } else { "" };
    Err(format!("no executable {}{place}", list.join(" nor ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime_api::{Origin, RuntimeKind};

    fn handler() -> HandlerConfig {
        let name = HandlerName::new("crun").unwrap();
        HandlerConfig::new(
            name,
            RuntimeKind::new("oci").unwrap(),
            Origin::file("/etc/h.toml", "runtimes.crun", Some(3)),
        )
    }

    #[test]
    fn the_name_is_the_binary_unless_paths_are_given() {
        assert_eq!(OciConfig::from_handler(&handler()).unwrap().binaries, [PathBuf::from("crun")]);
    }

    #[test]
    fn an_unknown_option_is_named_with_its_place() {
        let mut config = handler();
        config.options.insert("no_pvot".into(), true.into());
        let text = OciConfig::from_handler(&config).unwrap_err().to_string();
        assert!(text.contains("no_pvot") && text.contains("/etc/h.toml:3"), "{text}");
    }

    #[test]
    fn a_key_without_effect_is_refused() {
        let mut config = handler();
        config.exec_cpu_affinity = Some("last".into());
        let text = OciConfig::from_handler(&config).unwrap_err().to_string();
        assert!(text.contains("exec_cpu_affinity: \"last\" is not \"first\""), "{text}");
        let mut config = handler();
        config.monitor.exec_cgroup = Some("pod".into());
        let text = OciConfig::from_handler(&config).unwrap_err().to_string();
        assert!(text.contains("monitor.exec_cgroup: \"pod\" is not"), "{text}");
    }

    #[test]
    fn a_monitors_cgroup_is_beside_its_container_or_below_a_path() {
        assert_eq!(MonitorCgroup::parse(None, true), Ok(MonitorCgroup::OfTheCaller));
        assert_eq!(MonitorCgroup::parse(Some(""), false), Ok(MonitorCgroup::OfTheCaller));
        assert_eq!(MonitorCgroup::parse(Some("pod"), false), Ok(MonitorCgroup::BesideTheContainer));
        assert_eq!(MonitorCgroup::parse(Some("/m/"), false), Ok(MonitorCgroup::Below("/m".into())));
        for bad in ["system.slice", "/a/../b", "pods"] {
            assert!(MonitorCgroup::parse(Some(bad), false).unwrap_err().contains(bad));
        }
        assert!(MonitorCgroup::parse(Some("pod"), true).is_err());
    }

    #[test]
    fn a_missing_binary_is_told_with_what_was_tried() {
        let error = find_binary(&["/nonexistent/crun".into(), "no-such-runtime".into()]).unwrap_err();
        assert!(error.contains("/nonexistent/crun nor no-such-runtime"), "{error}");
        assert_eq!(find_binary(&["/nope".into(), "/bin/sh".into()]).unwrap(), PathBuf::from("/bin/sh"));
    }
}
