//! What a newcomer meets who takes configuration that is good, adds a handler to it, and gets something wrong: each message
//! names the file, the line, what is there, and what would be right.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::invoke::{Answer, Place};

/// One slip.
struct Slip {
    what: &'static str,
    /// The drop-in.
    text: &'static str,
    host: bool,
    code: i32,
    /// What the message says; `FILE` is the drop-in.
    told: &'static [&'static str],
}

const fn slip(what: &'static str, text: &'static str, code: i32, told: &'static [&'static str]) -> Slip {
    Slip { what, text, host: false, code, told }
}

/// The same, on a host that is asked what it has.
const fn missing(what: &'static str, text: &'static str, code: i32, told: &'static [&'static str]) -> Slip {
    Slip { what, text, host: true, code, told }
}

const CRIO: &[Slip] = &[
    slip(
        "a typo in a key",
        "[crio.runtime.runtimes.mine]\nruntime_pth = '/bin/sh'\n",
        0,
        &[
            "FILE:2 [crio.runtime.runtimes.mine]",
            "unknown key \"runtime_pth\"",
            "did you mean \"runtime_path\"?",
        ],
    ),
    slip(
        "a value of the wrong type",
        "[crio.runtime.runtimes.mine]\nruntime_path = '/bin/sh'\ncontainer_create_timeout = '5m'\n",
        1,
        &["FILE:3 [crio", "\"container_create_timeout\" must be an integer, but there is the string \"5m\""],
    ),
    slip(
        "a type that is none",
        "[crio.runtime.runtimes.mine]\nruntime_path = '/bin/sh'\nruntime_type = 'ocii'\n",
        0,
        &[
            "FILE:3 [crio",
            "\"mine\" is unavailable",
            "runtime_type \"ocii\" is none of",
            "did you mean \"oci\"?",
        ],
    ),
    slip(
        "a relative path",
        "[crio.runtime.runtimes.mine]\nruntime_path = 'bin/sh'\n",
        0,
        &[
            "FILE:2 [crio",
            "runtime_path \"bin/sh\" is not absolute; leave it out to have \"mine\" looked up on PATH",
        ],
    ),
    missing(
        "a binary that is not there",
        "[crio.runtime]\ndefault_runtime = 'mine'\n[crio.runtime.runtimes.mine]\nruntime_path = '/usr/bin/rnuc'\n",
        1,
        &["FILE:4 [crio", "the handler \"mine\" is unavailable: no executable /usr/bin/rnuc"],
    ),
    slip(
        "a handler twice",
        "[crio.runtime.runtimes.mine]\nruntime_path = '/bin/sh'\n[crio.runtime.runtimes.mine]\nruntime_path = '/x'\n",
        1,
        &["FILE:3:", "broken TOML: duplicate key \"mine\": it stands in line 1 already; make one of both"],
    ),
    slip(
        "a string without quotes",
        "[crio.runtime.runtimes.mine]\nruntime_path = /bin/sh\n",
        1,
        &["FILE:2:", "string values must be quoted", "in the line of \"runtime_path\""],
    ),
    slip(
        "a table without its end",
        "[crio.runtime.runtimes.mine\nruntime_path = '/bin/sh'\n",
        1,
        &["FILE:1:", "unclosed table, expected `]`", "in the line of \"[crio.runtime.runtimes.mine\""],
    ),
    slip(
        "an annotation that nobody knows",
        "[crio.runtime.runtimes.mine]\nruntime_path = '/bin/sh'\nallowed_annotations = ['io.kubernetes.cri-o.Device']\n",
        0,
        &[
            "FILE:3 [crio",
            "\"io.kubernetes.cri-o.Device\" is none of",
            "did you mean \"io.kubernetes.cri-o.Devices\"?",
        ],
    ),
    slip(
        "a table in the wrong place",
        "[crio.runtimes.mine]\nruntime_path = '/bin/sh'\n",
        0,
        &[
            "FILE:1 [crio]",
            "\"runtimes\" has no effect here: handlers are read from [crio.runtime.runtimes.NAME]",
        ],
    ),
    slip(
        "a path where a table should be",
        "[crio.runtime.runtimes]\nmine = '/bin/sh'\n",
        1,
        &["FILE:2 [crio", "\"mine\" must be a table, [crio.runtime.runtimes.mine]", "the string \"/bin/sh\""],
    ),
    slip(
        "a default that is not there",
        "[crio.runtime]\ndefault_runtime = 'mina'\n[crio.runtime.runtimes.mine]\nruntime_path = '/bin/sh'\n",
        1,
        &[
            "FILE:2 [crio.runtime]",
            "\"default_runtime\" is \"mina\", but there is no table",
            "did you mean \"mine\"?",
        ],
    ),
    slip(
        "a default that cannot be used",
        "[crio.runtime]\ndefault_runtime = 'mine'\n[crio.runtime.runtimes.mine]\nruntime_type = 'vmm'\n",
        1,
        &[
            "FILE:4 [crio",
            "the default handler \"mine\": runtime_type \"vmm\" is none of",
            "did you mean \"vm\"?",
        ],
    ),
    slip(
        "a memory size that is none",
        "[crio.runtime.runtimes.mine]\nruntime_path = '/bin/sh'\ncontainer_min_memory = '12 megs'\n",
        0,
        &[
            "FILE:3 [crio",
            "container_min_memory \"12 megs\" is no size such as \"12MiB\"; CRI-O takes 12 MiB",
        ],
    ),
    slip(
        "a runtime where a shim is wanted",
        "[crio.runtime.runtimes.mine]\nruntime_type = 'vm'\nruntime_path = '/usr/bin/kata-runtime'\n",
        0,
        &["FILE:3 [crio", "\"/usr/bin/kata-runtime\" is no name of a shim", "needs containerd-shim-NAME"],
    ),
    slip(
        "one key of an entry changed",
        "[crio.runtime.runtimes.crun]\nruntime_path = '/bin/sh'\n",
        0,
        &["FILE:1 [crio.runtime.runtimes.crun]", "it replaces the whole entry of", "monitor_path", "is gone"],
    ),
    slip(
        "a name that no handler can have",
        "[crio.runtime.runtimes.'my handler']\nruntime_path = '/bin/sh'\n",
        0,
        &["FILE:1 [crio", "this handler is left out", "\"my handler\" must start with a letter or digit"],
    ),
    slip(
        "the table of another program",
        "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\nruntime_type = 'io.containerd.runc.v2'\n",
        0,
        &["FILE:1 [top level]", "table \"plugins\" has no effect here: it is for containerd"],
    ),
    slip(
        "a key that its backend does not accept",
        "[crio.runtime.runtimes.mine]\nruntime_type = 'vm'\nruntime_path = '/bin/containerd-shim-x'\nruntime_pull_image = true\n",
        0,
        &[
            "FILE:4 [crio",
            "the handler \"mine\" is unavailable",
            "(pull_image_in_guest is called runtime_pull_image there)",
        ],
    ),
];

