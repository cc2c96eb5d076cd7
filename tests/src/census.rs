//! Looks over the whole host for what bears a token: processes, mounts, cgroups, sockets, and files of any type.
//!
//! A test puts the token into the ids of its containers and into the path of its directory. Whatever is found with it
//! after the last delete was left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Everything on this host that bears `token`, but this process itself, one line each. Files are looked for below
/// `directory` only.
#[must_use]
pub fn of(token: &str, directory: &Path) -> BTreeSet<String> {
    let mut found = processes(token);
    found.extend(mounts(token));
    found.extend(sockets(token));
    found.extend(cgroups(token));
    found.extend(entries(directory).into_iter().filter(|entry| name_of(entry).contains(token)));
    found
}

/// [`of`] again and again until nothing is found or `limit` has passed: a monitor needs a moment to end after it told
/// of the end of its container.
pub async fn settled(token: &str, directory: &Path, limit: Duration) -> BTreeSet<String> {
    let until = Instant::now() + limit;
    loop {
        let found = of(token, directory);
        if found.is_empty() || Instant::now() > until {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What bears a token where shims and runtimes keep things by default.
#[must_use]
pub fn below_run(token: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for place in ["/run/containerd", "/run/runc", "/run/crun"] {
        let kept = entries(Path::new(place)).into_iter().filter(|entry| name_of(entry).contains(token));
        found.extend(kept.map(|entry| format!("{entry} in {place}")));
    }
    found
}

/// Every entry below `directory`, as `type path`, with paths below it.
#[must_use]
pub fn entries(directory: &Path) -> BTreeSet<String> {
    use std::os::unix::fs::FileTypeExt as _;
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let name = match kind {
                _ if kind.is_dir() => "directory",
                _ if kind.is_symlink() => "symlink",
                _ if kind.is_fifo() => "fifo",
                _ if kind.is_socket() => "socket",
                _ => "file",
            };
            let path = entry.path();
            found.insert(format!("{name} {}", path.strip_prefix(directory).unwrap_or(&path).display()));
            if kind.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

fn name_of(entry: &str) -> &str {
    entry.split_once(' ').map_or(entry, |(_, path)| path)
}

/// Processes whose command line, environment, directory, root or cgroup bears the token, and our own zombies.
fn processes(token: &str) -> BTreeSet<String> {
    let own = std::process::id();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        if pid == own {
            continue;
        }
        let at = entry.path();
        let read = |name: &str| fs::read(at.join(name)).map(|b| String::from_utf8_lossy(&b).into_owned());
        let link = |name: &str| fs::read_link(at.join(name)).map(|path| path.to_string_lossy().into_owned());
        let bears = [read("cmdline"), read("environ"), read("cgroup"), link("cwd"), link("root")]
            .into_iter()
            .flatten()
            .any(|text| text.contains(token));
        let stat = read("stat").unwrap_or_default();
        let mut after_name = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let is_zombie = after_name.next() == Some("Z");
        let is_ours = after_name.next() == Some(own.to_string().as_str());
        if bears || is_zombie && is_ours {
            let command = read("cmdline").unwrap_or_default().replace('\0', " ");
            found.insert(format!("process {pid} {}{command}", if is_zombie { "(zombie) " } else { "" }));
        }
    }
    found
}

fn mounts(token: &str) -> BTreeSet<String> {
    lines_with("/proc/self/mountinfo", token).map(|line| format!("mount {line}")).collect()
}

fn sockets(token: &str) -> BTreeSet<String> {
    lines_with("/proc/net/unix", token).map(|line| format!("socket {line}")).collect()
}

fn lines_with(file: &str, token: &str) -> impl Iterator<Item = String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().filter(|line| line.contains(token)).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Cgroups whose name bears the token, in every hierarchy.
fn cgroups(token: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![Path::new("/sys/fs/cgroup").to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if entry.file_name().to_string_lossy().contains(token) {
                    found.insert(format!("cgroup {}", path.display()));
                }
                open.push(path);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_bears_the_token_is_found() {
        let directory = tempfile::Builder::new().prefix("census-").tempdir().unwrap();
        let token = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        fs::write(directory.path().join(format!("file-{token}")), "").unwrap();
        std::os::unix::fs::symlink("nowhere", directory.path().join(format!("link-{token}"))).unwrap();
        let socket = UnixListener::bind(directory.path().join(format!("socket-{token}"))).unwrap();
        let mut child =
            Command::new("sleep").arg("60").env("TOKEN", &token).stdin(Stdio::null()).spawn().unwrap();
        let process = format!("process {} ", child.id());
        // A parent goes on before the environment of its child is in place, and before what it killed is dead.
        let until = |wanted: &dyn Fn(&str) -> bool| loop {
            let found = of(&token, directory.path());
            if found.iter().any(|line| line.starts_with(&process) && wanted(line)) {
                return found;
            }
            std::thread::yield_now();
        };
        let found = until(&|_| true);
        child.kill().unwrap();
        for line in
            [format!("file file-{token}"), format!("symlink link-{token}"), format!("socket socket-{token}")]
        {
            assert!(found.contains(&line), "{line} is not in {found:#?}");
        }
        assert!(found.iter().any(|line| line.starts_with("socket ") && line.contains("00")), "{found:#?}");

        until(&|line| line.contains("(zombie)"));
        child.wait().unwrap();
        drop(socket);
        assert!(!of(&token, directory.path()).iter().any(|line| line.starts_with("process ")));
    }
}
