//! Opening a handler.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use runtime_api::{
    Error, HandlerConfig, MonitorInfo, OpenContext, Result, RuntimeFactory, RuntimeInfo, RuntimeKind,
    SharedRuntime,
};
use runtime_host::cgroup::Hierarchies;
use runtime_host::owner::Life;
use runtime_host::process::{Identity, boot_id};
use runtime_host::reserve::make_directory;

use crate::backend::Backend;
use crate::capabilities;
use crate::config::{OciConfig, find_binary};
use crate::dialect::Dialect;
use crate::evidence;
use crate::known::Shelf;
use crate::layout::Layout;
use crate::runtime::OciRuntime;

/// Opens handlers of the kind `oci`.
#[derive(Clone, Copy, Debug, Default)]
pub struct OciFactory;

impl OciFactory {
    /// Opens a handler as its own type, for the inherent methods of [`OciRuntime`].
    ///
    /// # Errors
    /// As [`RuntimeFactory::open`].
    pub async fn open_oci(&self, config: &HandlerConfig, context: OpenContext) -> Result<OciRuntime> {
        let named = |error: Error| error.during_step("open handler").on(format_args!("\"{}\"", config.name));
        let backend = prepare(config, context).await.map_err(named)?;
        backend.recover().await.map_err(named)?;
        OciRuntime::new(backend).map_err(named)
    }
}

#[async_trait]
impl RuntimeFactory for OciFactory {
    fn kind(&self) -> RuntimeKind {
        kind()
    }

    fn check(&self, config: &HandlerConfig) -> Result<()> {
        OciConfig::from_handler(config).map(|_| ())
    }

    async fn open(&self, config: &HandlerConfig, context: OpenContext) -> Result<SharedRuntime> {
        Ok(Arc::new(self.open_oci(config, context).await?))
    }
}

#[expect(clippy::expect_used, reason = "a literal that the rule for kinds accepts")]
fn kind() -> RuntimeKind {
    RuntimeKind::new("oci").expect("the literal follows the rule")
}

async fn prepare(handler: &HandlerConfig, context: OpenContext) -> Result<Backend> {
    let config = OciConfig::from_handler(handler)?;
    // conmon and the runtime run elsewhere: what they are told must not depend on where we are.
    let state_dir = std::path::absolute(&context.state_dir).unwrap_or(context.state_dir);
    let layout = Layout::new(state_dir);
    for directory in [layout.containers(), layout.exits(), layout.root()] {
        make_directory(&directory)?;
    }
    let boot_id = boot_id();
    let mut binary = find_binary(&config.binaries);
    let monitor = find_binary(std::slice::from_ref(&config.monitor));
    let (runtime_path, monitor_path) = (binary.as_deref().ok().map(Path::to_owned), monitor.as_deref().ok());
    let findings = evidence::gather(&layout, &config, runtime_path.as_deref(), monitor_path, &boot_id).await;
    let claim = &findings.is_runtime;
    if let (Ok(path), false, false) = (&binary, claim.yes, claim.unanswered) {
        binary = Err(format!("{} is no OCI runtime: {}: {}", path.display(), claim.asked, claim.said));
    }
    if let (Ok(path), None, true) = (&binary, &findings.name, claim.unanswered) {
        // Without its name there is no table, and by a wrong one containers would be made that nobody can end.
        binary = Err(format!("{} does not answer: {}: {}", path.display(), claim.asked, claim.said));
    }
    let dialect = Dialect::of(findings.name.as_deref().unwrap_or_default());
    let hierarchies = Hierarchies::of_host();
    let capabilities = capabilities::answers(&config, &findings, dialect, &hierarchies)?;

    let name = findings.name.clone().unwrap_or_else(|| config.handler.to_string());
    let mut info = RuntimeInfo::new(kind(), config.handler.clone(), name);
    info.binary = runtime_path;
    info.version.clone_from(&findings.version);
    info.monitor = monitor_path.map(|path| {
        let mut info = MonitorInfo::new("conmon", path);
        info.version.clone_from(&findings.monitor_version);
        info
    });
    let monitor = match monitor {
        Ok(path) => match evidence::too_old(&path, findings.monitor_version.as_deref()) {
            Some(why) => Err(why),
            None => Ok(path),
        },
        Err(why) => Err(why),
    };
    Ok(Backend {
        config,
        layout,
        cgroup_parent: context.cgroup_parent,
        info,
        capabilities,
        dialect,
        binary,
        monitor,
        json_errors: findings.json_errors.yes,
        hierarchies,
        entries: Arc::default(),
        shelf: Shelf::default(),
        boot_id,
        own: Identity::own(),
        life: Life::begin(),
    })
}
