//! Reads bundles: what is to be run, and whether it is there and can be played.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Spec;
use runtime_api::{Error, ErrorKind, ProcessRequest, Rejection, Result};

use crate::probe;

use super::model::{Limits, Program, Who};

/// What a bundle says, as far as the model listens.
#[derive(Clone, Debug)]
pub struct BundleSpec {
    /// What it runs.
    pub program: Program,
    /// The root file system.
    pub rootfs: PathBuf,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// What it may use.
    pub limits: Limits,
    /// Whether the program has a terminal.
    pub terminal: bool,
}

impl BundleSpec {
    /// Stands for a bundle that could not be read, where a defect wants none to be refused.
    pub(super) fn nothing() -> Self {
        let program = Program {
            argv: vec![probe::PATH.to_owned()],
            env: Vec::new(),
            cwd: "/".into(),
            who: Who::default(),
        };
        let limits = Limits::default();
        Self { program, rootfs: PathBuf::new(), annotations: BTreeMap::new(), limits, terminal: false }
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// `ConfigInvalid`, which names the file and what is wrong with it; `Rejected` for what is not modelled.
    pub fn read(bundle: &Path) -> Result<Self> {
        let path = bundle.join("config.json");
        let invalid = |why: String| Error::new(ErrorKind::ConfigInvalid(why)).on(path.display());
        let text = fs::read(&path).map_err(|error| {
            invalid("it cannot be read".to_owned())
                .hint("a bundle is a directory with a config.json and a root file system")
                .caused_by(error)
        })?;
        let value: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|error| invalid("it is not JSON".to_owned()).caused_by(error))?;
        if !value["ociVersion"].is_string() {
            return Err(invalid("it is no OCI spec: ociVersion is missing".to_owned()));
        }
        let spec: Spec = serde_json::from_value(value)
            .map_err(|error| invalid("it is no OCI spec".to_owned()).caused_by(error))?;
        let process = spec.process().as_ref().ok_or_else(|| invalid("process is missing".to_owned()))?;
        let program = program_of(process);
        if program.argv.is_empty() {
            return Err(invalid("process.args is empty".to_owned()));
        }
        let root = spec.root().as_ref().ok_or_else(|| invalid("root is missing".to_owned()))?;
        let rootfs = bundle.join(root.path());
        if !rootfs.is_dir() {
            return Err(invalid(format!("root.path: {} is no directory", rootfs.display())));
        }
        let annotations = spec.annotations().clone().unwrap_or_default().into_iter().collect();
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let limits = resources.map(Limits::of).unwrap_or_default();
        let terminal = process.terminal().unwrap_or(false);
        Ok(Self { program, rootfs, annotations, limits, terminal })
    }
}

/// Reads an OCI process document, which an exec is told by where its runtime is a process of its own.
///
/// # Errors
/// `InvalidArgument` for what is none, and where there is nothing to run.
pub fn read_process(document: &[u8]) -> Result<Program> {
    let invalid = |why: &str| Error::new(ErrorKind::InvalidArgument(why.to_owned()));
    let process: oci_spec::runtime::Process =
        serde_json::from_slice(document).map_err(|error| invalid("it is no OCI process").caused_by(error))?;
    let program = program_of(&process);
    if program.argv.is_empty() { Err(invalid("process.args is empty")) } else { Ok(program) }
}

fn program_of(process: &oci_spec::runtime::Process) -> Program {
    Program {
        argv: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().clone(),
        who: who(process),
    }
}

/// Whose the process of a spec is.
fn who(process: &oci_spec::runtime::Process) -> Who {
    let set = |names: Option<&std::collections::HashSet<oci_spec::runtime::Capability>>| {
        let text = |name| serde_json::to_value(name).ok().and_then(|name| name.as_str().and_then(bit));
        names.into_iter().flatten().filter_map(text).sum()
    };
    let capabilities = process.capabilities().as_ref();
    let user = process.user();
    Who {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        effective: set(capabilities.and_then(|all| all.effective().as_ref())),
        bounding: set(capabilities.and_then(|all| all.bounding().as_ref())),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
    }
}

/// The bit of a capability.
fn bit(name: &str) -> Option<u64> {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    KERNEL.iter().position(|each| *each == name).map(|nth| 1 << nth)
}

