//! An exec at work: how its end is met, and how it is killed.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use runtime_api::Result;
use runtime_host::document::cannot_write;
use runtime_host::exec::Course;
use runtime_host::process::Identity;

use super::command::Command;
use crate::layout::ContainerDir;
use crate::task::TaskClient;

/// How long the end of a killed command may take to be told, and its last output to come.
const NOTICE: Duration = Duration::from_secs(2);

/// An exec's directory, removed when the exec is over.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    left: bool,
}

impl Place {
    /// Makes the directory of a new exec in a container.
    pub(super) fn make(dir: &ContainerDir) -> Result<Self> {
        // The owner is in the name, so that there is no moment at which it cannot be told.
        let place = Self { path: dir.execs().join(unused_name()), left: false };
        std::fs::create_dir_all(&place.path).map_err(|error| cannot_write(&place.path, error))?;
        Ok(place)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From here on it is left to the next who opens when this process is gone, for its command may still run.
    fn leave(&mut self) {
        self.left = true;
    }

    /// Its command has ended.
    fn remove(mut self) {
        self.left = false;
    }

    /// What the shim calls the exec.
    pub(super) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.left {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A name that no exec of this host has had, with its owner in it.
pub(crate) fn unused_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let (own, number) = (Identity::own(), COUNT.fetch_add(1, Ordering::Relaxed));
    format!("{}-{}.{number}", own.pid, own.start)
}

/// Whose exec it is, from its name.
pub(super) fn owner_of(name: &str) -> Option<Identity> {
    let (pid, start) = name.split_once('.')?.0.split_once('-')?;
    Some(Identity { pid: pid.parse().ok()?, start: start.parse().ok()? })
}

/// How the wait for an exec ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    /// The command left with this code.
    Ended(i32),
    /// The time limit passed, and the command was killed.
    TimedOut,
}

/// An exec at work. Dropped before its end it takes its command and all descendants with it.
#[derive(Debug)]
pub(super) struct Running {
    command: Command,
    client: TaskClient,
    course: Course,
    over: bool,
    place: Option<Place>,
}

impl Running {
    /// An exec that is about to be ordered from the shim.
    pub(super) fn new(command: Command, client: TaskClient, place: Place) -> Self {
        Self { command, client, course: Course::new(|| true), over: false, place: Some(place) }
    }

    pub(super) fn command(&self) -> &Command {
        &self.command
    }

    pub(super) fn client(&self) -> TaskClient {
        self.client.clone()
    }

    pub(super) fn course(&self) -> Course {
        self.course.clone()
    }

    pub(super) fn is_known(&mut self) {
        self.command.is_known();
    }

    pub(super) fn is_answered(&mut self) {
        self.command.is_answered();
    }

    pub(super) fn has_begun(&mut self, pid: u32) {
        self.command.has_begun(pid);
    }

    /// Ends one that the shim did not run.
    pub(super) async fn end(mut self) {
        let ended = self.command.end(&self.client).await;
        self.over = true;
        if let Some(place) = self.place.as_mut().filter(|_| !ended) {
            place.leave();
        }
    }

    /// Waits for the command, for at most `limit`, while its streams are carried.
    pub(super) async fn attend(
        mut self,
        carrying: impl Future<Output = ()>,
        ended: impl Future<Output = Result<i32>>,
        limit: Option<Duration>,
    ) -> Result<Met> {
        let (mut carrying, mut ended) = (pin!(carrying), pin!(ended));
        let mut late = pin!(after(limit));
        let mut carried = false;
        let met = loop {
            tokio::select! {
                () = &mut carrying, if !carried => carried = true,
                code = &mut ended => break Met::Ended(code?),
                () = &mut late => break Met::TimedOut,
            }
        };
        if met == Met::TimedOut {
            if let Err(error) = self.command.kill_by(&self.client).await {
                tracing::warn!(error = error.report(), "a command was not killed at its time limit");
            }
            if timeout(NOTICE, ended).await.is_err() {
                // It is ended in the background.
                return Ok(met);
            }
        }
        self.course.tell_end();
        if !carried {
            match met {
                Met::Ended(_) => carrying.await,
                // A client that does not read has had its time.
                Met::TimedOut => drop(timeout(NOTICE, carrying).await),
            }
        }
        self.command.forget(&self.client, self.course.is_over()).await;
        self.over = true;
        Ok(met)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.command.kill_now();
        // The shim is needed, and a drop cannot wait for it. A thread of its own goes on when the caller's tasks are ended;
        // when the whole process is, the next open finds the directory and ends the command.
        let (command, mut place) = (self.command.clone(), self.place.take());
        if let Some(place) = &mut place {
            place.leave();
        }
        let ending = move || {
            let alone = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let ended = alone.is_ok_and(|alone| {
                alone.block_on(async {
                    match command.dial().await {
                        Ok(client) => command.end(&client).await,
                        Err(_) => !command.shim_lives(),
                    }
                })
            });
            match place {
                Some(place) if ended => place.remove(),
                Some(place) => tracing::warn!(exec = place.name(), "an exec that was given up may still run"),
                None => {}
            }
        };
        if let Err(error) = std::thread::Builder::new().name("exec-end".into()).spawn(ending) {
            tracing::warn!(%error, "an exec that was given up is not ended");
        }
    }
}

/// Passes when the limit has; never without one.
async fn after(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_an_exec_is_read_back_from_its_name() {
        let name = unused_name();
        assert_eq!(owner_of(&name), Some(Identity::own()));
        assert_ne!(name, unused_name());
        assert_eq!(owner_of("s1"), None);
    }
}
