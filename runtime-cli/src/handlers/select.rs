//! `manyrun handlers select`.

use std::path::{Path, PathBuf};

use runtime_api::{Capability, Error, ErrorKind, HandlerName, Result};
use runtime_handlers::resolve::ThisHost;
use runtime_handlers::{HandlerTable, Runtime, RuntimeClass, Selected, Snapshot, load};
use serde_json::{Value, json};

use super::{Place, show};
use crate::backends;
use crate::json::Output;

/// What is asked for. Without any of it the default handler is meant.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Wish {
    /// The handler, or the absolute path of a binary.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The first handler that has this capability, such as checkpoint or isolation.kernel; repeat it for several. Handlers
    /// are opened for that.
    #[arg(long = "can", value_name = "CAPABILITY", value_parser = capability)]
    can: Vec<Capability>,
    /// The handler that the Kubernetes RuntimeClass in this file names.
    #[arg(long, value_name = "FILE")]
    runtime_class: Option<PathBuf>,
}

fn capability(text: &str) -> std::result::Result<Capability, String> {
    Capability::ALL.iter().find(|each| each.id() == text).copied().ok_or_else(|| {
        let known: Vec<_> = Capability::ALL.iter().map(|each| each.id()).collect();
        format!("there is no such capability; there are {}", known.join(", "))
    })
}

pub(super) fn select(place: &Place, wish: &Wish) -> Result<()> {
    let output = Output::open(place.json.as_deref())?;
    let table = place.input.read()?.table;
    let mut class = None;
    let selected = match (&wish.name, &wish.runtime_class) {
        (Some(path), _) if path.contains('/') => table.select_path(Path::new(path))?,
        (Some(name), _) => {
            let name: HandlerName = name.parse()?;
            by_name(&table, Some(&name), "it was named".to_owned())?
        }
        (None, Some(file)) => {
            let named = only_class(file)?;
            named.resolve(&table)?;
            let why = format!("the RuntimeClass {:?} names it", named.name);
            let selected = by_name(&table, Some(&named.handler), why)?;
            class = Some(named);
            selected
        }
        (None, None) if !wish.can.is_empty() => capable(&table, &wish.can)?,
        (None, None) => by_name(&table, None, "it is the default".to_owned())?,
    };
    let config = &selected.config;
    backends::registry()?.check(config)?;
    let snapshot = Snapshot::of(config);
    output.say(&format!("handler   {}", config.name));
    output.say(&format!("kind      {}", config.kind));
    output.say(&format!("binary    {}", show::binaries(config)));
    output.say(&format!("snapshot  {}", snapshot.id()));
    output.say(&format!("origin    {}", config.origin));
    output.say(&format!("why       {}", selected.why));
    if let Some(missing) = table.resolved(&ThisHost).unavailable.get(&config.name) {
        output.say(&format!("missing   {} ({})", missing.reason, missing.origin));
    }
    if let Some(class) = &class {
        tell_class(class, &output);
    }
    output.write(&json!({
        "schema": 1,
        "snapshot": snapshot.id(),
        "handler": config,
        "why": selected.why,
        "runtime_class": class.as_ref().map(document),
    }))
}

fn by_name(table: &HandlerTable, name: Option<&HandlerName>, why: String) -> Result<Selected> {
    table.select(name).map(|config| Selected::new(config.clone(), why))
}

fn only_class(file: &Path) -> Result<RuntimeClass> {
    let (mut classes, _) = load::runtime_classes(file)?;
    match classes.pop() {
        Some(class) if classes.is_empty() => Ok(class),
        _ => {
            let what = "there are several RuntimeClasses; one is wanted".to_owned();
            Err(Error::new(ErrorKind::InvalidArgument(what)).during_step("select handler").on(file.display()))
        }
    }
}

/// Asks the handlers themselves. What is opened for that is in a directory of its own, and leaves nothing.
fn capable(table: &HandlerTable, wanted: &[Capability]) -> Result<Selected> {
    let place = tempfile::tempdir().map_err(|error| crate::run::no_place(&error))?;
    let runtime = Runtime::new(table.clone(), backends::registry()?, place.path());
    crate::run::clock()?.block_on(crate::run::unless_interrupted(async {
        let selected = runtime.select_capable(wanted).await;
        runtime.shutdown().await;
        selected
    }))
}

fn tell_class(class: &RuntimeClass, output: &Output) {
    for (resource, quantity) in &class.overhead {
        output.say(&format!("overhead  {resource} {quantity}"));
    }
    for (label, value) in &class.node_selector {
        output.say(&format!("node      {label}={value}"));
    }
    for toleration in &class.tolerations {
        let parts = [&toleration.key, &toleration.operator, &toleration.value, &toleration.effect];
        let parts: Vec<_> = parts.into_iter().flatten().map(String::as_str).collect();
        output.say(&format!("tolerates {}", parts.join(" ")));
    }
}

fn document(class: &RuntimeClass) -> Value {
    let tolerations: Vec<_> = class
        .tolerations
        .iter()
        .map(|each| {
            json!({
                "key": each.key,
                "operator": each.operator,
                "value": each.value,
                "effect": each.effect,
                "tolerationSeconds": each.toleration_seconds,
            })
        })
        .collect();
    json!({
        "name": class.name,
        "handler": class.handler,
        "overhead": class.overhead,
        "node_selector": class.node_selector,
        "tolerations": tolerations,
        "origin": class.origin,
    })
}
