//! The monitor as a process of its own: with shims that are scripts and misbehave, and with a real one where there is one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use runtime_api::{ErrorKind, Peer, StdinMode};
use runtime_host::process::Identity;
use runtime_test::{Step, Workload, bundle};
use runtime_vm::monitor::{Key, LogOrder, MonitorClient, ProgramOrder, StartOrder, Started};
use runtime_vm::shim::{Address, dial};
use runtime_vm::task::{CreateTask, NAMESPACE, Target, TaskApi, TaskClient};

use crate::field::{Attached, soon, until};

const MONITOR: &str = env!("CARGO_BIN_EXE_manyrun-vm-io");
const LIMIT: Duration = Duration::from_secs(60);

/// A directory for a monitor and one for a bundle.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.monitor()).unwrap();
        std::fs::create_dir(place.bundle()).unwrap();
        place
    }

    fn monitor(&self) -> PathBuf {
        self.0.path().join("monitor")
    }

    fn bundle(&self) -> PathBuf {
        // A shim may want it named by the id.
        self.0.path().join(self.id())
    }

    /// Shims of one id are one shim, so every test has another one.
    fn id(&self) -> String {
        let name = self.0.path().file_name().unwrap().to_string_lossy().into_owned();
        format!("vm-io{}", name.replace('.', "-"))
    }

    fn order(&self, shim: &Path) -> StartOrder {
        let mut order = StartOrder::new(shim, self.id(), self.bundle());
        order.start_limit = Duration::from_secs(20);
        order.dial_limit = Duration::from_secs(20);
        order
    }

    /// A shim that does this.
    fn script(&self, text: &str) -> PathBuf {
        let path = self.0.path().join("containerd-shim-script");
        std::fs::write(&path, format!("#!/bin/sh\nfor action; do :; done\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The processes that have this place in their command line or their working directory.
    fn processes(&self) -> Vec<i32> {
        let place = self.0.path().to_string_lossy().into_owned();
        let own = i32::try_from(std::process::id()).unwrap();
        let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let here = String::from_utf8_lossy(&words).contains(&place) || cwd.starts_with(&place);
            (here && pid != own && Identity::of(pid).is_some()).then_some(pid)
        });
        pids.collect()
    }

    async fn until_empty(&self) {
        until(|| self.processes().is_empty()).await;
    }
}

#[tokio::test]
async fn shims_that_do_not_start_leave_nothing_and_say_why() {
    for (text, says) in [
        ("echo broken >&2; exit 1", "broken"),
        ("[ $action = start ] && exit 0", "said nothing"),
        (
            "[ $action = start ] && echo unix:///nonexistent/s; sleep 1000 </dev/null >/dev/null 2>&1 &",
            "No such file",
        ),
        (
            "[ $action = start ] && echo '{\"version\":9,\"address\":\"unix:///x\",\"protocol\":\"ttrpc\"}'",
            "version",
        ),
    ] {
        let place = Place::new();
        let mut order = place.order(&place.script(text));
        order.dial_limit = Duration::from_millis(300);
        let error = MonitorClient::spawn(MONITOR.as_ref(), &place.monitor(), &order).await.unwrap_err();
        assert!(error.report().contains(says), "{}", error.report());
        assert!(error.report().contains("containerd-shim-script"), "{}", error.report());
        place.until_empty().await;
        assert!(!place.monitor().join(Started::FILE).exists());
        assert!(!place.monitor().join("control").exists());
    }
}

#[tokio::test]
async fn a_shim_that_never_answers_is_killed_at_the_limit() {
    let place = Place::new();
    let mut order = place.order(&place.script("[ $action = start ] && exec sleep 1000"));
    order.start_limit = Duration::from_millis(300);
    let error = MonitorClient::spawn(MONITOR.as_ref(), &place.monitor(), &order).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TimedOut(_)), "{error:?}");
    place.until_empty().await;
}

#[tokio::test]
async fn a_program_that_is_no_monitor_is_told() {
    let place = Place::new();
    let order = place.order(Path::new("/bin/true"));
    let error =
        MonitorClient::spawn(Path::new("/nonexistent/io"), &place.monitor(), &order).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Unavailable(_)), "{error:?}");
    let strange = place.script("echo hello");
    let error = MonitorClient::spawn(&strange, &place.monitor(), &order).await.unwrap_err();
    assert!(error.to_string().contains("makes no sense"), "{error}");
    let silent = place.script("echo its last words >&2; exit 3");
    let error = MonitorClient::spawn(&silent, &place.monitor(), &order).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::PeerLost(Peer::Monitor));
    assert!(error.report().contains("its last words") && error.report().contains("exit code 3"), "{error:?}");
}