const CONTAINERD: &[Slip] = &[
    slip(
        "a typo in a key",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\nruntime_typ = 'io.containerd.runc.v2'\n",
        0,
        &[
            "FILE:3 [plugins",
            "unknown key \"runtime_typ\"",
            "did you mean \"runtime_type\"?",
            "such as runtime_type =",
        ],
    ),
    slip(
        "a typo in an option",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]\nBinaryNam = '/bin/sh'\n",
        0,
        &["FILE:3 [plugins", "unknown key \"BinaryNam\"", "did you mean \"BinaryName\"?"],
    ),
    slip(
        "a value of the wrong type",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\nruntime_type = 1\n",
        1,
        &["FILE:3 [plugins", "key \"runtime_type\" must be a string, but there is the integer 1"],
    ),
    slip(
        "an option of the wrong type",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\nruntime_type = 'io.containerd.runc.v2'\n\
         options = { SystemdCgroup = 'true' }\n",
        0,
        &["FILE:4 [plugins", "key \"SystemdCgroup\" must be a boolean, but there is the string \"true\""],
    ),
    slip(
        "a type that is none",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\nruntime_type = 'runc'\n",
        0,
        &["FILE:3 [plugins", "runtime_type \"runc\" is no type", "did you mean \"io.containerd.runc.v2\"?"],
    ),
    slip(
        "a relative path",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\nruntime_type = 'io.containerd.runc.v2'\n\
         options = { BinaryName = 'bin/sh' }\n",
        0,
        &["FILE:4 [plugins", "BinaryName \"bin/sh\" is neither absolute nor a name for PATH"],
    ),
    missing(
        "a binary that is not there",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'mine'\n\
         runtimes.mine = { runtime_type = 'io.containerd.runc.v2', options = { BinaryName = '/usr/bin/rnuc' } }\n",
        1,
        &["FILE:4 [plugins", "the handler \"mine\" is unavailable: no executable /usr/bin/rnuc"],
    ),
    missing(
        "a shim that is not there",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'mine'\n\
         runtimes.mine = { runtime_type = 'io.containerd.none.v9' }\n",
        1,
        &["FILE:4 [plugins", "no executable containerd-shim-none-v9"],
    ),
    slip(
        "a handler twice",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\nruntime_type = 'io.containerd.runc.v2'\n\
         [plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\n",
        1,
        &["FILE:4:", "duplicate key \"mine\": it stands in line 2 already"],
    ),
    slip(
        "a colon",
        "version = 2\n[plugins]\nruntime_type: x\n",
        1,
        &["FILE:3:", "key with no value, expected `=`"],
    ),
    slip(
        "a version that is too high",
        "version = 3\n",
        1,
        &[
            "FILE:1 [top level]",
            "\"version\" is 3, which is higher than that of the first file, 2",
            "write version = 2",
        ],
    ),
    slip(
        "a version that is no number",
        "version = 'two'\n",
        1,
        &["FILE:1 [top level]", "key \"version\" must be an integer, but there is the string \"two\""],
    ),
    slip(
        "the name of an older version",
        "version = 2\n[plugins.cri.containerd.runtimes.mine]\nruntime_type = 'io.containerd.runc.v2'\n",
        0,
        &[
            "FILE:2 [plugins]",
            "\"cri\" is not read: in version 2 the table is called plugins.\"io.containerd.grpc.v1.cri\"",
        ],
    ),
    slip(
        "a plugin's name without quotes",
        "version = 2\n[plugins.io.containerd.grpc.v1.cri.containerd.runtimes.mine]\nruntime_type = 'io.containerd.runc.v2'\n",
        0,
        &["FILE:2 [plugins]", "its dots need quotes: [plugins.\"io.containerd.grpc.v1.cri\".containerd]"],
    ),
    slip(
        "an option outside its table",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nBinaryName = '/bin/sh'\n",
        0,
        &[
            "FILE:3 [plugins",
            "key \"BinaryName\" has no effect here: it is an option, and belongs into the table options",
        ],
    ),
    slip(
        "options alone",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine.options]\nBinaryName = '/bin/sh'\n",
        0,
        &["FILE:2 [plugins", "\"mine\" is unavailable: the key \"runtime_type\" is missing (such as"],
    ),
    slip(
        "a default that is not there",
        "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'runcc'\n",
        1,
        &["FILE:3 [plugins", "\"default_runtime_name\" is \"runcc\"", "did you mean \"runc\"?"],
    ),
    slip(
        "the table of another program",
        "version = 2\n[crio.runtime.runtimes.mine]\nruntime_path = '/bin/sh'\n",
        0,
        &["FILE:2 [top level]", "table \"crio\" has no effect here: it is for CRI-O"],
    ),
];

