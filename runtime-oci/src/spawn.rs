//! Starts a process that has more than the three standard descriptors, without a copy of this one in between.
//!
//! The standard library gives a child more descriptors only through code between fork and exec. For that the kernel copies
//! the page tables of the whole program, and each page that it writes to next: the more memory a program has, the longer
//! each of its containers takes to start. The C library's spawn shares the memory until the new program runs.
#![expect(unsafe_code, reason = "a spawn with a working directory has no safe wrapper")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::ptr;

use nix::libc;
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;

/// What is started. Its standard input and output are null, its standard error is a pipe.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a CStr,
    /// The program's name first.
    pub(crate) args: &'a [CString],
    /// All that it gets of an environment.
    pub(crate) env: &'a [CString],
    pub(crate) cwd: &'a CStr,
    /// Descriptors, each with its number there, from 3 on.
    pub(crate) descriptors: &'a [(i32, OwnedFd)],
}

/// A child that goes on when this value is dropped.
#[derive(Debug)]
pub(crate) struct Spawned {
    pid: i32,
    /// Nothing once it was reaped.
    process: Option<AsyncFd<OwnedFd>>,
    status: Option<ExitStatus>,
    pub(crate) stderr: Option<pipe::Receiver>,
}

impl Spawned {
    /// Its pid, for as long as it was not reaped.
    pub(crate) fn id(&self) -> Option<i32> {
        self.status.is_none().then_some(self.pid)
    }

    /// Waits for its end and reaps it. Cancel safe.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let Some(process) = &self.process else { return Err(io::Error::other("it cannot be waited for")) };
        let status = reaped(process).await?;
        self.status = Some(status);
        self.process = None;
        Ok(status)
    }

    /// Sends KILL; nobody else can have its pid before it was reaped.
    pub(crate) fn start_kill(&self) -> io::Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        pidfd_send_signal(process.get_ref(), Signal::KILL).map_err(io::Error::from)
    }

    /// Kills it and waits for its end.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        self.start_kill()?;
        self.wait().await.map(|_| ())
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else { return };
        // Where no runtime is left to wait in, the program ends, and then somebody else reaps it.
        if !matches!(reap(process.get_ref()), Ok(None)) {
            return;
        }
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move { drop(reaped(&process).await) });
        }
    }
}

async fn reaped(process: &AsyncFd<OwnedFd>) -> io::Result<ExitStatus> {
    loop {
        let mut ready = process.readable().await?;
        if let Some(status) = reap(process.get_ref())? {
            return Ok(status);
        }
        ready.clear_ready();
    }
}

fn reap(process: &OwnedFd) -> io::Result<Option<ExitStatus>> {
    let ended = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)?;
    let Some(ended) = ended else { return Ok(None) };
    let code = ended.exit_status().unwrap_or_default();
    let signal = ended.terminating_signal().unwrap_or_default();
    Ok(Some(ExitStatus::from_raw((code << 8) | signal)))
}

/// Starts it.
///
/// # Errors
/// As `exec` has them, or why a descriptor is lacking.
pub(crate) fn spawn(start: &Start<'_>) -> io::Result<Spawned> {
    let (ours, theirs) = io::pipe()?;
    // Copies above every number that is given away, so that none is overwritten before its turn.
    let floor = start.descriptors.iter().map(|(number, _)| *number).max().unwrap_or(2).max(2) + 1;
    let copy = |fd: &dyn AsFd| rustix::io::fcntl_dupfd_cloexec(fd, floor);
    let mut given = vec![(2, copy(&theirs)?)];
    for (number, fd) in start.descriptors {
        given.push((*number, copy(fd)?));
    }
    drop(theirs);
    let mut actions = Actions::new()?;
    actions.null(0, libc::O_RDONLY)?;
    actions.null(1, libc::O_WRONLY)?;
    for (number, fd) in &given {
        actions.give(fd, *number)?;
    }
    actions.work_in(start.cwd)?;
    let attributes = Attributes::new()?;
    let pid = run(start, &actions, &attributes)?;
    drop(given);
    let process =
        rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("a child without pid"))?;
    let process = pidfd_open(process, PidfdFlags::NONBLOCK)?;
    let stderr = pipe::Receiver::from_owned_fd(ours.into())?;
    let process = runtime_host::descriptor::watch(process)?;
    Ok(Spawned { pid, process: Some(process), status: None, stderr: Some(stderr) })
}

