//! One entry of CRI-O's table of runtimes to a [`HandlerConfig`], checked in CRI-O's order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_api::{HandlerConfig, HandlerName, RuntimeKind};

use super::{annotations, keys, memory};
use crate::document::view::View;
use crate::document::{Located, Section, Value};
use crate::foreign::{Broken, Remarks, did_you_mean};

/// The smallest memory limit where a handler names none, or none that can be read.
const MIN_MEMORY: u64 = 12 << 20;
const CREATE_TIMEOUT: i64 = 240;
const SHORTEST_CREATE_TIMEOUT: i64 = 30;

/// An entry on its way.
pub(super) struct Translation<'a> {
    name: &'a HandlerName,
    located: &'a Located,
    /// `[crio.runtime]`, for what holds for all handlers.
    runtime: View<'a>,
    remarks: Remarks,
}

impl<'a> Translation<'a> {
    pub(super) fn new(name: &'a HandlerName, located: &'a Located, runtime: &'a Section) -> Self {
        let runtime = View::new(runtime);
        Self { name, located, runtime, remarks: Remarks::default() }
    }

    /// `default` is the name and the entry of the default handler.
    pub(super) fn run(
        mut self,
        own: &Section,
        default: (&str, &Section),
    ) -> (Result<HandlerConfig, Broken>, Remarks) {
        let section = self.inherit(own, default);
        for (key, native) in keys::NATIVE {
            if let Some(item) = section.get(*key) {
                self.remarks.written(native, key, item);
            }
        }
        let config = self.convert(&View::new(&section));
        (config, self.remarks)
    }

    /// The entry with what it takes from the default handler.
    fn inherit(&mut self, own: &Section, (name, default): (&str, &Section)) -> Section {
        let mut section = own.clone();
        let Some(asks @ Located { value: Value::Bool(true), .. }) = own.get("inherit_default_runtime") else {
            return section;
        };
        if self.name.as_str() == name {
            return section;
        }
        for key in keys::INHERITED {
            if let Some(item) = section.remove(*key) {
                let text = format!(
                    "key {key:?} has no effect: inherit_default_runtime takes it from the handler {name:?}"
                );
                self.note(&item, text);
            }
            if let Some(item) = default.get(*key) {
                section.insert((*key).to_owned(), item.clone());
            }
        }
        let named = matches!(default.get("runtime_path"), Some(Located { value: Value::Text(path), .. }) if !path.is_empty());
        if !named {
            // The binary is the one that the default handler finds by its own name.
            let value = Value::Text(name.to_owned());
            section.insert("runtime_path".to_owned(), Located { value, place: asks.place.clone() });
        }
        section
    }

    fn convert(&mut self, view: &View<'_>) -> Result<HandlerConfig, Broken> {
        let kind = self.kind(view)?;
        let is_vm = kind.as_str() == "vm";
        let mut config =
            HandlerConfig::new(self.name.clone(), kind, self.located.place.inside(self.name.as_str()));
        config.paths = self.binary(view, is_vm)?.into_iter().collect();
        config.root = self.path(view, "runtime_root")?;
        config.config_path = self.config_path(view, is_vm)?;
        config.annotations.denied = self.denied(view)?;
        config.annotations.default = view
            .map("default_annotations")
            .map(|(name, value, _)| (name.to_owned(), value.to_owned()))
            .collect();
        config.min_memory = Some(self.min_memory(view));
        config.timeouts.create = Some(self.create_timeout(view));
        config.monitor.no_sync_log = self.no_sync_log(view, is_vm)?;
        if let Some(key) = view.get("stream_websockets").filter(|_| view.flag("stream_websockets")) {
            return Err(self.broken(key, "stream_websockets is for the type \"pod\" only"));
        }
        config.exec_cpu_affinity = self.one_of(view, "exec_cpu_affinity", "first")?;
        config.seccomp_profile = self.seccomp(view)?;
        config.privileged_without_host_devices = view.flag("privileged_without_host_devices");
        self.platforms(view, is_vm, &mut config);
        if is_vm {
            config.pull_image_in_guest = view.flag("runtime_pull_image");
            for key in keys::MONITOR.iter().filter_map(|name| view.get(name)) {
                self.note(
                    key,
                    "it has no effect for the type \"vm\", whose shims need no monitor".to_owned(),
                );
            }
        } else {
            if let Some(key) = view.get("runtime_pull_image").filter(|_| view.flag("runtime_pull_image")) {
                self.note(key, "runtime_pull_image has an effect for the type \"vm\" only".to_owned());
            }
            self.monitor(view, &mut config)?;
        }
        Ok(config)
    }

