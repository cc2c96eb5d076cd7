//! How those are found who are to be killed with a caller, or in its place.

use std::path::Path;

use manyrun_tests::life::Life;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::case::Victims;
use crate::field::Field;

/// Kills the monitors and the shims of a container, as far as they are victims; which of them there were.
pub(crate) fn kill_servants(id: &str, victims: Victims) -> Victims {
    let mut killed = Victims::default();
    if victims.monitor {
        killed.monitor = kill_each(|pid| is_monitor(pid, id));
    }
    if victims.shim {
        killed.shim = kill_each(|pid| is_shim(pid, id));
    }
    killed
}

/// Kills the init, if there is one.
pub(crate) fn kill_init(field: &Field, life: &Life) {
    let at = field.container(&life.id);
    let Some(pid) = pid_of_conmon(&at).or_else(|| pid_on_record(&at)) else { return };
    let is_told = words(pid).iter().any(|word| word == life.id.as_str().as_bytes());
    // A sandbox need not be in the container's cgroup, but is told whose it is.
    if is_told || is_inside(pid, life.id.as_str()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Whether any process is in a container's cgroup.
pub(crate) fn is_populated(id: &str) -> bool {
    processes().any(|pid| is_inside(pid, id) && !is_dead(pid))
}

fn pid_of_conmon(container: &Path) -> Option<i32> {
    std::fs::read_to_string(container.join("pidfile")).ok()?.trim().parse().ok()
}

fn pid_on_record(container: &Path) -> Option<i32> {
    let record: Value = serde_json::from_slice(&std::fs::read(container.join("record.json")).ok()?).ok()?;
    i32::try_from(record["init"]["pid"].as_i64()?).ok()
}

/// Kills until there are none, for a process that starts another one may be gone when that is seen.
fn kill_each(is_one: impl Fn(i32) -> bool) -> bool {
    let mut killed = false;
    loop {
        let found: Vec<_> = processes().filter(|pid| is_one(*pid) && !is_dead(*pid)).collect();
        if found.is_empty() {
            return killed;
        }
        for pid in found {
            killed |= kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok();
        }
    }
}

/// conmon, or the process that carries what a shim's container says.
fn is_monitor(pid: i32, id: &str) -> bool {
    let words = words(pid);
    match file_name(words.first()) {
        Some("conmon") => words.iter().any(|word| word == id.as_bytes()),
        Some("manyrun-vm-io") => words.get(1).is_some_and(|dir| dir.ends_with(format!("/{id}").as_bytes())),
        _ => false,
    }
}

/// A shim, or a command of it.
fn is_shim(pid: i32, id: &str) -> bool {
    let words = words(pid);
    file_name(words.first()).is_some_and(|name| name.starts_with("containerd-shim-"))
        && words.windows(2).any(|pair| pair[0] == b"-id" && pair[1] == id.as_bytes())
}

fn file_name(word: Option<&Vec<u8>>) -> Option<&str> {
    Path::new(std::str::from_utf8(word?).ok()?).file_name()?.to_str()
}

fn words(pid: i32) -> Vec<Vec<u8>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

fn is_inside(pid: i32, id: &str) -> bool {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    cgroups.lines().any(|line| line.ends_with(&format!("/{id}")))
}

fn is_dead(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    matches!(state, None | Some("Z" | "X"))
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
