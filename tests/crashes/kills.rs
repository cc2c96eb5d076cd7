//! One life in which somebody is killed, and what the next one who opens finds.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use manyrun_tests::census;
use manyrun_tests::life::{FILL, LAST_LINE, Life, Scenario, Step};
use manyrun_tests::patience::{LIMIT, until, within};
use runtime_api::{
    Capability, ContainerId, ContainerState, ContainerStatus, CreateRequest, DeleteRequest, ErrorKind,
    ExecSessionState, ExecSyncRequest, ExitCause, ExitStatus, MonitorHealth, RestoreRequest, SharedRuntime,
    StopRequest,
};
use runtime_test::Workload;
use tokio::task::JoinHandle;

use crate::case::{Again, Case, Moment, Victims};
use crate::field::Field;
use crate::tracer::{self, Then};
use crate::truth::{Can, Progress, SAVED, Seen, allowed, ending};
use crate::victims::{is_populated, kill_init, kill_servants};

/// How long a caller may take that goes on when what it relies on was killed.
const LIFE: Duration = Duration::from_secs(60);

/// How many calls a whole life takes.
pub(crate) async fn count_calls(field: &mut Field, scenario: &'static Scenario) -> u64 {
    let life = field.life(scenario, false);
    let command = subject(field, &life, scenario.name, &[]);
    let whole = move || tracer::run_until_call(command, u64::MAX, || {}, Then::GoOn);
    let trace = tokio::task::spawn_blocking(whole);
    let calls = within(LIMIT, "a whole life", trace).await.unwrap();
    println!("{}: {calls} calls", scenario.name);
    calls
}

fn subject(field: &Field, life: &Life, scenario: &str, when: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crash-subject"));
    command.arg(field.place.binary).arg(field.place.path("state")).arg(field.cgroup());
    command.arg(field.place.path("progress")).arg(&life.bundles).arg(&life.log);
    command.arg(life.id.as_str()).arg(scenario).args(when);
    command
}

pub(crate) async fn run(field: &mut Field, case: &Case) {
    let life = field.life(case.scenario, case.guest);
    let (progress, killed) = kill_at_the_moment(field, &life, case).await;
    if killed.init {
        kill_init(field, &life);
    }
    if let Again::Twice(call) = case.again {
        let command = subject(field, &life, "none", &[]);
        let second = move || tracer::run_until_call(command, call, || {}, Then::Kill);
        let trace = tokio::task::spawn_blocking(second);
        within(LIMIT, "the second caller", trace).await.unwrap();
    }
    Aftermath { field, life: &life, case, progress, killed, half_deleted: false }.check().await;
}

/// Runs the caller up to the moment of the case, and kills; gives how far it came, and who was killed.
async fn kill_at_the_moment(field: &Field, life: &Life, case: &Case) -> (Progress, Victims) {
    let progress = field.place.path("progress");
    let _ = std::fs::remove_file(&progress);
    let (id, victims) = (life.id.to_string(), case.victims);
    let mut killed = victims;
    let also = move |killed: &mut Victims| {
        let there = kill_servants(&id, victims);
        // conmon's codes are lost with it, whether or not it was there yet.
        killed.shim = there.shim;
    };
    let then = if victims.caller { Then::Kill } else { Then::GoOn };
    let when = match case.moment {
        Moment::Call(_) => vec![],
        Moment::After(step) => vec![format!("after:{step}"), "halt".to_owned()],
        Moment::During(step, micros) => vec![format!("during:{step}:{micros}"), "halt".to_owned()],
    };
    let command = subject(field, life, case.scenario.name, &when);
    let moment = case.moment;
    let dead = tokio::task::spawn_blocking(move || {
        match moment {
            Moment::Call(call) => drop(tracer::run_until_call(command, call, || also(&mut killed), then)),
            _ => tracer::run_until_halt(command, || also(&mut killed), then),
        }
        killed
    });
    let killed = within(LIFE, "the life of the caller", dead).await.unwrap();
    let text = std::fs::read_to_string(progress).unwrap_or_default();
    (Progress::read(&text, !victims.caller), killed)
}

