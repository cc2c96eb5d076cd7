//! The cgroups of containers, looked at and tidied up; the runtime makes and fills them.
//!
//! One path names a cgroup in every hierarchy: each mounted controller of version 1, and version 2.

mod claim;
mod enter;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::Instant;

use runtime_api::{Error, ErrorKind, Rejection, Result};

use crate::document::made_by_kernel;

pub use claim::Claim;

/// The mounted hierarchies of this host.
#[derive(Clone, Debug, Default)]
pub struct Hierarchies {
    roots: Vec<PathBuf>,
    freezer: Option<PathBuf>,
    unified: Option<PathBuf>,
    /// Where each controller of version 1 is mounted; several may share one place.
    controllers: BTreeMap<String, PathBuf>,
    /// The sizes of huge pages as the names of cgroup files have them: `2MB`.
    page_sizes: Vec<String>,
}

impl Hierarchies {
    /// Those that this host has mounted.
    #[must_use]
    pub fn of_host() -> Self {
        let mut host = Self::parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        host.page_sizes = page_sizes(Path::new("/sys/kernel/mm/hugepages"));
        host
    }

    /// Fields of a line: id, parent, device, root, mount point, options, optional fields, `-`, type, source, super options.
    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, kind)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut kind = kind.split(' ');
            match kind.next() {
                Some("cgroup2") => found.unified = Some(point.clone()),
                Some("cgroup") => {
                    for option in kind.nth(1).unwrap_or_default().split(',') {
                        found.controllers.entry(option.to_owned()).or_insert_with(|| point.clone());
                    }
                }
                _ => continue,
            }
            if !found.roots.contains(&point) {
                found.roots.push(point);
            }
        }
        found.freezer = found.controllers.get("freezer").cloned();
        found
    }

    /// [`Hierarchies::parse`] on a host with huge pages of these sizes.
    #[cfg(test)]
    pub fn parse_with_pages(mountinfo: &str, sizes: &[&str]) -> Self {
        let page_sizes = sizes.iter().map(|size| (*size).to_owned()).collect();
        Self { page_sizes, ..Self::parse(mountinfo) }
    }

    /// Where the files of a controller are for a cgroup: below version 1 where it is mounted there, else below version 2.
    pub fn place(&self, controller: &str, cgroup: &str) -> Option<Place> {
        if let Some(root) = self.controllers.get(controller) {
            return Some(Place::V1(inside(root, cgroup)));
        }
        self.unified.as_ref().map(|root| Place::V2(inside(root, cgroup)))
    }

    /// The sizes of huge pages that the host counts, as they are written in names of files.
    pub fn page_sizes(&self) -> &[String] {
        &self.page_sizes
    }

    /// Where a container can be frozen: the file that tells, relative to the cgroup.
    pub fn freezer_file(&self) -> Option<&'static str> {
        match (&self.freezer, &self.unified) {
            (Some(_), _) => Some("freezer.state"),
            (None, Some(_)) => Some("cgroup.freeze"),
            (None, None) => None,
        }
    }

    /// Whether a process is frozen by its cgroup.
    pub fn is_frozen(&self, pid: i32) -> bool {
        self.path_of(pid).is_some_and(|path| self.is_frozen_at(&path))
    }

    /// Whether a cgroup of that hierarchy is frozen.
    pub fn is_frozen_at(&self, path: &str) -> bool {
        let (Some(file), Some(root)) = (self.freezer_file(), self.freezing()) else { return false };
        let state = beginning(&inside(root, path).join(file));
        [b"FROZEN".as_slice(), b"FREEZING", b"1"].contains(&state.trim_ascii())
    }

    /// Thaws a cgroup without the runtime's help.
    ///
    /// # Errors
    /// Why the file cannot be written.
    pub fn thaw(&self, path: &str) -> std::io::Result<()> {
        let (Some(root), Some(file)) = (self.freezing(), self.freezer_file()) else { return Ok(()) };
        let word = if self.freezer.is_some() { "THAWED" } else { "0" };
        std::fs::write(inside(root, path).join(file), word)
    }

    /// The hierarchy by which processes are frozen, and by which we know which belong together.
    fn freezing(&self) -> Option<&PathBuf> {
        self.freezer.as_ref().or(self.unified.as_ref())
    }

    /// The cgroup of a process in that hierarchy; `None` in the root, which is nobody's own.
    pub fn path_of(&self, pid: i32) -> Option<String> {
        let membership = String::from_utf8(made_by_kernel(format!("/proc/{pid}/cgroup")).ok()?).ok()?;
        let wanted = |controllers: &str| match self.freezer {
            Some(_) => controllers.split(',').any(|one| one == "freezer"),
            None => controllers.is_empty(),
        };
        let path = membership.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            wanted(fields.next()?).then(|| fields.next()).flatten()
        })?;
        (path != "/").then(|| path.to_owned())
    }

    /// Which cgroup of that hierarchy has a path now: device and inode. One that was removed and made again is another one.
    pub fn identity(&self, path: &str) -> Option<(u64, u64)> {
        use std::os::unix::fs::MetadataExt as _;
        let place = std::fs::metadata(inside(self.freezing()?, path)).ok()?;
        Some((place.dev(), place.ino()))
    }

    /// Every process in a cgroup of that hierarchy and below it.
    pub fn members(&self, path: &str) -> Vec<i32> {
        self.freezing().map(|root| processes(&inside(root, path))).unwrap_or_default()
    }

    /// Every process in a cgroup, whichever hierarchy has it.
    pub fn processes_in(&self, cgroup: &str) -> Vec<i32> {
        let mut pids: Vec<i32> =
            self.roots.iter().flat_map(|root| processes(&inside(root, cgroup))).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Refuses a cgroup that is in use, or that lies below a frozen one: a pause or a delete would hit strangers.
    ///
    /// # Errors
    /// `Rejected`, which names the cgroup.
    pub fn check_unused(&self, cgroup: &str) -> Result<()> {
        let refuse = |why: String| {
            Error::new(ErrorKind::Rejected { class: Rejection::CgroupBusy, message: why })
                .hint("name no cgroupsPath, so that each container gets a cgroup of its own, or end what runs there")
        };
        for root in &self.roots {
            let here = inside(root, cgroup);
            // As a rule it does not exist, and one look tells.
            let there = if here.exists() { processes(&here) } else { Vec::new() };
            if let Some(pid) = there.first() {
                return Err(refuse(format!("cgroup {} already holds process {pid}", here.display())));
            }
        }
        for (root, file, word) in self.freezers() {
            let here = inside(root, cgroup);
            for above in
                here.ancestors().skip(1).take_while(|above| above.starts_with(root) && *above != root)
            {
                if Some(root) == self.freezing() && !beginning(&above.join("cgroup.procs")).is_empty() {
                    let above = above.display();
                    return Err(refuse(format!(
                        "cgroup {above}, in which it would lie, holds processes of its own"
                    )));
                }
                if beginning(&above.join(file)).trim_ascii() == word.as_bytes() {
                    return Err(refuse(format!("cgroup {} is frozen", above.display())));
                }
            }
        }
        Ok(())
    }

    /// The hierarchies that freeze: where, the file, and the word in it that means frozen.
    fn freezers(&self) -> impl Iterator<Item = (&PathBuf, &'static str, &'static str)> {
        let first = self.freezer.as_ref().map(|root| (root, "freezer.state", "FROZEN"));
        let second = self.unified.as_ref().map(|root| (root, "cgroup.freeze", "1"));
        first.into_iter().chain(second)
    }

    /// Removes a container's cgroup where the runtime left it, and waits a moment for processes that are just leaving it,
    /// such as the helpers of a sandbox that was killed.
    pub async fn remove(&self, cgroup: &str) {
        let patience = Instant::now() + LEAVING;
        loop {
            let mut busy = false;
            for root in &self.roots {
                // Gone, as a rule: the runtime removed it.
                let removed = std::fs::remove_dir(inside(root, cgroup));
                busy |= removed.is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy);
            }
            if !busy || Instant::now() >= patience {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Removes the cgroup below which a value's containers lay, and its parents, once they are empty; false if a create of
    /// anybody on this host was in the way. This is for the end of a value and not for that of each container: the next
    /// one would have to make them all again, in every hierarchy.
    pub fn prune(&self, parent: &str) -> bool {
        let Some(gate) = self.gate() else { return true };
        let Some(_closed) = try_take(gate, FlockOperation::NonBlockingLockExclusive) else { return false };
        for root in &self.roots {
            // Full or gone is fine: somebody's container is in it, or nobody was here.
            let mine = inside(root, parent);
            let _ = std::fs::remove_dir(&mine);
            // Whatever else is empty below the topmost cgroup goes too: others may have had to leave theirs because we
            // were in the way.
            let top = mine.ancestors().find(|each| each.parent() == Some(root)).map(Path::to_owned);
            for each in top.iter().flat_map(|top| children(top).chain([top.clone()])) {
                let _ = std::fs::remove_dir(each);
            }
        }
        true
    }

    /// Prunes for as long as creates of others are in the way, within reason. What is left then goes with the next value
    /// that ends.
    pub async fn until_pruned(mut prune: impl FnMut() -> bool) {
        let deadline = Instant::now() + PRUNE_PATIENCE;
        while !prune() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Held while a runtime makes cgroups, so that nobody removes a parent under it.
    pub async fn hold_open(&self) -> Option<File> {
        let gate = self.gate()?;
        let deadline = Instant::now() + GATE_PATIENCE;
        loop {
            if let Some(open) = try_take(gate, FlockOperation::NonBlockingLockShared) {
                return Some(open);
            }
            if Instant::now() >= deadline {
                tracing::debug!(gate = %gate.display(), "a lock on cgroups was not got in time");
                return None;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The root of the first hierarchy, which all processes of the host lock and nobody writes. Two state directories may
    /// share a parent cgroup, so nothing smaller would do.
    fn gate(&self) -> Option<&PathBuf> {
        self.roots.first()
    }
}

/// A cgroup in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a hierarchy of version 1.
    V1(PathBuf),
    /// In the hierarchy of version 2.
    V2(PathBuf),
}

/// The sizes of huge pages, from directories such as `hugepages-2048kB`, in the words of cgroup files.
fn page_sizes(directory: &Path) -> Vec<String> {
    let size = |name: &str| {
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kib {
            kib if kib % (1 << 20) == 0 => format!("{}GB", kib >> 20),
            kib if kib % (1 << 10) == 0 => format!("{}MB", kib >> 10),
            kib => format!("{kib}KB"),
        })
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| size(entry.file_name().to_str()?)).collect()
}

/// How long processes that are leaving a cgroup are waited for.
const LEAVING: Duration = Duration::from_secs(2);

/// How long a create waits at the gate. Whoever closes it does so for milliseconds.
const GATE_PATIENCE: Duration = Duration::from_secs(2);
/// How long the end of a value waits for the creates of others, of which each may take long on a busy host.
const PRUNE_PATIENCE: Duration = Duration::from_secs(15);

fn try_take(gate: &Path, operation: FlockOperation) -> Option<File> {
    let file = File::open(gate).ok()?;
    flock(file.as_fd(), operation).ok().map(|()| file)
}

fn children(cgroup: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// The processes in a cgroup and below it.
fn processes(cgroup: &Path) -> Vec<i32> {
    let mut pids = direct_processes(cgroup);
    for child in children(cgroup) {
        pids.extend(processes(&child));
    }
    pids
}

/// The first bytes of a file, enough for a word; nothing if it cannot be read.
fn beginning(path: &Path) -> Vec<u8> {
    let mut bytes = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read(&mut bytes)).unwrap_or(0);
    bytes[..read].to_vec()
}

fn direct_processes(cgroup: &Path) -> Vec<i32> {
    let procs = made_by_kernel(cgroup.join("cgroup.procs")).unwrap_or_default();
    String::from_utf8_lossy(&procs).lines().filter_map(|line| line.parse().ok()).collect()
}

/// A path inside a hierarchy; `..` cannot lead out of it.
fn inside(root: &Path, cgroup: &str) -> PathBuf {
    let parts = Path::new(cgroup).components();
    let mut path = root.to_owned();
    path.extend(parts.filter(|part| matches!(part, std::path::Component::Normal(_))));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer
32 30 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hierarchies_are_found() {
        let found = Hierarchies::parse(HYBRID);
        assert_eq!(found.roots.len(), 2);
        assert_eq!(found.freezer_file(), Some("freezer.state"));
        let frozen = Place::V1("/sys/fs/cgroup/freezer/a".into());
        assert_eq!(found.place("freezer", "/a"), Some(frozen));
        let elsewhere = Place::V2("/sys/fs/cgroup/unified/a".into());
        assert_eq!(found.place("memory", "/../a"), Some(elsewhere));
        let pure = Hierarchies::parse("32 30 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        assert_eq!(pure.freezer_file(), Some("cgroup.freeze"));
        assert_eq!(Hierarchies::parse("").freezer_file(), None);
    }

    #[test]
    fn sizes_of_huge_pages_are_read_as_cgroup_files_name_them() {
        let at = tempfile::tempdir().unwrap();
        for name in ["hugepages-2048kB", "hugepages-1048576kB", "hugepages-64kB", "other"] {
            std::fs::create_dir(at.path().join(name)).unwrap();
        }
        let mut sizes = page_sizes(at.path());
        sizes.sort();
        assert_eq!(sizes, ["1GB", "2MB", "64KB"]);
    }

    #[test]
    fn a_cgroup_path_cannot_leave_its_hierarchy() {
        assert_eq!(inside(Path::new("/c"), "/a/../../etc"), PathBuf::from("/c/a/etc"));
    }

    #[test]
    fn a_populated_or_frozen_cgroup_is_refused() {
        let at = tempfile::tempdir().unwrap();
        let host = Hierarchies { roots: vec![at.path().to_owned()], ..Hierarchies::default() };
        host.check_unused("/a/b").unwrap();
        std::fs::create_dir_all(at.path().join("a/b/c")).unwrap();
        std::fs::write(at.path().join("a/b/c/cgroup.procs"), "42\n").unwrap();
        let error = host.check_unused("/a/b").unwrap_err().to_string();
        assert!(error.contains("already holds process 42"), "{error}");
        let nested = Hierarchies { freezer: Some(at.path().to_owned()), ..host.clone() };
        std::fs::write(at.path().join("a/cgroup.procs"), "43\n").unwrap();
        assert!(nested.check_unused("/a/y").unwrap_err().to_string().contains("of its own"));
        std::fs::write(at.path().join("a/freezer.state"), "FROZEN\n").unwrap();
        std::fs::write(at.path().join("a/cgroup.procs"), "").unwrap();
        assert!(nested.check_unused("/a/x").unwrap_err().to_string().contains("is frozen"));
    }
}
