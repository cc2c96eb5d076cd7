//! A place for containers below one shim, driven by hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use runtime_test::{BundleOptions, Workload, bundle};
use runtime_vm::shim::{self, LogPipe, ShimCommand, StartReply, dial};
use runtime_vm::task::any::{Payload, RuncOptions};
use runtime_vm::task::events::{EventServer, ShimEvent};
use runtime_vm::task::{CreateTask, ExecTask, NAMESPACE, TaskApi, TaskClient, TaskIo};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use manyrun_tests::patience::{LIMIT, until, within};
use manyrun_tests::{census, host};

/// A shim of containerd with the runtime below it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) shim: &'static str,
    pub(crate) runtime: &'static str,
}

/// What can be driven here.
pub(crate) const KINDS: [Kind; 3] = [
    Kind { shim: "containerd-shim-runc-v2", runtime: "runc" },
    Kind { shim: "containerd-shim-runc-v2", runtime: "crun" },
    Kind { shim: "containerd-shim-runc-v2-rs", runtime: "runc" },
];

impl Kind {
    fn lacks(self) -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some(format!("containers with {} need root: run the tests as root", self.shim));
        }
        let missing = [self.shim, self.runtime].into_iter().find(|command| host::find(command).is_none());
        missing.map(|command| format!("{command} is not installed: scripts/install-host-needs installs it"))
    }
}

/// Runs a test on every kind of shim, or says which of them this host lacks. Afterwards nothing may be left.
pub(crate) async fn on_each(test: impl AsyncFn(&Place)) {
    let mut needs = Vec::new();
    for kind in KINDS {
        if let Some(need) = kind.lacks() {
            needs.push(need);
            continue;
        }
        println!("on {} with {}", kind.shim, kind.runtime);
        let place = Place::new(kind);
        within(Duration::from_secs(120), "the test", test(&place)).await;
        let left = census::settled(&place.token(), place.directory.path(), Duration::from_secs(10)).await;
        assert!(left.is_empty(), "left by {kind:?}: {left:#?}");
    }
    if !needs.is_empty() {
        host::skipped(&needs.join("; "));
    }
}

/// A directory whose name is in every id and path of the test, and the kind of shim that it is about.
#[derive(Debug)]
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) kind: Kind,
}

impl Place {
    fn new(kind: Kind) -> Self {
        // What shims leave running becomes a child of this process, and not of whoever is above it.
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let directory = tempfile::Builder::new().prefix("vmplace").rand_bytes(8).tempdir().unwrap();
        Self { directory, kind }
    }

    pub(crate) fn token(&self) -> String {
        self.directory.path().file_name().unwrap().to_string_lossy().into_owned()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Options that keep what the runtime keeps in this place.
    pub(crate) fn options(&self) -> Payload {
        let options = RuncOptions {
            binary_name: self.kind.runtime.to_owned(),
            root: self.path("root").to_string_lossy().into_owned(),
            ..RuncOptions::default()
        };
        options.payload()
    }

    /// Starts a shim for a container.
    pub(crate) async fn shim(&self, workload: &Workload) -> Shim {
        self.shim_with(workload, &BundleOptions::new()).await
    }

    /// Starts a shim for a container of which more is said.
    pub(crate) async fn shim_with(&self, workload: &Workload, options: &BundleOptions) -> Shim {
        let id = format!("{}-a", self.token());
        let bundle = self.path(&id);
        // Not below the parent of others: whoever is done there removes what is empty, and no shim that is driven by hand says
        // that it is about to fill what it made.
        let options = options.clone().cgroups_path(format!("/{id}"));
        bundle::write_with(&bundle, workload, &options).unwrap();
        let log = LogPipe::open(&bundle).unwrap();
        let logged = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn(keep(log.into_reader().unwrap(), Arc::clone(&logged)));
        let (server, events) = EventServer::listen(&self.path("events")).await.unwrap();

        let mut command = ShimCommand::new(shim::find(self.kind.shim).unwrap(), &id, &bundle);
        command.events = Some(server.address().to_owned());
        command.debug = true;
        let begun = Instant::now();
        let reply = within(LIMIT, "start", command.start(LIMIT)).await.unwrap();
        let started = begun.elapsed();
        let stream = dial::patiently(&reply.address, LIMIT).await.unwrap();
        let (task, connected) = TaskClient::open(stream, reply.api, NAMESPACE, &id, LIMIT).await.unwrap();
        let mut times = Times::default();
        times.add("start the shim", started);
        times.add("dial and connect", begun.elapsed() - started);
        Shim {
            pid: connected.map(|connected| connected.shim),
            id,
            bundle,
            command,
            reply,
            task,
            events,
            logged,
            times: Mutex::new(times),
            reader,
            server: Some(server),
        }
    }
}

impl Drop for Place {
    /// A test that failed leaves its containers; they bear the token, which nobody else has.
    fn drop(&mut self) {
        for line in census::of(&self.token(), Path::new("/nonexistent")) {
            let pid = line.strip_prefix("process ").and_then(|rest| rest.split(' ').next()?.parse().ok());
            if let Some(pid) = pid {
                let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                let _ = waitpid(Pid::from_raw(pid), None);
            }
            if let Some(cgroup) = line.strip_prefix("cgroup ") {
                let _ = std::fs::remove_dir(cgroup);
            }
        }
    }
}

/// A shim at work.
#[derive(Debug)]
pub(crate) struct Shim {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) command: ShimCommand,
    pub(crate) reply: StartReply,
    pub(crate) task: TaskClient,
    pub(crate) events: mpsc::Receiver<ShimEvent>,
    pub(crate) pid: Option<u32>,
    logged: Arc<Mutex<Vec<u8>>>,
    times: Mutex<Times>,
    reader: tokio::task::JoinHandle<()>,
    server: Option<EventServer>,
}