    fn kind(&self, view: &View<'_>) -> Result<RuntimeKind, Broken> {
        let kind = match view.text("runtime_type") {
            None | Some(("" | "oci", _)) => "oci",
            Some(("vm", _)) => "vm",
            Some(("pod", key)) => {
                let what = "runtime_type \"pod\" (conmon-rs) is not supported; \"oci\" and \"vm\" are";
                return Err(self.broken(key, what));
            }
            Some((other, key)) => {
                let close = did_you_mean(other, ["oci", "vm", "pod"]);
                let what = format!("runtime_type {other:?} is none of \"oci\", \"vm\", \"pod\"{close}");
                return Err(self.broken(key, &what));
            }
        };
        RuntimeKind::new(kind).map_err(|error| self.broken(self.located, &error.kind().to_string()))
    }

    /// The binary; none where the handler's name is to be looked up on `PATH`.
    fn binary(&self, view: &View<'_>, is_vm: bool) -> Result<Option<PathBuf>, Broken> {
        let given = view.text("runtime_path").filter(|(text, _)| !text.is_empty());
        let (text, key) = given.unwrap_or((self.name.as_str(), self.located));
        let path = PathBuf::from(text);
        if is_vm && !is_shim(&path) {
            let what = format!(
                "runtime_path {text:?} is no name of a shim: the type \"vm\" needs containerd-shim-NAME, of letters, digits, - and +"
            );
            return Err(self.broken(key, &what));
        }
        if given.is_none() {
            return Ok(is_vm.then_some(path));
        }
        // A bare name is what a handler inherits from a default handler without a path.
        let bare = path.components().count() == 1 && view.flag("inherit_default_runtime");
        if path.is_absolute() || bare {
            return Ok(Some(path));
        }
        let what = format!(
            "runtime_path {text:?} is not absolute; leave it out to have {:?} looked up on PATH",
            self.name.as_str()
        );
        Err(self.broken(key, &what))
    }

    fn config_path(&self, view: &View<'_>, is_vm: bool) -> Result<Option<PathBuf>, Broken> {
        let path = self.path(view, "runtime_config_path")?;
        match view.get("runtime_config_path") {
            Some(key) if path.is_some() && !is_vm => {
                Err(self.broken(key, "runtime_config_path is for the type \"vm\" only"))
            }
            _ => Ok(path),
        }
    }

    fn denied(&self, view: &View<'_>) -> Result<Vec<String>, Broken> {
        let known = annotations::known();
        let allowed = view.texts("allowed_annotations");
        if let Some((name, key)) = allowed.iter().find(|(name, _)| !known.contains(name)) {
            let close = did_you_mean(name, known.iter().copied());
            let what =
                format!("allowed_annotations: {name:?} is none of the annotations that CRI-O knows{close}");
            return Err(self.broken(key, &what));
        }
        Ok(annotations::denied(&allowed.iter().map(|(name, _)| *name).collect::<Vec<_>>()))
    }

    fn min_memory(&mut self, view: &View<'_>) -> u64 {
        let Some((text, key)) = view.text("container_min_memory").filter(|(text, _)| !text.is_empty()) else {
            return MIN_MEMORY;
        };
        memory::bytes(text).unwrap_or_else(|| {
            let text =
                format!("container_min_memory {text:?} is no size such as \"12MiB\"; CRI-O takes 12 MiB");
            self.note(key, text);
            MIN_MEMORY
        })
    }

