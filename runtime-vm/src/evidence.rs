//! What a shim says of itself, asked once and kept for as long as nothing that was looked at changes.
//!
//! A shim has no list of what it can do. So one is started without a container and is asked for each method about a
//! container that is not there: one that it has not got is answered otherwise than one that looks for the container.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use runtime_api::{ContainerId, Error, Result};
use runtime_host::document;
use runtime_host::process::Identity;

use crate::config::VmConfig;
use crate::connector::{Connector, Dialled, NoSaver};
use crate::layout::Layout;
use crate::monitor::StartOrder;
use crate::saving;
use crate::shims::{DIAL, Members};
use crate::task::any::{linux_resources, process};
use crate::task::code::Meaning;
use crate::task::{Answer, ExecTask, Fault, Target, TaskApi, TaskClient, TaskIo};

/// How long it may take to start.
const START: Duration = Duration::from_secs(10);
/// How long it may take for each question.
const LIMIT: Duration = Duration::from_secs(5);
/// How much of an answer is kept.
const SHOWN: usize = 200;
/// The version of the file's shape.
const SCHEMA: u32 = 1;

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) yes: bool,
    pub(crate) asked: String,
    pub(crate) said: String,
}

impl Finding {
    pub(crate) fn new(yes: bool, asked: impl Into<String>, said: &str) -> Self {
        let said: String =
            said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
        Self { yes, asked: asked.into(), said }
    }
}

/// Everything that was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) version: Option<String>,
    /// By the name of the method.
    pub(crate) methods: BTreeMap<String, Finding>,
    /// Who saves containers behind it.
    #[serde(default)]
    pub(crate) saver: Option<Finding>,
    /// Why no shim could be asked.
    pub(crate) silent: Option<String>,
}

/// The file that keeps findings between processes.
#[derive(Serialize, Deserialize)]
struct Kept {
    schema: u32,
    key: Vec<String>,
    findings: Findings,
}

/// Asks, or takes what an earlier process found if everything it depended on is unchanged.
pub(crate) async fn gather(
    layout: &Layout,
    config: &VmConfig,
    connector: &Arc<dyn Connector>,
    namespace: &str,
    boot_id: &str,
) -> Findings {
    let key = key(config, boot_id);
    let file = layout.capabilities();
    let kept = document::read(&file, SCHEMA, |kept: &Kept| kept.schema).ok().flatten();
    let earlier = match kept {
        Some(kept) if kept.key == key => return kept.findings,
        // Of another version, perhaps: still more than nothing where the shim of today does not say anything.
        other => other.map(|kept| kept.findings),
    };
    // What runs behind a shim whose binary is gone goes on, and is served by it.
    let Ok(shim) = config.shim.as_deref() else { return earlier.unwrap_or_default() };
    let mut findings = Findings { version: connector.version(shim).await, ..Findings::default() };
    match ask(layout, config, connector, namespace, shim).await {
        Ok(methods) => {
            let saver = connector.saver(shim, config.below()).await;
            findings.saver = Some(match &saver {
                Ok(said) => Finding::new(true, "criu check", said),
                Err(NoSaver::No(why) | NoSaver::Silent(why)) => Finding::new(false, "criu check", why),
            });
            findings.methods = methods;
            if let Err(NoSaver::Silent(why)) = saver {
                // Perhaps the machine is busy. The next one to open it asks again.
                tracing::warn!(why, "what saves containers does not answer");
                return findings;
            }
        }
        Err(error) => {
            // Perhaps the machine is busy. The next one to open it asks again.
            tracing::warn!(error = error.report(), "the shim does not tell what it can do");
            return earlier.unwrap_or_else(|| {
                findings.silent = Some(error.report());
                findings
            });
        }
    }
    let kept = Kept { schema: SCHEMA, key, findings };
    if let Err(error) = document::write(&file, &kept) {
        // Only speed is lost.
        tracing::debug!(error = error.report(), "findings are not kept");
    }
    kept.findings
}

