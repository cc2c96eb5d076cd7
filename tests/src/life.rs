//! Lives for campaigns: the steps of a container's life, done one after the other by a process that may be killed at any
//! moment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_api::{
    Capability, CheckpointRequest, ContainerId, CreateRequest, DeleteRequest, Error, ErrorKind, ExecId,
    ExecSessionRequest, ExecSessionState, ExecSyncRequest, LogConfig, Result, SharedRuntime, StopRequest,
};
use runtime_test::workload::READY;
use runtime_test::{BundleOptions, Step as Act, Workload, bundle};

use crate::place::with_arguments;

/// One operation of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes the container.
    Create,
    /// Starts it.
    Start,
    /// Runs an exec to its end.
    Exec,
    /// Begins an exec that never ends; it belongs to the process that began it.
    Hang,
    /// Starts an exec session, where the runtime has them; it outlives the process that began it.
    Session,
    /// Stops the session and forgets it.
    EndSession,
    /// Puts the log away and has it opened anew.
    Reopen,
    /// Freezes it.
    Pause,
    /// Thaws it.
    Resume,
    /// Saves it, where the runtime does that; it ends with it.
    Save,
    /// Stops it.
    Stop,
    /// Waits for its end.
    Wait,
    /// Deletes it.
    Delete,
    /// Deletes it with force.
    Force,
}

/// A kind of life.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What is done, in this order.
    pub steps: &'static [Step],
    /// The code with which the program ends when it is stopped, or by itself.
    pub code: i32,
    /// Whether the program ends by itself, soon after its start.
    pub ends: bool,
    /// The grace of its stops.
    pub grace: Duration,
}

use Step::{
    Create, Delete, EndSession, Exec, Force, Hang, Pause, Reopen, Resume, Save, Session, Start, Stop, Wait,
};

/// What a program that ends by itself prints last.
pub const LAST_LINE: &str = "the last line";

/// How many bytes it prints before: whole lines.
pub const FILL: u64 = 300 * 64;

/// Every kind of life.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "whole",
        steps: &[Create, Start, Exec, Session, Reopen, Pause, Resume, Hang, EndSession, Stop, Delete],
        code: 7,
        ends: false,
        grace: Duration::from_secs(20),
    },
    Scenario {
        name: "short",
        steps: &[Create, Start, Wait, Delete],
        code: 3,
        ends: true,
        grace: Duration::from_secs(20),
    },
    Scenario { name: "created", steps: &[Create, Delete], code: 137, ends: false, grace: Duration::ZERO },
    Scenario {
        name: "forced",
        steps: &[Create, Start, Session, Hang, Force],
        code: 137,
        ends: false,
        grace: Duration::from_millis(30),
    },
    Scenario {
        name: "stubborn",
        steps: &[Create, Start, Stop, Delete],
        code: 137,
        ends: false,
        grace: Duration::from_millis(30),
    },
];

/// A life that ends with a checkpoint.
pub const SAVED: &Scenario = &Scenario {
    name: "saved",
    steps: &[Create, Start, Save, Force],
    code: 7,
    ends: false,
    grace: Duration::from_secs(20),
};

impl Scenario {
    /// Every one that there is.
    fn all() -> impl Iterator<Item = &'static Self> {
        SCENARIOS.iter().chain([SAVED])
    }

    /// The scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().find(|scenario| scenario.name == name)
    }

    fn workload(&self) -> Workload {
        match self.name {
            "whole" | "saved" => Workload::exits_on_term(7),
            "short" => Workload::new([
                Act::Out("the first line".into()),
                Act::Fill(FILL),
                Act::Out(LAST_LINE.into()),
                Act::Exit(3),
            ]),
            "forced" => Workload::forks_a_tree(),
            "stubborn" => Workload::ignores_term(),
            _ => Workload::ready_forever(),
        }
    }
}

/// One life on one runtime.
#[derive(Clone, Debug)]
pub struct Life {
    /// What is done.
    pub scenario: &'static Scenario,
    /// The container.
    pub id: ContainerId,
    /// Where the bundles are, one for each scenario.
    pub bundles: PathBuf,
    /// Where the log is.
    pub log: PathBuf,
}

impl Life {
    /// Writes the bundles of all scenarios.
    ///
    /// # Errors
    /// Those of making files there.
    pub fn write_bundles(bundles: &Path, options: &BundleOptions) -> std::io::Result<()> {
        for scenario in Scenario::all() {
            bundle::write_with(&bundles.join(scenario.name), &scenario.workload(), options)?;
        }
        Ok(())
    }

    /// The argument by which the command of an exec that never ends is told from all others.
    #[must_use]
    pub fn hang_mark(&self) -> String {
        format!("out:{}-hangs", self.id)
    }

    /// The exec that never ends.
    #[must_use]
    pub fn hang(&self) -> ExecSyncRequest {
        let text = self.hang_mark();
        let text = text.strip_prefix("out:").unwrap_or_default();
        ExecSyncRequest::new(Workload::new([Act::Out(text.into()), Act::Forever]).process())
    }

