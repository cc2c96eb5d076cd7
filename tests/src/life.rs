//! Lives for campaigns: the steps of a container's life, done one after the other by a process that may be killed at any
//! moment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime_api::{
    ContainerId, CreateRequest, DeleteRequest, Error, ErrorKind, ExecSyncRequest, LogConfig, Result,
    SharedRuntime, StopRequest,
};
use runtime_test::{Step as Act, Workload, bundle};

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
    /// Freezes it.
    Pause,
    /// Thaws it.
    Resume,
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

use Step::{Create, Delete, Exec, Force, Hang, Pause, Resume, Start, Stop, Wait};

/// What a program that ends by itself prints last.
pub const LAST_LINE: &str = "the last line";

/// How many bytes it prints before: whole lines.
pub const FILL: u64 = 300 * 64;

/// Every kind of life.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "whole",
        steps: &[Create, Start, Exec, Pause, Resume, Hang, Stop, Delete],
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
        steps: &[Create, Start, Hang, Force],
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

impl Scenario {
    /// The scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    fn workload(&self) -> Workload {
        match self.name {
            "whole" => Workload::exits_on_term(7),
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
    pub fn write_bundles(bundles: &Path) -> std::io::Result<()> {
        for scenario in SCENARIOS {
            bundle::write(&bundles.join(scenario.name), &scenario.workload())?;
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
                let (runtime, life) = (SharedRuntime::clone(runtime), self.clone());
                let exec = tokio::spawn(async move { runtime.exec_sync(&life.id, life.hang()).await });
                while with_arguments(&[&self.hang_mark()]).is_none() {
                    expect("the exec that hangs", !exec.is_finished())?;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Ok(())
            }
            Pause => runtime.pause(id).await,
            Resume => runtime.resume(id).await,
            Stop => {
                let status = runtime.stop(id, StopRequest::within(self.scenario.grace)).await?;
                expect("the code of the stop", status.code == Some(self.scenario.code))
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