#[test]
fn by_hand_it_says_what_it_is() {
    let run = |words: &[&str]| {
        std::process::Command::new(MONITOR).args(words).stdin(Stdio::null()).output().unwrap()
    };
    assert!(String::from_utf8(run(&["--version"]).stdout).unwrap().starts_with("manyrun-vm-io 0."));
    for words in [&[][..], &["relative"], &["/a", "/b"]] {
        let said = run(words);
        assert_eq!(said.status.code(), Some(2));
        assert!(String::from_utf8(said.stderr).unwrap().contains("usage"));
    }
    let said = run(&["/tmp"]);
    assert_eq!(said.status.code(), Some(1), "its input is no pipe");
}

#[tokio::test]
async fn an_order_giver_that_is_killed_leaves_nothing() {
    let place = Place::new();
    let shim = place.script("[ $action = start ] && exec sleep 1000");
    let order = place.order(&shim);
    std::fs::write(place.monitor().join(StartOrder::FILE), serde_json::to_vec(&order).unwrap()).unwrap();
    let mut monitor = tokio::process::Command::new(MONITOR)
        .arg(place.monitor())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| place.processes().len() > 1).await;
    // All that a death does to it.
    drop((monitor.stdin.take(), monitor.stdout.take()));
    let status = soon(monitor.wait()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    place.until_empty().await;
}

/// A life on containerd's own shim.
struct Real {
    place: Place,
    client: MonitorClient,
    started: Started,
    tasks: TaskClient,
}

impl Real {
    /// Nothing where the host lacks what is needed; it is said why.
    async fn begin(workload: &Workload) -> Option<Self> {
        let shim = which("containerd-shim-runc-v2");
        let lacks = [
            (nix::unistd::geteuid().is_root(), "root"),
            (shim.is_some(), "containerd"),
            (which("runc").is_some(), "runc"),
        ];
        if let Some((_, need)) = lacks.iter().find(|(there, _)| !there) {
            println!("SKIPPED: a life behind containerd's shim needs {need}");
            return None;
        }
        let place = Place::new();
        let order = place.order(&shim?);
        bundle::write(&place.bundle(), workload).unwrap();
        let starting = MonitorClient::spawn(MONITOR.as_ref(), &place.monitor(), &order).await.unwrap();
        assert!(starting.started().shim.is_some());
        let (client, started) = starting.go_on().await.unwrap();
        assert_eq!(Started::read(&place.monitor()).unwrap(), started);
        let address = Address::parse(&started.address).unwrap();
        let api = if started.api == 2 { TaskApi::V2 } else { TaskApi::V3 };
        let tasks = TaskClient::over(dial::patiently(&address, LIMIT).await.unwrap(), api, NAMESPACE);
        Some(Self { place, client, started, tasks })
    }

    fn program(&self) -> ProgramOrder {
        let dir = self.place.0.path().join("program");
        std::fs::create_dir_all(&dir).unwrap();
        let mut order = ProgramOrder::new(Key::init(self.place.id()), &dir, dir.join("io"));
        order.log = Some(LogOrder::new(self.place.0.path().join("log")));
        order.stdin = StdinMode::Once;
        order
    }

    /// Makes the container and has it watched.
    async fn create(&self) -> ProgramOrder {
        let program = self.program();
        let fifos = self.client.add(&program).await.unwrap();
        let io = fifos.task_io(false);
        let id = self.place.id();
        self.tasks.create(CreateTask::new(&id, self.place.bundle(), io), LIMIT).await.unwrap();
        self.client.watch(&program.key).await.unwrap();
        program
    }

    async fn start(&self) {
        self.tasks.start(Target::init(&self.place.id()), LIMIT).await.unwrap();
    }

    async fn end(self, program: &ProgramOrder) {
        let id = self.place.id();
        self.tasks.delete(Target::init(&id), LIMIT).await.unwrap();
        let _ = self.tasks.shutdown(&id, true, LIMIT).await;
        let shim = self.started.shim.unwrap();
        until(|| !shim.lives()).await;
        self.client.remove(&program.key).await.unwrap();
        self.client.end().await.unwrap();
        let monitor = self.started.monitor;
        until(|| !monitor.lives()).await;
        self.place.until_empty().await;
    }
}

fn which(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(command)).find(|file| file.is_file())
}

