//! Processes that are not our children: who they are, whether they live, how they are signalled.
//!
//! A pid alone is no identity: the kernel gives it out again. A pid with the start time of its process is one for as
//! long as the host is up, and a pid file descriptor holds on to exactly one process. Every signal of this crate goes
//! through [`PidFd`], after the start time was compared.
#![expect(
    unsafe_code,
    reason = "real-time signals and the newest requests on pid file descriptors have no safe wrapper"
)]

mod arguments;
mod replaced;

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use runtime_api::Signal;

use crate::document::made_by_kernel;

pub use arguments::with_arguments;

/// A process, told from any other that may get its pid later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: i32,
    /// The start time in clock ticks since boot: field 22 of `/proc/PID/stat`.
    pub start: u64,
}

impl Identity {
    /// Who has this pid now; `None` if nobody lives there. A zombie counts as dead once its last thread has left: until then
    /// its files are open, and what it serves is served.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        stat.lives.then_some(Self { pid, start: stat.start })
    }

    /// This process.
    pub fn own() -> Self {
        static OWN: OnceLock<Identity> = OnceLock::new();
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        // What was looked up before a fork is another process.
        if let Some(known) = OWN.get().filter(|known| known.pid == pid) {
            return *known;
        }
        let Some(found) = Self::of(pid) else { return Self { pid, start: 0 } };
        let _ = OWN.set(found);
        found
    }

    /// The process that would reap it now; `None` if it is gone.
    pub fn parent(self) -> Option<i32> {
        Stat::read(self.pid).filter(|stat| stat.lives && stat.start == self.start).map(|stat| stat.parent)
    }

    /// Whether the process still lives.
    pub fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Whether the process is dead or on its way there: the kernel has begun to take it apart. The init of a container
    /// stays in this state until everything else in its pid namespace has been killed.
    pub fn is_ending(self) -> bool {
        Stat::read(self.pid).is_none_or(|stat| !stat.lives || stat.start != self.start || stat.exiting)
    }

    /// Whether the process does nothing of itself: it is stopped, or dead.
    fn rests(self) -> bool {
        Stat::read(self.pid).is_none_or(|stat| !stat.lives || stat.stopped || stat.start != self.start)
    }

    /// Whether the process was started with arguments as wanted.
    pub fn has_arguments(self, wanted: impl Fn(&[&[u8]]) -> bool) -> bool {
        let line = made_by_kernel(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        wanted(&arguments)
    }

    /// Which file the process runs: device and inode. `None` once it is gone, or where we may not look.
    pub fn program(self) -> Option<(u64, u64)> {
        let program = std::fs::metadata(format!("/proc/{}/exe", self.pid)).ok()?;
        Some((program.dev(), program.ino()))
    }

    /// A descriptor for exactly this process; `None` if it is gone.
    pub fn open(self) -> Option<PidFd> {
        let pid = rustix::process::Pid::from_raw(self.pid)?;
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
        // The order matters: the descriptor first, then the look at the start time, so that the two are of one process.
        self.lives().then_some(PidFd(fd))
    }

    /// Sends a signal; whether there was still somebody to get it.
    ///
    /// # Errors
    /// Why the kernel refuses to send it.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        match self.open() {
            Some(process) => process.signal(signal),
            None => Ok(false),
        }
    }
}

/// The kernel's flag for a process that is being taken apart.
const PF_EXITING: u64 = 4;

/// What `/proc/PID/stat` says.
struct Stat {
    lives: bool,
    /// Of a zombie with threads that cannot be told, and it counts as stopped.
    stopped: bool,
    exiting: bool,
    parent: i32,
    start: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        if pid <= 0 {
            return None;
        }
        // One read: the kernel makes the text when it is opened, and asking for its length is no help.
        let mut text = [0; 1024];
        let read = std::fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
        Self::parse(text.get(..read)?)
    }

    /// The command name may hold spaces and brackets, so fields are counted from behind the last bracket.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let flags: u64 = fields.nth(4)?.parse().ok()?;
        let threads: u64 = fields.nth(10)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        // The first thread of a process stays a zombie for as long as there are others.
        let has_others = state == "Z" && threads > 1;
        let lives = has_others || !matches!(state, "Z" | "X" | "x");
        let exiting = flags & PF_EXITING != 0;
        Some(Self { lives, stopped: has_others || matches!(state, "T" | "t"), exiting, parent, start })
    }
}

