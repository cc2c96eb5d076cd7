//! What a container uses: read from the files of its cgroup, without a fork.
//!
//! Each controller is looked for by itself, because on a hybrid host some are mounted as version 1 and the rest are in
//! version 2. What a host does not count is left out of the answer, never guessed.

mod v1;
mod v2;

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::StatVfs;
use tokio::time::timeout;

use runtime_api::{DiskStats, Error, ErrorKind, Result, Stats};

use crate::cgroup::{Hierarchies, Place};

/// How long a file system may take to tell its numbers.
const ANSWER: Duration = Duration::from_secs(5);

/// Reads the use of the file system on which a root lies.
///
/// # Errors
/// `Unavailable` when the file system does not answer.
pub async fn disk(root: PathBuf) -> Result<DiskStats> {
    let of = ask_file_system(root).await.map_err(|cause| {
        let unknown = ErrorKind::Unavailable("the file system of its root cannot be asked".into());
        Error::new(unknown).caused_by(cause)
    })?;
    let bytes = |blocks: u64| blocks.saturating_mul(of.f_frsize);
    let mut stats = DiskStats::new(
        SystemTime::now(),
        bytes(of.f_blocks.saturating_sub(of.f_bfree)),
        bytes(of.f_blocks),
        of.f_files.saturating_sub(of.f_ffree),
    );
    // Some file systems make inodes as they need them and tell zero.
    stats.limit_inodes = (of.f_files > 0).then_some(of.f_files);
    Ok(stats)
}

/// Asks on a thread of its own: a file system of a network whose server is gone does not answer, and cannot be left.
async fn ask_file_system(root: PathBuf) -> std::io::Result<StatVfs> {
    let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&root));
    match timeout(ANSWER, asked).await {
        Ok(Ok(answer)) => Ok(answer?),
        Ok(Err(lost)) => Err(std::io::Error::other(lost)),
        Err(late) => Err(late.into()),
    }
}

/// Reads the use of a cgroup; `None` if no hierarchy has it.
pub fn read(host: &Hierarchies, cgroup: &str) -> Option<Stats> {
    let mut stats = Stats::new(SystemTime::now());
    let mut files = Files::default();
    let mut found = false;
    let place = |controller| host.place(controller, cgroup);
    // On version 1 time is counted by one controller and shared out by another, as a rule mounted together.
    if let Some(Place::V1(at)) = place("cpuacct") {
        found |= v1::time(&mut files.at(&at), &mut stats.cpu);
    }
    match place("cpu") {
        Some(Place::V1(at)) => v1::share(&mut files.at(&at), &mut stats.cpu),
        Some(Place::V2(at)) => found |= v2::cpu(&mut files.at(&at), &mut stats.cpu),
        None => {}
    }
    match place("memory") {
        Some(Place::V1(at)) => found |= v1::memory(&mut files.at(&at), &mut stats.memory),
        Some(Place::V2(at)) => found |= v2::memory(&mut files.at(&at), &mut stats.memory),
        None => {}
    }
    // The two versions agree on these names.
    if let Some(Place::V1(at) | Place::V2(at)) = place("pids") {
        stats.pids = v2::pids(&mut files.at(&at));
    }
    stats.block = match place("blkio") {
        Some(Place::V1(at)) => v1::block(&mut files.at(&at)),
        Some(Place::V2(at)) => v2::block(&mut files.at(&at)),
        None => None,
    };
    for size in host.page_sizes() {
        let of_size = match place("hugetlb") {
            Some(Place::V1(at)) => v1::huge_pages(&mut files.at(&at), size),
            Some(Place::V2(at)) => v2::huge_pages(&mut files.at(&at), size),
            None => None,
        };
        if let Some(of_size) = of_size {
            stats.huge_pages.insert(size.clone(), of_size);
        }
    }
    found.then_some(stats)
}

/// How many processes of a cgroup the kernel has killed for want of memory, where it counts them.
pub fn oom_kills(host: &Hierarchies, cgroup: &str) -> Option<u64> {
    let (at, file) = match host.place("memory", cgroup)? {
        Place::V1(at) => (at, "memory.oom_control"),
        Place::V2(at) => (at, "memory.events"),
    };
    let mut kills = None;
    Files::default().at(&at).pairs(file, |word, number| {
        if word == "oom_kill" {
            kills = Some(number);
        }
    });
    kills
}

/// Buffers that all files share.
#[derive(Debug, Default)]
struct Files {
    bytes: Vec<u8>,
    path: String,
}

impl Files {
    fn at<'a>(&'a mut self, directory: &'a Path) -> Directory<'a> {
        Directory { files: self, directory }
    }
}

/// The files of one cgroup in one hierarchy.
#[derive(Debug)]
struct Directory<'a> {
    files: &'a mut Files,
    directory: &'a Path,
}

impl Directory<'_> {
    /// The text of a file; `None` if there is no such file.
    fn text(&mut self, name: &str) -> Option<&str> {
        let Files { bytes, path } = &mut *self.files;
        path.clear();
        let _ = write!(path, "{}/{name}", self.directory.display());
        let mut file = std::fs::File::open(&path).ok()?;
        let mut filled = 0;
        // The kernel gives such a file as a whole to whoever has room for it: as a rule one read will do.
        loop {
            if filled == bytes.len() {
                bytes.resize((2 * filled).max(FIRST_READ), 0);
            }
            let count = file.read(&mut bytes[filled..]).ok()?;
            filled += count;
            if count == 0 || filled < bytes.len() {
                break;
            }
        }
        Some(std::str::from_utf8(&bytes[..filled]).ok()?.trim_end())
    }

    fn has(&self, name: &str) -> bool {
        self.directory.join(name).exists()
    }

    /// A file that holds one number.
    fn number(&mut self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// A file that holds one number or a word for "no limit".
    fn limit(&mut self, name: &str) -> Option<u64> {
        self.number(name).filter(|limit| *limit < NO_LIMIT)
    }

    /// Calls `each` with every line that is a word and a number; whether there is such a file.
    fn pairs(&mut self, name: &str, mut each: impl FnMut(&str, u64)) -> bool {
        let Some(text) = self.text(name) else { return false };
        for line in text.lines() {
            if let Some((word, number)) = line.split_once(' ')
                && let Ok(number) = number.parse()
            {
                each(word, number);
            }
        }
        true
    }
}

/// More than any of the files that are read here, but those that list devices on a large host.
const FIRST_READ: usize = 8192;

/// Version 1 tells "no limit" as the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 62;

/// A device as both versions write it: `8:0`.
fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests;
