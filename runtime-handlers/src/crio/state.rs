//! `state.json`: what CRI-O keeps of a container for the time after a restart. It lies in the container's directory, beside
//! a copy of `config.json`. Parsing does no I/O; [`load::crio_state`](crate::load::crio_state) reads a file.
//!
//! Keys that nobody knows are left alone, as CRI-O does. A time of the year 1 is none, a pid of 0 neither.

use std::collections::BTreeMap;
use std::time::SystemTime;

use runtime_api::{
    ContainerId, ContainerState, ContainerStatus, Error, ErrorKind, ExitCause, ExitStatus, Result,
};
use serde::Deserialize;

use crate::logs::parse_time;
use crate::source::Source;

/// What CRI-O knew of a container when it last wrote the file.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How it stood. Where the file has no time of creation, it is that of the start, of the end, or the beginning of 1970.
    pub state: ContainerState,
    /// What went wrong, such as why it could not be started.
    pub error: Option<String>,
    /// Whether its seccomp profile ended it.
    pub seccomp_killed: bool,
    /// Its first process.
    pub init: Option<Identity>,
    /// The process that watches it.
    pub monitor: Option<Identity>,
    /// When it was checkpointed.
    pub checkpointed_at: Option<SystemTime>,
}

/// A process: a pid alone may belong to another one by now.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its pid.
    pub pid: u32,
    /// When it was started, in ticks since the boot; `None` in files of old releases.
    pub start_time: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    pid: i64,
    #[serde(default)]
    bundle: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    started: Option<String>,
    #[serde(default)]
    finished: Option<String>,
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(default, rename = "oomKilled")]
    oom_killed: bool,
    #[serde(default)]
    seccomp_killed: bool,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    init_pid: i64,
    #[serde(default)]
    init_start_time: Option<String>,
    #[serde(default)]
    checkpointed_time: Option<String>,
    #[serde(default)]
    container_monitor_process: Option<WrittenProcess>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenProcess {
    #[serde(default)]
    pid: i64,
    #[serde(default)]
    start_time: Option<String>,
}

/// Reads one `state.json`.
///
/// # Errors
/// [`ConfigInvalid`](runtime_api::ErrorKind::ConfigInvalid), which names the file and the line or the key.
pub fn parse(source: &Source) -> Result<Kept> {
    let wrong = |what: String| {
        Error::new(ErrorKind::ConfigInvalid(what)).on(source.path.display()).during_step("read state.json")
    };
    let written: Written =
        serde_json::from_str(&source.text).map_err(|error| wrong(format!("it is damaged: {error}")))?;
    let time = |name: &str, text: &Option<String>| match text.as_deref() {
        None => Ok(None),
        // Go's time of nothing, which west of Greenwich may be told as the evening before.
        Some(text)
            if text.is_empty() || text.starts_with("0001-01-01T") || text.starts_with("0000-12-31T") =>
        {
            Ok(None)
        }
        Some(text) => match parse_time(text) {
            Some(time) => Ok(Some(time)),
            None => Err(wrong(format!("key {name:?}: {text:?} is no time such as 2026-01-02T03:04:05Z"))),
        },
    };
    let process = |name: &str, pid: i64, start: &Option<String>| {
        let Ok(pid) = u32::try_from(pid) else { return Err(wrong(format!("key {name:?}: {pid} is no pid"))) };
        let start_time = match start.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(
                text.parse().map_err(|_| wrong(format!("{name:?} was started at {text:?}, no number")))?,
            ),
        };
        Ok((pid > 0).then_some(Identity { pid, start_time }))
    };
    let id = ContainerId::new(written.id.as_str())
        .map_err(|error| wrong(format!("key \"id\": {}", error.kind())))?;
    let status = match written.status.as_str() {
        // Before its runtime has made it.
        "" | "creating" => ContainerStatus::Creating,
        "created" => ContainerStatus::Created,
        "running" => ContainerStatus::Running,
        "paused" => ContainerStatus::Paused,
        "stopped" => ContainerStatus::Stopped,
        other => {
            return Err(wrong(format!(
                "key \"status\" is {other:?}, which is none of created, running, paused, stopped"
            )));
        }
    };
    if written.created.is_none() {
        return Err(wrong("key \"created\" is missing".to_owned()));
    }
    let started_at = time("started", &written.started)?;
    let finished_at = time("finished", &written.finished)?;
    // Of a container that its runtime has not made yet, or whose file an old release wrote, nobody knows it.
    let created_at = time("created", &written.created)?;
    let created_at = created_at.or(started_at).or(finished_at).unwrap_or(SystemTime::UNIX_EPOCH);
    let checkpointed_at = time("checkpointedTime", &written.checkpointed_time)?;
    let mut state = ContainerState::new(id, status, written.bundle.as_str(), created_at);
    state.started_at = started_at;
    state.annotations = written.annotations.clone().unwrap_or_default();
    if status == ContainerStatus::Stopped {
        let cause = cause(&written, &state, checkpointed_at);
        state.exit = Some(ExitStatus::new(written.exit_code, cause, finished_at.unwrap_or(created_at)));
    } else {
        state.pid = process("pid", written.pid, &None)?.map(|process| process.pid);
    }
    let monitor = match &written.container_monitor_process {
        Some(monitor) => process("containerMonitorProcess", monitor.pid, &monitor.start_time)?,
        None => None,
    };
    Ok(Kept {
        init: process("initPid", written.init_pid, &written.init_start_time)?,
        monitor,
        error: written.error.filter(|text| !text.is_empty()),
        seccomp_killed: written.seccomp_killed,
        checkpointed_at,
        state,
    })
}

