//! One container's life under one handler.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runtime_api::{
    Capability, ContainerId, CreateRequest, DeleteRequest, Error, ErrorKind, ExitStatus, HandlerConfig,
    LogConfig, Result, SharedRuntime,
};
use runtime_handlers::Runtime;

use crate::GREETING;

/// A demonstration is no place for a container that never ends.
const LIMIT: Duration = Duration::from_secs(60);
/// How much of a log is read.
const LOG_LIMIT: usize = 64 * 1024;

/// What is the same for every handler.
pub(crate) struct Stage<'a> {
    pub(crate) facade: &'a Runtime,
    /// A directory for state and logs.
    pub(crate) place: &'a Path,
    pub(crate) bundle: &'a Path,
    /// Whether the bundle is the demo's own, whose output is known.
    pub(crate) is_own: bool,
}

/// How it went.
pub(crate) enum Outcome {
    Ran(Box<Ran>),
    /// It cannot be shown here, for this reason.
    LeftOut(String),
    Failed(String),
    Interrupted,
}

pub(crate) struct Ran {
    pub(crate) runtime: SharedRuntime,
    pub(crate) printed: Vec<u8>,
    pub(crate) status: ExitStatus,
    pub(crate) took: Duration,
}

impl Stage<'_> {
    pub(crate) async fn live(&self, config: &HandlerConfig) -> Outcome {
        match config.kind.as_str() {
            "fake" if !self.is_own => {
                return Outcome::LeftOut("the fake models only its probe program".to_owned());
            }
            "oci" if !nix::unistd::geteuid().is_root() => {
                return Outcome::LeftOut("containers of this kind need root".to_owned());
            }
            _ => {}
        }
        let lived = self.live_to_the_end(config).await;
        match lived {
            Ok(None) => Outcome::Interrupted,
            Ok(Some(ran)) if self.is_own && ran.printed != format!("{GREETING}\n").into_bytes() => {
                let printed = String::from_utf8_lossy(&ran.printed).into_owned();
                Outcome::Failed(format!("the container printed {printed:?}, not {GREETING:?}"))
            }
            Ok(Some(ran)) if self.is_own && !ran.status.success() => Outcome::Failed(ran.status.to_string()),
            Ok(Some(ran)) => Outcome::Ran(Box::new(ran)),
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable(_)) => {
                Outcome::LeftOut(error.report())
            }
            Err(error) => Outcome::Failed(error.report()),
        }
    }

    /// `None` when the user interrupted it; nothing is left then either.
    async fn live_to_the_end(&self, config: &HandlerConfig) -> Result<Option<Ran>> {
        static LIVES: AtomicU32 = AtomicU32::new(0);
        let nth = LIVES.fetch_add(1, Ordering::Relaxed);
        let id = ContainerId::new(format!("demo-{}-{nth}", std::process::id()))?;
        let runtime = self.facade.runtime(Some(&config.name)).await?;

        let log = self.place.join(format!("{id}.log"));
        let mut request = CreateRequest::new(id.clone(), self.bundle);
        if runtime.capabilities().has(Capability::Log) {
            request = request.log(LogConfig::cri_file(&log));
        }
        let began = Instant::now();
        let life = async {
            runtime.create(request).await?;
            runtime.start(&id).await?;
            let status = runtime.wait(&id).await?;
            runtime.delete(&id, DeleteRequest::new()).await?;
            Ok(Some(status))
        };
        let lived = tokio::select! {
            lived = life => lived,
            _ = tokio::signal::ctrl_c() => Ok(None),
            () = tokio::time::sleep(LIMIT) => {
                let late = Error::new(ErrorKind::TimedOut(LIMIT)).on(format_args!("container \"{id}\""));
                Err(late.hint("it was ended by force"))
            }
        };
        let took = began.elapsed();
        let gone = match &lived {
            Ok(Some(_)) => Ok(()),
            _ => runtime.delete(&id, DeleteRequest::force()).await,
        };
        let ended = lived?;
        gone?;
        Ok(ended.map(|status| Ran { runtime, printed: read_log(&log), status, took }))
    }
}

/// What the container wrote to both of its streams. A line of the log is `TIME STREAM TAG TEXT`, where the tag `P` means
/// that the line goes on in the next one.
fn read_log(path: &Path) -> Vec<u8> {
    let mut log = std::fs::read(path).unwrap_or_default();
    log.truncate(LOG_LIMIT);
    let mut printed = Vec::new();
    for line in log.split(|byte| *byte == b'\n') {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        if let (Some(_), Some(_), Some(tag), Some(text)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        {
            printed.extend_from_slice(text);
            if tag == b"F" {
                printed.push(b'\n');
            }
        }
    }
    printed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_put_together_again() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        std::fs::write(&log, "1 stdout F a b\n2 stdout P c\n3 stderr F d\n4 stdout F \nbroken").unwrap();
        assert_eq!(read_log(&log), b"a b\ncd\n\n");
        assert!(read_log(&directory.path().join("none")).is_empty());
    }
}
