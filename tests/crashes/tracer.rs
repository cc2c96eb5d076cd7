//! Stops a process before its system call of a given number, or when it stops itself. Only calls that change something
//! outside are counted: what anybody else can see is the same at all moments between two of them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What becomes of a process that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Kill,
    /// It goes on to its end, whatever that is.
    GoOn,
}

/// Runs a command that waits for a line on its standard input, up to its call of number `last`. `also` is called while it
/// stands still there. Gives the number of calls, which is smaller when it ended by itself.
#[expect(clippy::zombie_processes, reason = "whoever traces a process waits for it by its pid")]
pub(crate) fn run_until_call(mut command: Command, last: u64, also: impl FnOnce(), then: Then) -> u64 {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    // With the last flag nobody is left behind if this test is killed.
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).unwrap();
    ptrace::interrupt(pid).unwrap();
    let mut waits_for_go = Some(child.stdin.take().unwrap());
    let (mut count, mut enters) = (0, true);
    loop {
        let pass_on = match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::PtraceSyscall(_) => {
                if enters && changes_something(pid) {
                    count += 1;
                    if count >= last {
                        also();
                        if then == Then::GoOn {
                            ptrace::detach(pid, None).unwrap();
                        }
                        end(pid, then);
                        return count;
                    }
                }
                enters = !enters;
                None
            }
            WaitStatus::PtraceEvent(..) => None,
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::Exited(_, code) => {
                assert_eq!(code, 0, "the caller failed by itself");
                return count;
            }
            other => panic!("the caller ended: {other:?}"),
        };
        ptrace::syscall(pid, pass_on).unwrap();
        if let Some(mut stdin) = waits_for_go.take() {
            stdin.write_all(b"go\n").unwrap();
        }
    }
}

/// Runs a command that waits for a line on its standard input and stops itself. `also` is called while it stands still, or
/// when it has ended before.
#[expect(clippy::zombie_processes, reason = "it is waited for by its pid, which tells of its stop as well")]
pub(crate) fn run_until_halt(mut command: Command, also: impl FnOnce(), then: Then) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    match waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap() {
        WaitStatus::Stopped(..) => {
            also();
            if then == Then::GoOn {
                kill(pid, Signal::SIGCONT).unwrap();
            }
            end(pid, then);
        }
        WaitStatus::Exited(_, 0) => also(),
        other => panic!("the caller failed by itself: {other:?}"),
    }
}

fn end(pid: Pid, then: Then) {
    if then == Then::Kill {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) if then == Then::Kill => return,
            // That it failed stands in what it wrote down.
            WaitStatus::Exited(..) if then == Then::GoOn => return,
            WaitStatus::Exited(_, code) => panic!("it ended with {code} before it was killed"),
            WaitStatus::Signaled(_, signal, _) => panic!("it died of {signal}"),
            _ => {}
        }
    }
}

/// Whether a process that stands before a call is about to change something outside of itself.
fn changes_something(pid: Pid) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let mut words = call.split(' ');
    let number: i64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(-1);
    let argument = |at: usize| {
        let word = call.split(' ').nth(at + 1).unwrap_or_default();
        i64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or_default()
    };
    match number {
        libc::SYS_openat => argument(2) & i64::from(libc::O_CREAT | libc::O_TRUNC) != 0,
        // Descriptors 0 to 2 are for people.
        libc::SYS_write => argument(0) > 2,
        number => CHANGES.contains(&number),
    }
}

const CHANGES: &[i64] = &[
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_renameat,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_pidfd_send_signal,
    libc::SYS_flock,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
];
