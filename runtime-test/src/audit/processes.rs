//! Processes that have to do with a clause, seen through `/proc`.

use std::fs;
use std::path::{Path, PathBuf};

use super::entries;

/// Every process but this one that has the token in its command line, environment, directories, control group, open
/// files or, being in a mount namespace of its own, in its mounts; one line each.
pub(super) fn holding(token: &str) -> Vec<String> {
    let own_namespace = fs::read_link("/proc/self/ns/mnt").ok();
    processes()
        .filter(|(pid, _)| *pid != std::process::id())
        .filter_map(|(pid, dir)| {
            let how = trace_of(token, &dir, own_namespace.as_deref())?;
            Some(format!("process {pid} ({}), by its {how}", shown(&dir)))
        })
        .collect()
}

/// The children of a process, zombies included, one line each.
pub(super) fn children_of(parent: u32) -> Vec<String> {
    processes()
        .filter(|(_, dir)| parent_of(dir) == Some(parent))
        .map(|(pid, dir)| format!("child process {pid} ({})", shown(&dir)))
        .collect()
}

fn processes() -> impl Iterator<Item = (u32, PathBuf)> {
    entries(Path::new("/proc")).into_iter().filter_map(|dir| {
        let pid = dir.file_name()?.to_str()?.parse().ok()?;
        Some((pid, dir))
    })
}

/// What of a process has the token in it. A process that ends meanwhile, or that belongs to somebody else and cannot be
/// read, has nothing.
fn trace_of(token: &str, dir: &Path, own_namespace: Option<&Path>) -> Option<&'static str> {
    for (file, what) in [("cmdline", "command line"), ("cgroup", "control group"), ("environ", "environment")]
    {
        if text_of(&dir.join(file)).contains(token) {
            return Some(what);
        }
    }
    for (link, what) in [("cwd", "working directory"), ("root", "root directory"), ("exe", "program")] {
        if leads_to(&dir.join(link), token) {
            return Some(what);
        }
    }
    if entries(&dir.join("fd")).iter().any(|link| leads_to(link, token)) {
        return Some("open files");
    }
    // Mounts of the namespace that we share are told once, as mounts.
    let namespace = fs::read_link(dir.join("ns/mnt")).ok();
    let elsewhere = namespace.is_some() && namespace.as_deref() != own_namespace;
    (elsewhere && text_of(&dir.join("mountinfo")).contains(token)).then_some("mounts")
}

fn text_of(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}

fn leads_to(link: &Path, token: &str) -> bool {
    fs::read_link(link).is_ok_and(|target| target.to_string_lossy().contains(token))
}

fn shown(dir: &Path) -> String {
    let command = text_of(&dir.join("cmdline")).replace('\0', " ");
    if command.trim().is_empty() {
        return text_of(&dir.join("comm")).trim().to_owned();
    }
    command.trim().chars().take(120).collect()
}

fn parent_of(dir: &Path) -> Option<u32> {
    let stat = text_of(&dir.join("stat"));
    // The name in parentheses may hold anything, parentheses and spaces too.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}
