//! What differs between command lines, as data: one table per program, with the same fields in the same order.
//!
//! Which table applies is decided by what the binary says of itself (`--version`), never by its file name. Meaning is
//! never recovered from message text elsewhere; the patterns here are the one exception, and each has a recorded sample
//! in the tests.

use serde::{Deserialize, Serialize};

use runtime_api::Rejection;

/// One row: fragments that a message holds, in this order and in any letter case, and what such a message means.
type Row<T> = (&'static [&'static str], T);

/// How what runs in a container is reached from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reach {
    /// Its processes are processes of the host: signals go to their pids, the kernel freezes them, and what the init
    /// runs tells whether it was started.
    #[default]
    Host,
    /// The host sees one process, the sandbox, which ends with the container. All else goes through the runtime.
    Runtime,
}

/// What a runtime keeps of a container in its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateFiles {
    /// A directory with the container's id.
    Directory,
    /// Files whose names begin with the id and `before`; the one that ends in `document` is JSON, and without it the
    /// container is unknown. Verbs take the beginning of an id too, and would then hit another container.
    Files { before: &'static str, document: &'static str },
}

/// One program's table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// The first word of `--version`.
    pub(crate) name: &'static str,
    /// Who saves a container when it is checkpointed, where that is known.
    pub(crate) saver: Option<Saver>,
    /// How what runs in a container is reached.
    pub(crate) reach: Reach,
    /// How the runtime keeps what it knows of a container.
    pub(crate) state: StateFiles,
    /// The argument before the verb for a container whose network namespace is new and empty, where the runtime's own
    /// default does not do. It must give what such a namespace has: a loopback device and nothing else.
    pub(crate) empty_network: Option<&'static str>,
    /// The greatest signal that its `kill` takes.
    pub(crate) last_signal: i32,
    /// Whether its `kill` takes a created container.
    pub(crate) kills_created: bool,
    /// Whether its `kill` takes a paused container, for which the signal then stays pending.
    pub(crate) kills_paused: bool,
    /// Whether its `exec` takes `--tty`, which conmon gives it for a session that has a terminal.
    pub(crate) execs_take_tty: bool,
    /// Messages of create, start and exec. The first row that fits counts.
    launch: &'static [Row<Rejection>],
    /// Messages of kill, delete, pause and resume that say there is nothing to act on.
    gone: &'static [Row<()>],
    /// Messages of any command that say that the program failed before it did anything: the same command may be repeated.
    untouched: &'static [Row<()>],
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
    saver: Some(Saver::Criu),
    reach: Reach::Host,
    state: StateFiles::Directory,
    empty_network: None,
    last_signal: 64,
    kills_created: true,
    kills_paused: true,
    execs_take_tty: true,
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
    untouched: &[],
};

const CRUN: Dialect = Dialect {
    name: "crun",
    saver: Some(Saver::Criu),
    reach: Reach::Host,
    state: StateFiles::Directory,
    empty_network: None,
    last_signal: 64,
    kills_created: true,
    kills_paused: true,
    execs_take_tty: true,
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
    untouched: &[],
};

const YOUKI: Dialect = Dialect {
    name: "youki",
    saver: None,
    reach: Reach::Host,
    state: StateFiles::Directory,
    empty_network: None,
    last_signal: 64,
    kills_created: true,
    kills_paused: true,
    execs_take_tty: true,
    launch: &[
        (&["/proc/", "/attr/"], SecurityAttribute),
        (&["executable '", "not found in $path"], ExecNotFound),
        (&["executable '", "does not have correct permissions"], ExecPermission),
    ],
    gone: &[
        (&["container ", " does not exist"], ()),
        (&["container state directory does not exist"], ()),
        (&["no such process"], ()),
        (&["incompatible container status: `stopped`"], ()),
    ],
    // It copies itself into a sealed memory file first of all, which the kernel refuses while a page of that is in use.
    untouched: &[(&["failed to seal /proc/self/exe", "resource busy"], ())],
};