/// A descriptor of one process.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Sends a signal; whether there was still somebody to get it.
    ///
    /// # Errors
    /// Why the kernel refuses to send it.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        // SAFETY: `Signal` is 1 to 64, so the number is one that the kernel knows. The constructor is unsafe because a
        // program must not install handlers for the two numbers that the C library keeps for itself; it is only sent.
        let raw = unsafe { rustix::process::Signal::from_raw_unchecked(signal.number()) };
        match pidfd_send_signal(&self.0, raw) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the process has ended. Cancel safe.
    ///
    /// # Errors
    /// When the descriptor cannot be watched.
    pub async fn ended(self) -> io::Result<()> {
        // A pid file descriptor is readable once its process is gone.
        let watched = crate::descriptor::watch(self.0)?;
        let _ready = watched.readable().await?;
        Ok(())
    }
}

/// A process that was recognised once by its start time. Its descriptor is kept, for as long as this program has plenty
/// of them: to ask it takes one call, and reading `/proc` ten times as long.
#[derive(Debug, Default)]
pub struct Recognised(OnceLock<Kept>);

impl Recognised {
    /// Whether the process lives; it must be the same one at each call.
    pub fn lives(&self, process: Identity) -> bool {
        if let Some(ended) = self.0.get().and_then(|kept| has_ended(&kept.0.0)) {
            return !ended;
        }
        let Some(open) = process.open() else { return false };
        if let Some(kept) = Kept::new(open) {
            let _ = self.0.set(kept);
        }
        true
    }
}

/// A descriptor that is kept for a while; there are only so many.
#[derive(Debug)]
struct Kept(PidFd);

/// How many are kept.
static KEPT: AtomicU64 = AtomicU64::new(0);

impl Kept {
    /// Nothing, when they are a quarter of all that this program may have.
    fn new(process: PidFd) -> Option<Self> {
        static MOST: OnceLock<u64> = OnceLock::new();
        let most = MOST.get_or_init(|| {
            rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX) / 4
        });
        if KEPT.fetch_add(1, Ordering::Relaxed) >= *most {
            KEPT.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(process))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a process has ended, be it that nobody has reaped it yet; `None` if that cannot be seen now.
fn has_ended(process: &OwnedFd) -> Option<bool> {
    let mut polled = [PollFd::new(process, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).ok().map(|ready| ready > 0)
}

/// The processes whose parent this one is now.
pub fn children(of: Identity) -> Vec<Identity> {
    if !of.lives() {
        return Vec::new();
    }
    let all = all_with_parents().into_iter();
    all.filter(|(_, parent)| *parent == of.pid).map(|(child, _)| child).collect()
}

/// Every process below `root`, itself included, by parent pids as they stand now.
pub fn tree(root: Identity) -> Vec<Identity> {
    let all = all_with_parents();
    let mut found = Vec::new();
    if root.lives() {
        found.push(root);
    }
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        found.extend(all.iter().filter(|(_, of)| *of == parent.pid).map(|(child, _)| *child));
    }
    found
}

/// Every process that lives, and the pid of its parent.
fn all_with_parents() -> Vec<(Identity, i32)> {
    /// How often a torn table is read again.
    const READS: usize = 4;
    let mut all = Vec::new();
    for _ in 0..READS {
        let read = read_table();
        all = read.living;
        if !is_torn(&all, &read.pids) {
            break;
        }
    }
    all
}

/// The table of processes, as far as it can be read at one time.
#[derive(Default)]
struct Table {
    /// Those that live, and the pids of their parents.
    living: Vec<(Identity, i32)>,
    /// All of them.
    pids: HashSet<i32>,
}

fn read_table() -> Table {
    let mut table = Table::default();
    if let Ok(entries) = std::fs::read_dir("/proc") {
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Some(stat) = Stat::read(pid) else { continue };
            table.pids.insert(pid);
            if stat.lives {
                table.living.push((Identity { pid, start: stat.start }, stat.parent));
            }
        }
    }
    table
}

/// Whether a parent was gone before it was its turn: its children are in no tree of this table, though they are below
/// somebody else by now. Parents that cannot be seen from here are 0.
fn is_torn(living: &[(Identity, i32)], pids: &HashSet<i32>) -> bool {
    living.iter().any(|(_, parent)| *parent != 0 && !pids.contains(parent))
}

