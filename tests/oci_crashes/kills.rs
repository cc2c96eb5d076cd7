//! One caller, killed, and what the next one finds.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use manyrun_tests::census;
use manyrun_tests::life::{FILL, LAST_LINE, Life, Scenario, Step};
use manyrun_tests::patience::{LIMIT, until, within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime_api::{
    Capability, ContainerStatus, DeleteRequest, ErrorKind, ExecSessionState, ExecSyncRequest, SharedRuntime,
    StopRequest,
};
use runtime_test::Workload;

use crate::case::{Again, Case, Injury, Moment};
use crate::field::Field;
use crate::tracer;
use crate::truth::{Progress, Seen, allowed, ending};

/// How many calls a whole life takes.
pub(crate) async fn count_calls(field: &mut Field, scenario: &'static Scenario) -> u64 {
    let case = Case {
        scenario,
        moment: Moment::Call(u64::MAX),
        injury: Injury::Nobody,
        again: Again::Once,
        force: false,
    };
    let life = field.life(&case);
    let command = subject(field, &life, scenario.name, &[]);
    let trace = tokio::task::spawn_blocking(move || tracer::run_until_call(command, u64::MAX, || {}));
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
    let life = field.life(case);
    let progress = kill_the_caller(field, &life, case).await;
    let injury = case.injury;
    if matches!(injury, Injury::Init | Injury::Both) {
        kill_init(field, &life);
    }
    if let Again::Twice(call) = case.again {
        let command = subject(field, &life, "none", &[]);
        let trace = tokio::task::spawn_blocking(move || tracer::run_until_call(command, call, || {}));
        within(LIMIT, "the second caller", trace).await.unwrap();
    }
    Aftermath { field, life: &life, case, progress, half_deleted: false }.check().await;
}

/// Runs the caller until it is dead; gives how far it came.
async fn kill_the_caller(field: &Field, life: &Life, case: &Case) -> Progress {
    let progress = field.place.path("progress");
    let _ = std::fs::remove_file(&progress);
    let monitors = matches!(case.injury, Injury::Monitor | Injury::Both).then(|| life.id.to_string());
    let also = move || monitors.iter().for_each(|id| kill_monitors(id));
    let dead = match case.moment {
        Moment::Call(call) => {
            let command = subject(field, life, case.scenario.name, &[]);
            tokio::task::spawn_blocking(move || {
                tracer::run_until_call(command, call, also);
            })
        }
        Moment::After(_) | Moment::During(..) => {
            let when = match case.moment {
                Moment::After(step) => format!("after:{step}"),
                Moment::During(step, micros) => format!("during:{step}:{micros}"),
                Moment::Call(_) => String::new(),
            };
            let command = subject(field, life, case.scenario.name, &[when]);
            tokio::task::spawn_blocking(move || {
                tracer::run(command).wait().unwrap();
                also();
            })
        }
    };
    within(LIMIT, "the life of the caller", dead).await.unwrap();
    Progress::read(&std::fs::read_to_string(progress).unwrap_or_default())
}

/// Kills every conmon of a container.
fn kill_monitors(id: &str) {
    for pid in processes() {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let is_monitor = read("comm") == b"conmon\n";
        if is_monitor && read("cmdline").split(|byte| *byte == 0).any(|word| word == id.as_bytes()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Kills the init, if there is one.
fn kill_init(field: &Field, life: &Life) {
    let file = field.container(&life.id).join("pidfile");
    let Some(pid) = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok())
    else {
        return;
    };
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    // A sandbox need not be in the container's cgroup, but is told whose it is.
    let is_told = command.split(|byte| *byte == 0).any(|word| word == life.id.as_str().as_bytes());
    if is_told || cgroup.lines().any(|line| line.ends_with(&format!("/{}", life.id))) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The look of the next one who opens.
pub(crate) struct Aftermath<'a> {
    pub(crate) field: &'a Field,
    pub(crate) life: &'a Life,
    pub(crate) case: &'a Case,
    pub(crate) progress: Progress,
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
        let mut allowed = allowed(self.case.scenario, self.progress, self.case.injury);
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
            "found {first:?}, expected one of {allowed:?}; {:?}",
            self.progress
        );
        let log = &self.life.log;
        let undone = self.progress.begun <= 1 && first == Seen::Unknown;
        assert!(!(undone && log.exists()), "an undone create leaves its log");
        if first == Seen::Stopped(Some(self.case.scenario.code)) && self.case.scenario.ends {
            self.assert_log_is_whole(log);
        }
        self.assert_hanging_exec_ends(runtime).await;
        self.assert_session(runtime, first).await;
        self.assert_stays(runtime, first).await;
        if self.case.force || half_deleted {
            let delete = runtime.delete(&self.life.id, DeleteRequest::force());
            within(LIMIT, "delete", delete).await.unwrap();
        } else {
            self.live_on(runtime).await;
        }
        assert_eq!(self.look(runtime).await, Seen::Unknown);
    }

    fn interrupted(&self, steps: &[Step]) -> bool {
        self.progress.interrupted(self.case.scenario).is_some_and(|step| steps.contains(&step))
    }

    async fn look(&self, runtime: &SharedRuntime) -> Seen {
        let listed = within(LIMIT, "list", runtime.list()).await.unwrap();
        self.field.assert_bystander_lives(&listed);
        let state = match within(LIMIT, "state", runtime.state(&self.life.id)).await {
            Ok(state) => Some(state),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("state: {}", error.report()),
        };
        let seen = Seen::of(state.as_ref());
        let started = !matches!(seen, Seen::Unknown | Seen::Alive(ContainerStatus::Created));
        if let Some(state) = state.filter(|_| started && self.progress.began(self.case.scenario, Step::Start))
        {
            let killed_before = state.exit.is_some() && self.case.injury != Injury::Nobody;
            assert!(state.started_at.is_some() || killed_before, "it ran without a start: {state:?}");
        }
        seen
    }

    /// Nobody changes it any more: whatever the dead caller had begun is over.
    async fn assert_stays(&self, runtime: &SharedRuntime, first: Seen) {
        let may_end = ending(self.case.scenario, self.progress)
            || self.case.injury != Injury::Nobody
            || self.half_deleted && self.interrupted(&[Step::Delete, Step::Force]);
        // Between the runtime's word and the program there is a moment that nobody can see.
        let may_begin = self.interrupted(&[Step::Start]);
        for _ in 0..10 {
            let now = self.look(runtime).await;
            let ended = may_end && first.is_alive() && matches!(now, Seen::Stopped(_));
            let begun = may_begin
                && first == Seen::Alive(ContainerStatus::Created)
                && now == Seen::Alive(ContainerStatus::Running);
            assert!(now == first || ended || begun, "it was {first:?} and is {now:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The container's life goes on to its end, whatever it is.
    async fn live_on(&self, runtime: &SharedRuntime) {
        let (id, scenario) = (&self.life.id, self.case.scenario);
        let may_end = ending(scenario, self.progress) || self.case.injury != Injury::Nobody;
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
            within(LIMIT, "log.reopen", runtime.reopen_log(id)).await.unwrap();
            assert!(self.life.log.exists(), "the log was not opened anew");
            self.end_session(runtime).await;
        }
        if seen != Seen::Unknown {
            let stop = runtime.stop(id, StopRequest::within(scenario.grace));
            let status = within(LIMIT, "stop", stop).await.unwrap();
            let seen = self.look(runtime).await;
            assert_eq!(seen, Seen::Stopped(status.code));
            let lost = matches!(self.case.injury, Injury::Monitor | Injury::Both);
            let fits = [scenario.code, 137].map(Some).contains(&status.code)
                || lost && status.code.is_none()
                || Life::may_die_of_term(runtime, status.code);
            assert!(fits, "{status}");
            within(LIMIT, "delete", runtime.delete(id, DeleteRequest::new())).await.unwrap();
        }
    }

    fn assert_log_is_whole(&self, log: &Path) {
        if self.case.injury != Injury::Nobody {
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
        let dies = goes || progress.began(scenario, Step::Stop) || self.case.injury != Injury::Nobody;
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
        assert!(found.is_empty(), "left: {found:#?}");
    }
}