const RUNSC: Dialect = Dialect {
    name: "runsc",
    saver: Some(Saver::Itself),
    reach: Reach::Runtime,
    state: StateFiles::Files { before: "_sandbox:", document: ".state" },
    // Its default copies the devices of the namespace into its own network stack, and older versions take every
    // namespace of a newer kernel for that of the host and refuse.
    empty_network: Some("--network=none"),
    last_signal: 31,
    kills_created: false,
    kills_paused: false,
    execs_take_tty: false,
    launch: &[
        (&["error finding executable"], ExecNotFound),
        (&["failed to load", "no such file or directory"], ExecNotFound),
        (&["failed to load", "permission denied"], ExecPermission),
    ],
    gone: &[
        (&["loading container: file does not exist"], ()),
        (&["in state stopped"], ()),
        (&["connecting to control server at pid", "connection refused"], ()),
        (&["sandbox is not running"], ()),
        (&["no such process"], ()),
    ],
    untouched: &[],
};

/// For a program that we have not met: only what is common to all.
const UNKNOWN: Dialect = Dialect {
    name: "",
    saver: None,
    reach: Reach::Host,
    state: StateFiles::Directory,
    empty_network: None,
    last_signal: 64,
    kills_created: true,
    kills_paused: true,
    execs_take_tty: true,
    launch: &[(&["executable file", "not found"], ExecNotFound)],
    gone: &[(&["no such process"], ()), (&["does not exist"], ())],
    untouched: &[],
};

/// Every program that we have met.
pub(crate) static ALL: [&Dialect; 4] = [&RUNC, &CRUN, &YOUKI, &RUNSC];

