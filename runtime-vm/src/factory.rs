//! Opening a handler.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use runtime_api::{
    Error, HandlerConfig, MonitorInfo, OpenContext, Result, RuntimeFactory, RuntimeInfo, RuntimeKind,
    SharedRuntime,
};
use runtime_host::cgroup::Hierarchies;
use runtime_host::document::cannot_write;
use runtime_host::owner::Life;
use runtime_host::process::boot_id;
use runtime_host::reserve::make_directory;

use crate::backend::Backend;
use crate::capabilities;
use crate::config::{VmConfig, shim_called};
use crate::connector::{Connector, Processes};
use crate::evidence;
use crate::layout::Layout;
use crate::monitor::find::{PROGRAM, find};
use crate::runtime::VmRuntime;
use crate::shims::Shims;

const KIND: &str = "vm";

/// Opens handlers of the kind `vm`.
#[derive(Clone, Debug)]
pub struct VmFactory {
    /// What reaches shims, unless it is the processes of this host.
    connector: Option<Arc<dyn Connector>>,
}

impl Default for VmFactory {
    fn default() -> Self {
        Self::new()
    }
}

impl VmFactory {
    /// Opens handlers whose shims are processes of this host.
    #[must_use]
    pub const fn new() -> Self {
        Self { connector: None }
    }

    /// Opens handlers whose shims are reached in another way, as tests do.
    #[must_use]
    pub fn with_connector(connector: Arc<dyn Connector>) -> Self {
        Self { connector: Some(connector) }
    }

    /// The binary of the shim of this name: `runc` means `containerd-shim-runc-v2`, and `runc-rs`
    /// `containerd-shim-runc-v2-rs`, as their projects call them.
    #[must_use]
    pub fn shim_called(name: &str) -> String {
        shim_called(name)
    }

    /// Opens a handler as its own type.
    ///
    /// # Errors
    /// As [`RuntimeFactory::open`].
    pub async fn open_vm(&self, config: &HandlerConfig, context: OpenContext) -> Result<VmRuntime> {
        let named = |error: Error| error.during_step("open handler").on(format_args!("\"{}\"", config.name));
        let backend = self.prepare(config, context).await.map_err(named)?;
        let runtime = VmRuntime::new(backend).map_err(named)?;
        runtime.recover().await.map_err(named)?;
        Ok(runtime)
    }

    async fn prepare(&self, handler: &HandlerConfig, context: OpenContext) -> Result<Backend> {
        let config = VmConfig::from_handler(handler)?;
        // The monitor and the shim run elsewhere: what they are told must not depend on where we are.
        // The shims' namespace is made from it, so one directory has one name.
        make_directory(&context.state_dir)?;
        let state_dir = context.state_dir.canonicalize();
        let layout = Layout::new(state_dir.map_err(|error| cannot_write(&context.state_dir, error))?);
        for directory in [layout.containers(), layout.exits(), layout.shims(), layout.root()] {
            make_directory(&directory)?;
        }
        let monitor = find(config.monitor.as_deref());
        let monitor_path = monitor.as_deref().ok().map(Path::to_owned);
        let connector: Arc<dyn Connector> = match &self.connector {
            Some(connector) => Arc::clone(connector),
            None => Arc::new(Processes::new(monitor)),
        };
        let boot_id = boot_id();
        let findings = evidence::gather(&layout, &config, &connector, &layout.namespace(), &boot_id).await;
        let capabilities = capabilities::answers(&config, &findings)?;
        let name = config
            .shim
            .as_deref()
            .ok()
            .and_then(Path::file_name)
            .map_or_else(|| config.handler.to_string(), |name| name.to_string_lossy().into_owned());
        let mut info = RuntimeInfo::new(kind(), config.handler.clone(), name);
        info.binary = config.shim.as_deref().ok().map(Path::to_owned);
        info.version.clone_from(&findings.version);
        info.monitor = monitor_path.map(|path| {
            let mut info = MonitorInfo::new(PROGRAM, path);
            info.version = Some(env!("CARGO_PKG_VERSION").to_owned());
            info
        });
        Ok(Backend {
            config,
            layout,
            cgroup_parent: context.cgroup_parent,
            info,
            capabilities,
            shims: Shims::new(connector),
            hierarchies: Hierarchies::of_host(),
            entries: Arc::default(),
            boot_id,
            life: Life::begin(),
        })
    }
}

#[async_trait]
impl RuntimeFactory for VmFactory {
    fn kind(&self) -> RuntimeKind {
        kind()
    }

    fn check(&self, config: &HandlerConfig) -> Result<()> {
        VmConfig::from_handler(config).map(|_| ())
    }

    async fn open(&self, config: &HandlerConfig, context: OpenContext) -> Result<SharedRuntime> {
        Ok(Arc::new(self.open_vm(config, context).await?))
    }
}

#[expect(clippy::expect_used, reason = "a literal that the rule for kinds accepts")]
fn kind() -> RuntimeKind {
    RuntimeKind::new(KIND).expect("the literal follows the rule")
}
