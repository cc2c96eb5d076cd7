//! The bundle: read once, never written. The runtime gets a private copy.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use runtime_api::{Error, ErrorKind, Result};

/// The `config.json` of a bundle, whole: what this library does not know passes through.
#[derive(Clone, Debug)]
pub struct SpecDocument {
    /// The bundle's real path.
    pub bundle: PathBuf,
    raw: Value,
}

impl SpecDocument {
    /// Reads a bundle and checks as much of it as this library relies on; the runtime checks the rest.
    ///
    /// # Errors
    /// `ConfigInvalid`, which names the file and the key.
    pub fn read(bundle: &Path) -> Result<Self> {
        let real = bundle.canonicalize().map_err(|error| {
            Error::new(ErrorKind::ConfigInvalid("the bundle cannot be opened".into()))
                .on(format_args!("bundle {}", bundle.display()))
                .caused_by(error)
                .hint("a bundle is a directory with config.json")
        })?;
        let path = real.join("config.json");
        let invalid = |what: &str| {
            Error::new(ErrorKind::ConfigInvalid(what.to_owned()))
                .on(format_args!("bundle file {}", path.display()))
        };
        let text = read_bounded(&path).map_err(|error| invalid("it cannot be read").caused_by(error))?;
        let raw: Value =
            serde_json::from_slice(&text).map_err(|error| invalid("it is not JSON").caused_by(error))?;
        let spec = Self { bundle: real, raw };
        spec.check().map_err(|what| invalid(&what))?;
        Ok(spec)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if let Some((key, taken_for)) = misspelt(&self.raw) {
            return Err(format!(
                "the key {key:?} is none, but some runtimes take it for {taken_for:?}: write it so, or leave it out"
            ));
        }
        for key in ["linux", "process"] {
            if self.raw.get(key).is_some_and(|value| !value.is_object() && !value.is_null()) {
                return Err(format!("{key} is not an object"));
            }
        }
        let at = |pointer: &str| self.raw.pointer(pointer);
        let text = |pointer: &str| at(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        if text("/ociVersion").is_none() {
            return Err("it has no ociVersion, so it is not an OCI runtime spec".into());
        }
        if text("/root/path").is_none() {
            return Err("root.path is missing".into());
        }
        let args = at("/process/args").and_then(Value::as_array);
        if args.is_none_or(|args| args.is_empty() || !args.iter().all(Value::is_string)) {
            return Err("process.args is not a list of at least one string".into());
        }
        if text("/process/cwd").is_some_and(|cwd| !cwd.starts_with('/')) {
            return Err("process.cwd is not an absolute path".into());
        }
        for (key, wanted) in [("/process/terminal", "boolean"), ("/linux/cgroupsPath", "string")] {
            let fits =
                |value: &Value| if wanted == "boolean" { value.is_boolean() } else { value.is_string() };
            if at(key).is_some_and(|value| !fits(value)) {
                return Err(format!("{} is not a {wanted}", key[1..].replace('/', ".")));
            }
        }
        Ok(())
    }

    /// Whether the program gets a terminal.
    pub fn terminal(&self) -> bool {
        self.raw.pointer("/process/terminal").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Where the root file system is; a relative path is one below the bundle.
    pub fn root(&self) -> Option<PathBuf> {
        Some(self.bundle.join(self.raw.pointer("/root/path")?.as_str()?))
    }

    /// Its annotations; what is no text is left out.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        let Some(map) = self.raw.get("annotations").and_then(Value::as_object) else {
            return BTreeMap::new();
        };
        map.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// The cgroup that the spec names.
    pub fn cgroup(&self) -> Option<&str> {
        self.raw.pointer("/linux/cgroupsPath").and_then(Value::as_str).filter(|path| !path.is_empty())
    }

    /// Whether the spec asks for a network namespace that is new, with nothing that could put a device into it.
    pub fn has_empty_network(&self) -> bool {
        let listed = |pointer: &str| self.raw.pointer(pointer).and_then(Value::as_array);
        let is_new = |namespace: &Value| {
            namespace["type"] == "network" && namespace["path"].as_str().unwrap_or_default().is_empty()
        };
        let hooks = ["/hooks/prestart", "/hooks/createRuntime", "/hooks/createContainer"];
        let filled = hooks.iter().any(|hook| listed(hook).is_some_and(|all| !all.is_empty()))
            || listed("/linux/netDevices").is_some();
        !filled && listed("/linux/namespaces").is_some_and(|all| all.iter().any(is_new))
    }

    /// Refuses a cgroup path that means one thing to us and another to a runtime.
    ///
    /// # Errors
    /// `ConfigInvalid`, which names the path.
    pub fn check_cgroup_path(&self) -> Result<()> {
        let Some(path) = self.cgroup().filter(|path| !is_plain_cgroup(path)) else { return Ok(()) };
        Err(Error::new(ErrorKind::ConfigInvalid(format!(
            "linux.cgroupsPath {path:?} is not an absolute path without '.' and '..' below the root"
        )))
        .on(format_args!("bundle file {}", self.bundle.join("config.json").display()))
        .hint("leave it out, and the container gets a cgroup of its own"))
    }

    /// The text of the private copy: relative paths are joined to the bundle's real path, because the copy lies
    /// elsewhere, and what is to be added. Nothing else changes.
    pub fn private_copy(&self, additions: &Additions) -> Vec<u8> {
        let mut copy = self.raw.clone();
        if let Some(root) = copy.pointer_mut("/root/path") {
            make_absolute(root, &self.bundle);
        }
        for mount in copy.get_mut("mounts").and_then(Value::as_array_mut).into_iter().flatten() {
            if is_bind(mount)
                && let Some(source) = mount.get_mut("source")
            {
                make_absolute(source, &self.bundle);
            }
        }
        if let (None, Some(cgroup)) = (self.cgroup(), &additions.cgroup) {
            copy["linux"]["cgroupsPath"] = Value::from(cgroup.as_str());
        }
        if let Some((source, at)) = &additions.notify {
            let mount =
                json!({"destination": at, "type": "bind", "source": source, "options": ["bind", "rw"]});
            push(&mut copy["mounts"], mount);
            let socket = format!("NOTIFY_SOCKET={}", at.join("notify.sock").display());
            push(&mut copy["process"]["env"], Value::from(socket));
        }
        copy.to_string().into_bytes()
    }
}

/// What a private copy says besides its spec.
#[derive(Debug, Default)]
pub struct Additions {
    /// The cgroup, where the spec names none.
    pub cgroup: Option<String>,
    /// The directory of the notify socket, and where the program finds it.
    pub notify: Option<(PathBuf, PathBuf)>,
}

/// Whether a cgroup path means the same to everybody: absolute, below the root, without `.` and `..`.
pub fn is_plain_cgroup(path: &str) -> bool {
    let named = |part| matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_));
    path.starts_with('/') && path.len() > 1 && Path::new(path).components().all(named)
}