/// The directory of a good configuration, and its drop-in.
struct Config {
    place: Place,
    dialect: &'static str,
}

impl Config {
    fn new(dialect: &'static str, case: &str) -> Self {
        let place = Place::new();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime-handlers/tests/dialects");
        let file = if dialect == "crio" { "crio.conf" } else { "config.toml" };
        let mut text = std::fs::read_to_string(from.join(case).join("in").join(file)).unwrap();
        if dialect == "crio" {
            std::fs::create_dir(place.path("crio.conf.d")).unwrap();
        } else {
            assert!(text.contains("imports = []\n"), "{case} has changed its shape");
            text = text.replace("imports = []\n", "imports = ['conf.d/*.toml']\n");
            std::fs::create_dir(place.path("conf.d")).unwrap();
        }
        place.write(file, &text);
        Self { place, dialect }
    }

    fn drop_in(&self) -> std::path::PathBuf {
        self.place.path(if self.dialect == "crio" { "crio.conf.d/50-mine.conf" } else { "conf.d/mine.toml" })
    }

    fn check(&self, more: &[&str]) -> Answer {
        let (option, path) = (format!("--{}", self.dialect), self.place.text(""));
        let args = ["handlers", "check", &option, &path];
        self.place.call(&args.iter().chain(more).copied().collect::<Vec<_>>())
    }

