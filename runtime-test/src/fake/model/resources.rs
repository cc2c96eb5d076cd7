//! What the model's programs use, and what limits do to them. A process has a little memory of its own and what it ate; a
//! step takes a fixed time of the processor.

use oci_spec::runtime::LinuxResources;
use runtime_api::{ContainerId, DiskStats, Error, ErrorKind, Operation, PidStats, Rejection, Result, Stats};

use crate::{Defect, probe};

use super::super::container::{Container, Limits};
use super::Model;

/// What a process has without having eaten anything.
const OWN_MEMORY: u64 = 256 * 1024;
/// What a step takes of the processor, half of it in the kernel.
const STEP_NS: u64 = 20_000;
/// The size of the model's file system.
const DISK: u64 = 1 << 30;

impl Limits {
    /// What a spec or an update asks for; a limit that is not given, or less than one, is none.
    #[must_use]
    pub fn of(resources: &LinuxResources) -> Self {
        let positive = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        Self {
            memory: resources.memory().as_ref().and_then(|memory| memory.limit()).and_then(positive),
            pids: resources.pids().as_ref().and_then(|pids| positive(pids.limit())),
            weight: resources.cpu().as_ref().and_then(|cpu| cpu.shares()),
        }
    }
}

impl Model {
    /// What a living container uses.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let at = self.find(Operation::Stats, id)?;
        if !self.has(Defect::StatsOfTheStopped) {
            self.admit(Operation::Stats, at)?;
        }
        let container = &self.containers[at];
        let mut stats = Stats::new(self.time_of(self.now));
        if self.has(Defect::StatsAreOld) {
            stats.read_at = self.began;
        }
        let steps = if self.has(Defect::TimeStandsStill) { 1 } else { container.steps };
        // Making the container took some time too.
        stats.cpu.usage_ns = (steps + 1) * STEP_NS;
        if self.runs(container) || !self.has(Defect::PausedUsesTime) {
            stats.cpu.kernel_ns = stats.cpu.usage_ns / 2;
        } else {
            let since = self.now.as_nanos().try_into().unwrap_or(u64::MAX);
            stats.cpu.usage_ns = stats.cpu.usage_ns.saturating_add(since);
        }
        stats.cpu.user_ns = stats.cpu.usage_ns - stats.cpu.kernel_ns;
        let limits = container.blueprint.as_ref().map(|one| one.limits).unwrap_or_default();
        stats.cpu.weight = limits.weight;
        stats.memory.usage = if self.has(Defect::EatenIsNotCounted) { OWN_MEMORY } else { used(container) };
        stats.memory.working_set = stats.memory.usage;
        stats.memory.rss = stats.memory.usage;
        stats.memory.limit = limits.memory.filter(|_| !self.has(Defect::LimitsAreHidden));
        stats.memory.oom_kills = Some(container.oom_kills);
        let mut pids = PidStats::default();
        pids.current = container.processes.len() as u64;
        pids.limit = limits.pids.filter(|_| !self.has(Defect::LimitsAreHidden));
        stats.pids = Some(pids);
        Ok(stats)
    }

    /// The file system of a living container: the probe is in it and nothing else.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`.
    pub fn disk_stats(&self, id: &ContainerId) -> Result<DiskStats> {
        let at = self.find(Operation::DiskStats, id)?;
        if !self.has(Defect::DiskOfTheStopped) {
            self.admit(Operation::DiskStats, at)?;
        }
        let used = probe::BYTES.len() as u64;
        let limit = if self.has(Defect::DiskHasNoSize) { 0 } else { DISK };
        Ok(DiskStats::new(self.time_of(self.now), used, limit, 8))
    }

    /// Changes what a living container may use.
    ///
    /// # Errors
    /// `NotFound`, `WrongState`, `Rejected`.
    pub fn update(&mut self, id: &ContainerId, resources: &LinuxResources) -> Result<()> {
        let at = self.find(Operation::Update, id)?;
        if !self.has(Defect::UpdateOfTheStopped) {
            self.admit(Operation::Update, at)?;
        }
        if self.has(Defect::UpdateDoesNothing) {
            return Ok(());
        }
        let wanted = Limits::of(resources);
        let container = &mut self.containers[at];
        let used = used(container);
        let Some(blueprint) = &mut container.blueprint else { return Ok(()) };
        let too_low = wanted.memory.filter(|memory| *memory < used);
        if let Some(limit) = too_low {
            if self.defect == Some(Defect::RefusedLimitsStay) {
                blueprint.limits.memory = wanted.memory;
            }
            if self.defect != Some(Defect::LowLimitIsOk) {
                let message = format!("a memory limit of {limit} is below the {used} bytes in use");
                return Err(Error::new(ErrorKind::Rejected { class: Rejection::Other, message })
                    .during(Operation::Update)
                    .on(format_args!("container \"{id}\"")));
            }
            return Ok(());
        }
        let keep = |asked: bool, new: Option<u64>, old: Option<u64>| if asked { new } else { old };
        let old = blueprint.limits;
        blueprint.limits = Limits {
            memory: keep(resources.memory().is_some(), wanted.memory, old.memory),
            pids: keep(resources.pids().is_some(), wanted.pids, old.pids),
            weight: keep(resources.cpu().is_some(), wanted.weight, old.weight),
        };
        if self.has(Defect::UpdateForgetsTheRest)
            && let Some(blueprint) = &mut self.containers[at].blueprint
        {
            blueprint.limits = wanted;
        }
        if self.has(Defect::UpdateThaws) && self.containers[at].status == runtime_api::ContainerStatus::Paused
        {
            self.thaw(at);
        }
        Ok(())
    }
}

/// How much memory a container uses.
fn used(container: &Container) -> u64 {
    container
        .processes
        .iter()
        .map(|process| OWN_MEMORY.saturating_add(process.memory))
        .fold(0, u64::saturating_add)
}

/// How much more memory a container may use.
pub(super) fn memory_left(container: &Container) -> u64 {
    let limit = container.blueprint.as_ref().and_then(|blueprint| blueprint.limits.memory);
    limit.map_or(u64::MAX, |limit| limit.saturating_sub(used(container)))
}
