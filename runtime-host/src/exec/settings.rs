//! What an exec runs: the container's own process, with what the request says otherwise.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use runtime_api::{Error, ErrorKind, ProcessRequest, Result, WindowSize};

/// Refuses what no runtime could run.
///
/// # Errors
/// `InvalidArgument`, which says what is wrong.
pub fn check(process: &ProcessRequest, timeout: Option<Duration>) -> Result<()> {
    let invalid = |what: &str| Err(Error::new(ErrorKind::InvalidArgument(what.to_owned())));
    if process.argv.is_empty() || process.argv.first().is_some_and(String::is_empty) {
        return invalid("an exec needs a program");
    }
    if process.argv.iter().chain(&process.env).any(|text| text.contains('\0')) {
        return invalid("an argument or variable holds a NUL byte");
    }
    if timeout == Some(Duration::ZERO) {
        return invalid("a time limit of zero; leave it out for no limit");
    }
    Ok(())
}

/// The container's own process, from the private copy of its `config.json`.
///
/// # Errors
/// `ConfigInvalid` when that cannot be read.
pub fn read_process(path: &Path) -> Result<Value> {
    Ok(read_spec(path)?["process"].take())
}

/// The whole of the private copy of a container's `config.json`.
///
/// # Errors
/// `ConfigInvalid` when that cannot be read.
pub fn read_spec(path: &Path) -> Result<Value> {
    let damaged = || {
        Error::new(ErrorKind::ConfigInvalid("it is not a spec".into()))
            .on(format_args!("file {}", path.display()))
    };
    let text = std::fs::read(path).map_err(|error| damaged().caused_by(error))?;
    serde_json::from_slice(&text).map_err(|error| damaged().caused_by(error))
}

/// The container's process with what the request asks for.
#[must_use]
pub fn merged(mut own: Value, request: &ProcessRequest, size: Option<WindowSize>) -> Value {
    own["args"] = json!(request.argv);
    own["terminal"] = json!(request.terminal);
    if let Some(fields) = own.as_object_mut() {
        fields.remove("consoleSize");
    }
    if let Some(size) = size.filter(|_| request.terminal) {
        own["consoleSize"] = json!({"height": size.rows, "width": size.columns});
    }
    let inherited = own["env"].as_array().cloned().unwrap_or_default();
    let inherited = inherited.iter().filter_map(Value::as_str).map(str::to_owned);
    let mut env: Vec<String> = Vec::new();
    for pair in inherited.chain(request.env.iter().cloned()) {
        let name = pair.split('=').next().unwrap_or_default().to_owned();
        env.retain(|known| known.split('=').next() != Some(name.as_str()));
        env.push(pair);
    }
    own["env"] = json!(env);
    if let Some(cwd) = &request.cwd {
        own["cwd"] = json!(cwd);
    }
    if let Some((uid, gid)) = request.user {
        own["user"] = json!({"uid": uid, "gid": gid, "additionalGids": request.groups});
    } else if !request.groups.is_empty() {
        own["user"]["additionalGids"] = json!(request.groups);
    }
    if let Some(names) = &request.capabilities {
        own["capabilities"] =
            json!({"bounding": names, "effective": names, "permitted": names, "inheritable": []});
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exec_takes_the_containers_process_and_overrides_parts() {
        let own = json!({"args": ["/init"], "cwd": "/a", "env": ["A=1", "B=2"], "terminal": true, "consoleSize": {}, "noNewPrivileges": true});
        let request = ProcessRequest::new(["/x", "-c"]).env("B", "3").cwd("/b").user(5, 6);
        let made = merged(own, &request, None);
        assert_eq!(made["args"], json!(["/x", "-c"]));
        assert_eq!(made["env"], json!(["A=1", "B=3"]));
        assert_eq!((made["cwd"].as_str(), made["user"]["uid"].as_u64()), (Some("/b"), Some(5)));
        assert_eq!(
            (made["terminal"].as_bool(), made["noNewPrivileges"].as_bool()),
            (Some(false), Some(true))
        );
        assert!(made.get("consoleSize").is_none());
    }
}