impl Shim {
    /// Another connection, with another guess at the version.
    pub(crate) async fn connect(&self, expected: TaskApi) -> TaskClient {
        let stream = dial::patiently(&self.reply.address, LIMIT).await.unwrap();
        TaskClient::open(stream, expected, NAMESPACE, &self.id, LIMIT).await.unwrap().0
    }

    /// Waits for a call and remembers how long it took.
    pub(crate) async fn timed<T>(&self, what: &'static str, call: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let outcome = within(LIMIT, what, call).await;
        self.times.lock().unwrap().add(what, begun.elapsed());
        outcome
    }

    /// A request for the container.
    pub(crate) fn create(&self, place: &Place, streams: &Streams) -> CreateTask {
        let mut request = CreateTask::new(&self.id, &self.bundle, streams.io.clone());
        request.options = Some(place.options());
        request
    }

    /// A request for an exec that runs a workload.
    pub(crate) fn exec(&self, name: &str, argv: Vec<String>, streams: &Streams) -> ExecTask {
        let config: Value =
            serde_json::from_slice(&std::fs::read(self.bundle.join("config.json")).unwrap()).unwrap();
        let mut process = config["process"].clone();
        process["args"] = argv.into();
        process["terminal"] = streams.io.terminal.into();
        ExecTask {
            id: self.id.clone(),
            exec: name.to_owned(),
            io: streams.io.clone(),
            process: runtime_vm::task::any::process(&process).unwrap(),
        }
    }

    /// What the shim wrote to its log.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&self.logged.lock().unwrap()).into_owned()
    }

    /// Waits until the shim has ended, removes what it leaves by design, and says how long the calls took.
    pub(crate) async fn ended(mut self) {
        within(LIMIT, "the end of the connection", self.task.closed()).await;
        if let Some(pid) = self.pid {
            reaped(pid).await;
        }
        let _ = dial::once(&self.reply.address).await.expect_err("a shim that ended listens no more");
        if let Some(path) = self.reply.address.path() {
            println!("  the socket's file is {}", if path.exists() { "left" } else { "gone" });
            let _ = std::fs::remove_file(path);
        }
        self.reader.abort();
        self.server.take();
        std::fs::remove_dir_all(&self.bundle).unwrap();
        println!("  {}", self.times.lock().unwrap());
    }
}

/// Waits until a process that became a child of this one has ended.
pub(crate) async fn reaped(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap());
    until("the end of a process", || {
        let alive = matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive));
        (!alive).then_some(())
    })
    .await;
}

async fn keep(mut reader: pipe::Receiver, logged: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = vec![0; 4096];
    while let Ok(n @ 1..) = reader.read(&mut chunk).await {
        logged.lock().unwrap().extend_from_slice(&chunk[..n]);
    }
}

/// The fifos of a program, whose readers are open.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) io: TaskIo,
    pub(crate) input: Option<pipe::Sender>,
    output: pipe::Receiver,
    heard: String,
}

impl Streams {
    pub(crate) fn new(place: &Place, name: &str, terminal: bool, input: bool) -> Self {
        let fifo = |stream: &str| {
            let path = place.path(&format!("{name}-{stream}"));
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            path
        };
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let output = fifo("stdout");
        let mut io = TaskIo { terminal, stdout: text(&output), ..TaskIo::default() };
        if !terminal {
            // Both into one: which is which is not the question here.
            io.stderr.clone_from(&io.stdout);
        }
        let input = input.then(|| {
            let path = fifo("stdin");
            io.stdin = text(&path);
            pipe::OpenOptions::new().read_write(true).open_sender(path).unwrap()
        });
        let output = pipe::OpenOptions::new().read_write(true).open_receiver(output).unwrap();
        Self { io, input, output, heard: String::new() }
    }

    /// Reads until the program has said this.
    pub(crate) async fn hears(&mut self, text: &str) {
        within(LIMIT, text, async {
            while !self.heard.contains(text) {
                let mut chunk = vec![0; 4096];
                let n = self.output.read(&mut chunk).await.unwrap();
                self.heard.push_str(&String::from_utf8_lossy(&chunk[..n]));
            }
        })
        .await;
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        for path in [&self.io.stdin, &self.io.stdout] {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How long calls took.
#[derive(Debug, Default)]
struct Times(BTreeMap<&'static str, Duration>);

impl Times {
    fn add(&mut self, what: &'static str, took: Duration) {
        self.0.insert(what, took);
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, took) in &self.0 {
            write!(f, "{what} {:.1} ms; ", took.as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}
