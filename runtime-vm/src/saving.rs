//! What a shim saves its containers with, and restores them: the runtime below it, and criu below that.
//!
//! A shim says that it has the method Checkpoint, and not whether that could come to anything. And when it loses its caller it
//! ends the runtime, and criu goes on by itself for a moment.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use runtime_host::criu::{self, NETWORK_LOCK};
use runtime_host::document::cannot_write;
use runtime_host::process::{Identity, with_arguments};

use crate::connector::NoSaver;
use crate::layout::ContainerDir;
use crate::text::last_line;

/// How long each question may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What a program said.
struct Said {
    code: i32,
    text: String,
}

/// Asks the runtime below a shim and criu. Gives who saves.
///
/// # Errors
/// Why nothing can be saved.
pub(crate) async fn ask(below: &str) -> Result<String, NoSaver> {
    let runtime = which::which(below).map_err(|_| format!("the runtime {below} is not on PATH"))?;
    for verb in ["checkpoint", "restore"] {
        let help = run(&runtime, &[verb, "--help"]).await?;
        // Programs differ in the code with which they leave after that, so the text counts.
        if !help.text.contains("image-path") {
            let said = last_line(&help.text).unwrap_or_else(|| "nothing".to_owned());
            return Err(format!("{} has no verb {verb}: {said}", runtime.display()).into());
        }
    }
    let Some(criu) = program("criu") else {
        return Err("criu is not on PATH: install criu 4 or later".to_owned().into());
    };
    let [version, check, help] = ["--version", "check", "--help"].map(|argument| [argument]);
    let (version, check, help) = tokio::join!(run(&criu, &version), run(&criu, &check), run(&criu, &help));
    let (version, check, help) = (version?, check?, help?);
    let words = version.text.split_whitespace();
    let number = words.map(|word| word.trim_start_matches('v'));
    let number = number.into_iter().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    let said = criu::Said {
        version: number.unwrap_or("unknown"),
        check: check.code,
        complaint: &last_line(&check.text).unwrap_or_else(|| "nothing".to_owned()),
        help: &help.text,
        has_lock: program(NETWORK_LOCK).is_some(),
    };
    let who = criu::judge(&criu, said)?;
    Ok(format!("{} saves with {who}", runtime.display()))
}

/// The programs that the answer depends on; one that is not there counts, too.
pub(crate) fn consulted(below: &str) -> [Option<PathBuf>; 3] {
    [below, "criu", NETWORK_LOCK].map(program)
}

/// Makes the link through which a shim finds the image that it is to make. It is told no other path, so that it can be kept from
/// an image that nobody waits for any more.
pub(crate) fn lead(dir: &ContainerDir, image: &Path) -> runtime_api::Result<PathBuf> {
    let links = dir.images();
    std::fs::create_dir_all(&links).map_err(|error| cannot_write(&links, error))?;
    let mut number = 0_u32;
    loop {
        let link = links.join(number.to_string());
        match symlink(image, &link) {
            Ok(()) => return Ok(link),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(cannot_write(&link, error)),
        }
    }
}

/// From here on no image can be begun that a shim was told of: a shim that stood still may come to it much later, and would end a
/// container of which it was told that it goes on. The links stay, and lead nowhere; what is not there a runtime would make.
pub(crate) fn bar(dir: &ContainerDir) -> runtime_api::Result<()> {
    let links = dir.images();
    let (nowhere, new) = (links.join("nowhere"), links.join("new"));
    for link in std::fs::read_dir(&links).into_iter().flatten().flatten() {
        let link = link.path();
        if std::fs::read_link(&link).is_ok_and(|target| target == nowhere) {
            continue;
        }
        let _ = std::fs::remove_file(&new);
        let barred = symlink(&nowhere, &new).and_then(|()| std::fs::rename(&new, &link));
        barred.map_err(|error| cannot_write(&link, error))?;
    }
    Ok(())
}

/// The processes that save or restore in this directory, and with this image: runtimes are told the one, and criu has the one
/// or the other open.
pub(crate) async fn at_work(work: &Path, image: Option<&Path>) -> Vec<Identity> {
    let told: Arc<[u8]> = work.as_os_str().as_bytes().into();
    let is_told = {
        let told = Arc::clone(&told);
        move |words: &[&[u8]]| words.iter().any(|word| *word == &*told)
    };
    let wanted = is_told.clone();
    let mut found = with_arguments(move |words| wanted(words) || words.contains(&&b"swrk"[..])).await;
    found.retain(|each| {
        each.has_arguments(&is_told)
            || has_open(*each, work)
            || image.is_some_and(|image| has_open(*each, image))
    });
    found
}

/// Whether a process has something open that is there.
pub(crate) fn has_open(process: Identity, dir: &Path) -> bool {
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid)).into_iter().flatten().flatten();
    open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| target.starts_with(dir))
}

fn program(name: &str) -> Option<PathBuf> {
    which::which(name).ok()
}

async fn run(program: &Path, arguments: &[&str]) -> Result<Said, NoSaver> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return Err(NoSaver::Silent(format!("{} does not answer: {error}", program.display())));
        }
        Err(_late) => {
            return Err(NoSaver::Silent(format!("{} does not answer within {LIMIT:?}", program.display())));
        }
    };
    let text = [output.stdout, output.stderr].concat();
    Ok(Said { code: output.status.code().unwrap_or(-1), text: String::from_utf8_lossy(&text).into_owned() })
}
