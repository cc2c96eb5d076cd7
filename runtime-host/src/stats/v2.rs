//! The files of cgroup version 2. All its figures cover what is below a cgroup.

use runtime_api::{BlockDeviceStats, BlockStats, CpuStats, HugePageStats, MemoryStats, PidStats};

use super::{Directory, device};

pub(super) fn cpu(files: &mut Directory<'_>, cpu: &mut CpuStats) -> bool {
    let known = files.pairs("cpu.stat", |word, number| {
        let nanoseconds = number.saturating_mul(1000);
        match word {
            "usage_usec" => cpu.usage_ns = nanoseconds,
            "user_usec" => cpu.user_ns = nanoseconds,
            "system_usec" => cpu.kernel_ns = nanoseconds,
            "nr_periods" => cpu.periods = number,
            "nr_throttled" => cpu.throttled_periods = number,
            "throttled_usec" => cpu.throttled_ns = nanoseconds,
            _ => {}
        }
    });
    cpu.weight = files.number("cpu.weight");
    if let Some((quota, period)) = files.text("cpu.max").and_then(|text| text.split_once(' ')) {
        cpu.quota_us = quota.parse().ok();
        cpu.period_us = period.parse().ok();
    }
    known
}

pub(super) fn memory(files: &mut Directory<'_>, memory: &mut MemoryStats) -> bool {
    let Some(usage) = files.number("memory.current") else { return false };
    memory.usage = usage;
    memory.max_usage = files.number("memory.peak");
    memory.limit = files.number("memory.max");
    files.pairs("memory.stat", |word, number| match word {
        "inactive_file" => memory.inactive_file = number,
        "anon" => memory.rss = number,
        "file" => memory.cache = number,
        "pgfault" => memory.page_faults = number,
        "pgmajfault" => memory.major_page_faults = number,
        _ => {}
    });
    memory.working_set = usage.saturating_sub(memory.inactive_file);
    memory.swap = files.number("memory.swap.current");
    memory.swap_limit = files.number("memory.swap.max");
    files.pairs("memory.events", |word, number| match word {
        "max" => memory.limit_hits = number,
        "oom_kill" => memory.oom_kills = Some(number),
        _ => {}
    });
    true
}

pub(super) fn pids(files: &mut Directory<'_>) -> Option<PidStats> {
    let mut pids = PidStats::default();
    pids.current = files.number("pids.current")?;
    pids.limit = files.number("pids.max");
    Some(pids)
}

/// Lines are a device and pairs: `8:0 rbytes=4096 wbytes=0 rios=1 wios=0`. A cgroup that never touched a device has an
/// empty file.
pub(super) fn block(files: &mut Directory<'_>) -> Option<BlockStats> {
    let mut block = BlockStats::default();
    for line in files.text("io.stat")?.lines() {
        let mut fields = line.split(' ');
        let Some((major, minor)) = fields.next().and_then(device) else { continue };
        let mut one = BlockDeviceStats::default();
        (one.major, one.minor) = (major, minor);
        for (key, number) in fields.filter_map(|field| field.split_once('=')) {
            let number = number.parse().unwrap_or_default();
            match key {
                "rbytes" => one.read = number,
                "wbytes" => one.written = number,
                "rios" => one.reads = number,
                "wios" => one.writes = number,
                _ => {}
            }
        }
        block.devices.push(one);
    }
    add_up(&mut block);
    Some(block)
}

pub(super) fn huge_pages(files: &mut Directory<'_>, size: &str) -> Option<HugePageStats> {
    let mut pages = HugePageStats::default();
    pages.usage = files.number(&format!("hugetlb.{size}.current"))?;
    Some(pages)
}

/// Sets the sums from the devices.
pub(super) fn add_up(block: &mut BlockStats) {
    block.read = block.devices.iter().map(|one| one.read).fold(0, u64::saturating_add);
    block.written = block.devices.iter().map(|one| one.written).fold(0, u64::saturating_add);
}
