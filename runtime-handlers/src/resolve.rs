//! What of a table this host has.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use runtime_api::{HandlerConfig, Origin};

use crate::table::{HandlerTable, Unavailable};

/// A host, as far as handlers ask for it.
pub trait Host: std::fmt::Debug {
    /// Whether a program is there, a regular file that may be executed: an absolute path, or a bare name on `PATH`.
    fn has(&self, program: &Path) -> bool;

    /// Whether anything is there under an absolute path.
    fn exists(&self, path: &Path) -> bool;
}

/// The host that this process runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThisHost;

impl Host for ThisHost {
    fn has(&self, program: &Path) -> bool {
        if program.is_absolute() {
            return is_executable(program);
        }
        let places = std::env::var_os("PATH").unwrap_or_default();
        program.components().count() == 1
            && std::env::split_paths(&places).any(|place| is_executable(&place.join(program)))
    }

    fn exists(&self, path: &Path) -> bool {
        path.is_absolute() && path.exists()
    }
}

/// Whether somebody may execute it. Whether we may is for the kernel to say, which also looks at the mount.
fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

impl HandlerTable {
    /// The same table, in which handlers whose files are missing on this host are
    /// [unavailable](HandlerTable::unavailable). The default stays the default: [`select`](HandlerTable::select) then says
    /// why it cannot be used.
    #[must_use]
    pub fn resolved(&self, host: &dyn Host) -> Self {
        let mut table = self.clone();
        for (name, config) in &self.handlers {
            if let Some(reason) = missing(config, host) {
                table.handlers.remove(name);
                let origin = self.place(config, reason.0);
                table.unavailable.insert(name.clone(), Unavailable::new(reason.1, origin));
            }
        }
        table
    }

    /// The same table, in which the first candidate for a binary that this host has comes before the others: the one to keep
    /// where there is place for one.
    #[must_use]
    pub fn found_first(&self, host: &dyn Host) -> Self {
        let mut table = self.clone();
        for config in table.handlers.values_mut() {
            if let Some(found) = config.paths.iter().position(|path| host.has(path)) {
                config.paths[..=found].rotate_right(1);
            }
        }
        table
    }

    fn place(&self, config: &HandlerConfig, key: &str) -> Origin {
        let written = self.written.get(&config.name).into_iter().flatten();
        let mut found = written.filter(|each| each.key == key || (key == "paths" && each.key == "path"));
        found.next().map_or_else(|| config.origin.clone(), |each| each.origin.clone())
    }
}

/// A path as people can read it, also where a blank stands at its end.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    if text.trim() == text { text } else { format!("{text:?}, which begins or ends with a blank") }
}

