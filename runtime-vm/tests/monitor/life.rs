//! The start of a monitor, and everything that can go wrong with it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use runtime_api::{Error, ErrorKind, Result};
use runtime_vm::monitor::{Launch, Launched, MonitorClient, StartOrder, Started, live};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::field::{Shim, soon};

/// How a launch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Well,
    Badly,
    Never,
}

#[derive(Debug)]
struct Launcher {
    way: Way,
    launches: AtomicUsize,
    undone: AtomicUsize,
}

#[async_trait]
impl Launch for Launcher {
    async fn launch(&self, _dir: &Path, order: &StartOrder) -> Result<Launched> {
        self.launches.fetch_add(1, Ordering::SeqCst);
        match self.way {
            Way::Well => {}
            Way::Badly => {
                let what = format!("{} does not want to", order.shim.display());
                return Err(Error::new(ErrorKind::Unavailable(what)));
            }
            Way::Never => std::future::pending().await,
        }
        let (told, tells) = mpsc::channel(1);
        let started = Started::by_this_process(None, "unix:///somewhere", 2);
        Ok(Launched { tasks: Shim::new(), told: tells, started, kept: Box::new(told) })
    }

    async fn undo(&self, _dir: &Path, _order: &StartOrder) {
        self.undone.fetch_add(1, Ordering::SeqCst);
    }
}

struct Begun {
    place: tempfile::TempDir,
    launcher: Arc<Launcher>,
    report: BufReader<DuplexStream>,
    go_on: DuplexStream,
    life: JoinHandle<Result<()>>,
    until: tokio::sync::oneshot::Sender<()>,
}

fn begin(way: Way) -> Begun {
    let place = tempfile::tempdir().unwrap();
    let order = StartOrder::new("/bin/shim", "a", "/bundle");
    std::fs::write(place.path().join(StartOrder::FILE), serde_json::to_vec(&order).unwrap()).unwrap();
    let launcher = Arc::new(Launcher { way, launches: AtomicUsize::new(0), undone: AtomicUsize::new(0) });
    let (report, theirs) = tokio::io::duplex(4096);
    let (go_on, listens) = tokio::io::duplex(16);
    let (until, ends) = tokio::sync::oneshot::channel::<()>();
    let (dir, launch) = (place.path().to_owned(), Arc::clone(&launcher));
    let life = tokio::spawn(async move {
        let ends = async {
            if ends.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        live(&dir, &*launch, theirs, listens, ends).await
    });
    Begun { place, launcher, report: BufReader::new(report), go_on, life, until }
}

impl Begun {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        soon(self.report.read_line(&mut line)).await.unwrap();
        line
    }

    /// Nothing is left but the order.
    fn is_undone(&self) -> bool {
        let left: Vec<_> = std::fs::read_dir(self.place.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left == [StartOrder::FILE] && self.launcher.undone.load(Ordering::SeqCst) == 1
    }
}

#[tokio::test]
async fn it_reports_once_and_goes_on_when_it_is_told_to() {
    let mut begun = begin(Way::Well);
    let line = begun.line().await;
    assert!(
        line.starts_with("{\"started\":{") && line.contains("\"address\":\"unix:///somewhere\""),
        "{line}"
    );
    let mut rest = String::new();
    soon(begun.report.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "", "the report is closed after one line");
    let started = Started::read(begun.place.path()).unwrap();
    assert_eq!((started.api, started.address.as_str()), (2, "unix:///somewhere"));
    begun.go_on.write_all(b"\n").await.unwrap();
    drop(begun.go_on);
    let client = MonitorClient::at(begun.place.path());
    assert!(client.status().await.unwrap().shim);
    client.end().await.unwrap();
    soon(begun.life).await.unwrap().unwrap();
    assert_eq!(begun.launcher.undone.load(Ordering::SeqCst), 0);
    assert_eq!(std::fs::read_dir(begun.place.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn an_order_giver_that_dies_leaves_nothing() {
    // Before the report is read, and after it.
    for reads in [false, true] {
        let mut begun = begin(Way::Well);
        if reads {
            begun.line().await;
        }
        drop(std::mem::replace(&mut begun.go_on, tokio::io::duplex(1).0));
        let error = soon(&mut begun.life).await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::PeerLost(_)), "{error:?}");
        assert!(begun.is_undone());
    }
    // While the shim starts.
    let mut begun = begin(Way::Never);
    while begun.launcher.launches.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(std::mem::replace(&mut begun.go_on, tokio::io::duplex(1).0));
    soon(&mut begun.life).await.unwrap().unwrap_err();
    assert!(begun.is_undone());
}

#[tokio::test]
async fn a_failure_is_undone_and_then_told() {
    let mut begun = begin(Way::Badly);
    let line = begun.line().await;
    assert!(
        line.starts_with("{\"failed\":{\"kind\":{\"unavailable\":\"/bin/shim does not want to\"}"),
        "{line}"
    );
    assert!(begun.is_undone(), "it is undone when it is told");
    soon(begun.life).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn it_ends_in_an_orderly_way_at_any_time() {
    for way in [Way::Never, Way::Well] {
        let mut begun = begin(way);
        if way == Way::Well {
            begun.line().await;
        }
        let (until, _) = tokio::sync::oneshot::channel();
        std::mem::replace(&mut begun.until, until).send(()).unwrap();
        soon(&mut begun.life).await.unwrap().unwrap_err();
        assert!(begun.is_undone());
    }
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_told() {
    let place = tempfile::tempdir().unwrap();
    let launcher = Launcher { way: Way::Well, launches: AtomicUsize::new(0), undone: AtomicUsize::new(0) };
    let (mut report, theirs) = tokio::io::duplex(4096);
    let (_go_on, listens) = tokio::io::duplex(16);
    live(place.path(), &launcher, theirs, listens, std::future::pending()).await.unwrap_err();
    let mut said = String::new();
    report.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("not_found") && said.contains("order.json"), "{said}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}
