//! What differs between command lines, as data: one table per program, with the same fields in the same order.
//!
//! Which table applies is decided by what the binary says of itself (`--version`), never by its file name. Meaning is
//! never recovered from message text elsewhere; the patterns here are the one exception, and each has a recorded sample
//! in the tests.

use runtime_api::Rejection;

/// One row: fragments that a message holds, in this order and in any letter case, and what such a message means.
type Row<T> = (&'static [&'static str], T);

/// One program's table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// The first word of `--version`.
    pub(crate) name: &'static str,
    /// Whether the container's processes are processes of the host, with pids that signals reach.
    pub(crate) host_processes: bool,
    /// Who saves a container when it is checkpointed, where that is known.
    pub(crate) saver: Option<Saver>,
    /// Messages of create, start and exec. The first row that fits counts.
    launch: &'static [Row<Rejection>],
    /// Messages of kill, delete, pause and resume that say there is nothing to act on.
    gone: &'static [Row<()>],
}

/// Who saves a container, and what its images look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saver {
    /// criu, which the runtime starts: the processes are those of the host, and can be left running.
    Criu,
    /// The runtime itself. What it calls "leave running" ends the container and continues it below the command that made
    /// the checkpoint, where no monitor sees it.
    Itself,
}

impl Saver {
    /// A file that every image has.
    pub(crate) const fn landmark(self) -> &'static str {
        match self {
            Self::Criu => "inventory.img",
            Self::Itself => "checkpoint.img",
        }
    }
}

use Rejection::{ExecNotFound, ExecPermission, SecurityAttribute};

const RUNC: Dialect = Dialect {
    name: "runc",
    host_processes: true,
    saver: Some(Saver::Criu),
    launch: &[
        (&["/proc/", "/attr/"], SecurityAttribute),
        (&["exec: \"", "executable file not found"], ExecNotFound),
        (&["exec: \"", "no such file or directory"], ExecNotFound),
        (&["exec: \"", "permission denied"], ExecPermission),
        (&["exec: \"", "is a directory"], ExecPermission),
    ],
    gone: &[
        (&["container does not exist"], ()),
        (&["no such process"], ()),
        (&["container not running"], ()),
        (&["process already finished"], ()),
    ],
};

const CRUN: Dialect = Dialect {
    name: "crun",
    host_processes: true,
    saver: Some(Saver::Criu),
    launch: &[
        (&["/proc/", "/attr/"], SecurityAttribute),
        (&["executable file `", "not found"], ExecNotFound),
        (&["open executable", "no such file or directory"], ExecNotFound),
        (&["open executable", "permission denied"], ExecPermission),
        (&["open executable", "operation not permitted"], ExecPermission),
    ],
    gone: &[
        (&["error opening file `", "/status`: no such file or directory"], ()),
        (&["cannot open directory", "no such file or directory"], ()),
        (&["no such process"], ()),
        (&["is not running"], ()),
    ],
};

const RUNSC: Dialect = Dialect {
    name: "runsc",
    host_processes: false,
    saver: Some(Saver::Itself),
    launch: UNKNOWN.launch,
    gone: UNKNOWN.gone,
};

/// For a program that we have not met: only what is common to all.
const UNKNOWN: Dialect = Dialect {
    name: "",
    host_processes: false,
    saver: None,
    launch: &[(&["executable file", "not found"], ExecNotFound)],
    gone: &[(&["no such process"], ()), (&["does not exist"], ())],
};

const ALL: &[&Dialect] = &[&RUNC, &CRUN, &RUNSC];

impl Dialect {
    /// The table for a program that calls itself `name`.
    pub(crate) fn of(name: &str) -> &'static Self {
        ALL.iter().find(|dialect| dialect.name == name).copied().unwrap_or(&UNKNOWN)
    }

    /// What a message of create, start or exec means.
    pub(crate) fn refusal(&self, message: &str) -> Rejection {
        first_match(self.launch, message).unwrap_or(Rejection::Other)
    }

    /// Whether a message of kill, delete, pause or resume says that there is nothing to act on.
    pub(crate) fn says_gone(&self, message: &str) -> bool {
        first_match(self.gone, message).is_some()
    }
}

fn first_match<T: Copy>(rows: &[Row<T>], message: &str) -> Option<T> {
    let lower = message.to_lowercase();
    let fits = |fragments: &[&str]| {
        let mut rest = lower.as_str();
        fragments.iter().all(|fragment| match rest.split_once(fragment) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    };
    rows.iter().find(|(fragments, _)| fits(fragments)).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the programs really said, as recorded from runc 1.1.5 and crun 1.8.1.
    const LAUNCH: &[(&str, &str, Rejection)] = &[
        (
            "runc",
            "runc create failed: unable to start container process: exec: \"/nope\": stat /nope: no such file or directory",
            ExecNotFound,
        ),
        (
            "runc",
            "runc create failed: unable to start container process: exec: \"nope\": executable file not found in $PATH",
            ExecNotFound,
        ),
        (
            "runc",
            "exec failed: unable to start container process: exec: \"/bin\": permission denied",
            ExecPermission,
        ),
        (
            "runc",
            "runc create failed: invalid rootfs: stat /x/rootfs: no such file or directory",
            Rejection::Other,
        ),
        ("crun", "executable file `/nope` not found in $PATH: No such file or directory", ExecNotFound),
        ("crun", "open executable: Operation not permitted", ExecPermission),
        ("crun", "open executable: Permission denied", ExecPermission),
        ("crun", "cannot chdir: No such file or directory", Rejection::Other),
    ];

    const GONE: &[(&str, &str, bool)] = &[
        ("runc", "container does not exist", true),
        ("runc", "container not running", true),
        ("runc", "container not paused", false),
        ("crun", "error opening file `/run/x/nope/status`: No such file or directory", true),
        ("crun", "cannot open directory `/run/x/nope`: No such file or directory", true),
        ("crun", "open pidfd: No such process", true),
        ("crun", "the container `x` is paused", false),
    ];

    #[test]
    fn recorded_messages_have_their_meaning() {
        for (name, message, class) in LAUNCH {
            assert_eq!(Dialect::of(name).refusal(message), *class, "{name}: {message}");
        }
        for (name, message, gone) in GONE {
            assert_eq!(Dialect::of(name).says_gone(message), *gone, "{name}: {message}");
        }
    }

    #[test]
    fn an_unknown_program_gets_the_common_table() {
        assert_eq!(Dialect::of("nobody"), &UNKNOWN);
    }
}
