//! `manyrun run`: one container's life with its streams attached.

mod bundle;
mod foreground;
mod life;
mod output;
mod signals;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use runtime_api::{ContainerId, Error, ErrorKind, ExitStatus, HandlerName, LogConfig, Result, RuntimeInfo};
use runtime_handlers::{HandlerTable, Runtime};
use runtime_test::RuntimeRef;
use serde_json::json;

use crate::handlers::Input;
use crate::json::Output;
use crate::state_dir::{StateDir, absolute};
use crate::{backends, fail, print, reference, tell};
use life::{End, Life};

/// Run one container from an OCI bundle, and exit with its code.
///
/// The handlers are those of the file that MANYRUN_CONFIG names, else of /etc/manyrun/handlers.toml with its drop-ins, else the
/// built-in ones. What CRI-O, containerd or podman have on this host is read only when it is named (--crio and the others);
/// `manyrun handlers` looks for it by itself.
///
/// The container is created under a handler, its standard streams are attached, it is started, waited for and deleted.
/// HUP, INT, QUIT, TERM, USR1 and USR2 are handed on to it. After the first INT or TERM it has --stop-timeout to end, then
/// it is killed; a third INT or TERM kills it at once.
///
/// When its output cannot be written (a full disk), the container is stopped: standard error and "output_error" of the
/// document tell of it, and the code is 125. A reader that has left, as that of `manyrun run ... | head`, stops it without a word.
///
/// Exit codes: the container's own; 125 when it could not be run or its output was lost; 126 or 127 when its program may not be run or is not
/// there; 128 plus the signal when it was interrupted before its start; 255 when its code was lost; 2 for wrong usage.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    manyrun run --handler crun ./bundle\n  \
    manyrun run --runtime oci:/usr/local/bin/runc ./bundle -- /bin/echo hello\n  \
    manyrun run --config ./handlers.toml --id web --log /var/log/web.log ./bundle\n  \
    manyrun run --crio /etc/crio --handler runc ./bundle")]
pub(crate) struct Args {
    /// The handler; the configuration's default unless given.
    #[arg(long, value_name = "NAME", conflicts_with = "runtime")]
    handler: Option<HandlerName>,
    // Not a doc comment: rustdoc would take the brackets for a link.
    #[arg(
        long,
        value_name = "REF",
        value_parser = reference::parse,
        conflicts_with = "Input",
        help = "A runtime without configuration: KIND[:NAME][@VARIANT], such as fake, oci:crun or oci:/usr/bin/crun"
    )]
    runtime: Option<RuntimeRef>,
    // Without any: MANYRUN_CONFIG, /etc/manyrun/handlers.toml, the built-in handlers.
    #[command(flatten)]
    input: Input,
    /// The container's id; a new one unless given.
    #[arg(long, value_name = "ID")]
    id: Option<ContainerId>,
    #[command(flatten)]
    place: StateDir,
    /// Keep the output in this file, too, in the format of the CRI. It stays.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How long the program may take to end after INT or TERM.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    stop_timeout: Duration,
    /// Write what happened as JSON to this file, "-" for standard output (the container's output then goes to standard
    /// error).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// An OCI bundle: a directory with config.json. It is never written to.
    bundle: PathBuf,
    /// A command line in place of that of the bundle.
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