/// Kills a process and everything below it, and gives what was found. Each is stopped first and the tree is read again
/// until nothing new turns up, so that a program that forks all the time cannot outrun the walk. What does not rest yet
/// may be about to fork, so nothing new counts only when all were at rest before.
pub fn kill_tree(root: Identity) -> Vec<Identity> {
    const ROUNDS: usize = 32;
    /// How often those are waited for that do not rest, as one does not that waits for a child of its own.
    const PATIENCE: usize = 16;
    let stop = Signal::from_number(19).unwrap_or(Signal::KILL);
    let mut stopped: Vec<Identity> = Vec::new();
    let mut waits = 0;
    for _ in 0..ROUNDS {
        let rests = stopped.iter().all(|each| each.rests());
        let fresh: Vec<_> = tree(root).into_iter().filter(|each| !stopped.contains(each)).collect();
        if fresh.is_empty() {
            if rests || waits == PATIENCE {
                break;
            }
            waits += 1;
            // To read the table takes about as long as a process that is not at rest should need.
            std::thread::yield_now();
        }
        for each in fresh {
            // A process that is gone by now needs no signal, and one that may not be signalled will not be killed either.
            let _ = each.signal(stop);
            stopped.push(each);
        }
    }
    for each in &stopped {
        let _ = each.signal(Signal::KILL);
    }
    stopped
}

/// Ends what is found, with everything below it, until nothing is found any more: what was ended may just have forked.
pub async fn end_whatever<F>(find: impl Fn() -> F)
where
    F: Future<Output = Vec<Identity>> + Send,
{
    const ROUNDS: usize = 16;
    for _ in 0..ROUNDS {
        let found = find().await;
        if found.is_empty() {
            break;
        }
        for each in found {
            end_all(kill_tree(each)).await;
        }
    }
}

/// Kills processes and waits until they are gone, a few seconds at most.
pub async fn end_all(processes: impl IntoIterator<Item = Identity>) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    let open: Vec<PidFd> = processes.into_iter().filter_map(Identity::open).collect();
    for process in &open {
        let _ = process.signal(Signal::KILL);
    }
    for process in open {
        let _ = tokio::time::timeout_at(deadline, process.ended()).await;
    }
}

/// The id of this boot: start times count from it.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_is_read_past() {
        let line = b"42 (a) b) S 7 1 1 0 -1 4194560 76 0 0 0 0 0 0 0 20 0 1 0 142017 2322432 332";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.lives, stat.parent, stat.start), (true, 7, 142_017));
        assert!(Stat::parse(b"42 (x").is_none());
        assert!(!stat.exiting);
        assert!(Stat::parse(b"42 (x) S 7 1 1 0 -1 4194564 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0").unwrap().exiting);
        assert!(!Stat::parse(b"42 (x) Z 7 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0").unwrap().lives);
        let stat = Stat::parse(b"42 (x) Z 7 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 2 0 5 0 0").unwrap();
        assert!(stat.lives && stat.exiting, "a thread is left");
        assert_eq!(stat.start, 5);
    }

    #[test]
    fn a_table_without_a_parent_is_torn() {
        let at = |pid| Identity { pid, start: 1 };
        let living = [(at(1), 0), (at(5), 1), (at(6), 5)];
        assert!(!is_torn(&living, &HashSet::from([1, 5, 6])));
        // The parent is a zombie with threads that live: it is there.
        assert!(!is_torn(&[(at(1), 0), (at(6), 5)], &HashSet::from([1, 5, 6])));
        assert!(is_torn(&[(at(1), 0), (at(6), 5)], &HashSet::from([1, 6])));
    }

    #[test]
    fn a_process_rests_once_it_is_stopped_or_dead() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(!identity.rests());
        assert!(identity.signal(Signal::from_number(19).unwrap()).unwrap());
        while !identity.rests() {
            std::thread::yield_now();
        }
        assert!(identity.lives());
        assert_eq!(kill_tree(identity), [identity]);
        child.wait().unwrap();
        assert!(identity.rests());
    }

    #[test]
    fn a_process_is_recognised_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(identity.parent(), Some(Identity::own().pid));
        let recognised = Recognised::default();
        assert!(recognised.lives(identity) && recognised.lives(identity));
        child.kill().unwrap();
        while identity.lives() {
            std::thread::yield_now();
        }
        // Nobody has reaped it yet.
        assert_eq!(identity.parent(), None);
        assert!(!recognised.lives(identity));
        child.wait().unwrap();
        assert!(!recognised.lives(identity));
        let stranger = Identity { start: 1, ..Identity::own() };
        assert!(!Recognised::default().lives(stranger));
    }

    #[test]
    fn a_recycled_pid_gets_no_signal() {
        let own = Identity::own();
        assert!(own.lives());
        let stranger = Identity { start: own.start + 1, ..own };
        assert!(!stranger.lives());
        // Signal 9 to a pid that is ours with another start time: this test would not survive it.
        assert!(!stranger.signal(Signal::KILL).unwrap());
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_seen() {
        let mut child = tokio::process::Command::new("sleep").arg("60").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        let ended = identity.open().unwrap().ended();
        assert!(identity.signal(Signal::KILL).unwrap());
        ended.await.unwrap();
        child.wait().await.unwrap();
        assert!(!identity.lives() && identity.open().is_none());
    }
}