/// What the answers depend on.
fn key(config: &VmConfig, boot_id: &str) -> Vec<String> {
    let print = |path: &Path| match std::fs::metadata(path) {
        Ok(meta) => {
            format!("{} {} {} {}.{}", path.display(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
        }
        Err(error) => format!("{} {error}", path.display()),
    };
    let shim = config.shim.as_deref().map_or_else(ToOwned::to_owned, print);
    let user = rustix::process::geteuid().as_raw().to_string();
    let mut key = vec![env!("CARGO_PKG_VERSION").to_owned(), boot_id.to_owned(), shim, user];
    let consulted = saving::consulted(config.below());
    key.extend(consulted.map(|path| path.map_or_else(|| "absent".to_owned(), |path| print(&path))));
    key
}

/// Starts a shim for nothing but questions. It is undone at the end, however that comes.
async fn ask(
    layout: &Layout,
    config: &VmConfig,
    connector: &Arc<dyn Connector>,
    namespace: &str,
    shim: &Path,
) -> Result<BTreeMap<String, Finding>> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let own = Identity::own();
    let id = format!("probe-{}-{}-{}", own.pid, own.start, COUNT.fetch_add(1, Ordering::Relaxed));
    // Locked, so that nobody takes it for one that was left.
    let members = Members::make(layout, &id).await?;
    let bundle = members.dir().path().join(&id);
    let asked = async {
        let cannot = |error| document::cannot_write(&bundle, error);
        std::fs::create_dir_all(bundle.join("rootfs")).map_err(cannot)?;
        std::fs::write(bundle.join("config.json"), SPEC).map_err(cannot)?;
        let mut order = StartOrder::new(shim, &id, &bundle);
        order.namespace = namespace.to_owned();
        order.debug = config.debug;
        (order.start_limit, order.dial_limit) = (START, DIAL);
        let starting = connector.start(members.dir().path(), order).await?;
        let started = starting.started();
        let api = if started.api == 3 { TaskApi::V3 } else { TaskApi::V2 };
        let target = Dialled { api, namespace, id: &id };
        let client = connector.dial(&started.address, &target, DIAL).await?;
        let methods = questions(&client, &ContainerId::new("no-such-container")?).await;
        drop(client);
        starting.undo().await;
        Ok::<_, Error>(methods)
    };
    let asked = asked.await;
    members.remove();
    asked
}

/// The smallest spec that a shim reads when it starts.
const SPEC: &str = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["/x"],"cwd":"/"},"root":{"path":"rootfs"}}"#;

async fn questions(client: &TaskClient, id: &ContainerId) -> BTreeMap<String, Finding> {
    let id = id.as_str();
    let none = Target::init(id);
    let spec = process(&serde_json::json!({"args": ["/x"], "cwd": "/"})).unwrap_or_default();
    let limits = linux_resources(&serde_json::json!({"pids": {"limit": 1}})).unwrap_or_default();
    let exec = ExecTask { id: id.to_owned(), exec: "e".to_owned(), io: TaskIo::default(), process: spec };
    let answers = [
        ("Kill", told(client.kill(none, 15, true, LIMIT).await)),
        ("Exec", told(client.exec(exec, LIMIT).await)),
        ("ResizePty", told(client.resize_pty(none, 80, 24, LIMIT).await)),
        ("CloseIO", told(client.close_stdin(none, LIMIT).await)),
        ("Pids", told(client.pids(id, LIMIT).await)),
        ("Pause", told(client.pause(id, LIMIT).await)),
        ("Resume", told(client.resume(id, LIMIT).await)),
        ("Update", told(client.update(id, limits, BTreeMap::new(), LIMIT).await)),
        ("Stats", told(client.stats(id, LIMIT).await)),
        ("Checkpoint", told(client.checkpoint(id, Path::new("/nowhere"), None, LIMIT).await)),
    ];
    let service = client.api().service();
    let finding = |(method, said): (&str, std::result::Result<String, String>)| {
        let asked = format!("{service}/{method} of a container that is not there");
        let (yes, said) = match said {
            Ok(said) => (true, said),
            Err(said) => (false, said),
        };
        (method.to_owned(), Finding::new(yes, asked, &said))
    };
    answers.into_iter().map(finding).collect()
}

/// Whether a method was there to be called, and what was said.
fn told<T>(answer: Answer<T>) -> std::result::Result<String, String> {
    match answer {
        Ok(_) => Ok("it was done".to_owned()),
        Err(fault) => match fault.meaning() {
            Some(Meaning::Unimplemented | Meaning::UnknownService) => Err(fault.to_string()),
            Some(_) => Ok(fault.to_string()),
            None => match fault {
                Fault::Malformed(why) => Ok(why),
                other => Err(other.to_string()),
            },
        },
    }
}