/// Adds to a list that may be missing.
fn push(list: &mut Value, value: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(value),
        None => *list = Value::from(vec![value]),
    }
}

/// The keys on which this library, or a policy in front of it, relies.
const KEYS: &[&str] = &[
    "ociVersion",
    "process",
    "root",
    "hostname",
    "mounts",
    "hooks",
    "annotations",
    "linux",
    "terminal",
    "user",
    "args",
    "env",
    "cwd",
    "capabilities",
    "noNewPrivileges",
    "path",
    "readonly",
    "cgroupsPath",
    "namespaces",
    "type",
    "resources",
    "memory",
    "limit",
    "devices",
    "seccomp",
    "maskedPaths",
    "readonlyPaths",
    "options",
    "source",
    "destination",
];

/// A key that differs from one of [`KEYS`] in the case of its letters only, and that one. Runtimes in Go take it for the
/// same; what looked at the right key would have looked at nothing.
fn misspelt(value: &Value) -> Option<(&str, &'static str)> {
    match value {
        Value::Array(items) => items.iter().find_map(misspelt),
        Value::Object(map) => map.iter().find_map(|(key, inner)| {
            let same = KEYS.iter().find(|known| *known != key && is_same_to_go(known, key));
            match same {
                Some(known) => Some((key.as_str(), *known)),
                // Their names are free.
                None if matches!(key.as_str(), "annotations" | "sysctl" | "unified") => None,
                None => misspelt(inner),
            }
        }),
        _ => None,
    }
}

