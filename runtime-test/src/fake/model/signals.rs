//! Kill and stop.

use std::time::Duration;

use runtime_api::{
    Capabilities, Capability, ContainerId, ContainerStatus, Error, ErrorKind, Operation, Result, Signal,
};

use crate::Defect;

use super::{Ending, Key, Model, Moment, Pid, Process, Stopping};

/// Signals that come closer together than this are a burst.
const BURST: Duration = Duration::from_millis(50);

impl Model {
    /// Sends a signal to a container's init, or to all its processes.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, and `Unsupported` as `answers` have it.
    pub fn kill(
        &mut self,
        id: &ContainerId,
        signal: Signal,
        all: bool,
        answers: &Capabilities,
    ) -> Result<()> {
        let at = match self.find(Operation::Kill, id) {
            Err(_) if self.has(Defect::KillUnknownIsOk) => return Ok(()),
            found => found?,
        };
        let is = self.containers[at].status;
        if is == ContainerStatus::Stopped && self.has(Defect::KillStoppedIsOk) {
            return Ok(());
        }
        self.admit(Operation::Kill, at)?;
        if signal.is_real_time() {
            let subject = format_args!("container \"{id}\"");
            let needed = answers.require(Capability::KillRealTime);
            needed.map_err(|error| error.during(Operation::Kill).on(subject))?;
        }
        if signal == Signal::KILL {
            if self.has(Defect::SignalDeathIsBare)
                && is == ContainerStatus::Running
                && !self.traps_anything(at)
            {
                self.end(at, 9);
            } else if !self.survives(at) {
                self.signal(at, signal.number(), all);
            }
            return Ok(());
        }
        let needed = match is {
            ContainerStatus::Created => Some(Capability::KillCreated),
            ContainerStatus::Paused => Some(Capability::KillPaused),
            _ => None,
        };
        if let Some(capability) = needed {
            let subject = format_args!("container \"{id}\"");
            answers.require(capability).map_err(|error| error.during(Operation::Kill).on(subject))?;
        }
        if is == ContainerStatus::Created && self.has(Defect::KillCreatedIsRefused) {
            let why = "signals need a started program".to_owned();
            let capability = Capability::KillCreated;
            return Err(Error::new(ErrorKind::Unsupported { capability, why }).during(Operation::Kill));
        }
        if !self.is_lost(at) && is != ContainerStatus::Created {
            self.signal(at, self.altered(signal), all);
        }
        // An init that has not run its program traps nothing, so the kernel drops what it gets.
        Ok(())
    }

    /// Begins to end a container, or changes a stop that is under way. Gives where its end will be told.
    ///
    /// # Errors
    /// `NotFound`, and `WrongState` while it is Creating.
    pub fn stop(&mut self, id: &ContainerId, grace: Option<Duration>) -> Result<(Key, Ending)> {
        let at = self.find(Operation::Stop, id)?;
        self.admit(Operation::Stop, at)?;
        let (key, ending) = (self.containers[at].key, Ending::clone(&self.containers[at].ending));
        match self.containers[at].status {
            ContainerStatus::Created => {
                if self.has(Defect::StopRefusesCreated) {
                    Operation::Pause.admit(id, ContainerStatus::Created, false)?;
                }
                self.end(at, 137);
            }
            ContainerStatus::Running | ContainerStatus::Paused => self.stop_living(at, grace),
            _ => {
                if self.has(Defect::StopMovesTheEnd) {
                    return Ok((key, self.moved_end(at)));
                }
            }
        }
        Ok((key, ending))
    }

    /// Gives up a stop, as no sound runtime does.
    pub fn give_up_stop(&mut self, key: Key) {
        if let Some(container) = self.containers.iter_mut().find(|container| container.key == key) {
            container.stopping = None;
        }
    }

