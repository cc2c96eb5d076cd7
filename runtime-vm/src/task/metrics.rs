//! The use of resources, from the metrics of a shim.
//!
//! Which cgroup version they are of is said by their type, not by the host: a virtual machine may have another one. What a
//! shim leaves out is zero, or `None`.

use std::time::SystemTime;

use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use protobuf::Message as _;

use runtime_api::{BlockDeviceStats, BlockStats, HugePageStats, PidStats, Stats};

use super::any::Payload;
use super::fault::{Answer, Fault};

/// The type of the metrics of cgroup version 1.
pub const V1: &str = "io.containerd.cgroups.v1.Metrics";
/// The type of the metrics of cgroup version 2.
pub const V2: &str = "io.containerd.cgroups.v2.Metrics";

/// From here on a limit of version 1 is none: the kernel writes the greatest number of whole pages.
const NO_LIMIT_V1: u64 = 1 << 62;

/// Reads metrics of either version.
///
/// # Errors
/// [`Fault::Malformed`] for metrics of another type, and for bytes that are none.
pub fn stats(payload: &Payload, read_at: SystemTime) -> Answer<Stats> {
    let malformed = |error: protobuf::Error| Fault::Malformed(error.to_string());
    match payload.type_name() {
        V1 => Ok(of_v1(&v1::Metrics::parse_from_bytes(&payload.value).map_err(malformed)?, read_at)),
        V2 => Ok(of_v2(&v2::Metrics::parse_from_bytes(&payload.value).map_err(malformed)?, read_at)),
        other => Err(Fault::Malformed(format!("metrics of the unknown type {other:?}"))),
    }
}

fn of_v1(metrics: &v1::Metrics, read_at: SystemTime) -> Stats {
    let mut stats = Stats::new(read_at);
    cpu_of_v1(&metrics.cpu, &mut stats);
    memory_of_v1(&metrics.memory, &mut stats);
    if let Some(control) = metrics.memory_oom_control.as_ref() {
        stats.memory.oom_kills = Some(control.oom_kill);
    }
    stats.pids = metrics.pids.as_ref().map(|pids| pid_stats(pids.current, pids.limit));
    stats.block = metrics.blkio.as_ref().map(block_of_v1);
    for pages in &metrics.hugetlb {
        stats.huge_pages.insert(pages.pagesize.clone(), huge_pages(pages.usage, pages.max));
    }
    stats
}

fn cpu_of_v1(cpu: &v1::CPUStat, stats: &mut Stats) {
    stats.cpu.usage_ns = cpu.usage.total;
    stats.cpu.user_ns = cpu.usage.user;
    stats.cpu.kernel_ns = cpu.usage.kernel;
    stats.cpu.periods = cpu.throttling.periods;
    stats.cpu.throttled_periods = cpu.throttling.throttled_periods;
    stats.cpu.throttled_ns = cpu.throttling.throttled_time;
}

fn memory_of_v1(memory: &v1::MemoryStat, stats: &mut Stats) {
    let told = &mut stats.memory;
    told.usage = memory.usage.usage;
    told.max_usage = Some(memory.usage.max).filter(|most| *most > 0);
    told.limit = memory.usage.as_ref().map(|usage| usage.limit).and_then(limit_of_v1);
    told.limit_hits = memory.usage.failcnt;
    // Figures whose names begin with `total_` cover what is below the cgroup.
    told.cache = greater(memory.total_cache, memory.cache);
    told.rss = greater(memory.total_rss, memory.rss);
    told.inactive_file = greater(memory.total_inactive_file, memory.inactive_file);
    told.page_faults = greater(memory.total_pg_fault, memory.pg_fault);
    told.major_page_faults = greater(memory.total_pg_maj_fault, memory.pg_maj_fault);
    told.working_set = told.usage.saturating_sub(told.inactive_file);
    // What is called swap here is memory and swap together.
    if let Some(both) = memory.swap.as_ref().filter(|both| both.usage > 0 && both.usage >= told.usage) {
        told.swap = Some(both.usage - told.usage);
        told.swap_limit = match (limit_of_v1(both.limit), told.limit) {
            (Some(both), Some(alone)) => Some(both.saturating_sub(alone)),
            _ => None,
        };
    }
}

