//! Reopening a log after its file was renamed.
//!
//! conmon makes `<log>.tmp` and renames it over the log: what is there is destroyed. It exits when it cannot, and nobody
//! watches the container any more. So it is asked only when the path is free or empty and the file can be made.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use runtime_api::{ContainerId, Error, ErrorKind as Kind, Operation, Peer, Result};
use runtime_host::process::Identity;

use crate::backend::Backend;
use crate::control::Control;

impl Backend {
    pub(crate) async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let operation = Operation::ReopenLog;
        let named = |error: Error| error.during(operation).on(format_args!("container \"{id}\""));
        let (locked, _) = self.admit(operation, id).await?;
        let (monitor, log, dir) = (locked.record.monitor, locked.record.log.clone(), locked.dir.clone());
        drop(locked);
        // Without a file there is nothing that could be opened anew.
        let Some(log) = log else { return Ok(()) };
        let done = match monitor {
            Some(monitor) => {
                Control::of(dir.path()).reopen_log(|| has_open(monitor, &log), || check_place(&log)).await
            }
            None => Err(lost()),
        };
        match done {
            Ok(()) => Ok(()),
            Err(error) => Err(self.unless_it_ended(operation, id, named(error)).await),
        }
    }
}

/// Whether the file at the path is one that the monitor has open.
fn has_open(monitor: Identity, log: &Path) -> Result<bool> {
    let Some(wanted) = at(log)?.map(|file| (file.dev(), file.ino())) else { return Ok(false) };
    let open = std::fs::read_dir(format!("/proc/{}/fd", monitor.pid)).and_then(|descriptors| {
        for descriptor in descriptors {
            // One that was closed meanwhile is no open one.
            if let Ok(file) = std::fs::metadata(descriptor?.path())
                && (file.dev(), file.ino()) == wanted
            {
                return Ok(true);
            }
        }
        Ok(false)
    });
    match open {
        // Looked at last, so that all of it was this process.
        _ if !monitor.lives() => Err(lost()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Error::new(Kind::PermissionDenied)
            .on(format_args!("the open files of process {}", monitor.pid))
            .caused_by(error)),
        Err(error) => Err(unusable(log, "the monitor's open files cannot be read").caused_by(error)),
        Ok(open) => Ok(open),
    }
}

/// Refuses where conmon would destroy what is there, write to somewhere else, or exit.
fn check_place(log: &Path) -> Result<()> {
    if !log.parent().is_some_and(Path::is_dir) {
        return Err(unusable(log, "its directory does not exist").hint("make the directory first"));
    }
    match at(log)? {
        Some(there) if !there.is_file() => {
            return Err(unusable(log, "something that is no file is in its place"));
        }
        Some(there) if there.len() > 0 => {
            return Err(unusable(log, "another file is in its place, whose content would be lost")
                .hint("rename that file, too"));
        }
        _ => {}
    }
    let mut fresh = log.as_os_str().to_owned();
    fresh.push(".tmp");
    match at(Path::new(&fresh))? {
        Some(there) if !there.is_file() => {
            Err(unusable(Path::new(&fresh), "the monitor makes its log here first, and this is no file"))
        }
        _ => Ok(()),
    }
}

/// What is at a path, links not followed.
fn at(path: &Path) -> Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(there) => Ok(Some(there)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path, "it cannot be looked at").caused_by(error)),
    }
}

fn unusable(log: &Path, why: &str) -> Error {
    Error::new(Kind::ConfigInvalid(why.to_owned())).on(format_args!("log {}", log.display()))
}

fn lost() -> Error {
    Error::new(Kind::PeerLost(Peer::Monitor))
        .hint("nobody writes the log any more; the container can still be stopped and deleted")
}