pub(crate) fn main(args: &Args) -> ExitCode {
    let output = match Output::open(args.json.as_deref()) {
        Ok(output) => output,
        Err(error) => return ExitCode::from(fail(&error)),
    };
    let began = (SystemTime::now(), Instant::now());
    let mut told = Told::default();
    let ended = clock().and_then(|clock| {
        let ended = clock.block_on(run(args, output.takes_stdout(), &mut told));
        // A read of standard input may still be under way, and would be waited for.
        clock.shutdown_background();
        ended
    });
    let lost = ended.as_ref().ok().and_then(End::lost);
    if let Some(lost) = &lost {
        tell(lost);
    }
    let code = match &ended {
        Ok(_) if lost.is_some() => print::LOST,
        Ok(end) => end.code(),
        Err(error) => fail(error),
    };
    let record = json!({
        "schema": 1,
        "id": told.id,
        "handler": told.info.as_ref().map(|info| &info.handler),
        "runtime": told.info,
        "bundle": args.bundle,
        "exit": ended.as_ref().ok().and_then(End::status),
        "interrupted_by": ended.as_ref().ok().and_then(End::interruption),
        "exit_code": code,
        "error": ended.as_ref().err().map(Error::report),
        "output_error": lost,
        "began_at": seconds(began.0),
        "duration_ms": u64::try_from(began.1.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    match output.write(&record) {
        Ok(()) => ExitCode::from(code),
        Err(error) => ExitCode::from(fail(&error)),
    }
}

/// What the record tells even of a life that failed.
#[derive(Debug, Default)]
struct Told {
    id: Option<ContainerId>,
    info: Option<RuntimeInfo>,
}

async fn run(args: &Args, stdout_is_taken: bool, told: &mut Told) -> Result<End> {
    let id = args.id.clone().map_or_else(fresh_id, Ok)?;
    told.id = Some(id.clone());
    let signals = signals::Signals::listen()?;
    let (facade, handler) = facade(args)?;
    // Everything that can be refused by looking is refused before anything is made.
    let table = facade.table();
    let config = table.select(handler.as_ref())?;
    backends::registry()?.check(config)?;
    let bundle = bundle::Bundle::read(&args.bundle, &args.args)?;
    let log = args.log.as_deref().map(log_file).transpose()?.unwrap_or_else(LogConfig::none);
    let runtime = facade.runtime(handler.as_ref()).await?;
    told.info = Some(runtime.info().clone());
    let life = Life {
        facade: &facade,
        runtime,
        handler,
        id,
        bundle: &bundle,
        log,
        grace: args.stop_timeout,
        stdout_is_taken,
    };
    let ended = life.live(signals).await;
    facade.shutdown().await;
    ended
}

/// The facade over the configuration, and the handler that is meant.
fn facade(args: &Args) -> Result<(Runtime, Option<HandlerName>)> {
    let (table, handler) = match &args.runtime {
        Some(runtime) => {
            let config = reference::handler(runtime)?;
            let name = config.name.clone();
            (HandlerTable::new([config]), Some(name))
        }
        None => (args.input.read_own()?, args.handler.clone()),
    };
    Ok((Runtime::new(table, backends::registry()?, args.place.base()?), handler))
}

fn log_file(path: &Path) -> Result<LogConfig> {
    absolute(path).map(LogConfig::cri_file)
}

/// Unlikely to be taken; if it is, the create refuses it.
fn fresh_id() -> Result<ContainerId> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ContainerId::new(format!("run-{:x}-{:x}", std::process::id(), now.as_nanos()))
}

impl End {
    fn code(&self) -> u8 {
        let whole = match self {
            Self::Ended { status: ExitStatus { code, .. }, .. } => code.unwrap_or(255),
            Self::Interrupted(signal) => 128 + signal.number(),
        };
        // The shell sees eight bits of it, whatever is returned.
        u8::try_from(whole & 0xff).unwrap_or(255)
    }

    fn interruption(&self) -> Option<String> {
        match self {
            Self::Ended { .. } => None,
            Self::Interrupted(signal) => Some(signal.to_string()),
        }
    }

    const fn status(&self) -> Option<&ExitStatus> {
        match self {
            Self::Ended { status, .. } => Some(status),
            Self::Interrupted(_) => None,
        }
    }

    fn lost(&self) -> Option<String> {
        match self {
            Self::Ended { lost, .. } => lost.as_ref().map(output::Lost::told),
            Self::Interrupted(_) => None,
        }
    }
}

/// The runtime that drives everything; one thread is enough for one container.
pub(crate) fn clock() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Error::new(ErrorKind::Exhausted("the event loop cannot be started".to_owned())).caused_by(error)
    })
}

/// Gives work up at a signal that ends programs, so that what it made is removed.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut signals = signals::Signals::listen()?;
    tokio::select! {
        done = work => done,
        signal = signals.next() => Err(Error::new(ErrorKind::Unavailable(format!("it was given up after {signal}")))),
    }
}

/// A temporary directory that could not be made.
pub(crate) fn no_place(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Exhausted(format!("no temporary directory can be made: {error}")))
        .hint("set TMPDIR to a directory that can be written to")
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