/// The recursive figure, where there is one.
fn greater(total: u64, own: u64) -> u64 {
    total.max(own)
}

fn limit_of_v1(limit: u64) -> Option<u64> {
    (1..NO_LIMIT_V1).contains(&limit).then_some(limit)
}

fn block_of_v1(blkio: &v1::BlkIOStat) -> BlockStats {
    let mut block = BlockStats::default();
    for (entries, requests) in
        [(&blkio.io_service_bytes_recursive, false), (&blkio.io_serviced_recursive, true)]
    {
        for entry in entries {
            let device = device(&mut block, entry.major, entry.minor);
            match (entry.op.to_ascii_lowercase().as_str(), requests) {
                ("read", false) => device.read = entry.value,
                ("write", false) => device.written = entry.value,
                ("read", true) => device.reads = entry.value,
                ("write", true) => device.writes = entry.value,
                _ => {}
            }
        }
    }
    added_up(block)
}

fn of_v2(metrics: &v2::Metrics, read_at: SystemTime) -> Stats {
    let mut stats = Stats::new(read_at);
    let nanoseconds = |microseconds: u64| microseconds.saturating_mul(1000);
    let cpu = &metrics.cpu;
    stats.cpu.usage_ns = nanoseconds(cpu.usage_usec);
    stats.cpu.user_ns = nanoseconds(cpu.user_usec);
    stats.cpu.kernel_ns = nanoseconds(cpu.system_usec);
    stats.cpu.periods = cpu.nr_periods;
    stats.cpu.throttled_periods = cpu.nr_throttled;
    stats.cpu.throttled_ns = nanoseconds(cpu.throttled_usec);
    let (memory, told) = (&metrics.memory, &mut stats.memory);
    told.usage = memory.usage;
    told.max_usage = Some(memory.max_usage).filter(|most| *most > 0);
    told.limit = Some(memory.usage_limit).filter(|limit| *limit > 0).and_then(limit_of_v2);
    told.cache = memory.file;
    told.rss = memory.anon;
    told.inactive_file = memory.inactive_file;
    told.page_faults = memory.pgfault;
    told.major_page_faults = memory.pgmajfault;
    told.working_set = told.usage.saturating_sub(told.inactive_file);
    if let Some(memory) = memory.as_ref() {
        told.swap = Some(memory.swap_usage);
        told.swap_limit = limit_of_v2(memory.swap_limit);
    }
    if let Some(events) = metrics.memory_events.as_ref() {
        told.limit_hits = events.max;
        told.oom_kills = Some(events.oom_kill);
    }
    stats.pids = metrics.pids.as_ref().map(|pids| pid_stats(pids.current, pids.limit));
    stats.block = metrics.io.as_ref().map(|io| {
        let mut block = BlockStats::default();
        for entry in &io.usage {
            let device = device(&mut block, entry.major, entry.minor);
            (device.read, device.written) = (entry.rbytes, entry.wbytes);
            (device.reads, device.writes) = (entry.rios, entry.wios);
        }
        added_up(block)
    });
    for pages in &metrics.hugetlb {
        stats.huge_pages.insert(pages.pagesize.clone(), huge_pages(pages.current, 0));
    }
    stats
}

fn limit_of_v2(limit: u64) -> Option<u64> {
    Some(limit).filter(|limit| *limit < u64::MAX)
}

fn pid_stats(current: u64, limit: u64) -> PidStats {
    let mut pids = PidStats::default();
    pids.current = current;
    pids.limit = Some(limit).filter(|limit| (1..u64::MAX).contains(limit));
    pids
}

fn huge_pages(usage: u64, most: u64) -> HugePageStats {
    let mut pages = HugePageStats::default();
    pages.usage = usage;
    pages.max_usage = Some(most).filter(|most| *most > 0);
    pages
}

