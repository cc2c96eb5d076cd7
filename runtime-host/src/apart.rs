//! A command in a session of its own.
//!
//! When a process ends, the kernel looks at the process groups of its children in the same session: where something stands
//! still in one of them, as what criu works on does, the whole group is told to hang up, and dies of that.
#![expect(unsafe_code, reason = "there is no safe way to begin a session between fork and exec")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Has a command begin a session, and with that a process group.
pub fn in_own_session(command: &mut Command) {
    let begin = || rustix::process::setsid().map(drop).map_err(std::io::Error::from);
    // SAFETY: the closure runs in the forked child of a program with threads, where only async-signal-safe functions may be
    // called. It is one system call without memory arguments; it allocates nothing and takes no lock. The safe function of the
    // standard library is not stable.
    unsafe { command.pre_exec(begin) };
}
