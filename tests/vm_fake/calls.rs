//! Calls that a shim answers wrongly, late or not at all. Whoever made them gets an error that names the container, in time;
//! what is told as done was done; and the container can be deleted by force, although the shim goes on like that.

use std::time::{Duration, Instant};

use manyrun_tests::fake_shim::Misdeed;
use manyrun_tests::patience::{LIMIT, within};
use runtime_api::{
    ContainerId, ContainerStatus, DeleteRequest, ExecEnd, ExecSyncRequest, KillRequest, ProcessRequest,
    Result, Signal, StopRequest, UpdateRequest,
};
use runtime_test::Workload;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use ttrpc::Code;

use crate::place::{Place, id, program};

/// The ways in which an answer can be none.
fn at_once() -> [Misdeed; 9] {
    [
        Misdeed::Refuses(Code::UNIMPLEMENTED, "method is not implemented".to_owned()),
        Misdeed::Refuses(Code::INTERNAL, "something broke".to_owned()),
        Misdeed::ForgetsTheCall,
        Misdeed::Torn,
        Misdeed::Oversize,
        Misdeed::Closes,
        Misdeed::Garbage,
        Misdeed::GarbageInside,
        Misdeed::Dies,
    ]
}

/// The ways in which it does not come.
const NEVER: [Misdeed; 3] = [Misdeed::Silent, Misdeed::Halved, Misdeed::WrongStream];

/// How many are tried at a time: a user has few instances of inotify, and each value takes one.
static ROOM: Semaphore = Semaphore::const_new(16);

/// How long a call may take, whatever the shim does: longer than any limit of the calls that are made here.
const ASKED: Duration = Duration::from_secs(60);

/// What is asked of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Create,
    Start,
    Kill,
    Stop,
    Pause,
    Resume,
    Update,
    Stats,
    Exec,
    Delete,
}

impl Ask {
    /// Brings a container to the state in which it can be asked for.
    async fn prepare(self, place: &Place, id: &ContainerId) {
        match self {
            Self::Create => {}
            Self::Start => place.created(id, &program()).await,
            Self::Resume => {
                place.running(id, &program()).await;
                place.runtime.pause(id).await.unwrap();
            }
            Self::Delete => {
                place.running(id, &program()).await;
                place.runtime.kill(id, KillRequest::new(Signal::KILL)).await.unwrap();
                place.runtime.wait(id).await.unwrap();
            }
            _ => place.running(id, &program()).await,
        }
    }