async fn exit(program: &ProgramOrder) -> String {
    let path = program.dir.join("exit");
    until(|| path.exists()).await;
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn a_life_behind_a_real_shim() {
    let steps = [Step::Out("out".into()), Step::Err("err".into())];
    let workload = Workload::new(steps).then(Step::Exit(7));
    let Some(real) = Real::begin(&workload).await else { return };
    let monitor = format!("/proc/{}", real.started.monitor.pid);
    let open: Vec<_> = std::fs::read_dir(format!("{monitor}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with("/") && !target.starts_with("/dev/null"))
        .filter(|target| !target.starts_with(real.place.0.path()))
        .collect();
    assert!(open.is_empty(), "it holds descriptors that are not its own: {open:?}");
    let stat = std::fs::read_to_string(format!("{monitor}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_eq!(fields[3], real.started.monitor.pid.to_string(), "it has a session of its own");

    let program = real.create().await;
    let client = Attached(tokio_seqpacket::UnixSeqpacket::connect(program.dir.join("attach")).await.unwrap());
    let memory = std::fs::read_to_string(format!("{monitor}/smaps_rollup")).unwrap();
    println!(
        "the monitor with one program: {}",
        memory.lines().find(|line| line.starts_with("Pss:")).unwrap()
    );
    real.start().await;
    let got = client.everything().await;
    assert_eq!((got[&2].as_slice(), got[&3].as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(exit(&program).await, "7");
    let log = std::fs::read_to_string(&program.log.as_ref().unwrap().path).unwrap();
    assert!(log.contains(" stdout F out\n") && log.contains(" stderr F err\n"), "{log}");
    let ended = std::fs::read_to_string(program.dir.join("exit-time")).unwrap();
    let ended = humantime::parse_rfc3339(&ended).unwrap();
    assert!(ended <= SystemTime::now() && ended.elapsed().unwrap() < LIMIT);
    assert!(
        real.place.monitor().join("shim.log").exists() || real.place.monitor().join("monitor.log").exists()
    );
    real.end(&program).await;
}

#[tokio::test]
async fn input_and_its_end_reach_a_program_behind_a_real_shim() {
    const SIZE: usize = 1024 * 1024 + 77;
    let Some(real) = Real::begin(&Workload::echoes()).await else { return };
    let program = real.create().await;
    let path = program.dir.join("attach");
    let client = std::sync::Arc::new(Attached(tokio_seqpacket::UnixSeqpacket::connect(path).await.unwrap()));
    real.start().await;
    let sent: Vec<u8> = (0..SIZE).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let (says, words) = (std::sync::Arc::clone(&client), sent.clone());
    tokio::spawn(async move {
        for packet in words.chunks(32 * 1024) {
            says.say(packet).await;
        }
        says.half_close();
    });
    assert!(client.everything().await[&2] == sent);
    assert_eq!(exit(&program).await, "0");
    real.end(&program).await;
}

#[tokio::test]
async fn the_death_of_a_real_shim_is_seen_at_once() {
    let Some(real) = Real::begin(&Workload::forever()).await else { return };
    let program = real.create().await;
    let client = Attached(tokio_seqpacket::UnixSeqpacket::connect(program.dir.join("attach")).await.unwrap());
    real.start().await;
    let id = real.place.id();
    let pids = real.tasks.pids(&id, LIMIT).await.unwrap();
    let shim = real.started.shim.unwrap();
    assert!(shim.signal(runtime_api::Signal::KILL).unwrap());
    let begun = std::time::Instant::now();
    client.everything().await;
    println!("the clients know of the shim's death after {:?}", begun.elapsed());
    assert!(!real.client.status().await.unwrap().shim);
    assert!(Identity::of(shim.pid) != Some(shim), "it is no zombie either");
    assert!(!program.dir.join("exit").exists());
    // The container of a host runtime goes on without it.
    for process in pids {
        if let Some(process) = Identity::of(i32::try_from(process.pid).unwrap()) {
            let _ = process.signal(runtime_api::Signal::KILL);
        }
    }
    let shim = runtime_vm::shim::ShimCommand::new(
        which("containerd-shim-runc-v2").unwrap(),
        &id,
        real.place.bundle(),
    );
    shim.delete(LIMIT).await.unwrap();
    real.client.end().await.unwrap();
    real.place.until_empty().await;
}

#[tokio::test]
async fn a_start_that_is_not_wanted_any_more_is_undone_with_the_real_shim() {
    let Some(shim) = which("containerd-shim-runc-v2").filter(|_| nix::unistd::geteuid().is_root()) else {
        println!("SKIPPED: a life behind containerd's shim needs root and containerd");
        return;
    };
    for waits in [false, true] {
        let place = Place::new();
        let order = place.order(&shim);
        bundle::write(&place.bundle(), &Workload::exits(0)).unwrap();
        let starting = MonitorClient::spawn(MONITOR.as_ref(), &place.monitor(), &order).await.unwrap();
        let address = Address::parse(&starting.started().address).unwrap();
        if waits {
            starting.undo().await;
        } else {
            drop(starting);
        }
        place.until_empty().await;
        let socket = address.path().unwrap().to_owned();
        until(|| !socket.exists()).await;
        assert!(!place.monitor().join(Started::FILE).exists());
    }
}
