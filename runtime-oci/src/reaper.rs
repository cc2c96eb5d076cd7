//! A small process between us and an exec: the parent that collects the command's exit code.
//!
//! A runtime that is asked to run an exec in the foreground copies its output, and some leave only when the last child
//! that holds the pipe has left: a daemon started by the command would hold up the exec for ever, and with it the code.
//! A detached exec gets our pipes as they are and the runtime leaves at once, but then the command's parent is whoever
//! is nearest above that said it reaps orphans. That must not be the program which uses this library, since the setting
//! would make it the parent of every orphan below it. So the forked child does not become the runtime: it says that it
//! reaps, forks the runtime, waits for it and then for the command, and leaves with the command's code.
#![expect(
    unsafe_code,
    reason = "code between fork and exec: there is no safe way to run any, nor to stay there"
)]

use std::ffi::{CStr, CString};
use std::io;

use nix::libc;
use tokio::process::Command;

/// What it leaves with when the runtime succeeded and told no pid.
const NO_PID: i32 = 255;

/// Makes `command`, a runtime's detached exec, leave with the code of what it started; `pid_file` is where the runtime
/// writes that pid. If the runtime fails, its own code is the code, and what it began is killed.
pub(crate) fn stay_until_the_command_ends(command: &mut Command, pid_file: CString) {
    // SAFETY: the closure runs in the forked child of a program with threads, where only async-signal-safe functions
    // may be called: see `split`. It allocates nothing and takes no lock; the path was made beforehand.
    unsafe { command.pre_exec(move || split(&pid_file)) };
}

/// Returns in the new process, which goes on to become the runtime. The old one stays and never returns.
fn split(pid_file: &CStr) -> io::Result<()> {
    // SAFETY: prctl and fork are system calls without memory arguments. The child of the fork has one thread, as this
    // process has. glibc's fork takes locks of the allocator; the first fork left them free in this process.
    let forked = unsafe {
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::fork()
    };
    match forked {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        runtime => reap(runtime, pid_file),
    }
}

/// Waits for the runtime, then for the command, and leaves with its code.
fn reap(runtime: libc::pid_t, pid_file: &CStr) -> ! {
    // SAFETY: all of these are async-signal-safe. The descriptors that are closed belong to this process alone; it must
    // hold none of them, or the ends of pipes would never be seen, and it uses none of them afterwards.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"manyrun-reaper".as_ptr(), 0, 0, 0);
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
        // A program that ignores the end of its children would make the kernel throw their codes away.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    let mut code = wait_for(runtime).unwrap_or(NO_PID);
    if code == 0 {
        code = read_pid(pid_file).and_then(wait_for).unwrap_or_else(|| {
            // The command, if there is one, is found below this process and nowhere else.
            until_nobody_is_left(false);
            NO_PID
        });
    } else {
        // Some runtimes write the pid and fail all the same: the file tells whether the command ran.
        // SAFETY: `unlink` is async-signal-safe and the path ends in NUL.
        unsafe { libc::unlink(pid_file.as_ptr()) };
        // Nobody is told of a command that a failed runtime had begun.
        until_nobody_is_left(true);
    }
    // SAFETY: `_exit` runs no handlers and flushes no buffers, which belong to the process that was forked.
    unsafe { libc::_exit(code) }
}

/// The code of a child, 128 + n for signal n; nothing if it is no child of ours, so that nobody can tell. Only this child
/// is waited for: the command becomes ours, perhaps already dead, a moment before the runtime's own end can be seen, and
/// must not be reaped in its place. Other orphans go to init when this process leaves.
fn wait_for(child: libc::pid_t) -> Option<i32> {
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes to `status` and to nothing else.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            let signal = libc::WTERMSIG(status);
            let signalled = libc::WIFSIGNALED(status);
            return Some(if signalled { 128 + signal } else { libc::WEXITSTATUS(status) });
        }
        if !was_interrupted() {
            return None;
        }
    }
}

/// Waits until there is no child any more, and no orphan that became one. With `killing` all of them are killed: children
/// that were not reaped are nobody else, whatever their pid.
fn until_nobody_is_left(killing: bool) {
    let pause = libc::timespec { tv_sec: 0, tv_nsec: 2_000_000 };
    loop {
        if killing && !kill_children() {
            return;
        }
        // A child that was just born is seen in the next round, so no wait is for long.
        let options = if killing { libc::WNOHANG } else { 0 };
        // SAFETY: no status is asked for, and `nanosleep` reads what is ours.
        let waited = unsafe { libc::waitpid(-1, std::ptr::null_mut(), options) };
        match waited {
            -1 if !was_interrupted() => return,
            // SAFETY: as above.
            0 => unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) },
            _ => 0,
        };
    }
}

