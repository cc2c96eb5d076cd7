//! The monitor as a process, with the real shims of containerd where there are any.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use runtime_api::{ErrorKind, Peer, Signal, StdinMode};
use runtime_test::bundle::{self, BundleOptions};
use runtime_test::{Step, Workload};
use runtime_vm::monitor::{Key, LogOrder, MonitorClient, ProgramOrder, Started};
use runtime_vm::shim::{Address, ShimCommand, dial};
use runtime_vm::task::{CreateTask, ExecTask, NAMESPACE, Target, TaskApi, TaskClient, any};
use tokio_seqpacket::UnixSeqpacket;

use crate::field::{Attached, soon, until};
use crate::process::{MONITOR, Place};

const LIMIT: Duration = Duration::from_secs(60);
/// The one in Go, which serves version 2, and the one in Rust, which serves version 3.
const SHIMS: [&str; 2] = ["containerd-shim-runc-v2", "containerd-shim-runc-v2-rs"];

/// The shims of this host. What is missing is said.
fn shims() -> Vec<PathBuf> {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: containers behind a shim need root");
        return Vec::new();
    }
    if which("runc").is_none() {
        println!("SKIPPED: containers behind these shims need runc: apt-get install runc");
        return Vec::new();
    }
    let found = SHIMS.iter().filter_map(|name| {
        let found = which(name);
        if found.is_none() {
            println!("SKIPPED: {name} is not installed");
        }
        found
    });
    found.collect()
}

fn which(command: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(command)).find(|file| file.is_file())
}

/// A life behind a shim.
struct Life {
    place: Place,
    shim: PathBuf,
    client: MonitorClient,
    started: Started,
    tasks: TaskClient,
    terminal: bool,
}

impl Life {
    async fn begin(shim: &Path, workload: &Workload) -> Self {
        Self::begin_with(shim, workload, &BundleOptions::new()).await
    }

    async fn begin_with(shim: &Path, workload: &Workload, options: &BundleOptions) -> Self {
        let place = Place::new();
        let order = place.order(shim);
        bundle::write_with(&place.bundle(), workload, options).unwrap();
        let starting = MonitorClient::spawn(MONITOR.as_ref(), &place.monitor(), &order).await.unwrap();
        assert!(starting.started().shim.is_some());
        let (client, started) = starting.go_on().await.unwrap();
        assert_eq!(Started::read(&place.monitor()).unwrap(), started);
        let address = Address::parse(&started.address).unwrap();
        let api = if started.api == 2 { TaskApi::V2 } else { TaskApi::V3 };
        let tasks = TaskClient::over(dial::patiently(&address, LIMIT).await.unwrap(), api, NAMESPACE);
        Self { place, shim: shim.to_owned(), client, started, tasks, terminal: options.terminal }
    }

    fn id(&self) -> String {
        self.place.id()
    }

    fn program(&self, exec: Option<&str>) -> ProgramOrder {
        let dir = self.place.0.path().join(exec.unwrap_or("init"));
        std::fs::create_dir_all(&dir).unwrap();
        let key = exec.map_or_else(|| Key::init(self.id()), |exec| Key::exec(self.id(), exec));
        let mut order = ProgramOrder::new(key, &dir, dir.join("io"));
        order.log = Some(LogOrder::new(dir.join("log")));
        order.stdin = StdinMode::Once;
        order.terminal = self.terminal;
        order
    }

    /// Makes the container and has it watched.
    async fn create(&self) -> ProgramOrder {
        let program = self.program(None);
        let io = self.client.add(&program).await.unwrap().task_io(self.terminal);
        self.tasks.create(CreateTask::new(self.id(), self.place.bundle(), io), LIMIT).await.unwrap();
        self.client.watch(&program.key).await.unwrap();
        program
    }

    async fn start(&self) {
        self.tasks.start(Target::init(&self.id()), LIMIT).await.unwrap();
    }

