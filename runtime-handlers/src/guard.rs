//! Refuses what is wrong by itself, before the backend hears of it.
//!
//! Only stateless checks are here. Whether a container is in the right state is for the backend, under its own lock:
//! asking first and acting later races.

use std::time::Duration;

use runtime_api::{
    Capability, CheckpointRequest, CreateRequest, Error, ErrorKind, LogDriver, ProcessRequest, Result,
    UpdateRequest,
};

use crate::intercept::{Asked, Call, Interceptor, Rest};

/// The smallest size at which a log may start anew; below it a single long line would not fit.
const SMALLEST_LOG: u64 = 8192;

/// The layer that checks capabilities and arguments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guard {
    min_memory: Option<u64>,
}

impl Guard {
    /// Refuses updates to a memory limit below this many bytes, too.
    #[must_use]
    pub const fn min_memory(mut self, bytes: Option<u64>) -> Self {
        self.min_memory = bytes;
        self
    }
}

impl Interceptor for Guard {
    fn around<'a>(&'a self, call: &'a Call<'a>, rest: Rest<'a>) -> Rest<'a> {
        match check(call, self.min_memory) {
            Ok(()) => rest,
            Err(error) => {
                let error = error.during(call.operation).on(call.subject());
                Box::pin(std::future::ready(Err(error)))
            }
        }
    }
}

fn check(call: &Call<'_>, min_memory: Option<u64>) -> Result<()> {
    call.capabilities.require_for(call.operation)?;
    match &call.asked {
        Asked::Kill(request) if request.all => call.capabilities.require(Capability::KillAll),
        Asked::Create(request) => create(request, call),
        Asked::Program { process, timeout } => {
            program(process, call)?;
            positive(*timeout, "the time limit")
        }
        Asked::Update(request) => update(request, min_memory),
        Asked::Checkpoint(request) => checkpoint(request, call),
        Asked::Port(0) => Err(invalid("port 0 is no port to connect to")),
        _ => Ok(()),
    }
}

fn create(request: &CreateRequest, call: &Call<'_>) -> Result<()> {
    if request.log.max_size.is_some_and(|size| size < SMALLEST_LOG) {
        return Err(invalid(&format!("the log's max_size must be at least {SMALLEST_LOG} bytes")));
    }
    match (request.log.driver, &request.log.path) {
        (LogDriver::CriFile, None) => Err(invalid("a log file needs a path")),
        (LogDriver::CriFile, Some(_)) => call.capabilities.require(Capability::Log),
        (LogDriver::Journald | LogDriver::None, Some(_)) => {
            Err(invalid("a log path is given, but the log driver writes no file"))
        }
        _ => Ok(()),
    }
}

fn program(process: &ProcessRequest, call: &Call<'_>) -> Result<()> {
    if process.argv.first().is_none_or(String::is_empty) {
        return Err(invalid("there is no program to run: argv is empty"));
    }
    if process.argv.iter().chain(&process.env).any(|text| text.contains('\0')) {
        return Err(invalid("an argument or an environment variable holds a NUL byte"));
    }
    if let Some(pair) = process.env.iter().find(|pair| pair.split_once('=').is_none_or(|(k, _)| k.is_empty()))
    {
        return Err(invalid(&format!("the environment variable {pair:?} is not of the form KEY=value")));
    }
    if process.cwd.as_ref().is_some_and(|cwd| !cwd.is_absolute()) {
        return Err(invalid("the working directory must be an absolute path"));
    }
    if process.terminal {
        call.capabilities.require(Capability::ExecTty)?;
    }
    Ok(())
}

fn update(request: &UpdateRequest, min_memory: Option<u64>) -> Result<()> {
    if request.resources == Default::default() {
        return Err(invalid("no limits are given"));
    }
    let limit = request.resources.memory().as_ref().and_then(|memory| memory.limit());
    enough_memory(limit, min_memory).map_err(|what| invalid(&what))
}

/// Compares a container's memory limit with the handler's smallest one. A limit of zero is none, and
/// negative ones mean "unlimited".
pub(crate) fn enough_memory(limit: Option<i64>, min: Option<u64>) -> std::result::Result<(), String> {
    match (limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0), min) {
        (Some(limit), Some(min)) if limit < min => {
            Err(format!("the memory limit of {limit} bytes is below the handler's min_memory of {min} bytes"))
        }
        _ => Ok(()),
    }
}

fn checkpoint(request: &CheckpointRequest, call: &Call<'_>) -> Result<()> {
    request.needs().try_for_each(|capability| call.capabilities.require(capability))
}