    fn stop_living(&mut self, at: usize, grace: Option<Duration>) {
        let grace = match grace {
            Some(Duration::ZERO) if self.has(Defect::ZeroGraceWaits) => Some(Duration::from_secs(10)),
            Some(Duration::ZERO) => return self.end(at, 137),
            Some(grace) if self.has(Defect::GraceIsHalved) => Some(grace / 2),
            grace => grace,
        };
        let wanted = grace.and_then(|grace| self.now.checked_add(grace));
        let before = self.containers[at].stopping;
        let kill_at = match before {
            None => wanted,
            Some(_) if self.has(Defect::LongerGraceLengthens) => wanted,
            Some(first) if self.has(Defect::ShorterGraceIsIgnored) => first.kill_at,
            Some(first) => earlier(first.kill_at, wanted),
        };
        self.containers[at].stopping = Some(Stopping { kill_at });
        if self.containers[at].status == ContainerStatus::Paused && !self.has(Defect::StopLeavesItFrozen) {
            self.thaw(at);
        }
        if before.is_none() || self.has(Defect::EachStopSignals) {
            let configured = self.containers[at].blueprint.as_ref().map(|blueprint| blueprint.stop_signal);
            let signal = if self.has(Defect::StopAlwaysSendsTerm) { None } else { configured };
            self.signal(at, signal.unwrap_or(Signal::TERM).number(), false);
        }
        self.run_due();
    }

    pub(super) fn signal(&mut self, at: usize, number: i32, all: bool) {
        let processes = self.containers[at].processes.iter().map(|process| process.pid);
        let pids: Vec<Pid> = processes.take(if all { usize::MAX } else { 1 }).collect();
        for pid in pids {
            // One that was in the list may have died of what came before it.
            if let Some(nth) = self.containers[at].processes.iter().position(|process| process.pid == pid) {
                let frozen = !self.runs(&self.containers[at]);
                self.run_one(at, nth, |process, around| process.receive(number, frozen, around));
            }
        }
        self.run_due();
    }

    /// Signals one process of a container, if it is still there.
    pub(super) fn send_to_process(&mut self, container: Key, process: Option<Pid>, number: i32) {
        let Some(at) = self.containers.iter().position(|one| one.key == container) else { return };
        let nth = self.containers[at].processes.iter().position(|one| Some(one.pid) == process);
        if let Some(nth) = nth {
            let frozen = !self.runs(&self.containers[at]);
            self.run_one(at, nth, |process, around| process.receive(number, frozen, around));
        }
    }

    /// Whether a defect spares a container from KILL.
    fn survives(&self, at: usize) -> bool {
        let container = &self.containers[at];
        match container.status {
            ContainerStatus::Created => self.has(Defect::CreatedSurvivesKill),
            ContainerStatus::Paused => self.has(Defect::PausedSurvivesKill),
            _ => self.has(Defect::KillCanBeIgnored) && self.traps_anything(at),
        }
    }

    fn traps_anything(&self, at: usize) -> bool {
        self.containers[at].processes.first().is_some_and(Process::traps_anything)
    }

    /// Whether a defect loses this signal.
    fn is_lost(&mut self, at: usize) -> bool {
        let container = &mut self.containers[at];
        let burst = container.last_signal.is_some_and(|last| self.now.saturating_sub(last) < BURST);
        container.last_signal = Some(self.now);
        let paused = container.status == ContainerStatus::Paused;
        burst && self.has(Defect::BurstsOfSignalsAreLost) || paused && self.has(Defect::PausedLosesSignals)
    }

    fn altered(&self, signal: Signal) -> i32 {
        match signal {
            Signal::USR1 if self.has(Defect::KillSendsAnother) => 12,
            _ if signal.is_real_time() && self.has(Defect::RealTimeSignalsAreFolded) => 34,
            _ => signal.number(),
        }
    }

    fn moved_end(&self, at: usize) -> Ending {
        let moved = Ending::default();
        if let Some(mut status) = self.containers[at].ending.get().cloned() {
            status.finished_at = self.time_of(self.now + Moment::from_secs(1));
            let _ = moved.set(status);
        }
        moved
    }
}

/// The earlier of two deadlines, where none means never.
pub(super) fn earlier(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