fn device(block: &mut BlockStats, major: u64, minor: u64) -> &mut BlockDeviceStats {
    let found = block.devices.iter().position(|one| (one.major, one.minor) == (major, minor));
    let at = found.unwrap_or_else(|| {
        let mut device = BlockDeviceStats::default();
        (device.major, device.minor) = (major, minor);
        block.devices.push(device);
        block.devices.len() - 1
    });
    &mut block.devices[at]
}

fn added_up(mut block: BlockStats) -> BlockStats {
    block.read = block.devices.iter().fold(0, |sum, device| sum.saturating_add(device.read));
    block.written = block.devices.iter().fold(0, |sum, device| sum.saturating_add(device.written));
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use protobuf::MessageField;

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    fn read(type_url: &str, message: &impl protobuf::Message) -> Stats {
        stats(&Payload::new(type_url, message.write_to_bytes().unwrap()), AT).unwrap()
    }

    fn entry(usage: u64, limit: u64, max: u64, failcnt: u64) -> MessageField<v1::MemoryEntry> {
        let mut entry = v1::MemoryEntry::new();
        (entry.usage, entry.limit, entry.max, entry.failcnt) = (usage, limit, max, failcnt);
        MessageField::some(entry)
    }

    fn blkio(op: &str, minor: u64, value: u64) -> v1::BlkIOEntry {
        let mut entry = v1::BlkIOEntry::new();
        (entry.op, entry.major, entry.minor, entry.value) = (op.to_owned(), 8, minor, value);
        entry
    }

    #[test]
    fn what_is_left_out_is_zero_or_none() {
        for type_url in [V1, V2] {
            let empty = stats(&Payload::new(type_url, []), AT).unwrap();
            assert_eq!(empty, Stats::new(AT), "{type_url}");
        }
    }

    #[test]
    fn version_1_is_read() {
        let mut cpu = v1::CPUStat::new();
        let usage = cpu.usage.mut_or_insert_default();
        (usage.total, usage.user, usage.kernel) = (100, 60, 40);
        let throttling = cpu.throttling.mut_or_insert_default();
        (throttling.periods, throttling.throttled_periods, throttling.throttled_time) = (5, 2, 7);
        let mut memory = v1::MemoryStat::new();
        memory.usage = entry(1000, 5000, 1200, 3);
        memory.swap = entry(1100, 8000, 1300, 0);
        (memory.total_cache, memory.total_rss, memory.total_inactive_file) = (300, 600, 200);
        (memory.rss, memory.total_pg_fault, memory.total_pg_maj_fault) = (10, 9, 1);
        let mut metrics = v1::Metrics::new();
        metrics.cpu = MessageField::some(cpu);
        metrics.memory = MessageField::some(memory);
        metrics.memory_oom_control.mut_or_insert_default().oom_kill = 4;
        metrics.pids.mut_or_insert_default().current = 6;
        let io = metrics.blkio.mut_or_insert_default();
        io.io_service_bytes_recursive =
            vec![blkio("Read", 0, 4096), blkio("Write", 0, 10), blkio("Read", 16, 4)];
        io.io_serviced_recursive = vec![blkio("Read", 0, 2), blkio("Total", 0, 2)];
        let mut pages = v1::HugetlbStat::new();
        (pages.pagesize, pages.usage, pages.max) = ("2MB".to_owned(), 2, 4);
        metrics.hugetlb.push(pages);

        let read = read(V1, &metrics);
        assert_eq!((read.cpu.usage_ns, read.cpu.user_ns, read.cpu.kernel_ns), (100, 60, 40));
        assert_eq!((read.cpu.periods, read.cpu.throttled_periods, read.cpu.throttled_ns), (5, 2, 7));
        let memory = read.memory;
        assert_eq!((memory.usage, memory.limit, memory.max_usage), (1000, Some(5000), Some(1200)));
        assert_eq!((memory.swap, memory.swap_limit), (Some(100), Some(3000)));
        assert_eq!((memory.cache, memory.rss, memory.working_set), (300, 600, 800));
        assert_eq!((memory.page_faults, memory.major_page_faults), (9, 1));
        assert_eq!((memory.limit_hits, memory.oom_kills), (3, Some(4)));
        let pids = read.pids.unwrap();
        assert_eq!((pids.current, pids.limit), (6, None));
        let block = read.block.unwrap();
        assert_eq!((block.read, block.written, block.devices.len()), (4100, 10, 2));
        assert_eq!((block.devices[0].reads, block.devices[1].minor), (2, 16));
        assert_eq!((read.huge_pages["2MB"].usage, read.huge_pages["2MB"].max_usage), (2, Some(4)));
    }

    #[test]
    fn limits_that_are_none_are_not_told() {
        let mut metrics = v1::Metrics::new();
        let memory = metrics.memory.mut_or_insert_default();
        memory.usage = entry(1, 0x7fff_ffff_ffff_f000, 1, 0);
        memory.swap = entry(1, 0x7fff_ffff_ffff_f000, 1, 0);
        let read_v1 = read(V1, &metrics).memory;
        assert_eq!((read_v1.limit, read_v1.swap_limit, read_v1.swap), (None, None, Some(0)));
        let mut metrics = v2::Metrics::new();
        let memory = metrics.memory.mut_or_insert_default();
        (memory.usage_limit, memory.swap_limit) = (u64::MAX, u64::MAX);
        metrics.pids.mut_or_insert_default().limit = u64::MAX;
        let read_v2 = read(V2, &metrics);
        assert_eq!((read_v2.memory.limit, read_v2.memory.swap_limit), (None, None));
        assert_eq!(read_v2.pids.unwrap().limit, None);
    }

    #[test]
    fn version_2_is_read() {
        let mut metrics = v2::Metrics::new();
        let cpu = metrics.cpu.mut_or_insert_default();
        (cpu.usage_usec, cpu.user_usec, cpu.system_usec) = (100, 60, 40);
        (cpu.nr_periods, cpu.nr_throttled, cpu.throttled_usec) = (5, 2, u64::MAX);
        let memory = metrics.memory.mut_or_insert_default();
        (memory.usage, memory.usage_limit, memory.file, memory.anon) = (100, 400, 30, 60);
        (memory.inactive_file, memory.swap_usage, memory.swap_limit) = (200, 7, 8);
        (memory.pgfault, memory.pgmajfault) = (9, 1);
        let events = metrics.memory_events.mut_or_insert_default();
        (events.max, events.oom_kill) = (3, 2);
        let mut io = v2::IOEntry::new();
        (io.major, io.rbytes, io.wbytes, io.rios, io.wios) = (8, 1, 2, 3, 4);
        metrics.io.mut_or_insert_default().usage.push(io);

        let read = read(V2, &metrics);
        assert_eq!((read.cpu.usage_ns, read.cpu.user_ns, read.cpu.kernel_ns), (100_000, 60_000, 40_000));
        assert_eq!((read.cpu.periods, read.cpu.throttled_periods, read.cpu.throttled_ns), (5, 2, u64::MAX));
        let memory = read.memory;
        assert_eq!((memory.usage, memory.limit, memory.max_usage), (100, Some(400), None));
        assert_eq!((memory.swap, memory.swap_limit), (Some(7), Some(8)));
        assert_eq!((memory.cache, memory.rss, memory.working_set), (30, 60, 0));
        assert_eq!((memory.limit_hits, memory.oom_kills), (3, Some(2)));
        let block = read.block.unwrap();
        assert_eq!(
            (block.read, block.written, block.devices[0].reads, block.devices[0].writes),
            (1, 2, 3, 4)
        );
    }

    #[test]
    fn a_type_may_have_a_host_before_it_and_must_be_known() {
        let empty = Payload::new(format!("type.googleapis.com/{V2}"), []);
        stats(&empty, AT).unwrap();
        for wrong in [Payload::new("a.b.Metrics", []), Payload::new(V1, [0xff]), Payload::default()] {
            assert!(matches!(stats(&wrong, AT), Err(Fault::Malformed(_))), "{wrong:?}");
        }
    }
}
