//! Handlers for tests, by the same references as on the command line: `crun` and `vm:runc@crun`.

use std::path::PathBuf;

use runtime_api::{
    HandlerConfig, HandlerName, OpenContext, Origin, Result, RuntimeFactory as _, RuntimeKind, SharedRuntime,
};
use runtime_oci::OciFactory;
use runtime_vm::VmFactory;

/// The shim of a reference and the runtime below it; `None` for a host runtime.
#[must_use]
pub fn shim_of(reference: &str) -> Option<(String, &str)> {
    let name = reference.strip_prefix("vm:")?;
    let (name, below) = name.split_once('@').unwrap_or((name, "runc"));
    Some((VmFactory::shim_called(name), below))
}

/// The handler that a reference means.
///
/// # Errors
/// When the reference has no name that a handler could have.
pub fn config(reference: &str) -> Result<HandlerConfig> {
    let origin = Origin::other("this test");
    let Some((shim, below)) = shim_of(reference) else {
        return Ok(HandlerConfig::new(HandlerName::new(reference)?, RuntimeKind::new("oci")?, origin));
    };
    let mut config = HandlerConfig::new(HandlerName::new(&shim)?, RuntimeKind::new("vm")?, origin);
    config.paths = vec![PathBuf::from(shim)];
    config.options.insert("BinaryName".to_owned(), below.into());
    Ok(config)
}

/// Opens a handler of any kind.
///
/// # Errors
/// As the factory of its kind.
pub async fn open(config: &HandlerConfig, context: OpenContext) -> Result<SharedRuntime> {
    match config.kind.as_str() {
        "vm" => VmFactory::new().open(config, context).await,
        _ => OciFactory.open(config, context).await,
    }
}