    /// Where its image goes. Nothing else is made in that directory.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.log.with_extension("images").join("image")
    }

    /// The session's name.
    ///
    /// # Errors
    /// None: it is one.
    pub fn session() -> Result<ExecId> {
        ExecId::new("session")
    }

    /// Whether a session stands as one that was stopped.
    #[must_use]
    pub fn is_stopped_session(state: &ExecSessionState) -> bool {
        matches!(state, ExecSessionState::Stopped { code } if Self::SESSION_CODES.contains(code))
    }

    /// The codes with which the session's program ends when it is stopped: its own, or that of a signal that came before
    /// the program could handle it.
    const SESSION_CODES: [Option<i32>; 2] = [Some(5), Some(143)];

    /// Whether a program ended of a TERM that it does not handle, or not yet. Linux keeps the first process of a pid
    /// namespace from that; a runtime that brings its own kernel need not.
    #[must_use]
    pub fn may_die_of_term(runtime: &SharedRuntime, code: Option<i32>) -> bool {
        code == Some(143) && runtime.capabilities().has(Capability::KernelSeparated)
    }

    /// Whether the exec that never ends is there. Where the host does not see into the container, its files tell.
    #[must_use]
    pub fn hangs(&self, runtime: &SharedRuntime) -> bool {
        if runtime.capabilities().has(Capability::HostVisiblePid) {
            return with_arguments(&[&self.hang_mark()]).is_some();
        }
        let state = self.bundles.with_file_name("state");
        let execs = state.join("containers").join(self.id.as_str()).join("execs");
        let is_written = |place: PathBuf| place.join("inner-pid").metadata().is_ok_and(|file| file.len() > 0);
        std::fs::read_dir(execs).into_iter().flatten().flatten().any(|entry| is_written(entry.path()))
    }

    /// Waits until the program has said that it is ready; not for long, for whoever carries its words may be dead.
    async fn until_ready(&self) {
        for _ in 0..4000 {
            if std::fs::read_to_string(&self.log).is_ok_and(|text| text.contains(READY)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Does one step.
    ///
    /// # Errors
    /// Those of the operation; `Internal` when it did what it should not.
    pub async fn step(&self, runtime: &SharedRuntime, step: Step) -> Result<()> {
        let id = &self.id;
        match step {
            Create => {
                let bundle = self.bundles.join(self.scenario.name);
                let request = CreateRequest::new(id.clone(), bundle).log(LogConfig::cri_file(&self.log));
                runtime.create(request).await.map(|_| ())
            }
            Start => runtime.start(id).await,
            Exec => {
                let outcome =
                    runtime.exec_sync(id, ExecSyncRequest::new(Workload::says("heard").process())).await?;
                expect("the exec's output", outcome.stdout == b"heard\n")
            }
            Hang => {
                let (own, life) = (SharedRuntime::clone(runtime), self.clone());
                let exec = tokio::spawn(async move { own.exec_sync(&life.id, life.hang()).await });
                while !self.hangs(runtime) {
                    expect("the exec that hangs", !exec.is_finished())?;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(())
            }
            Session | EndSession if !runtime.capabilities().has(Capability::ExecSession) => Ok(()),
            Session => {
                let process = Workload::exits_on_term(5).process();
                let request = ExecSessionRequest::new(Self::session()?, process);
                runtime.exec_start(id, request).await.map(|_| ())
            }
            EndSession => {
                let stop = StopRequest::within(self.scenario.grace);
                let state = runtime.exec_stop(id, &Self::session()?, stop).await?;
                expect("the code of the session", Self::is_stopped_session(&state))?;
                runtime.exec_cleanup(id, &Self::session()?).await
            }
            Reopen => {
                let renamed = std::fs::rename(&self.log, self.log.with_extension("1"));
                expect("the rename of the log", renamed.is_ok())?;
                runtime.reopen_log(id).await?;
                expect("the log after it was opened anew", self.log.exists())
            }
            Save if !runtime.capabilities().has(Capability::Checkpoint) => Ok(()),
            Save => {
                // An image of a program that has no traps yet would end of a TERM.
                self.until_ready().await;
                let image = self.image();
                let made = image.parent().map(std::fs::create_dir_all);
                expect("the directory for the image", made.is_some_and(|made| made.is_ok()))?;
                runtime.checkpoint(id, CheckpointRequest::new(&image)).await?;
                expect("the image", image.exists())
            }
            Pause => runtime.pause(id).await,
            Resume => runtime.resume(id).await,
            Stop => {
                let status = runtime.stop(id, StopRequest::within(self.scenario.grace)).await?;
                let fits =
                    status.code == Some(self.scenario.code) || Self::may_die_of_term(runtime, status.code);
                expect("the code of the stop", fits)
            }
            Wait => {
                let status = runtime.wait(id).await?;
                expect("the code of the wait", status.code == Some(self.scenario.code))
            }
            Delete => runtime.delete(id, DeleteRequest::new()).await,
            Force => runtime.delete(id, DeleteRequest::force()).await,
        }
    }
}

fn expect(what: &str, is_so: bool) -> Result<()> {
    if is_so { Ok(()) } else { Err(Error::new(ErrorKind::Internal(format!("{what} is wrong")))) }
}