/// Kills the children; whether they could be told.
fn kill_children() -> bool {
    let mut text = [0_u8; 4096];
    let Some(read) = read_file(c"/proc/thread-self/children", &mut text) else { return false };
    // A pid that was cut off at the end of the buffer is not taken for one: a space follows each.
    for pid in read.split_inclusive(|byte| *byte == b' ').filter(|word| word.ends_with(b" ")) {
        if let Some(pid) = number(pid) {
            // SAFETY: `kill` has no memory arguments.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    true
}

fn was_interrupted() -> bool {
    // SAFETY: errno of this thread, right after the call that set it.
    unsafe { *libc::__errno_location() == libc::EINTR }
}

/// Reads a pid from a file.
fn read_pid(path: &CStr) -> Option<libc::pid_t> {
    number(read_file(path, &mut [0; 16])?)
}

/// The beginning of a file, without the allocator.
fn read_file<'a>(path: &CStr, into: &'a mut [u8]) -> Option<&'a [u8]> {
    // SAFETY: `path` ends in NUL, and the read is bounded by the buffer's length.
    let read = unsafe {
        let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return None;
        }
        let read = libc::read(file, into.as_mut_ptr().cast(), into.len());
        libc::close(file);
        read
    };
    into.get(..usize::try_from(read).ok()?)
}

/// The decimal number at the beginning of a text, if it is a pid.
fn number(text: &[u8]) -> Option<libc::pid_t> {
    let mut pid: libc::pid_t = 0;
    for digit in text.iter().take_while(|byte| byte.is_ascii_digit()) {
        pid = pid.checked_mul(10)?.checked_add(libc::pid_t::from(digit - b'0'))?;
    }
    (pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;
    use std::process::Stdio;
    use std::time::Duration;

    use runtime_host::process::{Identity, children, kill_tree};

    const LIMIT: Duration = Duration::from_secs(20);

    /// A shell plays the runtime: it starts `script` detached, writes its pid and leaves. Unlike a runtime it would reap
    /// a script that ends before it leaves itself, so the script waits until it has gone.
    async fn run(script: &str, runtime_code: i32) -> (Option<i32>, bool, bool) {
        let at = tempfile::tempdir().unwrap();
        let pid_file = at.path().join("pid");
        let mut command = Command::new("/bin/sh");
        let alone = "while kill -0 $1 2>/dev/null; do sleep 0.01; done";
        let runtime = format!(
            "sh -c '{alone}; {script}' sh $$ & echo -n $! > {}; exit {runtime_code}",
            pid_file.display()
        );
        command.args(["-c", &runtime]).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        stay_until_the_command_ends(&mut command, CString::new(pid_file.as_os_str().as_bytes()).unwrap());
        let ended = tokio::time::timeout(LIMIT, command.status()).await;
        let code = ended.as_ref().ok().and_then(|status| status.as_ref().ok()?.code());
        (code, ended.is_ok(), pid_file.exists())
    }

    #[tokio::test]
    async fn the_code_is_that_of_the_command() {
        assert_eq!(run("exit 7", 0).await, (Some(7), true, true));
        assert_eq!(run("true", 0).await, (Some(0), true, true));
        assert_eq!(run("kill -9 $$", 0).await, (Some(137), true, true));
    }

    #[tokio::test]
    async fn what_a_runtime_began_that_failed_is_killed() {
        let at = tempfile::tempdir().unwrap();
        let told = at.path().join("told");
        let script =
            format!("sleep 60 & sleep 60 & jobs -p >{0}.new; mv {0}.new {0}; exec sleep 60", told.display());
        let mut command = Command::new("/bin/sh");
        let runtime =
            format!("sh -c '{script}' & until [ -e {} ]; do sleep 0.01; done; exit 3", told.display());
        command.args(["-c", &runtime]).stdin(Stdio::null()).stdout(Stdio::null());
        stay_until_the_command_ends(&mut command, c"/nonexistent/pid".to_owned());
        let ended = tokio::time::timeout(LIMIT, command.status()).await.unwrap().unwrap();
        assert_eq!(ended.code(), Some(3));
        let told = std::fs::read_to_string(told).unwrap();
        assert_eq!(told.lines().count(), 2, "{told}");
        for pid in told.lines() {
            assert!(!std::path::Path::new("/proc").join(pid).exists(), "{pid} lives");
        }
    }

    #[tokio::test]
    async fn a_command_whose_pid_is_not_told_is_not_left() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 60 & exit 0"]).stdin(Stdio::null()).stdout(Stdio::null());
        stay_until_the_command_ends(&mut command, c"/nonexistent/pid".to_owned());
        let mut child = command.spawn().unwrap();
        let reaper = Identity::of(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        let below = async {
            loop {
                // The runtime has left once the command is below the reaper.
                let name = |each: &Identity| std::fs::read_to_string(format!("/proc/{}/comm", each.pid));
                let found = children(reaper);
                if let Some(command) =
                    found.iter().find(|each| name(each).is_ok_and(|name| name == "sleep\n"))
                {
                    return *command;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let command = tokio::time::timeout(LIMIT, below).await.unwrap();
        assert!(kill_tree(reaper).contains(&command));
        tokio::time::timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    }

    #[test]
    fn a_pid_is_a_number_above_zero() {
        assert_eq!(number(b"17 "), Some(17));
        assert_eq!(number(b"17\n"), Some(17));
        assert_eq!(
            (number(b""), number(b"0"), number(b"x"), number(b"99999999999")),
            (None, None, None, None)
        );
    }

    #[tokio::test]
    async fn a_runtime_that_does_not_exist_is_an_error_and_leaves_nobody() {
        let mut command = Command::new("/nonexistent/runtime");
        stay_until_the_command_ends(&mut command, c"/nonexistent/pid".to_owned());
        assert_eq!(command.status().await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
