//! The measure for `make bench`: whole container lives behind a containerd shim, driven by hand.
//!
//! It does what any caller of a shim must do and nothing more: a private bundle directory, the fifos with a reader, the
//! shim's command `start`, and the calls Create, Start, Wait, Delete and Shutdown of the Task service. Each line `go` on
//! standard input is one life; its time in nanoseconds is printed as one line.
//!
//! ```text
//! bench-shim-baseline SHIM CONFIG WORK
//! ```
//! CONFIG is a `config.json` in which `@ID@` stands for the container's id; WORK is an empty directory.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::api;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use protobuf::Message;
use ttrpc::Client;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long any single call may take.
const DEADLINE: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "baseline";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [shim, config, work] = arguments.as_slice() else {
        return Err("usage: bench-shim-baseline SHIM CONFIG WORK".into());
    };
    let work = Path::new(work).canonicalize()?;
    let config = fs::read_to_string(config)?;
    let mut out = io::stdout().lock();
    for (number, line) in io::stdin().lock().lines().enumerate() {
        if line?.trim() != "go" {
            return Err("the only command is \"go\"".into());
        }
        let began = Instant::now();
        let code = live(shim, &config, &work, &format!("baseline-{}-{number}", std::process::id()))?;
        let took = began.elapsed();
        if code != 0 {
            return Err(format!("the program ended with {code}").into());
        }
        writeln!(out, "{}", took.as_nanos())?;
        out.flush()?;
    }
    Ok(())
}

/// Create, start, wait, delete. Gives the exit code.
fn live(shim: &str, config: &str, work: &Path, id: &str) -> Result<u32> {
    let bundle = work.join(id);
    fs::create_dir(&bundle)?;
    fs::write(bundle.join("config.json"), config.replace("@ID@", id))?;
    let [log, stdout, stderr] = ["log", "stdout", "stderr"].map(|name| bundle.join(name));
    let _readers = [reader(&log)?, reader(&stdout)?, reader(&stderr)?];
    let address = start(shim, id, &bundle)?;
    let client = Client::connect(&address)?;

    let text = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut create = api::CreateTaskRequest::new();
    create.id = id.to_owned();
    create.bundle = text(&bundle);
    (create.stdout, create.stderr) = (text(&stdout), text(&stderr));
    call::<api::CreateTaskResponse>(&client, "Create", &create)?;
    let mut begin = api::StartRequest::new();
    begin.id = id.to_owned();
    call::<api::StartResponse>(&client, "Start", &begin)?;
    let mut wait = api::WaitRequest::new();
    wait.id = id.to_owned();
    let ended: api::WaitResponse = call(&client, "Wait", &wait)?;
    let mut delete = api::DeleteRequest::new();
    delete.id = id.to_owned();
    call::<api::DeleteResponse>(&client, "Delete", &delete)?;
    let mut shutdown = api::ShutdownRequest::new();
    shutdown.id = id.to_owned();
    // The shim closes the connection instead of answering.
    let _ = call::<api::DeleteResponse>(&client, "Shutdown", &shutdown);
    fs::remove_dir_all(&bundle)?;
    Ok(ended.exit_status)
}

/// A fifo that somebody reads.
fn reader(path: &Path) -> Result<File> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    Ok(File::options().read(true).write(true).custom_flags(flags.bits()).open(path)?)
}

/// Starts the shim; gives the address at which it listens.
fn start(shim: &str, id: &str, bundle: &Path) -> Result<String> {
    let said = Command::new(shim)
        .args(["-namespace", NAMESPACE, "-address", "", "-publish-binary", "/bin/true", "-id", id, "start"])
        .current_dir(bundle)
        .env("GOMAXPROCS", "2")
        .env("MAX_SHIM_VERSION", "2")
        .env("TTRPC_ADDRESS", "")
        .stdin(Stdio::null())
        .output()?;
    if !said.status.success() {
        return Err(format!("{shim}: {}: {}", said.status, String::from_utf8_lossy(&said.stderr)).into());
    }
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

fn call<R: Message>(client: &Client, method: &str, request: &impl Message) -> Result<R> {
    let mut frame = ttrpc::Request::new();
    frame.service = "containerd.task.v2.Task".to_owned();
    frame.method = method.to_owned();
    frame.timeout_nano = i64::try_from(DEADLINE.as_nanos())?;
    frame.payload = request.write_to_bytes()?;
    let mut namespace = ttrpc::proto::KeyValue::new();
    namespace.key = "containerd-namespace-ttrpc".to_owned();
    namespace.value = NAMESPACE.to_owned();
    frame.metadata.push(namespace);
    Ok(R::parse_from_bytes(&client.request(frame)?.payload)?)
}
