//! The bundle that a container is made from.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use runtime_api::{Error, ErrorKind, Result};
use runtime_host::spec::read_bounded;
use serde_json::Value;
use tempfile::TempDir;

/// A bundle that was looked at, and with a command line of the user's a private copy of its `config.json`.
#[derive(Debug)]
pub(super) struct Bundle {
    /// What the runtime gets.
    pub(super) path: PathBuf,
    /// Whether the program wants a terminal.
    pub(super) terminal: bool,
    /// Removed with this value.
    _adapted: Option<TempDir>,
}

impl Bundle {
    /// Reads `config.json` far enough to run it; what else is wrong with it, the runtime tells.
    pub(super) fn read(path: &Path, args: &[String]) -> Result<Self> {
        let refused = |what: String| {
            Error::new(ErrorKind::ConfigInvalid(what)).during_step("read bundle").on(shown(path))
        };
        let real =
            std::fs::canonicalize(path).map_err(|e| refused("it cannot be found".to_owned()).caused_by(e))?;
        let text = read_bounded(&real.join("config.json"))
            .map_err(|error| refused("its config.json cannot be read".to_owned()).caused_by(error))?;
        let mut spec: Value = serde_json::from_slice(&text)
            .map_err(|error| refused("its config.json is broken".to_owned()).caused_by(error))?;
        let terminal = spec.pointer("/process/terminal") == Some(&Value::Bool(true));
        if args.is_empty() {
            return Ok(Self { path: real, terminal, _adapted: None });
        }
        let Some(process) = spec.get_mut("process").and_then(Value::as_object_mut) else {
            return Err(refused("its config.json has no process to give a command line to".to_owned()));
        };
        process.insert("args".to_owned(), args.into());
        join_paths(&mut spec, &real);
        // The environment in it may hold secrets: nobody else looks into the directory.
        let private = std::fs::Permissions::from_mode(0o700);
        let adapted = tempfile::Builder::new().prefix("manyrun-").permissions(private).tempdir();
        let adapted = adapted.map_err(|error| super::no_place(&error))?;
        std::fs::write(adapted.path().join("config.json"), spec.to_string())
            .map_err(|error| super::no_place(&error))?;
        Ok(Self { path: adapted.path().to_owned(), terminal, _adapted: Some(adapted) })
    }
}

/// Relative paths mean the original bundle, wherever the copy is.
fn join_paths(spec: &mut Value, bundle: &Path) {
    if let Some(root) = spec.pointer_mut("/root/path") {
        join(root, bundle);
    }
    for mount in spec.pointer_mut("/mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        let binds = |option: &Value| matches!(option.as_str(), Some("bind" | "rbind"));
        let is_bind = mount.get("type").and_then(Value::as_str) == Some("bind")
            || mount.get("options").and_then(Value::as_array).is_some_and(|all| all.iter().any(binds));
        if let (true, Some(source)) = (is_bind, mount.get_mut("source")) {
            join(source, bundle);
        }
    }
}

fn join(path: &mut Value, bundle: &Path) {
    if let Some(text) = path.as_str() {
        *path = Value::String(bundle.join(text).to_string_lossy().into_owned());
    }
}

fn shown(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bundle(spec: &str) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), spec).unwrap();
        dir
    }

    #[test]
    fn a_command_line_goes_into_a_copy() {
        let spec = json!({
            "process": {"args": ["/old"], "terminal": true},
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/a", "type": "bind", "source": "data"},
                {"destination": "/b", "source": "/abs", "options": ["rbind"]},
                {"destination": "/proc", "type": "proc", "source": "proc"},
            ],
        });
        let dir = bundle(&spec.to_string());
        let real = dir.path().canonicalize().unwrap();
        let read = Bundle::read(dir.path(), &["/new".to_owned(), "x".to_owned()]).unwrap();
        assert!(read.terminal);
        let copy: Value =
            serde_json::from_slice(&std::fs::read(read.path.join("config.json")).unwrap()).unwrap();
        assert_eq!(copy["process"]["args"], json!(["/new", "x"]));
        assert_eq!(copy["root"]["path"], json!(real.join("rootfs")));
        assert_eq!(copy["mounts"][0]["source"], json!(real.join("data")));
        assert_eq!(
            (&copy["mounts"][1]["source"], &copy["mounts"][2]["source"]),
            (&json!("/abs"), &json!("proc"))
        );
        let place = read.path.clone();
        assert_eq!(std::fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        drop(read);
        assert!(!place.exists());
        assert_eq!(std::fs::read_to_string(dir.path().join("config.json")).unwrap(), spec.to_string());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = Bundle::read(Path::new("/nonexistent/bundle"), &[]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/bundle"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = Bundle::read(empty.path(), &[]).unwrap_err();
        assert!(error.to_string().contains("config.json cannot be read"), "{error}");
        let broken = bundle("{\n  \"process\": \n");
        let error = Bundle::read(broken.path(), &[]).unwrap_err();
        assert!(error.report().contains("line 3"), "{}", error.report());
        let none = bundle("{}");
        let error = Bundle::read(none.path(), &["x".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("no process"), "{error}");
    }
}
