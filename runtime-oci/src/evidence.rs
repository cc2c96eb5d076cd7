//! What the binaries say of themselves, asked once and kept for as long as nothing that was looked at changes.

mod checkpoint;

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use runtime_api::Error;

use crate::command::{CommandLine, Finished};
use crate::complaint::account;
use crate::config::OciConfig;
use crate::dialect::{ALL, Dialect};
use crate::layout::Layout;

pub(crate) use checkpoint::CheckpointFindings;

/// A question to a binary takes milliseconds; a machine under load may take seconds.
const LIMIT: Duration = Duration::from_secs(10);
/// How much of an answer is kept as evidence.
const SHOWN: usize = 200;

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) yes: bool,
    pub(crate) asked: String,
    pub(crate) said: String,
    /// Nobody answered, as on a machine under heavy load. The "no" is for this value alone and is not kept.
    #[serde(skip)]
    pub(crate) unanswered: bool,
}

impl Finding {
    pub(crate) fn new(yes: bool, asked: String, said: impl Into<String>) -> Self {
        Self { yes, asked, said: said.into(), unanswered: false }
    }

    fn unanswered(asked: String, error: &Error) -> Self {
        Self { yes: false, asked, said: shorten(&error.to_string()), unanswered: true }
    }
}

/// Everything that was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// The first word of the runtime's `--version`.
    pub(crate) name: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) monitor_version: Option<String>,
    /// Whether it behaves like an OCI runtime at all: it says which specification it follows, and refuses a verb that no
    /// runtime has.
    pub(crate) is_runtime: Finding,
    /// The runtime's `features` document.
    pub(crate) features: Option<Value>,
    pub(crate) features_asked: Finding,
    pub(crate) json_errors: Finding,
    pub(crate) no_cgroups: Finding,
    /// Whether its exec sends the terminal over a socket.
    pub(crate) exec_console: Finding,
    /// Whether its exec hands on open files.
    pub(crate) exec_descriptors: Finding,
    pub(crate) update: Finding,
    pub(crate) checkpoint: CheckpointFindings,
    pub(crate) preserve_fds: Finding,
    /// The platforms on which it can run a kernel of its own.
    pub(crate) own_kernel: Finding,
}

impl Findings {
    fn all(&self) -> impl Iterator<Item = &Finding> {
        [
            &self.is_runtime,
            &self.features_asked,
            &self.json_errors,
            &self.no_cgroups,
            &self.exec_console,
            &self.exec_descriptors,
            &self.own_kernel,
            &self.update,
            &self.preserve_fds,
        ]
        .into_iter()
        .chain(self.checkpoint.all())
    }
}

/// The file that keeps findings between processes.
#[derive(Serialize, Deserialize)]
struct Kept {
    key: Vec<String>,
    findings: Findings,
}

/// Asks, or takes what an earlier process found if everything it depended on is unchanged.
pub(crate) async fn gather(
    layout: &Layout,
    config: &OciConfig,
    runtime: Option<&Path>,
    monitor: Option<&Path>,
    boot_id: &str,
) -> Findings {
    let key = key(config, runtime, monitor, boot_id);
    let file = layout.capabilities();
    let kept = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    if let Some(kept) = kept.filter(|kept| kept.key == key) {
        return kept.findings;
    }
    let findings = ask(layout, config, runtime, monitor).await;
    let silent = monitor.is_some() && findings.monitor_version.is_none();
    if silent || findings.all().any(|finding| finding.unanswered) {
        // Somebody was there and did not answer. The next one to open it asks again.
        return findings;
    }
    let kept = Kept { key, findings };
    if let Err(error) = keep(&file, &kept) {
        // Only speed is lost.
        tracing::debug!(%error, file = %file.display(), "findings are not kept");
    }
    kept.findings
}