    async fn ask(self, place: &Place, id: &ContainerId) -> Result<()> {
        let runtime = &place.runtime;
        match self {
            Self::Create => runtime.create(place.request(id, &program())).await.map(drop),
            Self::Start => runtime.start(id).await,
            Self::Kill => runtime.kill(id, KillRequest::new(Signal::TERM)).await,
            Self::Stop => runtime.stop(id, StopRequest::within(Duration::from_millis(500))).await.map(drop),
            Self::Pause => runtime.pause(id).await,
            Self::Resume => runtime.resume(id).await,
            Self::Update => {
                let limits = serde_json::from_str(r#"{"pids":{"limit":100}}"#).unwrap();
                runtime.update(id, UpdateRequest::new(limits)).await
            }
            Self::Stats => runtime.stats(id).await.map(drop),
            Self::Exec => {
                let process = ProcessRequest::new(Workload::says("x").argv());
                let outcome = runtime.exec_sync(id, ExecSyncRequest::new(process)).await?;
                assert_eq!((outcome.end, outcome.stdout.as_slice()), (ExecEnd::Exited(0), b"x\n".as_slice()));
                Ok(())
            }
            Self::Delete => runtime.delete(id, DeleteRequest::new()).await,
        }
    }

    /// Whether what was told as done was done.
    async fn is_true(self, place: &Place, id: &ContainerId) -> bool {
        match self {
            Self::Create => place.truth(id) == Some(ContainerStatus::Created),
            Self::Start | Self::Resume => place.truth(id) == Some(ContainerStatus::Running),
            Self::Pause => place.truth(id) == Some(ContainerStatus::Paused),
            Self::Stop => place.truth(id) != Some(ContainerStatus::Running),
            // The program ends of it; a shim that died took it along.
            Self::Kill => {
                let give_up = Instant::now() + LIMIT;
                while place.truth(id) == Some(ContainerStatus::Running) && Instant::now() < give_up {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                place.truth(id) != Some(ContainerStatus::Running)
            }
            Self::Delete => place.truth(id).is_none(),
            Self::Update | Self::Stats | Self::Exec => true,
        }
    }
}

/// Asks for something while a method is answered in this way.
async fn suffer(ask: Ask, method: &'static str, misdeed: Misdeed) {
    let what = format!("{ask:?} with {method} {misdeed:?}");
    let _room = ROOM.acquire().await.unwrap();
    let (mut place, id) = (Place::new().await, id("victim"));
    ask.prepare(&place, &id).await;
    // While a create waits nobody on this host can remove cgroups that are not needed any more.
    place.hurry((ask == Ask::Create).then_some(Duration::from_millis(300))).await;
    place.misdeeds().always(method, misdeed.clone());
    let begun = Instant::now();
    let asked = within(ASKED, &what, ask.ask(&place, &id)).await;
    println!("{what}: {:?} {:?}", begun.elapsed(), asked.as_ref().map_err(|error| error.report()));
    match asked {
        Ok(()) => assert!(ask.is_true(&place, &id).await, "{what}: it says that it was done"),
        Err(error) => {
            let text = error.report();
            assert!(text.contains("\"victim\""), "{what}: who is it? {text}");
            if ask == Ask::Create {
                let unknown = place.runtime.state(&id).await.unwrap_err();
                assert!(unknown.is_not_found(), "{what}: {unknown}");
            } else if misdeed != Misdeed::Dies {
                // Whatever was done or not: the state says it, at the latest when a program had time to end of a signal.
                let give_up = Instant::now() + LIMIT;
                while let Some(truth) = place.truth(&id) {
                    let told = within(LIMIT, "state", place.runtime.state(&id)).await.unwrap().status;
                    if told == truth {
                        break;
                    }
                    assert!(Instant::now() < give_up, "{what}: {told} is told of what is {truth}: {text}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
    let begun = Instant::now();
    place.end(&id).await;
    println!("{what}: removed in {:?}", begun.elapsed());
}

/// Which method is answered wrongly, and what is asked that needs it.
const CALLS: &[(Ask, &str)] = &[
    (Ask::Create, "Connect"),
    (Ask::Create, "Create"),
    (Ask::Start, "Start"),
    (Ask::Kill, "Kill"),
    (Ask::Stop, "Kill"),
    (Ask::Pause, "Pause"),
    (Ask::Resume, "Resume"),
    (Ask::Update, "Update"),
    (Ask::Stats, "Stats"),
    (Ask::Exec, "Exec"),
    (Ask::Exec, "Start"),
    (Ask::Delete, "Delete"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_none_is_an_error_and_the_container_can_be_removed() {
    let each = CALLS.iter().flat_map(|(ask, method)| at_once().map(|misdeed| suffer(*ask, method, misdeed)));
    each.collect::<JoinSet<_>>().join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_comes_is_waited_for_no_longer_than_the_limit() {
    // Most of it is waiting.
    let each = CALLS.iter().flat_map(|(ask, method)| NEVER.map(|misdeed| suffer(*ask, method, misdeed)));
    each.collect::<JoinSet<_>>().join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_is_an_answer() {
    for (ask, method) in
        [(Ask::Create, "Create"), (Ask::Start, "Start"), (Ask::Kill, "Kill"), (Ask::Exec, "Wait")]
    {
        let (place, id) = (Place::new().await, id("victim"));
        ask.prepare(&place, &id).await;
        place.misdeeds().once(method, Misdeed::Late(Duration::from_millis(300)));
        within(LIMIT, "a late answer", ask.ask(&place, &id)).await.unwrap();
        assert!(ask.is_true(&place, &id).await, "{ask:?}");
        place.end(&id).await;
    }
}