/// Why it is no longer running, as far as the file tells.
fn cause(written: &Written, state: &ContainerState, checkpointed_at: Option<SystemTime>) -> ExitCause {
    let has_error = written.error.as_deref().is_some_and(|text| !text.is_empty());
    match written.exit_code {
        _ if written.oom_killed => ExitCause::OomKilled,
        Some(0) if checkpointed_at.is_some_and(|at| state.started_at.is_none_or(|start| at >= start)) => {
            ExitCause::Checkpointed
        }
        _ if state.started_at.is_none() && has_error => ExitCause::StartFailed,
        None => ExitCause::StateLost,
        Some(_) => ExitCause::Exited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: &str = r#"{
        "ociVersion": "1.0.2-dev", "id": "abc123", "status": "running", "pid": 4711, "bundle": "/run/b",
        "annotations": {"io.kubernetes.cri-o.Name": "k8s_web"},
        "created": "2026-01-02T03:04:05.123456789+01:00", "started": "2026-01-02T02:04:06Z",
        "finished": "0001-01-01T00:00:00Z", "checkpointedTime": "0001-01-01T00:00:00Z", "initPid": 4711,
        "initStartTime": "123456", "containerMonitorProcess": {"pid": 4700, "startTime": "123400"}, "later": [1]
    }"#;

    fn read(text: &str) -> Result<Kept> {
        parse(&Source::new("/c/state.json", text))
    }

    fn time(text: &str) -> SystemTime {
        parse_time(text).unwrap()
    }

    #[test]
    fn a_running_container_is_read() {
        let kept = read(RUNNING).unwrap();
        let mut state = ContainerState::new(
            ContainerId::new("abc123").unwrap(),
            ContainerStatus::Running,
            "/run/b",
            time("2026-01-02T02:04:05.123456789Z"),
        );
        state.pid = Some(4711);
        state.started_at = Some(time("2026-01-02T02:04:06Z"));
        state.annotations.insert("io.kubernetes.cri-o.Name".into(), "k8s_web".into());
        assert_eq!(kept.state, state);
        assert_eq!(kept.init, Some(Identity { pid: 4711, start_time: Some(123_456) }));
        assert_eq!(kept.monitor, Some(Identity { pid: 4700, start_time: Some(123_400) }));
        assert_eq!((kept.error, kept.seccomp_killed, kept.checkpointed_at), (None, false, None));
    }

    #[test]
    fn an_end_has_its_cause() {
        let end = |more: &str| {
            let text = format!(
                r#"{{"id": "a", "status": "stopped", "pid": 0, "created": "2026-01-02T03:04:05Z",
                "finished": "2026-01-02T03:04:09Z"{more}}}"#
            );
            read(&text).unwrap().state.exit.unwrap()
        };
        let started = r#", "started": "2026-01-02T03:04:06Z""#;
        for (more, code, cause) in [
            (format!(r#"{started}, "exitCode": 3"#), Some(3), ExitCause::Exited),
            (format!(r#"{started}, "exitCode": 137, "oomKilled": true"#), Some(137), ExitCause::OomKilled),
            (started.to_owned(), None, ExitCause::StateLost),
            (r#", "error": "no such file", "exitCode": 255"#.to_owned(), Some(255), ExitCause::StartFailed),
            (
                format!(r#"{started}, "exitCode": 0, "checkpointedTime": "2026-01-02T03:04:09Z""#),
                Some(0),
                ExitCause::Checkpointed,
            ),
        ] {
            assert_eq!(end(&more), ExitStatus::new(code, cause, time("2026-01-02T03:04:09Z")), "{more}");
        }
    }

    #[test]
    fn a_time_of_year_1_is_none() {
        let created = "\"created\": \"2026-01-02T03:04:05.123456789+01:00\"";
        for nothing in ["0001-01-01T00:00:00Z", "0001-01-01T00:53:28+00:53", "0000-12-31T19:03:58-04:56", ""]
        {
            let text = RUNNING.replace(created, &format!("\"created\": \"{nothing}\""));
            assert_ne!(text, RUNNING);
            let kept = read(&text).unwrap();
            assert_eq!(kept.state.created_at, time("2026-01-02T02:04:06Z"), "{nothing}: when it was started");
            let making =
                format!(r#"{{"id": "a", "status": "", "created": "{nothing}", "started": "{nothing}"}}"#);
            let kept = read(&making).unwrap();
            assert_eq!(kept.state.status, ContainerStatus::Creating);
            assert_eq!((kept.state.created_at, kept.state.started_at), (SystemTime::UNIX_EPOCH, None));
        }
    }

    #[test]
    fn what_is_damaged_is_named() {
        for (text, what) in [
            (RUNNING[..60].to_owned(), "it is damaged"),
            (RUNNING.replace("\"abc123\"", "\"a b\""), "key \"id\""),
            (RUNNING.replace("\"running\"", "\"ran\""), "key \"status\" is \"ran\""),
            (RUNNING.replace("\"pid\": 4711", "\"pid\": -1"), "key \"pid\": -1 is no pid"),
            (RUNNING.replace("123456\"", "soon\""), "no number"),
            (RUNNING.replace("2026-01-02T02:04:06Z", "today"), "key \"started\": \"today\" is no time"),
            (RUNNING.replace("\"created\"", "\"createt\""), "key \"created\" is missing"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert_eq!(error.subject(), Some("/c/state.json"));
        }
    }
}
