//! A whole life behind containerd's shim in Go, against the same calls made by hand and against `ctr run --rm`.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use runtime_test::{Workload, bundle};
use sha2::{Digest as _, Sha256};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::compare::Pairs;
use crate::life::{WARM_UP, baseline_config};
use crate::place::Part;
use crate::side::Side;
use crate::table::Table;
use crate::{Result, found};

/// At most this many times the same calls made by hand,
const BY_HAND: f64 = 1.25;
/// and this many times `ctr`, which has a daemon to ask.
const BY_CTR: f64 = 0.7;
const SHIM: &str = "containerd-shim-runc-v2";
const IMAGE: &str = "manyrun.test/probe:1";
/// How long containerd may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(pairs: usize, place: &Part, table: &mut Table) -> Result<()> {
    let at = place.bundles.join("bundle");
    bundle::write(&at, &Workload::exits(0))?;
    let config = place.bundles.join("baseline.json");
    std::fs::write(&config, baseline_config(&at)?)?;
    let work = place.state.join("baseline");
    std::fs::create_dir(&work)?;
    let here = std::env::current_exe()?;
    let state = place.state.join("ours");
    let mut ours = Side::start(
        "runtime-vm",
        &here,
        &["subject".as_ref(), "vm:runc".as_ref(), at.as_os_str(), state.as_os_str()],
    )?;
    let mut baseline = Side::start(
        "baseline",
        &here.with_file_name("bench-shim-baseline"),
        &[found(SHIM)?.as_os_str(), config.as_os_str(), work.as_os_str()],
    )?;
    let daemon = Daemon::start(place, &at).await?;
    let (mut by_hand, mut by_ctr) = (Pairs::default(), Pairs::default());
    for pair in 0..WARM_UP + pairs {
        // Who goes first changes, so that what one leaves to do falls on each of the others.
        let mut times = [Duration::ZERO; 3];
        for turn in 0..3 {
            let who = (pair + turn) % 3;
            times[who] = match who {
                0 => ours.live().await?,
                1 => baseline.live().await?,
                _ => daemon.live(pair).await?,
            };
        }
        if pair >= WARM_UP {
            by_hand.add(times[0], times[1]);
            by_ctr.add(times[0], times[2]);
        }
    }
    ours.end().await?;
    baseline.end().await?;
    daemon.end().await?;
    by_hand.report("a whole life behind a shim", BY_HAND, table);
    by_ctr.report("the same against ctr run --rm", BY_CTR, table);
    Ok(())
}

/// A containerd of our own, with the bundle's root as an image.
struct Daemon {
    process: Child,
    socket: String,
}

impl Daemon {
    async fn start(place: &Part, bundle: &Path) -> Result<Self> {
        let at = |name: &str| place.bundles.join(name).to_string_lossy().into_owned();
        let socket = place.state.join("containerd.sock").to_string_lossy().into_owned();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
            at("containerd-root"),
            at("containerd-state"),
        );
        std::fs::write(at("containerd.toml"), config)?;
        let log = std::fs::File::create(at("containerd.log"))?;
        let process = Command::new(found("containerd")?)
            .args(["--config", &at("containerd.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let daemon = Self { process, socket };
        let begun = Instant::now();
        while daemon.ctr(&["version"]).await.is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("containerd does not answer; its log is {}", at("containerd.log")).into());
            }
            sleep(Duration::from_millis(50)).await;
        }
        let image = place.bundles.join("image.tar");
        write_image(&image, &bundle.join("rootfs"))?;
        daemon.ctr(&["images", "import", "--snapshotter", "native", &image.to_string_lossy()]).await?;
        Ok(daemon)
    }

    async fn ctr(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(found("ctr")?);
        let said = command.args(["--address", &self.socket]).args(arguments).output().await?;
        if said.status.success() {
            return Ok(());
        }
        Err(format!("ctr {}: {}", arguments.join(" "), String::from_utf8_lossy(&said.stderr)).into())
    }

    async fn live(&self, number: usize) -> Result<Duration> {
        let id = format!("ctr-{number}");
        let program = Workload::exits(0).argv();
        let words: Vec<&str> = ["run", "--rm", "--snapshotter", "native", IMAGE, &id]
            .into_iter()
            .chain(program.iter().map(String::as_str))
            .collect();
        let began = Instant::now();
        self.ctr(&words).await?;
        Ok(began.elapsed())
    }

    async fn end(mut self) -> Result<()> {
        let pid = self.process.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
        }
        self.process.wait().await?;
        Ok(())
    }
}

/// Writes an OCI image of one layer.
fn write_image(to: &Path, root: &Path) -> Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    layer.follow_symlinks(false);
    layer.append_dir_all(".", root)?;
    let layer = layer.into_inner()?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut named = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    named["annotations"] = serde_json::json!({"io.containerd.image.name": IMAGE});
    named["platform"] = serde_json::json!({"architecture": architecture, "os": "linux"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [named]});
    let mut image = tar::Builder::new(std::fs::File::create(to)?);
    let mut add = |name: String, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        image.append_data(&mut header, name, content)
    };
    add("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json".to_owned(), index.to_string().as_bytes())?;
    for blob in [&layer, &config, &manifest] {
        add(format!("blobs/{}", digest(blob).replace(':', "/")), blob)?;
    }
    image.finish()?;
    Ok(())
}

fn descriptor(kind: &str, content: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": kind, "digest": digest(content), "size": content.len()})
}

fn digest(content: &[u8]) -> String {
    let sum: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{sum}")
}
