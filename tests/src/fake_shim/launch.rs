//! The start of a fake shim by its monitor.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use runtime_api::{Error, ErrorKind, Operation, Result};
use runtime_host::process::Identity;
use runtime_vm::monitor::{EventSocket, Launch, Launched, ShimTasks, StartOrder, Started};
use runtime_vm::shim::{Address, dial};
use runtime_vm::task::{TaskApi, TaskClient};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use super::connector::Shared;
use super::wire;
use super::world::World;

/// How long its own socket may take to answer.
const DIAL: Duration = Duration::from_secs(20);

/// Starts a shim in the runtime of its monitor.
#[derive(Debug)]
pub(super) struct FakeLaunch {
    shared: Arc<Shared>,
}

impl FakeLaunch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

#[async_trait]
impl Launch for FakeLaunch {
    async fn launch(&self, dir: &Path, order: &StartOrder) -> Result<Launched> {
        let (events, told) = EventSocket::serve(dir).await?;
        let (listener, address) = listen(&order.id)?;
        let world = World::new(&order.namespace, self.shared.api, Arc::clone(&self.shared.misdeeds));
        self.shared.add(&world);
        let mut kept = JoinSet::new();
        kept.spawn(super::events::forward(Arc::clone(&world), events.address().to_owned()));
        kept.spawn(wire::serve(world, listener));
        let stream = dial::patiently(&address, DIAL).await?;
        let opened = TaskClient::open(stream, self.shared.api, &order.namespace, &order.id, order.dial_limit);
        let (client, _) = opened
            .await
            .map_err(|fault| fault.into_error(Operation::Create).on(format_args!("shim \"{}\"", order.id)))?;
        let api = match client.api() {
            TaskApi::V2 => 2,
            TaskApi::V3 => 3,
        };
        let started = Started::by_this_process(Some(Identity::own()), address.to_string(), api);
        // Its process lives on when it dies: that nobody listens is how its monitor sees it.
        let tasks = Arc::new(ShimTasks::new(address, client, None));
        Ok(Launched { tasks, told, started, kept: Box::new((events, kept)) })
    }

    async fn undo(&self, _dir: &Path, _order: &StartOrder) {
        // It is gone with what was kept.
    }
}

/// An abstract socket with the id in its name: nothing stays of it, and whoever looks for leftovers finds it.
fn listen(id: &str) -> Result<(UnixListener, Address)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("fake-shim/{}/{number}/{id}", std::process::id());
    let listener = UnixListener::bind(format!("\0{name}")).map_err(|error| {
        Error::new(ErrorKind::Unavailable("it cannot be served".to_owned()))
            .on(format_args!("socket @{name}"))
            .caused_by(error)
    })?;
    Ok((listener, Address::Abstract(name)))
}
