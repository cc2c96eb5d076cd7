//! `manyrun probe`: what a runtime can do and how that is known, or what this host lacks.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use runtime_api::{ContainerId, CreateRequest, Error, ErrorKind, OpenContext, Result, SharedRuntime};
use runtime_test::RuntimeRef;
use serde_json::json;

use crate::host::{self, SHIM_MONITOR};
use crate::json::Output;
use crate::{backends, fail, reference};

/// Show what a runtime can do, with the evidence; without a runtime, what this host lacks.
///
/// Exit codes: 0 the runtime is there, or the host was looked at; 125 the runtime or its monitor is missing, or it is no
/// runtime: the first line says which, and what would help; 2 wrong usage.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  manyrun probe\n  manyrun probe oci:crun\n  manyrun probe fake --json -")]
pub(crate) struct Args {
    // Not a doc comment: rustdoc would take the brackets for a link.
    #[arg(value_name = "REF", value_parser = reference::parse, help = "The runtime: KIND[:NAME][@VARIANT], such as fake or oci:crun")]
    runtime: Option<RuntimeRef>,
    /// Write the answer as JSON to this file, "-" for standard output (text then goes to standard error).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn main(args: &Args) -> ExitCode {
    let told = Output::open(args.json.as_deref()).and_then(|output| match &args.runtime {
        Some(reference) => tell_runtime(reference, &output),
        None => tell_host(&output).map(|()| 0),
    });
    ExitCode::from(told.unwrap_or_else(|error| fail(&error)))
}

fn tell_runtime(reference: &RuntimeRef, output: &Output) -> Result<u8> {
    let config = reference::handler(reference)?;
    let registry = backends::registry()?;
    registry.check(&config)?;
    // A probe leaves nothing: its state is in a directory of its own.
    let place = tempfile::tempdir().map_err(|error| crate::run::no_place(&error))?;
    let context = OpenContext::new(place.path(), "/manyrun/probe");
    let (asked, missing) = crate::run::clock()?.block_on(crate::run::unless_interrupted(async {
        let runtime = registry.factory(&config)?.open(&config, context).await?;
        let missing = missing(reference, &runtime, place.path()).await;
        runtime.shutdown().await;
        Ok::<_, Error>((runtime, missing))
    }))?;
    if let Some(error) = &missing {
        output.say(&one_line(&error.report()));
    }
    show(&asked, output);
    output.write(&json!({
        "schema": 1,
        "reference": reference.to_string(),
        "info": asked.info(),
        "capabilities": asked.capabilities(),
        "missing": missing.as_ref().map(Error::report),
    }))?;
    Ok(missing.as_ref().map_or(0, Error::exit_code))
}

/// Why nothing can be run, and what would help. A create tells that before it looks at the bundle, and here there is none.
async fn missing(reference: &RuntimeRef, runtime: &SharedRuntime, place: &Path) -> Option<Error> {
    let id = ContainerId::new("probe").ok()?;
    let refused = runtime.create(CreateRequest::new(id, place.join("no-bundle"))).await.err();
    let is_shim = reference.kind().as_str() == "vm";
    let below = reference.variant().filter(|_| is_shim).filter(|name| which::which(name).is_err());
    let (what, program) = match refused.as_ref().map(Error::kind) {
        Some(ErrorKind::Unavailable(what)) => (what.clone(), reference.name()),
        _ if is_shim && runtime.info().monitor.is_none() => {
            (format!("no executable {SHIM_MONITOR}"), Some(SHIM_MONITOR))
        }
        _ => {
            let name = below?;
            (format!("no executable {name}, which the shim is to run"), Some(name))
        }
    };
    let error = Error::new(ErrorKind::Unavailable(what.clone()))
        .during_step("probe")
        .on(format_args!("runtime \"{reference}\""));
    let remedy = host::remedy(if what.contains("conmon") { Some("conmon") } else { program });
    Some(match remedy {
        Some(remedy) => error.hint(format!("try: {remedy}")),
        None => error.hint("install it, or name another; `manyrun probe` shows what this host has"),
    })
}

fn show(runtime: &SharedRuntime, output: &Output) {
    let info = runtime.info();
    let unknown = || "unknown".to_owned();
    output.say(&format!("kind     {}", info.kind));
    output.say(&format!("name     {}", info.name));
    output.say(&format!(
        "binary   {}",
        info.binary.as_ref().map_or_else(unknown, |path| path.display().to_string())
    ));
    output.say(&format!("version  {}", info.version.clone().unwrap_or_else(unknown)));
    if let Some(monitor) = &info.monitor {
        let version = monitor.version.clone().unwrap_or_else(unknown);
        output.say(&format!("monitor  {} {version} ({})", monitor.name, monitor.binary.display()));
    }
    output.say("");
    for (capability, answer) in runtime.capabilities().iter() {
        let word = if answer.is_yes() { "yes" } else { "no" };
        let reason = answer.why_not.as_deref().map(|why| format!("{why} ")).unwrap_or_default();
        let evidence = &answer.evidence;
        let source = format!("{:?}", evidence.source).to_lowercase();
        let asked = if evidence.asked.is_empty() { String::new() } else { format!(" {}:", evidence.asked) };
        let said = one_line(&evidence.said);
        output.say(&format!("{:<28} {word:<4} {reason}[{source}{asked} {said}]", capability.id()));
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn tell_host(output: &Output) -> Result<()> {
    let needs = host::needs();
    for need in &needs {
        let (mark, found) = match &need.found {
            Ok(found) => ("ok  ", found),
            Err(reason) => ("lack", reason),
        };
        output.say(&format!("{mark} {:<25} {found} ({})", need.name, need.purpose));
        if let Some(remedy) = &need.remedy {
            output.say(&format!("     {:<25} try: {remedy}", ""));
        }
    }
    let document: Vec<_> = needs
        .iter()
        .map(|need| {
            json!({
                "name": need.name,
                "purpose": need.purpose,
                "ok": need.found.is_ok(),
                "found": need.found.as_ref().ok(),
                "reason": need.found.as_ref().err(),
                "remedy": need.remedy,
            })
        })
        .collect();
    output.write(&json!({"schema": 1, "needs": document}))
}
