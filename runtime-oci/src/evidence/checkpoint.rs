//! Whether containers can be saved and restored: what the runtime's own help says, and whether criu is there and works.

use std::path::{Path, PathBuf};

use runtime_host::criu::{self, NETWORK_LOCK};
use serde::{Deserialize, Serialize};

use super::{Finding, LIMIT, line, parse_version, shorten, shown};
use crate::config::OciConfig;
use crate::dialect::{Dialect, Saver};

/// What was found out about checkpoint and restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointFindings {
    /// Whether the runtime has the verb `checkpoint` as this backend uses it.
    pub(crate) checkpoint: Finding,
    /// The options that the help of `checkpoint` names, without dashes.
    pub(crate) options: Vec<String>,
    /// Whether the runtime has the verb `restore`.
    pub(crate) restore: Finding,
    /// Whether what saves and restores is there and works; for a runtime that does it by itself there is nothing to ask.
    pub(crate) saver: Option<Finding>,
    /// Whether memory can be copied beforehand.
    pub(crate) pre_dump: Option<Finding>,
}

impl CheckpointFindings {
    /// Nothing could be asked.
    pub(super) fn nothing(why: &Finding) -> Self {
        Self {
            checkpoint: why.clone(),
            options: Vec::new(),
            restore: why.clone(),
            saver: None,
            pre_dump: None,
        }
    }

    /// Each question that was asked.
    pub(super) fn all(&self) -> impl Iterator<Item = &Finding> {
        [&self.checkpoint, &self.restore].into_iter().chain(&self.saver).chain(&self.pre_dump)
    }

    /// Whether the help of `checkpoint` names an option.
    pub(crate) fn names(&self, option: &str) -> bool {
        self.options.iter().any(|each| each == option)
    }
}

pub(super) async fn ask(runtime: &Path, config: &OciConfig, dialect: &Dialect) -> CheckpointFindings {
    let ((checkpoint, options), (restore, _)) =
        tokio::join!(ask_verb(runtime, config, "checkpoint"), ask_verb(runtime, config, "restore"));
    let (saver, pre_dump) = if checkpoint.yes && dialect.saver == Some(Saver::Criu) {
        let (works, tracks) = tokio::join!(ask_criu(config), ask_memory_tracking(config));
        (Some(works), tracks)
    } else {
        (None, None)
    };
    CheckpointFindings { checkpoint, options, restore, saver, pre_dump }
}

/// Asks for the help of a verb. Programs differ in the code with which they leave after that, so the text counts: a verb
/// that takes an image path is the one that is meant.
async fn ask_verb(runtime: &Path, config: &OciConfig, verb: &str) -> (Finding, Vec<String>) {
    let command = line(runtime, config).args([verb, "--help"]);
    let asked = shown(&command);
    let done = match command.run(LIMIT).await {
        Ok(done) => done,
        Err(error) => return (Finding::unanswered(asked, &error), Vec::new()),
    };
    let options = options(&format!("{}\n{}", String::from_utf8_lossy(&done.stdout), done.stderr));
    let yes = options.iter().any(|option| option == "image-path");
    let said = if yes {
        format!("it takes --{}", options.join(", --"))
    } else {
        format!("exit code {}: {}", done.code, first_line(&done.stderr))
    };
    (Finding::new(yes, asked, said), options)
}

/// The options of interest that a help text names, however many dashes it writes.
fn options(help: &str) -> Vec<String> {
    const KNOWN: [&str; 8] = [
        "image-path",
        "work-path",
        "leave-running",
        "tcp-established",
        "file-locks",
        "pre-dump",
        "parent-path",
        "detach",
    ];
    let named = |option: &str| {
        help.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '='))
            .any(|word| word.strip_prefix('-').is_some_and(|word| word.trim_start_matches('-') == option))
    };
    KNOWN.iter().filter(|option| named(option)).map(|option| (*option).to_owned()).collect()
}

/// Asks criu for its version and whether it works on this kernel.
async fn ask_criu(config: &OciConfig) -> Finding {
    let asked = "criu check".to_owned();
    let no = |said: String| Finding::new(false, asked.clone(), said);
    let Some(program) = find("criu", config) else {
        return no("criu is not on PATH: install criu 4 or later".into());
    };
    let [version, check, help] = ["--version", "check", "--help"].map(|arg| line(&program, config).arg(arg));
    let (version, check, help) = tokio::join!(version.run(LIMIT), check.run(LIMIT), help.run(LIMIT));
    let (version, check, help) = match (version, check, help) {
        (Ok(version), Ok(check), Ok(help)) => (version, check, help),
        (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
            let said = format!("{} does not answer: {}", program.display(), shorten(&error.to_string()));
            return Finding { unanswered: true, ..no(said) };
        }
    };
    let text = String::from_utf8_lossy(&version.stdout);
    let version = parse_version(&text).1.unwrap_or_else(|| "unknown".into());
    let help = String::from_utf8_lossy(&help.stdout);
    let said = criu::Said {
        version: &version,
        check: check.code,
        complaint: &shorten(&check.stderr),
        help: &help,
        has_lock: find(NETWORK_LOCK, config).is_some(),
    };
    match criu::judge(&program, said) {
        Ok(said) => Finding::new(true, asked, said),
        Err(why) => no(why),
    }
}