    fn create_timeout(&mut self, view: &View<'_>) -> Duration {
        let key = view.get("container_create_timeout");
        let wanted = match key {
            Some(Located { value: Value::Integer(seconds), .. }) => *seconds,
            _ => 0,
        };
        let seconds = match (wanted, key) {
            (0, _) => CREATE_TIMEOUT,
            (..SHORTEST_CREATE_TIMEOUT, Some(key)) => {
                let text = format!("container_create_timeout {wanted} is too short; CRI-O takes 30 seconds");
                self.note(key, text);
                SHORTEST_CREATE_TIMEOUT
            }
            _ => wanted,
        };
        Duration::from_secs(seconds.unsigned_abs())
    }

    fn no_sync_log(&self, view: &View<'_>, is_vm: bool) -> Result<bool, Broken> {
        match view.get("no_sync_log") {
            Some(key) if is_vm && view.flag("no_sync_log") => {
                Err(self.broken(key, "no_sync_log is for the type \"oci\" only"))
            }
            _ => Ok(view.flag("no_sync_log")),
        }
    }

    /// The handler's profile, or the one for all.
    fn seccomp(&mut self, view: &View<'_>) -> Result<Option<PathBuf>, Broken> {
        if let Some(path) = self.path(view, "seccomp_profile")? {
            return Ok(Some(path));
        }
        let path = self.path(&self.runtime, "seccomp_profile")?;
        if let Some(key) = self.runtime.get("seccomp_profile").filter(|_| path.is_some()) {
            self.remarks.written("seccomp_profile", "seccomp_profile", key);
        }
        Ok(path)
    }

    fn platforms(&mut self, view: &View<'_>, is_vm: bool, config: &mut HandlerConfig) {
        for (platform, path, key) in view.map("platform_runtime_paths") {
            let parts: Vec<_> = platform.split('/').collect();
            let is_platform = (2..=3).contains(&parts.len()) && parts.iter().all(|part| !part.is_empty());
            if is_vm {
                self.note(key, "platform_runtime_paths has no effect for the type \"vm\"".to_owned());
            } else if is_platform && Path::new(path).is_absolute() {
                config.platform_paths.insert(platform.to_owned(), path.into());
            } else {
                let text = format!(
                    "{platform:?} = {path:?} is left out: it is no platform such as \"linux/arm64\" with an absolute path"
                );
                self.note(key, text);
            }
        }
    }

