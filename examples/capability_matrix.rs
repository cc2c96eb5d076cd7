//! What handlers can do, as a Markdown table: capabilities are data, with a reason for each "no".
//!
//! `capability_matrix [HANDLER...]`: every handler of this machine, and containerd's shim for runc, unless some are named. The
//! README's matrix is made by `make matrix`.

use std::collections::BTreeMap;
use std::io::Write as _;

use runtime_api::{Capability, HandlerConfig, HandlerName, Origin, RuntimeFactory as _, SharedRuntime};
use runtime_handlers::{HandlerTable, Registry, Runtime, load};
use runtime_oci::OciFactory;
use runtime_test::FakeFactory;
use runtime_vm::VmFactory;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout();
    let mut table: HandlerTable = load::search(None)?;
    let shims = VmFactory::default();
    // No file has to name it: a handler can be made of a kind and a binary.
    let shim = HandlerName::new(VmFactory::shim_called("runc"))?;
    let mut handler = HandlerConfig::new(shim.clone(), shims.kind(), Origin::other("this example"));
    handler.paths = vec![shim.as_str().into()];
    table.handlers.entry(shim).or_insert(handler);
    let named: Vec<String> = std::env::args().skip(1).collect();
    let names: Vec<HandlerName> = if named.is_empty() {
        table.handlers.keys().cloned().collect()
    } else {
        named.into_iter().map(HandlerName::new).collect::<runtime_api::Result<_>>()?
    };
    let place = tempfile::tempdir()?;
    let registry = Registry::new().register(FakeFactory::new()?)?.register(OciFactory)?.register(shims)?;
    let facade = Runtime::new(table, registry, place.path());
    let mut columns = Vec::new();
    for name in &names {
        columns.push(facade.runtime(Some(name)).await?);
    }
    write!(out, "{}", matrix(&columns))?;
    facade.shutdown().await;
    Ok(())
}

/// A table with a row per capability and a column per runtime, and a list of the reasons below it.
fn matrix(columns: &[SharedRuntime]) -> String {
    let mut text = String::from("| capability |");
    for runtime in columns {
        let info = runtime.info();
        text +=
            &format!(" {} |", [info.name.as_str(), info.version.as_deref().unwrap_or("")].join(" ").trim());
    }
    text += &format!("\n|---|{}\n", "---|".repeat(columns.len()));
    // One reason is often shared by several capabilities and runtimes: it is told once.
    let mut notes: BTreeMap<String, usize> = BTreeMap::new();
    let mut in_order = Vec::new();
    for capability in Capability::ALL {
        text += &format!("| `{capability}` |");
        for runtime in columns {
            match runtime.capabilities().why_not(*capability) {
                None => text += " yes |",
                Some(why) => {
                    let next = notes.len() + 1;
                    let note = *notes.entry(why.to_owned()).or_insert_with(|| {
                        in_order.push(why.to_owned());
                        next
                    });
                    text += &format!(" no ({note}) |");
                }
            }
        }
        text += "\n";
    }
    text += "\n";
    for (number, why) in (1..).zip(in_order) {
        text += &format!("{number}. {why}\n");
    }
    text
}
