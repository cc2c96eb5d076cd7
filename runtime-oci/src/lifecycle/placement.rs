//! Where a new container and its monitor go.

use std::path::{Path, PathBuf};

use runtime_api::{Capability, CreateRequest, Error, ErrorKind, Result};
use runtime_host::spec::{Additions, SpecDocument, is_plain_cgroup};

use crate::backend::Backend;
use crate::config::MonitorCgroup;
use crate::layout::ContainerDir;
use crate::record::Record;

/// Where the directory with the program's end of the notify socket is mounted.
const NOTIFY_MOUNT: &str = "/run/notify";

/// Where a new container and its monitor go.
#[derive(Debug)]
pub(super) struct Placement {
    /// The container's cgroup, as the runtime reads it.
    pub(super) container: String,
    /// Whether we chose it, so that it is the container's alone and goes with it.
    pub(super) chosen: bool,
    /// The monitor's own cgroup.
    pub(super) monitor: Option<String>,
    /// Whether the spec gets it from us.
    added: bool,
}

impl Placement {
    /// What the private copy of the spec says besides the spec.
    pub(super) fn additions(&self, request: &CreateRequest, dir: &ContainerDir) -> Additions {
        Additions {
            cgroup: self.added.then(|| self.container.clone()),
            notify: request.notify_socket.as_ref().map(|_| (dir.notify(), PathBuf::from(NOTIFY_MOUNT))),
        }
    }
}

impl Backend {
    /// Decides it from the spec, the request and the handler.
    pub(super) fn place(&self, request: &CreateRequest, spec: &SpecDocument) -> Result<Placement> {
        let systemd = self.config.systemd_cgroup;
        if !systemd {
            spec.check_cgroup_path()?;
        }
        if let Some(socket) = &request.notify_socket {
            self.capabilities.require(Capability::Notify)?;
            if !socket.is_absolute() {
                let what = format!("notify socket {} is not an absolute path", socket.display());
                return Err(Error::new(ErrorKind::InvalidArgument(what)));
            }
        }
        if !request.descriptors.is_empty() {
            self.capabilities.require(Capability::Descriptors)?;
        }
        let parent = match &request.cgroup_parent {
            Some(parent) => {
                self.capabilities.require(Capability::CgroupParent)?;
                check_parent(parent, systemd)?;
                Some(parent.trim_end_matches('/'))
            }
            None => None,
        };
        let id = &request.id;
        let placed = |container: String, chosen: bool, added: bool| {
            let monitor = self.monitor_cgroup(&container, request);
            Placement { container, chosen, monitor, added }
        };
        Ok(match (spec.cgroup(), parent) {
            (Some(named), _) => placed(named.to_owned(), false, false),
            (None, Some(slice)) if systemd => placed(format!("{slice}:manyrun:{id}"), false, true),
            (None, Some(parent)) => placed(format!("{parent}/{id}"), true, true),
            (None, None) => placed(self.default_cgroup(id), true, !systemd),
        })
    }

    /// The cgroup of a new monitor. Its name is one that no container can have: ids begin with a letter or a digit.
    fn monitor_cgroup(&self, container: &str, request: &CreateRequest) -> Option<String> {
        let parent = match &self.config.monitor_cgroup {
            MonitorCgroup::OfTheCaller => return None,
            MonitorCgroup::BesideTheContainer => {
                Path::new(container).parent().and_then(Path::to_str).unwrap_or("/")
            }
            MonitorCgroup::Below(parent) => parent,
        };
        Some(format!("{}/_conmon-{}", parent.trim_end_matches('/'), request.id))
    }

    /// Moves a monitor that has not begun into its cgroup.
    pub(crate) fn place_monitor(&self, record: &Record, pid: i32) -> Result<()> {
        let Some(cgroup) = &record.monitor_cgroup else { return Ok(()) };
        self.hierarchies.enter(cgroup, pid).map_err(|error| not_moved("monitor.cgroup", error))
    }

    /// Moves the monitor of a session that has not begun to where the handler wants it.
    pub(crate) fn place_session_monitor(&self, container: &Record, pid: i32) -> Result<()> {
        if !self.config.sessions_monitored_inside {
            return self.place_monitor(container, pid);
        }
        let Some(cgroup) = &container.own_cgroup else {
            let none = "the container has no cgroup of its own that the monitor of a session could be in";
            return Err(Error::new(ErrorKind::Unavailable(none.into())));
        };
        self.hierarchies.join(cgroup, pid).map_err(|error| not_moved("monitor.exec_cgroup", error))
    }

    /// Removes the cgroups that are a container's alone, once nothing of it runs.
    pub(super) async fn remove_cgroups_of(&self, record: &Record) {
        if let Some(cgroup) = self.chosen_cgroup(record) {
            self.hierarchies.remove(cgroup).await;
        }
        if let Some(cgroup) = &record.monitor_cgroup {
            self.hierarchies.remove(cgroup).await;
        }
    }

    /// The cgroup of a container if we chose it, so that nobody else has business there. What systemd makes lies elsewhere.
    pub(super) fn chosen_cgroup<'a>(&self, record: &'a Record) -> Option<&'a str> {
        if self.config.systemd_cgroup {
            return None;
        }
        let cgroup = record.cgroup.as_deref()?;
        // What another version of this library made has no mark.
        (record.chose_cgroup || *cgroup == self.default_cgroup(&record.id)).then_some(cgroup)
    }
}

fn not_moved(key: &str, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Exhausted("the monitor cannot be moved to its cgroup".into()),
    };
    Error::new(kind).caused_by(error).hint(format!("leave {key} out of the handler, or correct it"))
}

fn check_parent(parent: &str, systemd: bool) -> Result<()> {
    let (fits, wanted) = if systemd {
        let plain = !parent.contains('/') && !parent.contains(':');
        (plain && parent.ends_with(".slice") && parent.len() > ".slice".len(), "the name of a systemd slice")
    } else {
        (is_plain_cgroup(parent), "an absolute path without '.' and '..' below the root")
    };
    if fits {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidArgument(format!("cgroup parent {parent:?} is not {wanted}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_a_plain_path_or_a_slice() {
        for good in ["/pods/a", "/pods/a/"] {
            check_parent(good, false).unwrap();
        }
        for bad in ["", "/", "pods", "/a/../b", "machine.slice"] {
            assert!(check_parent(bad, false).is_err(), "{bad:?}");
        }
        check_parent("machine.slice", true).unwrap();
        for bad in [".slice", "/machine.slice", "a:b.slice", "machine"] {
            assert!(check_parent(bad, true).is_err(), "{bad:?}");
        }
    }
}
