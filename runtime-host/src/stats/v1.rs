//! The files of cgroup version 1. Its figures of memory cover what is below a cgroup where their names begin with `total_`.

use runtime_api::{BlockDeviceStats, BlockStats, CpuStats, HugePageStats, MemoryStats};

use super::{Directory, NO_LIMIT, device};

/// `cpuacct.stat` counts in this unit, whatever the kernel's own clock.
const TICK_NS: u64 = 10_000_000;

pub(super) fn time(files: &mut Directory<'_>, cpu: &mut CpuStats) -> bool {
    let Some(usage) = files.number("cpuacct.usage") else { return false };
    cpu.usage_ns = usage;
    if let (Some(user), Some(kernel)) =
        (files.number("cpuacct.usage_user"), files.number("cpuacct.usage_sys"))
    {
        (cpu.user_ns, cpu.kernel_ns) = (user, kernel);
    } else {
        files.pairs("cpuacct.stat", |word, ticks| match word {
            "user" => cpu.user_ns = ticks.saturating_mul(TICK_NS),
            "system" => cpu.kernel_ns = ticks.saturating_mul(TICK_NS),
            _ => {}
        });
    }
    true
}

pub(super) fn share(files: &mut Directory<'_>, cpu: &mut CpuStats) {
    files.pairs("cpu.stat", |word, number| match word {
        "nr_periods" => cpu.periods = number,
        "nr_throttled" => cpu.throttled_periods = number,
        "throttled_time" => cpu.throttled_ns = number,
        _ => {}
    });
    cpu.weight = files.number("cpu.shares");
    // Minus one, which is no `u64`, means that there is none.
    cpu.quota_us = files.number("cpu.cfs_quota_us");
    cpu.period_us = files.number("cpu.cfs_period_us");
}

pub(super) fn memory(files: &mut Directory<'_>, memory: &mut MemoryStats) -> bool {
    let Some(usage) = files.number("memory.usage_in_bytes") else { return false };
    memory.usage = usage;
    memory.max_usage = files.number("memory.max_usage_in_bytes");
    memory.limit = files.limit("memory.limit_in_bytes");
    memory.limit_hits = files.number("memory.failcnt").unwrap_or_default();
    files.pairs("memory.stat", |word, number| match word {
        "total_inactive_file" => memory.inactive_file = number,
        "total_rss" => memory.rss = number,
        "total_cache" => memory.cache = number,
        "total_pgfault" => memory.page_faults = number,
        "total_pgmajfault" => memory.major_page_faults = number,
        "total_swap" => memory.swap = Some(number),
        _ => {}
    });
    memory.working_set = usage.saturating_sub(memory.inactive_file);
    // This limit is one of memory and swap together.
    if let (Some(both), Some(alone)) = (files.limit("memory.memsw.limit_in_bytes"), memory.limit) {
        memory.swap_limit = Some(both.saturating_sub(alone));
    }
    files.pairs("memory.oom_control", |word, number| {
        if word == "oom_kill" {
            memory.oom_kills = Some(number);
        }
    });
    true
}

/// Lines are a device, what was done, and a number: `8:0 Read 4096`; the last one is a sum.
pub(super) fn block(files: &mut Directory<'_>) -> Option<BlockStats> {
    let mut block = BlockStats::default();
    let mut known = false;
    for requests in [false, true] {
        let name = if requests { "blkio.throttle.io_serviced" } else { "blkio.throttle.io_service_bytes" };
        // The recursive file is younger than the plain one.
        let recursive = format!("{name}_recursive");
        let chosen = if files.has(&recursive) { recursive.as_str() } else { name };
        let Some(text) = files.text(chosen) else { continue };
        known = true;
        for line in text.lines() {
            let mut fields = line.split(' ');
            let Some((major, minor)) = fields.next().and_then(device) else { continue };
            let (Some(what), Some(number)) =
                (fields.next(), fields.next().and_then(|number| number.parse::<u64>().ok()))
            else {
                continue;
            };
            let found = block.devices.iter().position(|one| (one.major, one.minor) == (major, minor));
            let at = found.unwrap_or_else(|| {
                let mut device = BlockDeviceStats::default();
                (device.major, device.minor) = (major, minor);
                block.devices.push(device);
                block.devices.len() - 1
            });
            let device = &mut block.devices[at];
            match (what, requests) {
                ("Read", false) => device.read = number,
                ("Write", false) => device.written = number,
                ("Read", true) => device.reads = number,
                ("Write", true) => device.writes = number,
                _ => {}
            }
        }
    }
    super::v2::add_up(&mut block);
    known.then_some(block)
}

pub(super) fn huge_pages(files: &mut Directory<'_>, size: &str) -> Option<HugePageStats> {
    let mut pages = HugePageStats::default();
    pages.usage = files.number(&format!("hugetlb.{size}.usage_in_bytes"))?;
    pages.max_usage =
        files.number(&format!("hugetlb.{size}.max_usage_in_bytes")).filter(|most| *most < NO_LIMIT);
    Some(pages)
}