    /// Kills what is left of the container and takes everything away.
    async fn demolish(&self) {
        let shim = ShimCommand::new(&self.shim, self.id(), self.place.bundle());
        shim.delete(LIMIT).await.unwrap();
    }

    async fn end(self, program: &ProgramOrder) {
        let id = self.id();
        self.tasks.delete(Target::init(&id), LIMIT).await.unwrap();
        let _ = self.tasks.shutdown(&id, true, LIMIT).await;
        let shim = self.started.shim.unwrap();
        until(|| !shim.lives()).await;
        let address = Address::parse(&self.started.address).unwrap();
        until(|| !address.path().unwrap().exists()).await;
        self.client.remove(&program.key).await.unwrap();
        self.client.end().await.unwrap();
        let monitor = self.started.monitor;
        until(|| !monitor.lives()).await;
        self.place.until_empty().await;
        let left = |name: &str| self.place.monitor().join(name).exists();
        assert!(!left("control") && !left("events") && !left(Started::FILE));
    }
}

async fn attach(program: &ProgramOrder) -> Attached {
    Attached(UnixSeqpacket::connect(program.dir.join("attach")).await.unwrap())
}

async fn exit(program: &ProgramOrder) -> String {
    let path = program.dir.join("exit");
    until(|| path.exists()).await;
    std::fs::read_to_string(path).unwrap()
}

fn log(program: &ProgramOrder) -> String {
    std::fs::read_to_string(&program.log.as_ref().unwrap().path).unwrap()
}