/// The first key that names something that is not there, and what to say.
pub(crate) fn missing(config: &HandlerConfig, host: &dyn Host) -> Option<(&'static str, String)> {
    let by_name = Path::new(config.name.as_str());
    let is_oci = config.kind.as_str() == "oci";
    if config.paths.is_empty() && is_oci && !host.has(by_name) {
        return Some(("paths", format!("no executable \"{}\" on PATH", config.name)));
    }
    if !config.paths.is_empty() && !config.paths.iter().any(|path| host.has(path)) {
        let list: Vec<_> = config.paths.iter().map(|path| shown(path)).collect();
        return Some(("paths", format!("no executable {}", list.join(" nor "))));
    }
    if let Some(path) = config.monitor.path.as_ref().filter(|path| !host.has(path)) {
        return Some(("monitor.path", format!("no executable {}", shown(path))));
    }
    let files = [("config_path", &config.config_path), ("seccomp_profile", &config.seccomp_profile)];
    files.into_iter().find_map(|(key, path)| {
        let path = path.as_ref().filter(|path| !host.exists(path))?;
        Some((key, format!("{key} {} does not exist", shown(path))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crio;
    use crate::source::Source;
    use runtime_api::{ErrorKind, HandlerName};

    #[derive(Debug)]
    struct Has(&'static [&'static str]);

    impl Host for Has {
        fn has(&self, path: &Path) -> bool {
            self.0.iter().any(|each| Path::new(each) == path)
        }

        fn exists(&self, path: &Path) -> bool {
            self.has(path)
        }
    }

    #[test]
    fn only_files_that_may_be_executed_are_programs() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!ThisHost.has(&file) && ThisHost.exists(&file));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(ThisHost.has(&file));
        assert!(!ThisHost.has(place.path()) && ThisHost.exists(place.path()), "a directory");
        assert!(ThisHost.has(Path::new("sh")) && !ThisHost.has(Path::new("no-such-program")));
        assert!(!ThisHost.has(Path::new("bin/sh")) && !ThisHost.has(Path::new("")), "no bare name");
    }

    #[test]
    fn a_directory_in_the_place_of_a_binary_makes_a_handler_unavailable() {
        let text = "[runtimes.a]\nkind = 'oci'\npath = '/usr'\n[runtimes.b]\nkind = 'oci'\npath = '/bin/sh'\nmonitor = { path = '/usr' }\n";
        let table = crate::native::parse(&[Source::new("f", text)]).unwrap().resolved(&ThisHost);
        let told: Vec<_> = table.unavailable.values().map(|broken| broken.reason.as_str()).collect();
        assert_eq!(told, ["no executable /usr", "no executable /usr"]);
    }

    #[test]
    fn what_is_missing_makes_a_handler_unavailable_and_stays_visible() {
        let text = "[crio.runtime.runtimes.runc]\nruntime_path = '/a/runc'\n[crio.runtime.runtimes.kata]\n\
                    runtime_path = '/a/containerd-shim-kata-v2'\nruntime_type = 'vm'\nruntime_config_path = '/e/kata.toml'\n";
        let table = crio::parse(&[Source::new("crio.conf", text)]).unwrap();
        let here = table.resolved(&Has(&["crun", "/a/containerd-shim-kata-v2"]));
        assert_eq!(here.select(None).unwrap().name.as_str(), "crun");
        let told: Vec<_> =
            here.unavailable.values().map(|broken| format!("{} {}", broken.reason, broken.origin)).collect();
        assert_eq!(
            told,
            [
                "config_path /e/kata.toml does not exist crio.conf:6 [crio.runtime.runtimes.kata]",
                "no executable /a/runc crio.conf:2 [crio.runtime.runtimes.runc]"
            ]
        );
        let nothing = table.resolved(&Has(&[]));
        let error = nothing.select(None).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("no executable \"crun\" on PATH"), "{error}");
        let kata = HandlerName::new("kata").unwrap();
        assert!(nothing.select(Some(&kata)).is_err());
    }

    #[test]
    fn a_blank_at_the_end_of_a_path_can_be_seen() {
        let text = "[runtimes.a]\nkind = 'oci'\npath = '/bin/sh '\n";
        let table = crate::native::parse(&[Source::new("f", text)]).unwrap().resolved(&ThisHost);
        let told = table.unavailable.values().next().map(|broken| broken.reason.as_str());
        assert_eq!(told, Some("no executable \"/bin/sh \", which begins or ends with a blank"));
    }

    #[test]
    fn the_candidate_that_is_there_comes_first() {
        let text = "[runtimes.a]\nkind = 'oci'\npaths = ['/x', '/y', '/z']\n";
        let table = crate::native::parse(&[Source::new("f", text)]).unwrap();
        let paths = |host: &Has| {
            let found = table.found_first(host).handlers.into_values().next().unwrap();
            found.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(paths(&Has(&["/y", "/z"])), "/y /x /z");
        assert_eq!(paths(&Has(&["/x", "/z"])), "/x /y /z");
        assert_eq!(paths(&Has(&[])), "/x /y /z");
    }

    #[test]
    fn the_first_candidate_that_is_there_is_enough() {
        let table =
            crate::native::parse(&[Source::new("f", "[runtimes.a]\nkind = 'oci'\npaths = ['/x', '/y']\n")]);
        assert!(table.unwrap().resolved(&Has(&["/y"])).unavailable.is_empty());
    }
}
