//! Looks for what a clause left behind: processes, mounts, cgroups, sockets, files, descriptors and children.
//!
//! Everything that belongs to a clause carries the token of its [`Scratch`], so that nothing has to be compared with a
//! picture from before, and several clauses can be audited at the same time.

mod cgroups;
mod processes;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::Scratch;

/// What is left of a clause on this host, one line each.
#[must_use]
pub fn host(scratch: &Scratch) -> Vec<String> {
    let mut found = processes(scratch);
    found.extend(mounts(scratch.token()));
    found.extend(cgroups::named(scratch.token()));
    found.extend(sockets(scratch.token()));
    found.extend(elsewhere(scratch));
    found
}

/// The processes of a clause on this host, one line each.
#[must_use]
pub fn processes(scratch: &Scratch) -> Vec<String> {
    processes::holding(scratch.token())
}

/// Files whose name has `needle` in it, below the scratch directory but not among bundles and logs.
#[must_use]
pub fn files(scratch: &Scratch, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    let spared = [scratch.bundles_dir(), scratch.logs_dir()];
    walk(scratch.root(), 12, &mut |path| {
        if spared.iter().any(|dir| dir == path) {
            return Descend::No;
        }
        if name_has(path, needle) {
            found.push(format!("file {}", path.display()));
            return Descend::No;
        }
        Descend::Yes
    });
    found
}

/// The descriptors of this process and what they lead to.
#[must_use]
pub fn descriptors() -> BTreeMap<OsString, PathBuf> {
    // The one that reads the directory is in the list too; by the time its link is asked for it is closed.
    entries(Path::new("/proc/self/fd"))
        .into_iter()
        .filter_map(|path| Some((path.file_name()?.to_owned(), fs::read_link(&path).ok()?)))
        .collect()
}

/// Descriptors that were not there before, one line each.
#[must_use]
pub fn new_descriptors(before: &BTreeMap<OsString, PathBuf>) -> Vec<String> {
    let new = |now: BTreeMap<OsString, PathBuf>| -> BTreeMap<OsString, PathBuf> {
        now.into_iter().filter(|(number, _)| !before.contains_key(number)).collect()
    };
    // A thread that ends may have a file of the C library open for a moment: only what stays open is a leak.
    let mut left = new(descriptors());
    for _ in 0..20 {
        if left.is_empty() {
            break;
        }
        thread::park_timeout(Duration::from_millis(10));
        let now = new(descriptors());
        left.retain(|number, link| now.get(number) == Some(link));
    }
    left.into_iter()
        .map(|(number, link)| format!("descriptor {} open on {}", number.display(), link.display()))
        .collect()
}

/// How long things may take to vanish that end by themselves, such as a monitor. What is really left stays for ever.
pub(crate) fn settling(virtual_time: bool) -> Duration {
    Duration::from_secs(if virtual_time { 5 } else { 30 })
}

/// Children of this process, zombies included, one line each.
#[must_use]
pub fn children() -> Vec<String> {
    processes::children_of(std::process::id())
}

/// Whether a walk goes on below a directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Descend {
    Yes,
    No,
}

/// Shows every entry below `dir` to `visit`, without following links. What vanishes meanwhile is left out.
fn walk(dir: &Path, depth: usize, visit: &mut impl FnMut(&Path) -> Descend) {
    for path in entries(dir) {
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        if visit(&path) == Descend::Yes && is_dir && depth > 0 {
            walk(&path, depth - 1, visit);
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name_has(path: &Path, needle: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains(needle))
}

fn mounts(token: &str) -> Vec<String> {
    lines_with("/proc/self/mountinfo", token)
        .into_iter()
        .map(|line| format!("mount {}", line.split(' ').nth(4).unwrap_or(&line)))
        .collect()
}

fn sockets(token: &str) -> Vec<String> {
    lines_with("/proc/net/unix", token)
        .into_iter()
        .map(|line| format!("socket {}", line.split_whitespace().nth(7).unwrap_or(&line)))
        .collect()
}

fn lines_with(path: &str, token: &str) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| line.contains(token)).map(str::to_owned).collect()
}

/// Runtimes keep state in these places when they are not told otherwise.
fn elsewhere(scratch: &Scratch) -> Vec<String> {
    let mut found = Vec::new();
    for (dir, depth) in [("/run", 4), ("/dev/shm", 1), ("/var/tmp", 1), ("/tmp", 0)] {
        walk(Path::new(dir), depth, &mut |path| {
            if path == scratch.root() {
                return Descend::No;
            }
            if name_has(path, scratch.token()) {
                found.push(format!("file {}", path.display()));
                return Descend::No;
            }
            Descend::Yes
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_clean_scratch_has_nothing_to_tell() {
        let scratch = Scratch::new().unwrap();
        assert_eq!(host(&scratch), [""; 0]);
        assert_eq!(files(&scratch, scratch.token()), [""; 0]);
        scratch.remove().unwrap();
    }

    #[test]
    fn files_are_found_but_not_among_logs() {
        let scratch = Scratch::new().unwrap();
        let name = format!("{}-1", scratch.token());
        fs::write(scratch.logs_dir().join(&name), "").unwrap();
        assert_eq!(files(&scratch, &name), [""; 0]);
        fs::create_dir(scratch.state_dir().join("deep")).unwrap();
        fs::write(scratch.state_dir().join("deep").join(format!(".{name}.tmp")), "").unwrap();
        assert_eq!(files(&scratch, &name).len(), 1);
        scratch.remove().unwrap();
    }

    #[test]
    fn a_process_is_found_by_its_directory_and_as_a_child() {
        let scratch = Scratch::new().unwrap();
        let mut sleeper =
            Command::new("sleep").arg("60").current_dir(scratch.root()).stdin(Stdio::null()).spawn().unwrap();
        // A parent goes on before the arguments of its child are in place.
        let line = format!("/proc/{}/cmdline", sleeper.id());
        while !fs::read(&line).unwrap().starts_with(b"sleep\0") {
            thread::yield_now();
        }
        let found = host(&scratch);
        let among_children = children().iter().any(|line| line.contains(&sleeper.id().to_string()));
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(found.len() == 1 && found[0].contains("sleep 60"), "{found:?}");
        assert!(among_children);
        scratch.remove().unwrap();
    }

    #[test]
    fn a_socket_and_a_descriptor_are_found() {
        let scratch = Scratch::new().unwrap();
        let before = descriptors();
        let socket = std::os::unix::net::UnixListener::bind(scratch.state_dir().join("s")).unwrap();
        assert!(host(&scratch).iter().any(|line| line.starts_with("socket ")));
        // Other tests open files too, so only this one is looked for.
        let number = std::os::fd::AsRawFd::as_raw_fd(&socket).to_string();
        let ours = format!("descriptor {number} open on socket:");
        assert!(new_descriptors(&before).iter().any(|line| line.starts_with(&ours)));
        scratch.remove().unwrap();
    }
}
