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
/// writes that pid. If the runtime fails, its own code is the code.
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
    let mut code = wait_for(runtime);
    if code == 0 {
        code = read_pid(pid_file).map_or(NO_PID, wait_for);
    } else {
        // Some runtimes write the pid and fail all the same: the file tells whether the command ran.
        // SAFETY: `unlink` is async-signal-safe and the path ends in NUL.
        unsafe { libc::unlink(pid_file.as_ptr()) };
    }
    // SAFETY: `_exit` runs no handlers and flushes no buffers, which belong to the process that was forked.
    unsafe { libc::_exit(code) }
}

/// The code of a child, 128 + n for signal n. Only this child is waited for: the command becomes ours, perhaps already
/// dead, a moment before the runtime's own end can be seen, and must not be reaped in its place. Other orphans go to
/// init when this process leaves.
fn wait_for(child: libc::pid_t) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes to `status` and to nothing else.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == child {
            let signal = libc::WTERMSIG(status);
            return if libc::WIFSIGNALED(status) { 128 + signal } else { libc::WEXITSTATUS(status) };
        }
        // SAFETY: errno of this thread, right after the call that set it.
        if unsafe { *libc::__errno_location() } != libc::EINTR {
            // It is no child of ours, so nobody can tell its code.
            return NO_PID;
        }
    }
}

/// Reads a decimal number from a file, without the allocator.
fn read_pid(path: &CStr) -> Option<libc::pid_t> {
    let mut text = [0_u8; 16];
    // SAFETY: `path` ends in NUL, and the read is bounded by the buffer's length.
    let read = unsafe {
        let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return None;
        }
        libc::read(file, text.as_mut_ptr().cast(), text.len())
    };
    let digits = text.get(..usize::try_from(read).ok()?)?;
    let mut pid: libc::pid_t = 0;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        pid = pid.checked_mul(10)?.checked_add(libc::pid_t::from(digit - b'0'))?;
    }
    (pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;
    use std::process::Stdio;

    /// A shell plays the runtime: it starts `script` detached, writes its pid and leaves. Unlike a runtime it would reap
    /// a script that ends before it leaves itself, so scripts sleep a little.
    async fn run(script: &str, runtime_code: i32) -> (Option<i32>, bool, bool) {
        let at = tempfile::tempdir().unwrap();
        let pid_file = at.path().join("pid");
        let mut command = Command::new("/bin/sh");
        let runtime = format!("sh -c '{script}' & echo -n $! > {}; exit {runtime_code}", pid_file.display());
        command.args(["-c", &runtime]).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        stay_until_the_command_ends(&mut command, CString::new(pid_file.as_os_str().as_bytes()).unwrap());
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), command.status()).await;
        let code = ended.as_ref().ok().and_then(|status| status.as_ref().ok()?.code());
        (code, ended.is_ok(), pid_file.exists())
    }

    #[tokio::test]
    async fn the_code_is_that_of_the_command() {
        assert_eq!(run("sleep 0.05; exit 7", 0).await, (Some(7), true, true));
        assert_eq!(run("sleep 0.05", 0).await, (Some(0), true, true));
        assert_eq!(run("sleep 0.05; kill -9 $$", 0).await, (Some(137), true, true));
    }

    #[tokio::test]
    async fn a_runtime_that_fails_is_not_waited_for_any_longer() {
        assert_eq!(run("exec sleep 2", 3).await, (Some(3), true, false));
    }

    #[tokio::test]
    async fn a_runtime_that_does_not_exist_is_an_error_and_leaves_nobody() {
        let mut command = Command::new("/nonexistent/runtime");
        stay_until_the_command_ends(&mut command, c"/nonexistent/pid".to_owned());
        assert_eq!(command.status().await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