impl Dialect {
    /// The table for a program that calls itself `name`.
    pub(crate) fn of(name: &str) -> &'static Self {
        ALL.iter().find(|dialect| dialect.name == name).copied().unwrap_or(&UNKNOWN)
    }

    /// This table alone, in a list; nothing for a program that we have not met.
    pub(crate) fn alone(&self) -> &'static [&'static Self] {
        ALL.iter().find(|dialect| dialect.name == self.name).map_or(&[], std::slice::from_ref)
    }

    /// Whether this is a program that we have met.
    pub(crate) fn is_known(&self) -> bool {
        !self.name.is_empty()
    }

    /// The argument for a new and empty network, unless the handler's own arguments say something of the network.
    pub(crate) fn network_argument(&self, handler_args: &[String]) -> Option<&'static str> {
        let argument = self.empty_network?;
        let flag = argument.trim_start_matches('-').split('=').next()?;
        let says = |arg: &String| arg.trim_start_matches('-').split('=').next() == Some(flag);
        (!handler_args.iter().any(says)).then_some(argument)
    }

    /// Whether a file in the runtime's root is of the container `id`.
    pub(crate) fn is_state_of(&self, id: &str, file: &str) -> bool {
        file.strip_prefix(id).is_some_and(|rest| match self.state {
            StateFiles::Directory => rest.is_empty(),
            StateFiles::Files { before, .. } => rest.starts_with(before),
        })
    }

    /// What a message of create, start or exec means.
    pub(crate) fn refusal(&self, message: &str) -> Rejection {
        first_match(self.launch, message).unwrap_or(Rejection::Other)
    }

    /// Whether a message of kill, delete, pause or resume says that there is nothing to act on.
    pub(crate) fn says_gone(&self, message: &str) -> bool {
        first_match(self.gone, message).is_some()
    }

    /// Whether the program is known to fail at times before it does anything.
    pub(crate) fn may_do_nothing(&self) -> bool {
        !self.untouched.is_empty()
    }

    /// Whether a message of any command says that the program failed before it did anything.
    pub(crate) fn says_untouched(&self, message: &str) -> bool {
        first_match(self.untouched, message).is_some()
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

    /// What the programs really said, as recorded from runc 1.1.5, crun 1.8.1, youki 0.7.0 and runsc 20221219.
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
        (
            "youki",
            "error in executing command: failed to create container: exec process failed with error error in executing process : executable '/nope' not found in $PATH",
            ExecNotFound,
        ),
        (
            "youki",
            "error in executing command: failed to create container: exec process failed with error error in executing process : executable '/tmp' at path '\"/tmp\"' does not have correct permissions",
            ExecPermission,
        ),
        (
            "youki",
            "error in executing command: failed to create container: exec process failed with error error in executing process : failed to prepare rootfs",
            Rejection::Other,
        ),
        (
            "runsc",
            "starting container: starting root container: starting sandbox: creating process: failed to load /nope: no such file or directory",
            ExecNotFound,
        ),
        (
            "runsc",
            "executing processes for container: executing command \"nope\" in sandbox: error finding executable \"nope\" in PATH [/bin]: no such file or directory",
            ExecNotFound,
        ),
        (
            "runsc",
            "executing processes for container: executing command \"/tmp\" in sandbox: failed to load /tmp: permission denied",
            ExecPermission,
        ),
        (
            "runsc",
            "executing processes for container: executing command \"/x\" in sandbox: failed to find initial working directory \"/no/dir\": no such file or directory",
            Rejection::Other,
        ),
    ];

    const GONE: &[(&str, &str, bool)] = &[
        ("runc", "container does not exist", true),
        ("runc", "container not running", true),
        ("runc", "container not paused", false),
        ("crun", "error opening file `/run/x/nope/status`: No such file or directory", true),
        ("crun", "cannot open directory `/run/x/nope`: No such file or directory", true),
        ("crun", "open pidfd: No such process", true),
        ("crun", "the container `x` is paused", false),
        ("youki", "error in executing command: container y1 does not exist.", true),
        ("youki", "error in executing command: container state directory does not exist", true),
        ("youki", "failed operation due to incompatible container status: `Running`", false),
        ("runsc", "loading container: file does not exist", true),
        ("runsc", "pause failed: cannot pause container \"c1\" in state stopped", true),
        ("runsc", "connecting to control server at PID 20354: connection refused", true),
        (
            "runsc",
            "failed to signal pid 99: signaling container \"c1\" PID 99: signaling process in container \"c1\" PID 99: no such process with PID 99",
            true,
        ),
        ("runsc", "cannot signal container \"c1\" in state paused", false),
    ];

    const UNTOUCHED: &[(&str, &str, bool)] = &[
        ("youki", "Error: failed to seal /proc/self/exe: Device or resource busy (os error 16)", true),
        (
            "youki",
            "Error: failed to seal /proc/self/exe\n\nCaused by:\n    Device or resource busy (os error 16)\n",
            true,
        ),
        ("youki", "Error: failed to seal /proc/self/exe: Operation not permitted (os error 1)", false),
        ("youki", "error in executing command: Device or resource busy (os error 16)", false),
        ("runc", "failed to seal /proc/self/exe: device or resource busy", false),
    ];

    #[test]
    fn recorded_messages_have_their_meaning() {
        for (name, message, class) in LAUNCH {
            assert_eq!(Dialect::of(name).refusal(message), *class, "{name}: {message}");
        }
        for (name, message, gone) in GONE {
            assert_eq!(Dialect::of(name).says_gone(message), *gone, "{name}: {message}");
        }
        for (name, message, untouched) in UNTOUCHED {
            assert_eq!(Dialect::of(name).says_untouched(message), *untouched, "{name}: {message}");
        }
    }

    #[test]
    fn the_network_is_the_handlers_affair_where_it_says_so() {
        let args = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        assert_eq!(RUNSC.network_argument(&args("--platform=ptrace")), Some("--network=none"));
        for said in ["--network=host", "-network=sandbox", "--network host"] {
            assert_eq!(RUNSC.network_argument(&args(said)), None, "{said}");
        }
        assert_eq!(RUNC.network_argument(&[]), None);
    }

    #[test]
    fn the_files_of_a_container_are_told_from_those_of_another() {
        assert!(RUNC.is_state_of("a", "a") && !RUNC.is_state_of("a", "a.b") && !RUNC.is_state_of("a", "b"));
        assert!(RUNSC.is_state_of("a", "a_sandbox:a.state") && RUNSC.is_state_of("a", "a_sandbox:b.lock"));
        assert!(
            !RUNSC.is_state_of("a", "a_b_sandbox:a_b.state") && !RUNSC.is_state_of("a", "b_sandbox:a.state")
        );
    }

    #[test]
    fn an_unknown_program_gets_the_common_table() {
        assert_eq!(Dialect::of("nobody"), &UNKNOWN);
    }
}
