//! What reaches a shim, counted on the way.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::place::on;
use nix::sys::signal::{Signal as Number, kill};
use nix::unistd::Pid;
use runtime_api::{DeleteRequest, OpenContext, Result, RuntimeFactory as _};
use runtime_test::Workload;
use runtime_vm::VmFactory;
use runtime_vm::connector::{Connector, Dialled, Starting};
use runtime_vm::monitor::{MonitorClient, StartOrder, find};
use runtime_vm::shim::{Address, ShimCommand, dial};
use runtime_vm::task::TaskClient;
use runtime_vm::task::answer::Deleted;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::{as_if_in_a_machine, delete, pid_of, shims};

/// The shims of this host, with somebody in between who counts the calls of `Wait`.
#[derive(Debug, Default)]
struct Counting(Arc<AtomicUsize>);

#[async_trait]
impl Connector for Counting {
    async fn start(&self, dir: &Path, order: StartOrder) -> Result<Box<dyn Starting>> {
        Ok(Box::new(MonitorClient::spawn(&find::find(None)?, dir, &order).await?))
    }

    async fn dial(&self, address: &str, target: &Dialled<'_>, _limit: Duration) -> Result<TaskClient> {
        let (from_shim, to_shim) = dial::once(&Address::parse(address).unwrap()).await.unwrap().into_split();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (from_us, to_us) = theirs.into_split();
        tokio::spawn(pass(from_us, to_shim, Arc::clone(&self.0)));
        tokio::spawn(pass(from_shim, to_us, Arc::default()));
        Ok(TaskClient::over(ours, target.api, target.namespace))
    }

    async fn clean_up(
        &self,
        shim: &Path,
        namespace: &str,
        id: &str,
        bundle: &Path,
        limit: Duration,
    ) -> Result<Deleted> {
        let mut command = ShimCommand::new(shim, id, bundle);
        namespace.clone_into(&mut command.namespace);
        command.delete(limit).await
    }
}

/// Passes on messages: four bytes of length, six more of a head, and what is said. Field 2 of a request is the method.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    waits: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    loop {
        let mut message = vec![0; 10];
        from.read_exact(&mut message).await?;
        let length = u32::from_be_bytes(message[..4].try_into().unwrap());
        message.resize(10 + usize::try_from(length).unwrap(), 0);
        from.read_exact(&mut message[10..]).await?;
        if message[10..].windows(6).any(|part| part == b"\x12\x04Wait") {
            waits.fetch_add(1, Ordering::SeqCst);
        }
        to.write_all(&message).await?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_waits_for_an_end_however_many_look_for_it() {
    on(&["vm:runc"], async |place| {
        let id = {
            let runtime = place.open(&place.config()).await;
            place.running(&runtime, "machine", &Workload::forever()).await
        };
        // Only the shim can tell of its end when the monitor is gone.
        as_if_in_a_machine(place, &id);
        kill(pid_of(&shims(place)[0], "monitor"), Number::SIGKILL).unwrap();

        let calls = Arc::new(AtomicUsize::new(0));
        let factory = VmFactory::with_connector(Arc::new(Counting(Arc::clone(&calls))));
        let context = OpenContext::new(place.path("state"), format!("/manyrun/{}", place.token()));
        let runtime = within(LIMIT, "open", factory.open(&place.config(), context)).await.unwrap();
        let waiting = {
            let (runtime, id) = (runtime.clone(), id.clone());
            tokio::spawn(async move { runtime.wait(&id).await })
        };
        until("that the shim is asked", || (calls.load(Ordering::SeqCst) > 0).then_some(())).await;
        // Each of them gives up, and the first looks again and again.
        for _ in 0..5 {
            let given_up = timeout(Duration::from_millis(500), runtime.wait(&id)).await;
            assert!(given_up.is_err(), "{given_up:?}");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);

        let init = within(LIMIT, "state", runtime.state(&id)).await.unwrap().pid.unwrap();
        kill(Pid::from_raw(i32::try_from(init).unwrap()), Number::SIGKILL).unwrap();
        let status = within(LIMIT, "wait", waiting).await.unwrap().unwrap();
        assert_eq!(status.code, Some(137));
        delete(&runtime, &id, DeleteRequest::new()).await;
    })
    .await;
}
