//! A runtime that hangs on one verb: a script in front of the real one.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it serves tests: what goes wrong in one fails it"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::Mode;

use crate::host;
use crate::patience::until;
use crate::place::Place;

/// When the script hangs.
#[derive(Clone, Copy, Debug)]
pub enum Hangs {
    /// Before the real one runs.
    Before,
    /// After it did its work.
    After,
}

/// The script. It hangs in the open of a fifo that nobody writes to, for as long as the fifo is there. Questions
/// about the verb's options are answered.
#[derive(Debug)]
pub struct Wrapper {
    /// The script.
    pub path: PathBuf,
    gate: PathBuf,
    mark: PathBuf,
}

impl Wrapper {
    /// A script that hangs on this verb of the place's runtime.
    #[must_use]
    pub fn new(place: &Place, verb: &str, hangs: Hangs) -> Self {
        let path = place.path("wrapper");
        let wrapper = Self { gate: place.path("gate"), mark: place.path("hangs"), path };
        wrapper.arm();
        let real = host::find(place.binary).unwrap();
        let (real, gate, mark) = (real.display(), wrapper.gate.display(), wrapper.mark.display());
        let first = match hangs {
            Hangs::Before => "",
            Hangs::After => &format!("{real} \"$@\" || exit"),
        };
        write_script(
            &wrapper.path,
            &format!(
                "#!/bin/sh\ncase \" $* \" in *\" --help \"*) exec {real} \"$@\" ;; esac\nfor word; do\nif [ \"$word\" = {verb} ] && [ -p {gate} ]; then\n\
                {first}\n: > {mark}\nread line < {gate}\nfi\ndone\nexec {real} \"$@\"\n"
            ),
        );
        wrapper
    }

    /// From now on it hangs.
    pub fn arm(&self) {
        nix::unistd::mkfifo(&self.gate, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    }

    /// What hangs goes on.
    pub fn release(&self) {
        std::fs::write(&self.gate, "go\n").unwrap();
    }

    /// Waits until it hangs.
    pub async fn hangs(&self) {
        until("that the runtime hangs", || self.mark.exists().then_some(())).await;
    }

    /// From the next run on it hangs no more.
    pub fn mend(&self) {
        std::fs::remove_file(&self.gate).unwrap();
    }

    /// Makes room for another one in the same place.
    pub fn remove(self) {
        for file in [self.gate, self.mark, self.path] {
            std::fs::remove_file(file).unwrap();
        }
    }
}

/// A runtime in front of the place's real one that refuses one verb with these words. Questions about its options are answered.
#[must_use]
pub fn refusing(place: &Place, verb: &str, words: &str) -> PathBuf {
    let (path, real) = (place.path("wrapper"), host::find(place.binary).unwrap());
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' --help '*) ;; *' {verb} '*) echo '{words}' >&2; exit 1 ;; esac\nexec {} \"$@\"\n",
        real.display()
    );
    write_script(&path, &text);
    path
}

/// The place's runtime with another features document.
#[must_use]
pub fn with_features(place: &Place, name: &str, document: &serde_json::Value) -> PathBuf {
    let (path, real) = (place.path(name), host::find(place.binary).unwrap());
    let text = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" = features ] && echo '{document}' && exit 0; done\nexec {} \"$@\"\n",
        real.display()
    );
    write_script(&path, &text);
    path
}

/// Another process writes the file: a descriptor of ours, open for writing, would be in every process that other tests
/// fork meanwhile, and a file that is open for writing cannot be run.
pub fn write_script(path: &Path, text: &str) {
    let write = "printf %s \"$1\" > \"$0\" && chmod 755 \"$0\"";
    let done = Command::new("sh").args(["-c", write]).arg(path).arg(text).status();
    assert!(done.unwrap().success());
}

/// A copy of a program, made by another process for the same reason.
pub fn copy_program(from: &Path, to: &Path) {
    let done = Command::new("cp").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}