fn run(start: &Start<'_>, actions: &Actions, attributes: &Attributes) -> io::Result<i32> {
    let pointers = |all: &[CString]| -> Vec<*mut c_char> {
        all.iter().map(|each| each.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
    };
    let (args, env) = (pointers(start.args), pointers(start.env));
    let mut pid = 0;
    // SAFETY: the strings live in `start` and end in NUL, and both lists end in a null pointer. Actions and attributes were
    // initialised and are destroyed later. The function writes to `pid` only; what it takes as mutable it does not change.
    told(unsafe {
        libc::posix_spawn(
            &raw mut pid,
            start.program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            args.as_ptr(),
            env.as_ptr(),
        )
    })?;
    Ok(pid)
}

/// What the child does before it becomes the program.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: it writes to the memory that it is given, which has the right size, and leaves it initialised if it succeeds.
        told(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: it was initialised above. The structure holds no pointer to itself, so it may be moved.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    /// Puts a descriptor under a number. The two differ, so the copy is not close-on-exec.
    fn give(&mut self, fd: &OwnedFd, number: c_int) -> io::Result<()> {
        // SAFETY: the actions are initialised; both descriptors are plain numbers.
        told(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, fd.as_raw_fd(), number) })
    }

    fn null(&mut self, number: c_int, flags: c_int) -> io::Result<()> {
        // SAFETY: the actions are initialised; the function copies the path.
        told(unsafe {
            libc::posix_spawn_file_actions_addopen(&raw mut self.0, number, c"/dev/null".as_ptr(), flags, 0)
        })
    }

    fn work_in(&mut self, cwd: &CStr) -> io::Result<()> {
        // SAFETY: as above.
        told(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, cwd.as_ptr()) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: they were initialised and are not used any more.
        let _ = unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// A process group of its own, no blocked signals, and the default for a broken pipe, which Rust programs ignore.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        let flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
        let none = nix::sys::signal::SigSet::empty();
        let broken_pipe = nix::sys::signal::SigSet::from_iter([nix::sys::signal::Signal::SIGPIPE]);
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: it writes to the memory that it is given, which has the right size, and leaves it initialised if it succeeds.
        told(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: it was initialised above. The structure holds no pointer to itself, so it may be moved.
        let mut made = Self(unsafe { attributes.assume_init() });
        let this = &raw mut made.0;
        // SAFETY: the attributes are initialised, and the functions copy the sets of signals.
        unsafe {
            told(libc::posix_spawnattr_setflags(this, flags))?;
            told(libc::posix_spawnattr_setpgroup(this, 0))?;
            told(libc::posix_spawnattr_setsigmask(this, none.as_ref()))?;
            told(libc::posix_spawnattr_setsigdefault(this, broken_pipe.as_ref()))?;
        }
        Ok(made)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: they were initialised and are not used any more.
        let _ = unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// These functions return the error itself.
fn told(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use tokio::io::AsyncReadExt as _;

    fn texts(all: &[&str]) -> Vec<CString> {
        all.iter().map(|each| CString::new(*each).unwrap()).collect()
    }

    fn shell(script: &str, descriptors: &[(i32, OwnedFd)]) -> io::Result<Spawned> {
        let (args, env) = (texts(&["/bin/sh", "-c", script]), texts(&["A=b"]));
        spawn(&Start { program: c"/bin/sh", args: &args, env: &env, cwd: c"/usr", descriptors })
    }

    async fn said(child: &mut Spawned) -> String {
        let mut text = String::new();
        child.stderr.take().unwrap().read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_child_has_what_it_is_given_and_nothing_else() {
        let (mut from, to) = io::pipe().unwrap();
        let (to_read, mut feed) = io::pipe().unwrap();
        feed.write_all(b"word\n").unwrap();
        drop(feed);
        let secret = tempfile::NamedTempFile::new().unwrap();
        // Numbers in the order in which one would overwrite the other.
        let given = [(4, OwnedFd::from(to)), (3, OwnedFd::from(to_read))];
        let script = "read word <&3; echo $word >&4; pwd >&2; echo $A $HOME >&2; read none; echo $? >&2; ls -l /proc/$$/fd >&2";
        let mut child = shell(script, &given).unwrap();
        drop(given);
        let text = said(&mut child).await;
        let (words, open) = text.split_once("total").unwrap();
        assert_eq!(words.split_whitespace().collect::<Vec<_>>(), ["/usr", "b", "1"]);
        assert!(open.contains(" 4 -> pipe:") && !open.contains(secret.path().to_str().unwrap()), "{open}");
        assert!(child.wait().await.unwrap().success());
        assert_eq!(child.id(), None);
        let mut word = String::new();
        from.read_to_string(&mut word).unwrap();
        assert_eq!(word, "word\n");
    }

    #[tokio::test]
    async fn its_end_is_told_as_it_was_and_again() {
        let mut child = shell("exit 7", &[]).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        let mut child = shell("kill -TERM $$; sleep 60", &[]).unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(15));
        let mut child = shell("sleep 60", &[]).unwrap();
        child.kill().await.unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    }

    #[tokio::test]
    async fn a_child_is_a_group_of_its_own_and_gets_signals_as_usual() {
        let mut child =
            shell("read line </proc/$$/stat; set -- $line; echo $5 >&2; grep -E 'Sig(Blk|Ign)' /proc/self/status >&2", &[]).unwrap();
        let pid = child.id().unwrap();
        let text = said(&mut child).await;
        let words: Vec<_> = text.split_whitespace().collect();
        let [group, _, blocked, _, ignored] = words[..] else { panic!("{text}") };
        assert_eq!((group, blocked), (pid.to_string().as_str(), "0".repeat(16).as_str()));
        let broken_pipe = 1 << (13 - 1);
        assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & broken_pipe, 0, "{text}");
        child.wait().await.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_does_not_exist_is_an_error() {
        let none = texts(&["/nonexistent"]);
        let start = Start { program: c"/nonexistent", args: &none, env: &[], cwd: c"/", descriptors: &[] };
        assert_eq!(spawn(&start).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_child_that_nobody_waits_for_is_reaped_all_the_same() {
        let child = shell("sleep 0.1", &[]).unwrap();
        let pid = child.id().unwrap();
        drop(child);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::path::Path::new(&format!("/proc/{pid}")).exists() {
            assert!(std::time::Instant::now() < until, "it is still there");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