/// The kernel's capabilities, by number.
#[rustfmt::skip]
const KERNEL: &[&str] = &[
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

/// The program of an exec: what the request leaves open comes from the container.
///
/// # Errors
/// `Rejected` for settings that are not modelled.
pub(super) fn for_exec(container: &Program, request: ProcessRequest) -> Result<Program> {
    let mut who = container.who.clone();
    if let Some((uid, gid)) = request.user {
        who = Who { uid, gid, groups: Vec::new(), ..who };
    }
    if request.user.is_some() || !request.groups.is_empty() {
        who.groups = request.groups;
    }
    if let Some(names) = &request.capabilities {
        let set = names.iter().map(|name| bit(name)).sum::<Option<u64>>();
        let unknown = || {
            Error::new(ErrorKind::Rejected {
                class: Rejection::Other,
                message: format!("unknown capabilities among {names:?}"),
            })
        };
        who.effective = set.ok_or_else(unknown)?;
        who.bounding = who.effective;
    }
    let mut env = container.env.clone();
    env.extend(request.env);
    Ok(Program { argv: request.argv, env, cwd: request.cwd.unwrap_or_else(|| container.cwd.clone()), who })
}

/// Checks that a program is there and is one that can be played.
///
/// # Errors
/// `Rejected`.
pub fn check(rootfs: &Path, program: &Program) -> Result<()> {
    let rejected = |class, message: String| Err(Error::new(ErrorKind::Rejected { class, message }));
    let name = &program.argv[0];
    let Some(path) = find(rootfs, program) else {
        return rejected(
            Rejection::ExecNotFound,
            format!("program \"{name}\" does not exist in the container"),
        );
    };
    if !inside(rootfs, &program.cwd).is_dir() {
        let cwd = program.cwd.display();
        return rejected(
            Rejection::Other,
            format!("working directory \"{cwd}\" does not exist in the container"),
        );
    }
    if fs::metadata(&path).is_ok_and(|file| file.is_dir() || file.permissions().mode() & 0o111 == 0) {
        return rejected(Rejection::ExecPermission, format!("program \"{name}\" is not executable"));
    }
    let same_size = fs::metadata(&path).is_ok_and(|file| file.len() == probe::BYTES.len() as u64);
    if same_size && fs::read(&path).is_ok_and(|bytes| bytes == probe::BYTES) {
        return Ok(());
    }
    let message = format!("\"{name}\" is not the probe program, and the fake runtime models no other");
    rejected(Rejection::Other, message)
}

fn find(rootfs: &Path, program: &Program) -> Option<PathBuf> {
    let name = Path::new(&program.argv[0]);
    let exists = |path: PathBuf| path.symlink_metadata().is_ok().then_some(path);
    if program.argv[0].is_empty() {
        return None;
    }
    if program.argv[0].contains('/') {
        return exists(inside(rootfs, &program.cwd.join(name)));
    }
    let path = program.env.iter().rev().find_map(|pair| pair.strip_prefix("PATH="))?;
    path.split(':').find_map(|dir| exists(inside(rootfs, &Path::new(dir).join(name))))
}

/// A container's path as a path of the host; `..` never leaves the root.
fn inside(rootfs: &Path, path: &Path) -> PathBuf {
    let mut host = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => host.push(name),
            Component::ParentDir => {
                host.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    host.into_iter().fold(rootfs.to_owned(), |path, name| path.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BundleOptions, Workload, bundle};

    fn class(result: Result<()>) -> Rejection {
        match result.unwrap_err().kind() {
            ErrorKind::Rejected { class, .. } => *class,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bundle_of_ours_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let options = BundleOptions::new().annotation("a", "b").env("K", "v").cwd("/tmp");
        bundle::write_with(dir.path(), &Workload::says("x"), &options).unwrap();
        let read = BundleSpec::read(dir.path()).unwrap();
        assert_eq!(read.program.argv, Workload::says("x").argv());
        assert_eq!(read.program.cwd, Path::new("/tmp"));
        assert_eq!(read.annotations["a"], "b");
        check(&read.rootfs, &read.program).unwrap();
    }

    #[test]
    fn what_is_wrong_with_a_bundle_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let told = || {
            let error = BundleSpec::read(dir.path()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConfigInvalid(_)), "{error:?}");
            error.to_string()
        };
        assert!(told().ends_with("config.json: it cannot be read"));
        for (text, why) in [
            ("{", "it is not JSON"),
            ("[]", "ociVersion is missing"),
            ("{}", "ociVersion is missing"),
            (r#"{"ociVersion":"1.0.2"}"#, "process is missing"),
            (
                r#"{"ociVersion":"1.0.2","process":{"cwd":"/","user":{"uid":0,"gid":0},"args":[]}}"#,
                "process.args is empty",
            ),
            (r#"{"ociVersion":"1.0.2","process":7}"#, "it is no OCI spec"),
        ] {
            fs::write(dir.path().join("config.json"), text).unwrap();
            assert!(told().contains(why), "{text}: {}", told());
        }
    }

    #[test]
    fn programs_that_cannot_be_played_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        bundle::write(dir.path(), &Workload::forever()).unwrap();
        let spec = BundleSpec::read(dir.path()).unwrap();
        let with = |name: &str| Program { argv: vec![name.to_owned()], ..spec.program.clone() };
        fs::write(spec.rootfs.join("tool"), "x").unwrap();
        assert_eq!(class(check(&spec.rootfs, &with("/nowhere"))), Rejection::ExecNotFound);
        assert_eq!(class(check(&spec.rootfs, &with("nowhere"))), Rejection::ExecNotFound);
        assert_eq!(class(check(&spec.rootfs, &with("/tool"))), Rejection::ExecPermission);
        fs::set_permissions(spec.rootfs.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(class(check(&spec.rootfs, &with("/tool"))), Rejection::Other);
        check(&spec.rootfs, &with("/tmp/../../manyrun-probe")).unwrap();
    }
}