fn keep(file: &Path, kept: &Kept) -> std::io::Result<()> {
    // Another process may be keeping its findings at this moment.
    let fresh = file.with_extension(format!("new.{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    serde_json::to_writer(&mut out, kept)?;
    std::fs::rename(&fresh, file)
}

/// What the answers depend on. An absent file counts too.
fn key(config: &OciConfig, runtime: Option<&Path>, monitor: Option<&Path>, boot_id: &str) -> Vec<String> {
    let mut key = vec![env!("CARGO_PKG_VERSION").to_owned(), boot_id.to_owned()];
    for path in [runtime, monitor] {
        key.push(path.map_or_else(|| "absent".to_owned(), print_of));
    }
    // A runtime that checkpoints by criu looks for it when it is told to, not when it is installed.
    key.extend(
        checkpoint::consulted(config)
            .map(|path| path.map_or_else(|| "absent".to_owned(), |path| print_of(&path))),
    );
    for name in crate::command::PASSED {
        key.push(std::env::var(name).unwrap_or_default());
    }
    key.push(format!("{:?}", config.root));
    key.push(rustix::process::geteuid().as_raw().to_string());
    key.push(cgroup_layout(&std::fs::read_to_string("/proc/cgroups").unwrap_or_default()));
    key.push(format!("{:?} {:?}", config.args, config.env));
    key
}

/// Which controller is on which hierarchy: all but the third column, which counts cgroups and changes all the time.
fn cgroup_layout(table: &str) -> String {
    let row = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    table.lines().map(row).collect::<Vec<_>>().join(",")
}

fn print_of(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(meta) => {
            format!("{} {} {} {}.{}", path.display(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
        }
        Err(error) => format!("{} {error}", path.display()),
    }
}

async fn ask(
    layout: &Layout,
    config: &OciConfig,
    runtime: Option<&Path>,
    monitor: Option<&Path>,
) -> Findings {
    let monitor_version = match monitor {
        Some(path) => name_and_version(&ask_version(path, config).await).1,
        None => None,
    };
    let Some(runtime) = runtime else {
        let missing = || Finding::new(false, String::new(), "the runtime's binary is missing");
        return Findings {
            name: None,
            version: None,
            monitor_version,
            is_runtime: missing(),
            features: None,
            features_asked: missing(),
            json_errors: missing(),
            no_cgroups: missing(),
            exec_console: missing(),
            exec_descriptors: missing(),
            update: missing(),
            checkpoint: CheckpointFindings::nothing(&missing()),
            preserve_fds: missing(),
            own_kernel: missing(),
        };
    };
    // Asked once: whose table is used and whether it is a runtime at all are read from the same answer.
    let said = ask_version(runtime, config).await;
    let (name, version) = name_and_version(&said);
    let dialect = Dialect::of(name.as_deref().unwrap_or_default());
    let ((features, features_asked), checkpoint) =
        tokio::join!(ask_features(runtime, config), Box::pin(checkpoint::ask(runtime, config, dialect)));
    let is_runtime = ask_is_runtime(runtime, config, &said, features.is_some()).await;
    let [exec_console, exec_descriptors] =
        ask_exec(runtime, config, ["console-socket", "preserve-fds"]).await;
    Findings {
        name,
        version,
        monitor_version,
        is_runtime,
        features,
        features_asked,
        json_errors: ask_json_errors(runtime, config, layout).await,
        no_cgroups: ask_no_cgroups(runtime, config, layout).await,
        exec_console,
        exec_descriptors,
        checkpoint,
        update: ask_usage(runtime, config, "update", "--resources").await,
        preserve_fds: ask_usage(runtime, config, "create", "--preserve-fds").await,
        own_kernel: ask_own_kernel(runtime, config).await,
    }
}

fn line(binary: &Path, config: &OciConfig) -> CommandLine {
    // Who it is is not known yet.
    let line = CommandLine::new(binary).speaks(&ALL);
    config.env.iter().fold(line, |line, (name, value)| line.env(name, value))
}

/// What a binary calls itself.
///
/// # Errors
/// When it cannot be run or does not answer.
pub(crate) async fn name_of(binary: &Path, config: &OciConfig) -> Result<Option<String>, Error> {
    Ok(name_and_version(&Ok(ask_version(binary, config).await?)).0)
}

async fn ask_version(binary: &Path, config: &OciConfig) -> Result<Finished, Error> {
    line(binary, config).arg("--version").run(LIMIT).await
}

/// `runc version 1.1.5+ds1` and its like.
fn name_and_version(said: &Result<Finished, Error>) -> (Option<String>, Option<String>) {
    said.as_ref().map_or((None, None), |done| parse_version(&String::from_utf8_lossy(&done.stdout)))
}

fn parse_version(text: &str) -> (Option<String>, Option<String>) {
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.split_whitespace();
    let name = words.next().map(|word| word.trim_end_matches(':').to_owned());
    let version = words.find(|word| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()));
    (name, version.map(str::to_owned))
}

/// A program that says yes to everything, or that names no specification, is no runtime: nothing else that it says would
/// mean anything. All runtimes print a line with `spec` beside their version.
async fn ask_is_runtime(
    runtime: &Path,
    config: &OciConfig,
    said: &Result<Finished, Error>,
    has_features: bool,
) -> Finding {
    let version = line(runtime, config).arg("--version");
    let nonsense = line(runtime, config).args(&config.args).arg("no-such-verb");
    let spec = match said {
        Ok(done) => String::from_utf8_lossy(&done.stdout)
            .lines()
            .find(|line| line.to_ascii_lowercase().contains("spec"))
            .map(|line| line.trim().to_owned()),
        Err(error) => return Finding::unanswered(shown(&version), error),
    };
    let Some(spec) = spec.or_else(|| has_features.then(|| "a features document".to_owned())) else {
        return Finding::new(false, shown(&version), "no line that names a specification");
    };
    match nonsense.run(LIMIT).await {
        Ok(done) if done.code == 0 => {
            Finding::new(false, shown(&nonsense), "exit code 0, though no runtime has such a verb")
        }
        Ok(_) => Finding::new(true, shown(&version), shorten(&spec)),
        Err(error) => Finding::unanswered(shown(&nonsense), &error),
    }
}

/// A runtime that brings a kernel tells on what it can run it.
async fn ask_own_kernel(runtime: &Path, config: &OciConfig) -> Finding {
    const PLATFORMS: &[&str] = &["ptrace", "systrap", "kvm"];
    let command = line(runtime, config).args(["help", "platforms"]);
    let asked = shown(&command);
    match command.run(LIMIT).await {
        Ok(done) if done.code == 0 => {
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            let words: Vec<&str> = text.split_whitespace().collect();
            let all_known = !words.is_empty() && words.iter().all(|word| PLATFORMS.contains(word));
            Finding::new(all_known, asked, shorten(&words.join(" ")))
        }
        Ok(done) => Finding::new(false, asked, format!("exit code {}", done.code)),
        Err(error) => Finding::unanswered(asked, &error),
    }
}

/// The document is on standard output alone: a warning on standard error must not spoil it.
async fn ask_features(runtime: &Path, config: &OciConfig) -> (Option<Value>, Finding) {
    let command = line(runtime, config).args(&config.args).arg("features");
    let done = command.run(LIMIT).await;
    let document = done.as_ref().ok().filter(|done| done.code == 0).and_then(|done| {
        let value: Value = serde_json::from_slice(&done.stdout).ok()?;
        (value.get("ociVersionMin").is_some() && value.get("ociVersionMax").is_some()).then_some(value)
    });
    let said = match (&document, &done) {
        (Some(value), _) => {
            format!("OCI versions {} to {}", value["ociVersionMin"], value["ociVersionMax"]).replace('"', "")
        }
        (None, Ok(done)) => format!("exit code {}: {}", done.code, shorten(&done.stderr)),
        (None, Err(error)) => shorten(&error.to_string()),
    };
    let unanswered = done.is_err();
    let finding = Finding { unanswered, ..Finding::new(document.is_some(), shown(&command), said) };
    (document, finding)
}

/// Asks what options exec has. Some print their help as an error, so only the text counts.
async fn ask_exec<const N: usize>(runtime: &Path, config: &OciConfig, options: [&str; N]) -> [Finding; N] {
    let command = line(runtime, config).args(&config.args).args(["exec", "--help"]);
    let done = command.run(LIMIT).await;
    options.map(|option| {
        let asked = shown(&command);
        match &done {
            Ok(done) => {
                let text = [String::from_utf8_lossy(&done.stdout).as_ref(), &done.stderr].concat();
                let yes = text.contains(&format!("-{option}"));
                let said =
                    if yes { format!("it lists --{option}") } else { format!("it lists no --{option}") };
                Finding::new(yes, asked, said)
            }
            Err(error) => Finding { yes: false, asked, said: shorten(&error.to_string()), unanswered: true },
        }
    })
}

/// Asks for a container that does not exist and looks for the JSON record of the refusal.
async fn ask_json_errors(runtime: &Path, config: &OciConfig, layout: &Layout) -> Finding {
    let log = layout.state_dir().join(format!(".probe-log.{}", std::process::id()));
    let root = layout.root();
    let command = line(runtime, config)
        .args(&config.args)
        .arg("--root")
        .arg(config.root.as_deref().unwrap_or(&root))
        .arg("--log")
        .arg(&log)
        .args(["--log-format", "json", "state", "no-such-container"]);
    let done = command.run(LIMIT).await;
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let _ = std::fs::remove_file(&log);
    let error = crate::complaint::last_error(&text);
    let unanswered = done.is_err();
    let said = match (&error, done) {
        (Some(message), _) => format!("a JSON record of level error: {}", shorten(message)),
        (None, Ok(done)) => format!("exit code {} and no JSON record: {}", done.code, shorten(&done.stderr)),
        (None, Err(error)) => shorten(&error.to_string()),
    };
    let asked = shown(&command).replace(&log.display().to_string(), "FILE");
    Finding { unanswered, ..Finding::new(error.is_some(), asked, said) }
}

/// Asks for the list of containers with cgroups switched off: a program without the switch refuses it.
async fn ask_no_cgroups(runtime: &Path, config: &OciConfig, layout: &Layout) -> Finding {
    let root = layout.root();
    let command = line(runtime, config)
        .args(&config.args)
        .arg("--cgroup-manager=disabled")
        .arg("--root")
        .arg(config.root.as_deref().unwrap_or(&root))
        .arg("list");
    let asked = shown(&command);
    match command.run(LIMIT).await {
        Ok(done) if done.code == 0 => Finding::new(true, asked, "exit code 0"),
        Ok(done) => {
            let said = format!("exit code {}: {}", done.code, account(None, &done.stderr));
            Finding::new(false, asked, said)
        }
        Err(error) => Finding::unanswered(asked, &error),
    }
}

/// Asks for the usage of a verb: a program that has it names the option that we use.
async fn ask_usage(binary: &Path, config: &OciConfig, verb: &str, option: &str) -> Finding {
    let command = line(binary, config).args(&config.args).args([verb, "--help"]);
    let asked = shown(&command);
    match command.run(LIMIT).await {
        Ok(done) if done.code == 0 && String::from_utf8_lossy(&done.stdout).contains(option) => {
            Finding::new(true, asked, format!("its usage, with {option}"))
        }
        Ok(done) => {
            let said = format!("exit code {}, and no usage with {option}", done.code);
            Finding::new(false, asked, said)
        }
        Err(error) => Finding::unanswered(asked, &error),
    }
}

fn shown(command: &CommandLine) -> String {
    command.argv().join(" ")
}

/// The last line of what was said is where programs put the point.
fn shorten(text: &str) -> String {
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
    last.chars().take(SHOWN).collect()
}

/// The oldest conmon that has what the command line of `conmon.rs` uses.
pub(crate) const OLDEST_MONITOR: (u32, u32, u32) = (2, 1, 0);

/// Why a monitor of this version cannot be used; an unreadable version is given the benefit of the doubt.
pub(crate) fn too_old(monitor: &Path, version: Option<&str>) -> Option<String> {
    let numbers: Vec<u32> = version?.split('.').map_while(|part| part.parse().ok()).collect();
    let &[major, minor, patch] = numbers.get(..3)? else { return None };
    let (a, b, c) = OLDEST_MONITOR;
    ((major, minor, patch) < OLDEST_MONITOR).then(|| {
        format!("{} is version {major}.{minor}.{patch}; at least {a}.{b}.{c} is needed", monitor.display())
    })
}

/// A path for messages, or what was looked for.
pub(crate) type Found = Result<PathBuf, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_print_them() {
        let cases = [
            ("runc version 1.1.5+ds1\ncommit: x\n", "runc", "1.1.5+ds1"),
            ("crun version 1.8.1\n", "crun", "1.8.1"),
            ("conmon version 2.1.6\n", "conmon", "2.1.6"),
            ("youki version: 0.7.0\n", "youki", "0.7.0"),
        ];
        for (text, name, version) in cases {
            assert_eq!(parse_version(text), (Some(name.to_owned()), Some(version.to_owned())));
        }
        assert_eq!(parse_version(""), (None, None));
    }

    #[test]
    fn an_old_monitor_is_told() {
        let conmon = Path::new("/usr/bin/conmon");
        assert!(too_old(conmon, Some("2.0.29")).unwrap().contains("at least 2.1.0"));
        assert_eq!(too_old(conmon, Some("2.1.6")), None);
        assert_eq!(too_old(conmon, Some("git")), None);
    }

    #[test]
    fn the_number_of_cgroups_is_no_part_of_the_key() {
        let table = |count| format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t{count}\t1\n");
        assert_eq!(cgroup_layout(&table(1)), cgroup_layout(&table(7)));
        assert!(cgroup_layout(&table(1)).contains("cpu 2"));
    }

    fn handler() -> OciConfig {
        let name = runtime_api::HandlerName::new("x").unwrap();
        let kind = runtime_api::RuntimeKind::new("oci").unwrap();
        let handler = runtime_api::HandlerConfig::new(name, kind, runtime_api::Origin::other("test"));
        OciConfig::from_handler(&handler).unwrap()
    }

    #[tokio::test]
    async fn a_program_that_is_no_runtime_is_found_out() {
        let at = tempfile::tempdir().unwrap();
        let layout = Layout::new(at.path());
        for impostor in ["/bin/true", "/bin/false", "/bin/echo", "/bin/ls", "/bin/sh"] {
            let findings = gather(&layout, &handler(), Some(Path::new(impostor)), None, "b").await;
            assert!(!findings.is_runtime.yes, "{impostor}: {:?}", findings.is_runtime);
            assert!(!findings.own_kernel.yes, "{impostor}: {:?}", findings.own_kernel);
        }
    }

    #[tokio::test]
    async fn what_was_not_answered_is_not_kept() {
        let at = tempfile::tempdir().unwrap();
        let layout = Layout::new(at.path());
        let gone = at.path().join("gone");
        let findings = gather(&layout, &handler(), Some(&gone), None, "b").await;
        assert!(!findings.json_errors.yes && findings.json_errors.unanswered);
        assert!(!layout.capabilities().exists(), "the next one asks again");
    }

    #[test]
    fn a_question_about_checkpoints_counts_as_unanswered_too() {
        let yes = || Finding::new(true, "asked".into(), "yes");
        let late = Finding { unanswered: true, ..yes() };
        let nothing = CheckpointFindings::nothing(&yes());
        assert!(!nothing.all().any(|finding| finding.unanswered));
        for silent in [
            CheckpointFindings { checkpoint: late.clone(), ..nothing.clone() },
            CheckpointFindings { restore: late.clone(), ..nothing.clone() },
            CheckpointFindings { saver: Some(late.clone()), ..nothing.clone() },
            CheckpointFindings { pre_dump: Some(late.clone()), ..nothing.clone() },
        ] {
            assert!(silent.all().any(|finding| finding.unanswered), "{silent:?}");
        }
    }

    #[tokio::test]
    async fn findings_are_kept_until_something_changes() {
        let at = tempfile::tempdir().unwrap();
        let layout = Layout::new(at.path());
        let mut config = handler();
        let runtime = at.path().join("rt");
        // Another process writes the file: a descriptor of ours, open for writing, would be in every process that other
        // tests fork meanwhile, and a file that is open for writing cannot be run.
        let script = |version: &str| {
            let text = format!("#!/bin/sh\n[ \"$1\" = --version ] && echo rt version {version}\n");
            let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
            let done = std::process::Command::new("sh").args(["-c", write]).arg(&runtime).arg(text).status();
            assert!(done.unwrap().success());
        };
        script("1.0");
        assert_eq!(gather(&layout, &config, Some(&runtime), None, "b").await.version.as_deref(), Some("1.0"));
        let mode = std::fs::metadata(layout.capabilities()).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        script("2.00");
        assert_eq!(
            gather(&layout, &config, Some(&runtime), None, "b").await.version.as_deref(),
            Some("2.00")
        );
        let kept = std::fs::metadata(layout.capabilities()).unwrap().ino();
        gather(&layout, &config, Some(&runtime), None, "b").await;
        assert_eq!(
            std::fs::metadata(layout.capabilities()).unwrap().ino(),
            kept,
            "nothing changed, nothing was asked"
        );
        config.args.push("--debug".into());
        gather(&layout, &config, Some(&runtime), None, "b").await;
        assert_ne!(std::fs::metadata(layout.capabilities()).unwrap().ino(), kept);
    }
}