/// Whether Go takes two names for one: it heeds no case, and takes two more letters for ASCII ones.
fn is_same_to_go(one: &str, other: &str) -> bool {
    let letter = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    one.chars().map(letter).eq(other.chars().map(letter))
}

/// Reads a regular file of at most 16 MiB. A pipe or a device would hold up the caller, or never end.
///
/// # Errors
/// Those of opening and reading it; one that says so for what is no regular file, or too large.
pub fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    const LIMIT: u64 = 16 * 1024 * 1024;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::RDONLY;
    let file = std::fs::File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let room = usize::try_from(meta.len().min(LIMIT)).unwrap_or_default() + 1;
    let mut text = Vec::with_capacity(room);
    file.take(LIMIT + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(text)
}

/// A bind mount has that type, or one of the two options.
fn is_bind(mount: &Value) -> bool {
    let option = |wanted: &str| {
        mount
            .get("options")
            .and_then(Value::as_array)
            .is_some_and(|all| all.iter().any(|each| each == wanted))
    };
    mount.get("type").is_some_and(|kind| kind == "bind") || option("bind") || option("rbind")
}

fn make_absolute(value: &mut Value, bundle: &Path) {
    if let Some(path) = value.as_str().filter(|path| !path.starts_with('/')) {
        // The real path: runc refuses a root below a symbolic link.
        let joined = bundle.join(path);
        let real = joined.canonicalize().unwrap_or(joined);
        *value = Value::from(real.to_string_lossy().into_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_cgroup(cgroup: &str) -> Additions {
        Additions { cgroup: Some(cgroup.to_owned()), notify: None }
    }

    fn bundle(config: &Value) -> tempfile::TempDir {
        let at = tempfile::tempdir().unwrap();
        std::fs::create_dir(at.path().join("rootfs")).unwrap();
        std::fs::write(at.path().join("config.json"), config.to_string()).unwrap();
        at
    }

    fn small() -> Value {
        json!({"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": ["/x"], "cwd": "/"}, "future": 1})
    }

    #[test]
    fn a_notify_socket_is_mounted_and_named() {
        let at = bundle(&json!({
            "ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": ["/x"], "cwd": "/"},
        }));
        let notify = Some((PathBuf::from("/s/c/notify"), PathBuf::from("/run/notify")));
        let copy = SpecDocument::read(at.path()).unwrap().private_copy(&Additions { cgroup: None, notify });
        let copy: Value = serde_json::from_slice(&copy).unwrap();
        assert_eq!(copy["mounts"][0]["source"], "/s/c/notify");
        assert_eq!(copy["process"]["env"], json!(["NOTIFY_SOCKET=/run/notify/notify.sock"]));
        assert!(copy["linux"]["cgroupsPath"].is_null());
    }

    #[test]
    fn relative_paths_are_joined_and_the_rest_passes_through() {
        let mut config = small();
        config["mounts"] = json!([
            {"destination": "/a", "type": "bind", "source": "data"},
            {"destination": "/b", "source": "rel", "options": ["rbind", "ro"]},
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/c", "type": "bind", "source": "/abs"},
        ]);
        let at = bundle(&config);
        let spec = SpecDocument::read(at.path()).unwrap();
        let copy: Value = serde_json::from_slice(&spec.private_copy(&in_cgroup("/manyrun/x"))).unwrap();
        let real = at.path().canonicalize().unwrap();
        let joined = |rest: &str| real.join(rest).to_string_lossy().into_owned();
        assert_eq!(copy["root"]["path"], joined("rootfs"));
        assert_eq!(copy["mounts"][0]["source"], joined("data"));
        assert_eq!(copy["mounts"][1]["source"], joined("rel"));
        assert_eq!(
            (copy["mounts"][2]["source"].as_str(), copy["mounts"][3]["source"].as_str()),
            (Some("proc"), Some("/abs"))
        );
        assert_eq!(
            (copy["future"].as_i64(), copy["linux"]["cgroupsPath"].as_str()),
            (Some(1), Some("/manyrun/x"))
        );
    }

    #[test]
    fn a_cgroup_that_the_spec_names_stays() {
        let mut config = small();
        config["linux"] = json!({"cgroupsPath": "/mine"});
        let at = bundle(&config);
        let copy = SpecDocument::read(at.path()).unwrap().private_copy(&in_cgroup("/manyrun/x"));
        assert_eq!(serde_json::from_slice::<Value>(&copy).unwrap()["linux"]["cgroupsPath"], "/mine");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("/ociVersion", json!(null), "ociVersion"),
            ("/root", json!({}), "root.path"),
            ("/process", json!("x"), "process is not an object"),
            ("/process/cwd", json!("rel"), "process.cwd"),
            ("/process/args", json!([]), "process.args"),
            ("/process/args", json!([1]), "process.args"),
            ("/process/terminal", json!("yes"), "process.terminal"),
        ];
        for (pointer, value, wanted) in cases {
            let mut config = small();
            match config.pointer_mut(pointer) {
                Some(place) => *place = value,
                None => config["process"]["terminal"] = value,
            }
            let at = bundle(&config);
            let error = SpecDocument::read(at.path()).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("config.json"), "{error}");
        }
        for odd in [json!("x"), json!([])] {
            let mut config = small();
            config["linux"] = odd;
            assert!(
                SpecDocument::read(bundle(&config).path()).unwrap_err().to_string().contains("linux is not")
            );
        }
        for odd in ["/x/../busy", "rel", "/", "/../a"] {
            let mut config = small();
            config["linux"] = json!({"cgroupsPath": odd});
            let spec = SpecDocument::read(bundle(&config).path()).unwrap();
            assert!(spec.check_cgroup_path().unwrap_err().to_string().contains("cgroupsPath"), "{odd}");
        }
        let at = tempfile::tempdir().unwrap();
        assert!(SpecDocument::read(&at.path().join("nope")).unwrap_err().to_string().contains("nope"));
        let pipe = at.path().join("config.json");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(SpecDocument::read(at.path()).unwrap_err().to_string().contains("cannot be read"));
        std::fs::remove_file(&pipe).unwrap();
        std::fs::write(at.path().join("config.json"), "{").unwrap();
        assert!(SpecDocument::read(at.path()).unwrap_err().to_string().contains("not JSON"));
    }

    #[test]
    fn keys_that_only_some_runtimes_take_for_known_ones_are_refused() {
        let refused = |config: &Value| SpecDocument::read(bundle(config).path()).unwrap_err().to_string();
        for (pointer, key) in [
            ("", "Annotations"),
            ("", "LINUX"),
            ("", "annotation\u{17f}"),
            ("/linux", "CgroupsPath"),
            ("/linux", "cgroup\u{17f}path"),
            ("/process", "Args"),
        ] {
            let mut config = json!({
                "ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": ["x"], "cwd": "/"}, "linux": {}
            });
            config.pointer_mut(pointer).unwrap()[key] = json!({});
            assert!(refused(&config).contains(&format!("the key {key:?}")), "{}", refused(&config));
        }
        let config = json!({
            "ociVersion": "1.0.2", "root": {"path": "rootfs"}, "process": {"args": ["x"], "cwd": "/"},
            "annotations": {"Linux": "mine"}, "linux": {"sysctl": {"PATH": "free"}}
        });
        assert!(SpecDocument::read(bundle(&config).path()).is_ok());
    }
}