/// The look of the next one who opens.
pub(crate) struct Aftermath<'a> {
    pub(crate) field: &'a Field,
    pub(crate) life: &'a Life,
    pub(crate) case: &'a Case,
    pub(crate) progress: Progress,
    /// Who was killed of those who were to be.
    pub(crate) killed: Victims,
    /// Whether a delete may be found half done: no value was opened since, so nobody has finished it.
    pub(crate) half_deleted: bool,
}

impl Aftermath<'_> {
    async fn check(&self) {
        let runtime = self.field.place.open(&self.field.place.config()).await;
        self.check_with(&runtime).await;
        runtime.shutdown().await;
        drop(runtime);
        self.assert_nothing_left().await;
    }

    /// Everything but what the end of the value leaves.
    pub(crate) async fn check_with(&self, runtime: &SharedRuntime) {
        let can = Can {
            outlive_its_monitor: self.field.place.has_shim(),
            save: runtime.capabilities().has(Capability::Checkpoint),
        };
        let mut allowed = allowed(self.case.scenario, self.progress, self.killed, can);
        let half_deleted = self.half_deleted && self.interrupted(&[Step::Delete, Step::Force]);
        if half_deleted {
            allowed.push(Seen::Stopped(Some(137)));
        }
        if Life::may_die_of_term(runtime, Some(143)) && self.progress.began(self.case.scenario, Step::Stop) {
            allowed.push(Seen::Stopped(Some(143)));
        }
        let first = self.look(runtime).await;
        assert!(
            allowed.contains(&first),
            "found {first:?}, expected one of {allowed:?}; {:?}, killed: {}",
            self.progress,
            self.killed
        );
        self.assert_true(runtime, first).await;
        let log = &self.life.log;
        let undone = self.progress.begun <= 1 && first == Seen::Unknown;
        assert!(!(undone && log.exists()), "an undone create leaves its log");
        if first == Seen::Stopped(Some(self.case.scenario.code)) && self.case.scenario.ends {
            self.assert_log_is_whole(log);
        }
        self.assert_hanging_exec_ends(runtime).await;
        self.assert_session(runtime, first).await;
        self.assert_stays(runtime, first).await;
        self.assert_image(runtime, first).await;
        if self.case.force || half_deleted {
            self.force(runtime).await;
        } else {
            self.live_on(runtime).await;
        }
        assert_eq!(self.look(runtime).await, Seen::Unknown);
    }

    fn interrupted(&self, steps: &[Step]) -> bool {
        self.progress.interrupted(self.case.scenario).is_some_and(|step| steps.contains(&step))
    }

    async fn look(&self, runtime: &SharedRuntime) -> Seen {
        let state = self.state(runtime).await;
        let seen = Seen::of(state.as_ref(), self.killed);
        let started = !matches!(seen, Seen::Unknown | Seen::Alive(ContainerStatus::Created));
        if let Some(state) = state.filter(|_| started && self.progress.began(self.case.scenario, Step::Start))
        {
            let killed_before = state.exit.is_some() && self.killed.others();
            assert!(state.started_at.is_some() || killed_before, "it ran without a start: {state:?}");
        }
        seen
    }

    /// How it stands, by the list and by itself.
    async fn state(&self, runtime: &SharedRuntime) -> Option<ContainerState> {
        let listed = within(LIMIT, "list", runtime.list()).await.unwrap();
        self.field.assert_bystander_lives(&listed);
        let listed = listed.into_iter().find(|state| state.id == self.life.id);
        match within(LIMIT, "state", runtime.state(&self.life.id)).await {
            Ok(state) => {
                let told_before = listed.as_ref().and_then(|listed| listed.exit.as_ref());
                assert!(told_before.is_none() || told_before == state.exit.as_ref(), "{listed:?}, {state:?}");
                Some(state)
            }
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("state: {}", error.report()),
        }
    }

    /// What is told is so: of its processes, and to those who wait.
    async fn assert_true(&self, runtime: &SharedRuntime, first: Seen) {
        let id = self.life.id.as_str();
        if runtime.capabilities().has(Capability::HostVisiblePid) {
            if first.is_alive() {
                assert!(is_populated(id) || self.may_end() || self.half_deleted, "it has no process");
            } else {
                until("the end of its processes", || (!is_populated(id)).then_some(())).await;
            }
        }
        if matches!(first, Seen::Stopped(_)) && !self.half_deleted {
            let status = within(LIMIT, "wait", runtime.wait(&self.life.id)).await.unwrap();
            assert_eq!(self.state(runtime).await.and_then(|state| state.exit), Some(status));
        }
    }

    /// Whether it may end by itself from here on.
    fn may_end(&self) -> bool {
        let survives = !self.killed.others() || self.has_lost_its_monitor_only();
        ending(self.case.scenario, self.progress) || !survives
    }

    /// A shim goes on without the monitor.
    fn has_lost_its_monitor_only(&self) -> bool {
        self.field.place.has_shim() && self.killed.monitor && !self.killed.shim && !self.killed.init
    }

    /// Waits for its end, in a task that has begun to.
    async fn waiting(&self, runtime: &SharedRuntime) -> JoinHandle<runtime_api::Result<ExitStatus>> {
        let (runtime, id) = (SharedRuntime::clone(runtime), self.life.id.clone());
        let waiting = tokio::spawn(async move { runtime.wait(&id).await });
        tokio::task::yield_now().await;
        waiting
    }

    /// Deletes it with force, in whatever state it is. Whoever waits is told of its end.
    async fn force(&self, runtime: &SharedRuntime) {
        let delete = runtime.delete(&self.life.id, DeleteRequest::force());
        within(LIMIT, "delete", delete).await.unwrap();
    }

    /// Nobody changes it any more: whatever the dead caller had begun is over.
    async fn assert_stays(&self, runtime: &SharedRuntime, first: Seen) {
        let may_end = self.may_end() || self.half_deleted && self.interrupted(&[Step::Delete, Step::Force]);
        // Between the runtime's word and the program there is a moment that nobody can see.
        let may_begin = self.interrupted(&[Step::Start]);
        for _ in 0..10 {
            let now = self.look(runtime).await;
            let ended = may_end && first.is_alive() && matches!(now, Seen::Stopped(_));
            let begun = may_begin
                && first == Seen::Alive(ContainerStatus::Created)
                && now == Seen::Alive(ContainerStatus::Running);
            // A shim goes on with what it was asked when its caller is gone.
            let moved = self.field.place.has_shim() && self.interrupted(&[Step::Pause, Step::Resume]);
            let turned = moved && first.is_alive() && now.is_alive();
            assert!(now == first || ended || begun || turned, "it was {first:?} and is {now:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The container's life goes on to its end, whatever it is.
    async fn live_on(&self, runtime: &SharedRuntime) {
        let (id, scenario) = (&self.life.id, self.case.scenario);
        let may_end = self.may_end();
        let mut seen = self.look(runtime).await;
        let succeeded = |what: &str, done: runtime_api::Result<()>| match done {
            Ok(()) => {}
            Err(error) if may_end && matches!(error.kind(), ErrorKind::WrongState { .. }) => {}
            Err(error) => panic!("{what}: {}", error.report()),
        };
        if seen == Seen::Alive(ContainerStatus::Created) {
            succeeded("start", within(LIMIT, "start", runtime.start(id)).await);
            seen = self.look(runtime).await;
        }
        if seen == Seen::Alive(ContainerStatus::Paused) {
            succeeded("resume", within(LIMIT, "resume", runtime.resume(id)).await);
            seen = self.look(runtime).await;
        }
        if seen == Seen::Alive(ContainerStatus::Running) && !scenario.ends && !may_end {
            let request = ExecSyncRequest::new(Workload::says("again").process());
            let outcome = within(LIMIT, "exec", runtime.exec_sync(id, request)).await.unwrap();
            assert_eq!(outcome.stdout, b"again\n");
            self.reopen_log(runtime).await;
            self.end_session(runtime).await;
        }
        if seen != Seen::Unknown {
            let waiting = self.waiting(runtime).await;
            let stop = runtime.stop(id, StopRequest::within(scenario.grace));
            let status = within(LIMIT, "stop", stop).await.unwrap();
            assert_eq!(within(LIMIT, "wait", waiting).await.unwrap().unwrap(), status);
            let seen = self.look(runtime).await;
            assert_eq!(seen, Seen::Stopped(status.code));
            let teller_died =
                if self.field.place.has_shim() { self.killed.shim } else { self.killed.monitor };
            let fits = [scenario.code, 137].map(Some).contains(&status.code)
                || status.cause == ExitCause::Checkpointed
                || teller_died && status.code.is_none()
                || Life::may_die_of_term(runtime, status.code);
            assert!(fits, "{status}");
            within(LIMIT, "delete", runtime.delete(id, DeleteRequest::new())).await.unwrap();
        }
    }

    /// There is an image if it was saved, a whole one, and nothing beside it.
    async fn assert_image(&self, runtime: &SharedRuntime, first: Seen) {
        if !self.progress.began(self.case.scenario, Step::Save)
            || !runtime.capabilities().has(Capability::Restore)
        {
            return;
        }
        let image = self.life.image();
        let Some(images) = image.parent().filter(|images| images.exists()) else {
            return assert_ne!(first, SAVED, "it was saved nowhere");
        };
        let names = std::fs::read_dir(images).unwrap().map(|entry| entry.unwrap().path());
        let names: Vec<_> = names.collect();
        println!("found {first:?} and {} images", names.len());
        if first == SAVED {
            assert_eq!(names, std::slice::from_ref(&image));
        } else if first.is_alive() || !self.progress.done(self.case.scenario, Step::Save) {
            assert!(
                names.iter().all(|name| *name == image && first == Seen::Unknown),
                "{names:?}: {first:?}"
            );
        }
        if image.exists() {
            let id = ContainerId::new(format!("{}r", self.life.id)).unwrap();
            let bundle = self.life.bundles.join(self.case.scenario.name);
            let request = RestoreRequest::new(CreateRequest::new(id.clone(), bundle), &image);
            within(LIMIT, "restore", runtime.restore(request)).await.unwrap();
            let stop = runtime.stop(&id, StopRequest::within(self.case.scenario.grace));
            assert_eq!(within(LIMIT, "stop", stop).await.unwrap().code, Some(self.case.scenario.code));
            within(LIMIT, "delete", runtime.delete(&id, DeleteRequest::new())).await.unwrap();
        }
        std::fs::remove_dir_all(images).unwrap();
    }

    /// The log is opened anew, unless there is nobody who could.
    async fn reopen_log(&self, runtime: &SharedRuntime) {
        let health = within(LIMIT, "monitor.probe", runtime.probe_monitor(&self.life.id)).await.unwrap();
        let reopened = within(LIMIT, "log.reopen", runtime.reopen_log(&self.life.id)).await;
        if health == MonitorHealth::Lost {
            assert!(self.killed.monitor, "the monitor is lost");
            let error = reopened.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::PeerLost(_)), "{}", error.report());
        } else {
            reopened.unwrap();
            assert!(self.life.log.exists(), "the log was not opened anew");
        }
    }

    fn assert_log_is_whole(&self, log: &Path) {
        if self.killed.others() {
            return;
        }
        let text = std::fs::read_to_string(log).unwrap();
        assert!(text.ends_with(&format!(" F {LAST_LINE}\n")), "the log's end is missing: {}", text.len());
        assert!(text.contains(" F the first line\n"), "the log's beginning is missing");
        // Records are lines or pieces of them; a newline for each line is not in the log.
        let said: usize = text.lines().map(|line| line.splitn(4, ' ').nth(3).map_or(0, str::len)).sum();
        let lines = text.lines().filter(|line| line.contains(" F ")).count();
        let wanted = usize::try_from(FILL).unwrap() + "the first line\n".len() + LAST_LINE.len() + 1;
        assert_eq!(said + lines, wanted, "the log lacks something");
    }

    /// An exec of a dead caller is ended: nobody would ever read what it says.
    async fn assert_hanging_exec_ends(&self, runtime: &SharedRuntime) {
        let over = || (!self.life.hangs(runtime)).then_some(());
        until("the end of the dead caller's exec", over).await;
    }

    /// How the session stands.
    async fn session(&self, runtime: &SharedRuntime) -> Option<ExecSessionState> {
        let session = Life::session().unwrap();
        let state = runtime.exec_state(&self.life.id, &session);
        match within(LIMIT, "exec.state", state).await {
            Ok(state) => Some(state),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("exec.state: {}", error.report()),
        }
    }

    /// A session goes on without its caller, to its end or that of its container; one that was not begun leaves nothing.
    async fn assert_session(&self, runtime: &SharedRuntime, first: Seen) {
        if !runtime.capabilities().has(Capability::ExecSession) {
            return;
        }
        let (scenario, progress) = (self.case.scenario, self.progress);
        let ends = progress.began(scenario, Step::EndSession);
        let goes = ends || self.interrupted(&[Step::Force, Step::Delete]) || first == Seen::Unknown;
        let dies = goes || progress.began(scenario, Step::Stop) || self.killed.others();
        let found = self.session(runtime).await;
        match found {
            None => {
                let lacks = progress.done(scenario, Step::Session) && !goes;
                assert!(!lacks, "the session is lost: {progress:?}");
                let files = self.field.container(&self.life.id).join("sessions/session");
                until("that the session's files go", || (!files.exists()).then_some(())).await;
            }
            Some(state) => {
                let is_known = progress.began(scenario, Step::Session) && first != Seen::Unknown;
                assert!(is_known && !progress.done(scenario, Step::EndSession), "{state:?}: {progress:?}");
                let runs = matches!(state, ExecSessionState::Running { .. });
                assert!(runs || dies || !first.is_alive(), "the session ended: {state:?}: {progress:?}");
            }
        }
        if !first.is_alive() {
            let over = async {
                while matches!(self.session(runtime).await, Some(ExecSessionState::Running { .. })) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            within(LIMIT, "the end of the session with its container", over).await;
        }
    }

    /// The session of a dead caller is stopped and forgotten as any other.
    async fn end_session(&self, runtime: &SharedRuntime) {
        let has = runtime.capabilities().has(Capability::ExecSession);
        if !has || self.session(runtime).await.is_none() {
            return;
        }
        let (id, session) = (&self.life.id, Life::session().unwrap());
        let stop = runtime.exec_stop(id, &session, StopRequest::within(Duration::from_secs(20)));
        let state = within(LIMIT, "exec.stop", stop).await.unwrap();
        assert!(Life::is_stopped_session(&state), "{state:?}");
        within(LIMIT, "exec.cleanup", runtime.exec_cleanup(id, &session)).await.unwrap();
        assert_eq!(self.session(runtime).await, None);
    }

    pub(crate) async fn assert_nothing_left(&self) {
        let state = self.field.place.path("state");
        let found = census::settled(self.life.id.as_str(), &state, Duration::from_secs(20)).await;
        let mut found: Vec<_> = found.into_iter().chain(census::below_run(self.life.id.as_str())).collect();
        found.extend(
            self.field.place.socket_of(&self.life.id).exists().then(|| "its shim's socket".to_owned()),
        );
        assert!(found.is_empty(), "left: {found:#?}");
    }
}