async fn ask_memory_tracking(config: &OciConfig) -> Option<Finding> {
    let command = line(&find("criu", config)?, config).args(["check", "--feature", "mem_dirty_track"]);
    let asked = shown(&command);
    Some(match command.run(LIMIT).await {
        Ok(done) if done.code == 0 => Finding::new(true, asked, "exit code 0"),
        Ok(done) => Finding::new(false, asked, format!("exit code {}: {}", done.code, shorten(&done.stderr))),
        Err(error) => Finding::unanswered(asked, &error),
    })
}

/// A program on the `PATH` that the runtime gets.
pub(super) fn find(program: &str, config: &OciConfig) -> Option<PathBuf> {
    let own = std::env::var_os("PATH");
    let path =
        config.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.into()).or(own)?;
    which::which_in(program, Some(path), "/").ok()
}

/// Programs that do not know a verb say so first and go on about what they know.
fn first_line(text: &str) -> String {
    shorten(text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default())
}

/// A question to a program of `PATH`, for the key of what is kept.
pub(super) fn consulted(config: &OciConfig) -> impl Iterator<Item = Option<PathBuf>> {
    ["criu", NETWORK_LOCK].into_iter().map(|program| find(program, config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_help_texts_of_all_kinds() {
        let runc = "   --image-path value           path for saving criu image files\n   --file-locks                 handle file locks, for safety";
        assert_eq!(options(runc), ["image-path", "file-locks"]);
        let runsc = "checkpoint [flags] <container id> - save\n  -image-path string\n    \tdirectory path\n  -leave-running\n";
        assert_eq!(options(runsc), ["image-path", "leave-running"]);
        assert!(options("unknown command checkpoint").is_empty());
        assert!(options("my-image-path image-path").is_empty());
    }

    /// Another process writes the file: one that is open for writing, here or in what other tests fork, cannot be run.
    fn script(path: &Path, text: &str) {
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        let done = std::process::Command::new("sh").args(["-c", write]).arg(path).arg(text).status();
        assert!(done.unwrap().success());
    }

    #[tokio::test]
    async fn a_criu_that_goes_or_breaks_changes_the_answer_that_was_kept() {
        let at = tempfile::tempdir().unwrap();
        let path = at.path().join("bin");
        std::fs::create_dir(&path).unwrap();
        let layout = crate::layout::Layout::new(at.path());
        let name = runtime_api::HandlerName::new("x").unwrap();
        let kind = runtime_api::RuntimeKind::new("oci").unwrap();
        let mut handler = runtime_api::HandlerConfig::new(name, kind, runtime_api::Origin::other("test"));
        handler.monitor.env = vec![format!("PATH={}", path.display())];
        let config = OciConfig::from_handler(&handler).unwrap();
        let runtime = at.path().join("rt");
        script(
            &runtime,
            "case $1 in --version) echo runc version 1;; *) echo '--image-path x --file-locks';; esac",
        );
        let now = async || {
            let found = super::super::gather(&layout, &config, Some(&runtime), None, "b").await.checkpoint;
            assert!(found.checkpoint.yes && found.restore.yes && found.names("file-locks"), "{found:?}");
            found.saver.unwrap()
        };
        let (criu, lock) = (path.join("criu"), path.join(NETWORK_LOCK));
        assert!(now().await.said.contains("criu is not on PATH"));
        script(&criu, "case $1 in check) echo Looks good;; --version) echo Version: 4.1;; esac");
        let found = now().await;
        assert!(found.yes && found.said.contains("4.1"), "{found:?}");
        script(&criu, "case $1 in check) echo oh no >&2; exit 1;; --version) echo Version: 4.1;; esac");
        assert!(now().await.said.contains("oh no"));
        script(&criu, "case $1 in --version) echo Version: 3.15;; esac");
        assert!(now().await.said.contains("at least 3.16"));
        script(
            &criu,
            "case $1 in --version) echo Version: 4.1.1;; --help) echo \"or 'iptables' (default).\";; esac",
        );
        assert!(now().await.said.contains(NETWORK_LOCK));
        script(&lock, "");
        assert!(now().await.yes);
        std::fs::remove_file(&criu).unwrap();
        assert!(!now().await.yes);
    }

    #[tokio::test]
    async fn a_criu_that_does_not_answer_is_asked_again() {
        let at = tempfile::tempdir().unwrap();
        let name = runtime_api::HandlerName::new("x").unwrap();
        let kind = runtime_api::RuntimeKind::new("oci").unwrap();
        let mut handler = runtime_api::HandlerConfig::new(name, kind, runtime_api::Origin::other("test"));
        handler.monitor.env = vec![format!("PATH={}", at.path().display())];
        let config = OciConfig::from_handler(&handler).unwrap();
        let criu = at.path().join("criu");
        script(&criu, "");
        // It is found, and cannot be run: its interpreter is missing.
        let done =
            std::process::Command::new("sed").args(["-i", "1s:.*:#!/nonexistent:"]).arg(&criu).status();
        assert!(done.unwrap().success());
        let found = Box::pin(ask_criu(&config)).await;
        assert!(!found.yes && found.unanswered && found.said.contains("does not answer"), "{found:?}");
        script(&criu, "exit 1");
        let found = Box::pin(ask_criu(&config)).await;
        assert!(!found.yes && !found.unanswered, "{found:?}");
    }
}