#[tokio::test]
async fn a_whole_life() {
    for shim in shims() {
        let steps = [Step::Out("out".into()), Step::Err("err".into()), Step::Exit(7)];
        let life = Life::begin(&shim, &Workload::new(steps)).await;
        let monitor = format!("/proc/{}", life.started.monitor.pid);
        let place = life.place.0.path();
        let strange: Vec<_> = std::fs::read_dir(format!("{monitor}/fd"))
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .filter(|target| target.starts_with("/") && !target.starts_with("/dev/null"))
            .filter(|target| !target.starts_with(place))
            .collect();
        assert!(strange.is_empty(), "it holds what is not its own: {strange:?}");
        let stat = std::fs::read_to_string(format!("{monitor}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        assert_eq!(fields[3], life.started.monitor.pid.to_string(), "it has a session of its own");

        let program = life.create().await;
        let client = attach(&program).await;
        let memory = std::fs::read_to_string(format!("{monitor}/smaps_rollup")).unwrap();
        println!("the monitor: {}", memory.lines().find(|line| line.starts_with("Pss:")).unwrap());
        life.start().await;
        let got = client.everything().await;
        assert_eq!((got[&2].as_slice(), got[&3].as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(exit(&program).await, "7");
        let log = log(&program);
        assert!(log.contains(" stdout F out\n") && log.contains(" stderr F err\n"), "{log}");
        let ended = std::fs::read_to_string(program.dir.join("exit-time")).unwrap();
        let ended = humantime::parse_rfc3339(&ended).unwrap();
        assert!(ended <= SystemTime::now() && ended.elapsed().unwrap() < LIMIT);
        life.end(&program).await;
    }
}

#[tokio::test]
async fn input_and_its_end_reach_the_program() {
    const SIZE: usize = 1024 * 1024 + 77;
    for shim in shims() {
        let life = Life::begin(&shim, &Workload::echoes()).await;
        let program = life.create().await;
        let client = std::sync::Arc::new(attach(&program).await);
        life.start().await;
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
        life.end(&program).await;
    }
}

#[tokio::test]
async fn much_output_comes_whole() {
    const MUCH: u64 = 20 * 1024 * 1024;
    for shim in shims() {
        let life = Life::begin(&shim, &Workload::fills(MUCH)).await;
        let program = life.create().await;
        let client = attach(&program).await;
        let begun = std::time::Instant::now();
        life.start().await;
        let got = client.everything().await;
        println!("{MUCH} bytes through {} in {:?}", shim.display(), begun.elapsed());
        assert!(got[&2] == runtime_test::script::filling(usize::try_from(MUCH).unwrap()));
        assert_eq!(exit(&program).await, "0");
        life.end(&program).await;
    }
}

#[tokio::test]
async fn a_terminal_is_standard_output() {
    for shim in shims() {
        let workload = Workload::new([Step::Out("out".into()), Step::Err("err".into())]);
        let life = Life::begin_with(&shim, &workload, &BundleOptions::new().terminal()).await;
        let program = life.create().await;
        let client = attach(&program).await;
        life.start().await;
        let got = client.everything().await;
        assert_eq!(String::from_utf8_lossy(&got[&2]), "out\r\nerr\r\n");
        assert_eq!(got.len(), 1);
        assert_eq!(exit(&program).await, "0");
        life.end(&program).await;
    }
}

#[tokio::test]
async fn an_exec_has_streams_and_an_end_of_its_own() {
    for shim in shims() {
        let life = Life::begin(&shim, &Workload::forever()).await;
        let program = life.create().await;
        life.start().await;
        let exec = life.program(Some("one"));
        let io = life.client.add(&exec).await.unwrap().task_io(false);
        let argv = Workload::new([Step::Out("exec".into()), Step::Exit(5)]).argv();
        let document = serde_json::json!({ "args": argv, "cwd": "/", "user": { "uid": 0, "gid": 0 } });
        let process = any::process(&document).unwrap();
        let id = life.id();
        let request = ExecTask { id: id.clone(), exec: "one".into(), io, process };
        life.tasks.exec(request, LIMIT).await.unwrap();
        life.client.watch(&exec.key).await.unwrap();
        let client = attach(&exec).await;
        life.tasks.start(Target::exec(&id, "one"), LIMIT).await.unwrap();
        assert_eq!(client.everything().await[&2], b"exec\n");
        assert_eq!(exit(&exec).await, "5");
        assert!(log(&exec).contains(" stdout F exec\n") && log(&program).is_empty());
        life.tasks.delete(Target::exec(&id, "one"), LIMIT).await.unwrap();
        life.client.remove(&exec.key).await.unwrap();
        assert!(!program.dir.join("exit").exists());
        life.tasks.kill(Target::init(&id), 9, true, LIMIT).await.unwrap();
        assert_eq!(exit(&program).await, "137");
        life.end(&program).await;
    }
}

#[tokio::test]
async fn a_kill_for_want_of_memory_is_noted() {
    for shim in shims() {
        let mut options = BundleOptions::new();
        options.memory_limit = Some(32 * 1024 * 1024);
        // The shim in Go begins to watch the memory once the program runs, and misses what happens before.
        let workload = Workload::echoes().then(Step::Eat(512 * 1024 * 1024));
        let life = Life::begin_with(&shim, &workload, &options).await;
        let program = life.create().await;
        let client = attach(&program).await;
        life.start().await;
        client.half_close();
        assert_eq!(exit(&program).await, "137");
        println!("{}: noted before the exit: {}", shim.display(), program.dir.join("oom").exists());
        until(|| program.dir.join("oom").exists()).await;
        life.end(&program).await;
    }
}

#[tokio::test]
async fn the_death_of_a_shim_is_seen_at_once() {
    for path in shims() {
        let life = Life::begin(&path, &Workload::forever()).await;
        let program = life.create().await;
        let client = attach(&program).await;
        life.start().await;
        let shim = life.started.shim.unwrap();
        assert!(shim.signal(Signal::KILL).unwrap());
        let begun = std::time::Instant::now();
        client.everything().await;
        println!("the clients know of the shim's death after {:?}", begun.elapsed());
        // The kernel closes a dying process's files, which is what the clients see, before it tells that it has ended.
        soon(async {
            while life.client.status().await.unwrap().shim {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        until(|| !Path::new(&format!("/proc/{}", shim.pid)).exists()).await;
        assert!(!program.dir.join("exit").exists());
        let address = Address::parse(&life.started.address).unwrap();
        let socket = address.path().unwrap().to_owned();
        until(|| !socket.exists()).await;
        life.demolish().await;
        life.client.end().await.unwrap();
        life.place.until_empty().await;
    }
}

#[tokio::test]
async fn a_monitor_that_is_told_to_leave_touches_no_container() {
    for path in shims() {
        let life = Life::begin(&path, &Workload::forever()).await;
        let program = life.create().await;
        life.start().await;
        let client = attach(&program).await;
        let monitor = life.started.monitor;
        let hangup = Signal::from_number(1).unwrap();
        monitor.signal(hangup).unwrap();
        life.client.status().await.unwrap();
        monitor.signal(Signal::TERM).unwrap();
        assert!(client.everything().await.is_empty());
        until(|| !monitor.lives()).await;
        assert!(matches!(life.client.status().await.unwrap_err().kind(), ErrorKind::PeerLost(_)));
        let id = life.id();
        assert!(life.tasks.state(Target::init(&id), LIMIT).await.is_ok());
        // The code is not lost with the monitor.
        life.tasks.kill(Target::init(&id), 9, true, LIMIT).await.unwrap();
        assert_eq!(soon(life.tasks.wait(Target::init(&id))).await.unwrap().code, 137);
        assert!(!program.dir.join("exit").exists());
        life.tasks.delete(Target::init(&id), LIMIT).await.unwrap();
        let _ = life.tasks.shutdown(&id, true, LIMIT).await;
        life.place.until_empty().await;
        // Without a monitor nobody else does it.
        assert!(dial::remove_dead(&Address::parse(&life.started.address).unwrap()).await);
    }
}

#[tokio::test]
async fn a_start_that_is_not_wanted_any_more_is_undone() {
    for shim in shims() {
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
            if let Some(socket) = address.path() {
                until(|| !socket.exists()).await;
            }
            until(|| !place.monitor().join(Started::FILE).exists()).await;
        }
    }
}

#[tokio::test]
async fn a_monitor_that_is_killed_before_it_goes_on_leaves_nothing() {
    for shim in shims() {
        let place = Place::new();
        let order = place.order(&shim);
        bundle::write(&place.bundle(), &Workload::exits(0)).unwrap();
        let starting = MonitorClient::spawn(MONITOR.as_ref(), &place.monitor(), &order).await.unwrap();
        let started = starting.started().clone();
        started.monitor.signal(Signal::KILL).unwrap();
        until(|| !started.monitor.lives()).await;
        let error = starting.go_on().await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::PeerLost(Peer::Monitor));
        assert!(place.processes().is_empty() && !started.shim.unwrap().lives());
        let socket = Address::parse(&started.address).unwrap();
        assert!(!socket.path().unwrap().exists());
        assert!(!place.monitor().join("control").exists() && !place.monitor().join(Started::FILE).exists());
    }
}

#[tokio::test]
async fn the_shim_of_somebody_else_is_left_alone() {
    for shim in shims() {
        let life = Life::begin(&shim, &Workload::forever()).await;
        let program = life.create().await;
        life.start().await;
        let second = Place::new();
        let mut order = second.order(&shim);
        order.id = life.id();
        bundle::write(&second.bundle(), &Workload::exits(0)).unwrap();
        let error = MonitorClient::spawn(MONITOR.as_ref(), &second.monitor(), &order).await.unwrap_err();
        println!("{}: {}", shim.display(), error.report());
        second.until_empty().await;
        let id = life.id();
        let state = life.tasks.state(Target::init(&id), LIMIT).await.unwrap();
        assert_eq!(state.status, runtime_vm::task::answer::TaskStatus::Running);
        let address = Address::parse(&life.started.address).unwrap();
        dial::once(&address).await.unwrap();
        life.tasks.kill(Target::init(&id), 9, true, LIMIT).await.unwrap();
        assert_eq!(exit(&program).await, "137");
        life.end(&program).await;
    }
}