    fn assert_tells(&self, what: &str, answer: &Answer, code: i32, told: &[&str]) {
        let all = format!("{}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.code, code, "{}: {what}:\n{all}", self.dialect);
        let file = self.drop_in().display().to_string();
        for words in told {
            let words = words.replace("FILE", &file);
            assert!(all.contains(&words), "{}: {what}: {words:?} is not in\n{all}", self.dialect);
        }
        // One line for each message, or a log would tear it apart.
        assert!(answer.stderr.lines().count() <= 1, "{what}:\n{}", answer.stderr);
    }
}

fn try_all(config: &Config, slips: &[Slip]) {
    // What is added is good without the slip, or the slip would not be what is told.
    let good = match config.dialect {
        "crio" => "[crio.runtime.runtimes.mine]\nruntime_path = '/bin/sh'\n",
        _ => {
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\n\
             runtime_type = 'io.containerd.runc.v2'\noptions = { BinaryName = '/bin/sh' }\n"
        }
    };
    std::fs::write(config.drop_in(), good).unwrap();
    let answer = config.check(&[]);
    let file = config.drop_in().display().to_string();
    let of_file = answer.stdout.lines().filter(|line| line.starts_with("note: ") && line.contains(&file));
    assert!(answer.code == 0 && of_file.count() == 0, "{answer:?}");
    for slip in slips {
        std::fs::write(config.drop_in(), slip.text).unwrap();
        let answer = config.check(if slip.host { &["--host"] } else { &[] });
        config.assert_tells(slip.what, &answer, slip.code, slip.told);
    }
}

/// What is wrong with the file itself; these end with the code of a file that cannot be read.
fn try_files(config: &Config) {
    let file = config.drop_in();
    std::fs::write(&file, b"# one\n# two \xff\xfe\n").unwrap();
    let told = ["FILE: it is not text in UTF-8: line 2 has bytes that are none"];
    config.assert_tells("a file that is no text", &config.check(&[]), 2, &told);
    std::fs::remove_file(&file).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(fifo.success());
    config.assert_tells("a pipe", &config.check(&[]), 2, &["FILE: it is no"]);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_handler_is_added_to_the_documented_table_of_cri_o_with_slips() {
    let config = Config::new("crio", "crio/every-key");
    try_all(&config, CRIO);
    try_files(&config);
    symlink("/no/such/file", config.drop_in()).unwrap();
    let told = ["FILE: not found", "it is a link to /no/such/file, which is not there"];
    config.assert_tells("a link to nothing", &config.check(&[]), 2, &told);
}

#[test]
fn a_handler_is_added_to_the_defaults_of_containerd_with_slips() {
    let config = Config::new("containerd", "containerd/default-1.6");
    try_all(&config, CONTAINERD);
    try_files(&config);
    let main = config.place.path("config.toml");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, text.replace("conf.d/*.toml", "conf.d/mine.toml")).unwrap();
    let told = ["FILE: not found", "the key \"imports\" of ", "config.toml names it"];
    config.assert_tells("an import that is not there", &config.check(&[]), 2, &told);
}

/// The same names in the newest version, whose tables are called otherwise.
#[test]
fn a_handler_is_added_to_the_defaults_of_containerd_2_with_slips() {
    let config = Config::new("containerd", "containerd/default-2.0");
    let table = "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.mine]\n";
    for (what, text, told) in [
        (
            "the name of an older version",
            "version = 3\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.mine]\n".to_owned(),
            "FILE:2 [plugins]: key \"io.containerd.grpc.v1.cri\" is not read: in version 3 the table is called",
        ),
        (
            "a relative path of a shim",
            format!(
                "version = 3\n{table}runtime_type = 'io.containerd.kata.v2'\nruntime_path = 'bin/shim'\n"
            ),
            "runtime_path \"bin/shim\" is not absolute",
        ),
        (
            "a sandboxer that is none",
            format!("version = 3\n{table}runtime_type = 'io.containerd.kata.v2'\nsandboxer = 'podsanbox'\n"),
            "did you mean \"podsandbox\"?",
        ),
        (
            "a plugin's name without quotes",
            "version = 3\n[plugins.io.containerd.cri.v1.runtime.containerd]\n".to_owned(),
            "its dots need quotes: [plugins.\"io.containerd.cri.v1.runtime\".containerd]",
        ),
    ] {
        std::fs::write(config.drop_in(), text).unwrap();
        config.assert_tells(what, &config.check(&[]), 0, &[told, "FILE:"]);
    }
}