    /// What watches containers. The deprecated keys of `[crio.runtime]` win over those of every handler.
    fn monitor(&mut self, view: &View<'_>, config: &mut HandlerConfig) -> Result<(), Broken> {
        let for_all = |key: &str| self.runtime.text(key).filter(|(text, _)| !text.is_empty());
        let (path, cgroup) = (for_all("conmon"), for_all("conmon_cgroup"));
        if let Some((_, key)) = path {
            self.remarks.written("monitor.path", "conmon", key);
            config.monitor.path = self.path(&self.runtime, "conmon")?;
        } else {
            config.monitor.path = self.path(view, "monitor_path")?;
        }
        self.options(config)?;
        let cgroup = match cgroup {
            Some((text, key)) => {
                self.remarks.written("monitor.cgroup", "conmon_cgroup", key);
                Some(("conmon_cgroup", text, key))
            }
            None => view.text("monitor_cgroup").map(|(text, key)| ("monitor_cgroup", text, key)),
        };
        config.monitor.cgroup = self.monitor_cgroup(cgroup)?;
        let (name, env) = match self.runtime.texts("conmon_env") {
            for_all if for_all.is_empty() => ("monitor_env", view.texts("monitor_env")),
            for_all => {
                if let Some(key) = self.runtime.get("conmon_env") {
                    self.remarks.written("monitor.env", "conmon_env", key);
                }
                ("conmon_env", for_all)
            }
        };
        for (pair, key) in env {
            if pair.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                return Err(self.broken(key, &format!("{name}: {pair:?} is not of the form KEY=value")));
            }
            config.monitor.env.push(pair.to_owned());
        }
        config.monitor.exec_cgroup = self.one_of(view, "monitor_exec_cgroup", "container")?;
        Ok(())
    }

    /// What holds for all handlers and is an option of the kind `oci`.
    fn options(&mut self, config: &mut HandlerConfig) -> Result<(), Broken> {
        if self.is_systemd()? {
            config.options.insert("systemd_cgroup".to_owned(), true.into());
            if let Some(key) = self.runtime.get("cgroup_manager") {
                self.remarks.written("options.systemd_cgroup", "cgroup_manager", key);
            }
        }
        if let Some(key) = self.runtime.get("no_pivot").filter(|_| self.runtime.flag("no_pivot")) {
            config.options.insert("no_pivot".to_owned(), true.into());
            self.remarks.written("options.no_pivot", "no_pivot", key);
        }
        Ok(())
    }

    fn is_systemd(&self) -> Result<bool, Broken> {
        match self.runtime.text("cgroup_manager") {
            None | Some(("systemd", _)) => Ok(true),
            Some(("cgroupfs", _)) => Ok(false),
            Some((other, key)) => {
                let what = format!("cgroup_manager {other:?} is neither \"systemd\" nor \"cgroupfs\"");
                Err(Broken { what, origin: key.place.here() })
            }
        }
    }

    fn monitor_cgroup(&mut self, given: Option<(&str, &str, &Located)>) -> Result<Option<String>, Broken> {
        let Some((name, text, key)) = given.filter(|(_, text, _)| !text.is_empty()) else { return Ok(None) };
        if self.is_systemd()? {
            if text != "pod" && !text.ends_with(".slice") {
                return Err(
                    self.broken(key, &format!("{name} {text:?} is neither \"pod\" nor a slice of systemd"))
                );
            }
            // That is what CRI-O itself writes where nobody said anything.
            if text == "system.slice" {
                return Ok(None);
            }
            let text = format!(
                "key {name:?}: the monitor does not go to {text:?}: under systemd it stays in the cgroup of the process that creates the container"
            );
            self.note(key, text);
            return Ok(None);
        }
        match text {
            "pod" => Ok(Some(text.to_owned())),
            "system.slice" => Ok(None),
            _ => Err(self.broken(key, &format!("{name} {text:?} can only be \"pod\" under cgroupfs"))),
        }
    }

    /// An absolute path; an empty one counts as none.
    fn path(&self, view: &View<'_>, name: &str) -> Result<Option<PathBuf>, Broken> {
        match view.text(name) {
            None | Some(("", _)) => Ok(None),
            Some((text, _)) if Path::new(text).is_absolute() => Ok(Some(text.into())),
            Some((text, key)) => Err(self.broken(key, &format!("{name} {text:?} is not absolute"))),
        }
    }

    /// One value, or none; an empty text counts as none.
    fn one_of(&self, view: &View<'_>, name: &str, only: &str) -> Result<Option<String>, Broken> {
        match view.text(name) {
            None | Some(("", _)) => Ok(None),
            Some((text, _)) if text == only => Ok(Some(text.to_owned())),
            Some((text, key)) => {
                Err(self.broken(key, &format!("{name} {text:?} can only be {only:?} or empty")))
            }
        }
    }

    fn note(&mut self, at: &Located, text: String) {
        self.remarks.note(at, text);
    }

    fn broken(&self, at: &Located, what: &str) -> Broken {
        let origin = if std::ptr::eq(at, self.located) {
            at.place.inside(self.name.as_str())
        } else {
            at.place.here()
        };
        Broken { what: what.to_owned(), origin }
    }
}

/// Whether a binary is called `containerd-shim-NAME`.
fn is_shim(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.strip_prefix("containerd-shim-")).is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+'))
    })
}
