//! What this backend takes from a handler's configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use runtime_api::{Capability, Error, ErrorKind, HandlerConfig, HandlerName, Operation, Result};

use crate::shim;
use crate::task::any::{FreeOptions, Payload, RuncOptions, RuntimeOptions};

/// The options that only this backend understands: the handler's table `options`. The names in capitals are containerd's
/// own, for the shims that take runc's options.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    /// The runtime below the shim.
    #[serde(rename = "BinaryName")]
    binary_name: Option<String>,
    #[serde(rename = "SystemdCgroup")]
    systemd_cgroup: bool,
    #[serde(rename = "NoPivotRoot")]
    no_pivot_root: bool,
    #[serde(rename = "NoNewKeyring")]
    no_new_keyring: bool,
    /// What the shim's configuration file is called by, where it takes one.
    config_type: Option<String>,
    /// Options of any type.
    any: Option<FreeOptions>,
    /// The shim says more in its log.
    debug: bool,
}

/// A shim as it is to be used.
#[derive(Clone, Debug)]
pub(crate) struct VmConfig {
    pub(crate) handler: HandlerName,
    /// The shim's binary, or what was looked for.
    pub(crate) shim: std::result::Result<PathBuf, String>,
    /// The monitor's program, if the handler names one.
    pub(crate) monitor: Option<PathBuf>,
    /// The runtime's own root, unless it is below the state directory.
    pub(crate) root: Option<PathBuf>,
    pub(crate) debug: bool,
    options: Options,
    config_path: Option<PathBuf>,
    pub(crate) create_timeout: Duration,
    pub(crate) start_timeout: Duration,
    /// How long an exec may take to begin.
    pub(crate) exec_timeout: Duration,
    /// How long a container may live after KILL before a stop gives up.
    pub(crate) kill_timeout: Duration,
    pub(crate) disabled: Vec<(Capability, String)>,
}

impl VmConfig {
    /// Reads a handler, its options strictly.
    ///
    /// # Errors
    /// `ConfigInvalid`, which names the key and where it was written.
    pub(crate) fn from_handler(config: &HandlerConfig) -> Result<Self> {
        let invalid = |what: String| {
            Error::new(ErrorKind::ConfigInvalid(what))
                .during_step("read handler")
                .on(format_args!("\"{}\" ({})", config.name, config.origin))
        };
        let options: Options = serde_json::from_value(serde_json::Value::Object(config.options.clone()))
            .map_err(|error| invalid(format!("options: {error}")))?;
        if let Some(key) = unheeded(config) {
            return Err(invalid(format!("{key} has no effect for the kind vm, so it is not accepted")));
        }
        if options.any.is_some() && config.config_path.is_some() {
            return Err(invalid(
                "options.any and config_path exclude each other: a shim gets one of them".into(),
            ));
        }
        let default = |op: Operation| op.row().deadline.unwrap_or(Duration::from_secs(240));
        Ok(Self {
            handler: config.name.clone(),
            shim: find(config),
            monitor: config.monitor.path.clone(),
            root: config.root.clone(),
            debug: options.debug,
            options,
            config_path: config.config_path.clone(),
            create_timeout: config.timeouts.create.unwrap_or(default(Operation::Create)),
            start_timeout: config.timeouts.start.unwrap_or(default(Operation::Start)),
            exec_timeout: config.timeouts.exec.unwrap_or(default(Operation::Start)),
            kill_timeout: config.timeouts.stop.unwrap_or(Duration::from_secs(30)),
            disabled: config.disabled.clone(),
        })
    }

    /// Whether the shim takes runc's options.
    pub(crate) fn takes_runc_options(&self) -> bool {
        self.shim.as_deref().is_ok_and(is_for_runc)
    }

    /// The runtime below a shim that takes runc's options.
    pub(crate) fn below(&self) -> &str {
        self.options.binary_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("runc")
    }

    /// What a shim is told with each create. `root` is where its runtime keeps its state, `work` where criu works.
    pub(crate) fn payload(&self, root: &Path, work: &Path) -> Result<Option<Payload>> {
        if let Some(any) = &self.options.any {
            return any.payload().map(Some);
        }
        if let Some(path) = &self.config_path {
            let options = RuntimeOptions {
                type_url: self.options.config_type.clone().unwrap_or_default(),
                config_path: path.to_string_lossy().into_owned(),
                ..RuntimeOptions::default()
            };
            return Ok(Some(options.payload()));
        }
        if !self.takes_runc_options() {
            return Ok(None);
        }
        let options = RuncOptions {
            binary_name: self.options.binary_name.clone().unwrap_or_default(),
            root: root.to_string_lossy().into_owned(),
            systemd_cgroup: self.options.systemd_cgroup,
            no_pivot_root: self.options.no_pivot_root,
            no_new_keyring: self.options.no_new_keyring,
            criu_work_path: work.to_string_lossy().into_owned(),
            ..RuncOptions::default()
        };
        Ok(Some(options.payload()))
    }
}

/// The shim of a handler: its paths, else what its name means.
fn find(config: &HandlerConfig) -> std::result::Result<PathBuf, String> {
    let candidates = if config.paths.is_empty() {
        vec![shim_called(config.name.as_str())]
    } else {
        config.paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    };
    let found = candidates.iter().find_map(|candidate| shim::find(candidate).ok());
    found.ok_or_else(|| format!("no shim {}", candidates.join(" nor ")))
}

/// Whether a shim takes runc's options. Shims say so by their names alone.
pub(crate) fn is_for_runc(shim: &Path) -> bool {
    shim.file_name().is_some_and(|name| name.to_string_lossy().starts_with("containerd-shim-runc-"))
}

/// The binary of the shim of this name.
pub(crate) fn shim_called(name: &str) -> String {
    match name.strip_suffix("-rs") {
        Some(base) => format!("containerd-shim-{base}-v2-rs"),
        None => format!("containerd-shim-{name}-v2"),
    }
}

/// The first key that is set and that this backend would not heed. A setting without effect is worse than an error.
fn unheeded(config: &HandlerConfig) -> Option<&'static str> {
    let keys = [
        (!config.args.is_empty(), "args"),
        (!config.platform_paths.is_empty(), "platform_paths"),
        (!config.monitor.env.is_empty(), "monitor.env"),
        (config.monitor.cgroup.is_some(), "monitor.cgroup"),
        (config.monitor.exec_cgroup.is_some(), "monitor.exec_cgroup"),
        (config.monitor.no_sync_log, "monitor.no_sync_log"),
        (config.exec_cpu_affinity.is_some(), "exec_cpu_affinity"),
        (config.pull_image_in_guest, "pull_image_in_guest"),
        (config.stream_websockets, "stream_websockets"),
    ];
    keys.iter().find(|(set, _)| *set).map(|(_, key)| *key)
}