fn positive(limit: Option<Duration>, what: &str) -> Result<()> {
    match limit {
        Some(Duration::ZERO) => {
            Err(invalid(&format!("{what} is zero; give none at all for an unlimited time")))
        }
        _ => Ok(()),
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intercept::Intercepted;
    use crate::testing::{Toy, id};
    use runtime_api::{ExecRequest, ExecSyncRequest, KillRequest, LogConfig, RuntimeImpl, Signal, Streams};
    use std::sync::Arc;

    async fn refused<T: std::fmt::Debug>(call: impl AsyncFnOnce(&Intercepted) -> Result<T>) -> Error {
        let toy = Arc::new(Toy::new("web"));
        let guarded = Intercepted::new(toy.clone(), vec![Box::new(Guard::default())]).unwrap();
        let error = call(&guarded).await.unwrap_err();
        assert!(toy.calls().is_empty(), "the backend was called: {:?}", toy.calls());
        error
    }

    #[tokio::test]
    async fn what_is_not_declared_does_not_reach_the_backend() {
        let error = refused(async |r| r.pause(&id("a")).await).await;
        assert!(error.is_unsupported());
        assert_eq!(error.subject(), Some("container \"a\""));
        let all = KillRequest::new(Signal::TERM).all();
        let error = refused(async |r| r.kill(&id("a"), all).await).await;
        assert!(matches!(error.kind(), ErrorKind::Unsupported { capability: Capability::KillAll, .. }));
        let log = CreateRequest::new(id("a"), "/b").log(LogConfig::cri_file("/l"));
        let error = refused(async |r| r.create(log).await).await;
        assert!(matches!(error.kind(), ErrorKind::Unsupported { capability: Capability::Log, .. }));
        let tty = ExecSyncRequest::new(ProcessRequest::new(["x"]).terminal());
        let error = refused(async |r| r.exec_sync(&id("a"), tty).await).await;
        assert!(matches!(error.kind(), ErrorKind::Unsupported { capability: Capability::ExecTty, .. }));
        let exec = ExecRequest::new(ProcessRequest::new(["x"]));
        let error = refused(async |r| r.exec(&id("a"), exec, Streams::none()).await).await;
        assert!(matches!(error.kind(), ErrorKind::Unsupported { capability: Capability::Exec, .. }));
    }

    #[tokio::test]
    async fn wrong_arguments_do_not_reach_the_backend() {
        let run = |process: ProcessRequest| ExecSyncRequest::new(process);
        for (request, what) in [
            (run(ProcessRequest::new::<&str>([])), "argv is empty"),
            (run(ProcessRequest::new([""])), "argv is empty"),
            (run(ProcessRequest::new(["a\0b"])), "NUL"),
            (run(ProcessRequest::new(["a"]).env("", "b")), "KEY=value"),
            (run(ProcessRequest::new(["a"]).cwd("b")), "absolute"),
            (run(ProcessRequest::new(["a"])).timeout(Duration::ZERO), "is zero"),
        ] {
            let error = refused(async |r| r.exec_sync(&id("a"), request).await).await;
            assert!(matches!(error.kind(), ErrorKind::InvalidArgument(_)), "{error:?}");
            assert!(error.to_string().contains(what), "{error}");
        }
        let small = LogConfig::none().max_size(8191);
        let error = refused(async |r| r.create(CreateRequest::new(id("a"), "/b").log(small)).await).await;
        assert!(error.to_string().contains("at least 8192"), "{error}");
        let mut pathless = LogConfig::cri_file("/l");
        pathless.path = None;
        let error = refused(async |r| r.create(CreateRequest::new(id("a"), "/b").log(pathless)).await).await;
        assert!(error.to_string().contains("needs a path"), "{error}");
    }

    #[tokio::test]
    async fn a_limit_below_the_handlers_smallest_is_refused() {
        let toy = Arc::new(Toy::boundless("web"));
        let guard = Guard::default().min_memory(Some(12 << 20));
        let guarded = Intercepted::new(toy.clone(), vec![Box::new(guard)]).unwrap();
        let update = |limit| {
            let memory = oci_spec::runtime::LinuxMemoryBuilder::default().limit(limit).build().unwrap();
            let mut resources = oci_spec::runtime::LinuxResources::default();
            resources.set_memory(Some(memory));
            UpdateRequest::new(resources)
        };
        let error = guarded.update(&id("a"), update(1 << 20)).await.unwrap_err();
        assert!(error.to_string().contains("below the handler's min_memory of 12582912"), "{error}");
        let error = guarded.update(&id("a"), UpdateRequest::new(Default::default())).await.unwrap_err();
        assert!(error.to_string().contains("no limits are given"), "{error}");
        assert!(toy.calls().is_empty());
        guarded.update(&id("a"), update(-1)).await.unwrap();
        guarded.update(&id("a"), update(12 << 20)).await.unwrap();
        assert_eq!(toy.calls().len(), 2);
    }

    #[tokio::test]
    async fn what_is_right_passes() {
        let toy = Arc::new(Toy::new("web"));
        let guarded = Intercepted::new(toy.clone(), vec![Box::new(Guard::default())]).unwrap();
        guarded.create(CreateRequest::new(id("a"), "/b")).await.unwrap();
        guarded.exec_sync(&id("a"), ExecSyncRequest::new(ProcessRequest::new(["x"]))).await.unwrap();
        assert_eq!(toy.calls(), ["create a", "exec.sync a"]);
    }

    #[test]
    fn no_limit_is_never_too_low() {
        for limit in [None, Some(0), Some(-1), Some(12 << 20)] {
            assert_eq!(enough_memory(limit, Some(12 << 20)), Ok(()), "{limit:?}");
        }
        assert!(enough_memory(Some((12 << 20) - 1), Some(12 << 20)).unwrap_err().contains("min_memory"));
    }
}
