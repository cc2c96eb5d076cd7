//! Programs in front of the real ones that write down how they are called: a runtime, and conmon.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it serves tests: what goes wrong in one fails it"
)]

use std::path::{Path, PathBuf};

use crate::host;
use crate::place::Place;
use crate::wrapper::write_script;

/// Flags that some host may not be able to follow; the runtime is not told.
const NOT_TOLD: &str = "--systemd-cgroup|--no-pivot|--no-new-keyring";

/// The recorders of one place.
#[derive(Debug)]
pub struct Recorder {
    /// In front of the runtime.
    pub runtime: PathBuf,
    /// In front of conmon.
    pub monitor: PathBuf,
    calls: PathBuf,
}

impl Recorder {
    /// Recorders for the place's runtime and for conmon.
    #[must_use]
    pub fn new(place: &Place) -> Self {
        let directory = place.path("recorders");
        std::fs::create_dir(&directory).unwrap();
        let calls = place.path("calls");
        let recorder =
            Self { runtime: directory.join(place.binary), monitor: directory.join("conmon"), calls };
        recorder.put_before(&recorder.runtime, place.binary, NOT_TOLD);
        recorder.put_before(&recorder.monitor, "conmon", "''");
        recorder
    }

    fn put_before(&self, path: &Path, name: &str, not_told: &str) {
        let (real, calls) = (host::find(name).unwrap(), self.calls.display());
        let text = format!(
            "#!/bin/sh\nline={name}\nfor word; do line=\"$line $word\"; done\n\
            printf '%s\\n' \"$line\" >> {calls}\n\
            for word; do\nshift\ncase $word in\n{not_told}) ;;\n*) set -- \"$@\" \"$word\" ;;\nesac\ndone\n\
            exec {} \"$@\"\n",
            real.display()
        );
        write_script(path, &text);
    }

    /// The calls since the last time this was asked, oldest first, one a line.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(&self.calls).unwrap_or_default();
        let _ = std::fs::remove_file(&self.calls);
        calls.lines().map(str::to_owned).collect()
    }
}
