use super::*;

/// A host of directories, as both versions lay them out.
struct Host {
    at: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        Self { at: tempfile::tempdir().unwrap() }
    }

    fn write(&self, hierarchy: &str, files: &[(&str, &str)]) {
        let dir = self.at.path().join(hierarchy).join("web");
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
        }
    }

    fn read(&self, mounts: &[(&str, &str)]) -> Option<Stats> {
        let line = |(name, options): &(&str, &str)| {
            let kind = if *options == "cgroup2" { "cgroup2" } else { "cgroup" };
            format!("31 30 0:27 / {}/{name} rw - {kind} {kind} rw,{options}\n", self.at.path().display())
        };
        let table: String = mounts.iter().map(line).collect();
        read(&Hierarchies::parse_with_pages(&table, &["2MB"]), "/web")
    }
}

#[test]
fn version_2_is_read_as_the_kernel_writes_it() {
    let host = Host::new();
    host.write(
        "unified",
        &[
            (
                "cpu.stat",
                "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 5\nnr_throttled 2\n\
                 throttled_usec 40\nnr_bursts 0\n",
            ),
            ("cpu.max", "20000 50000\n"),
            ("cpu.weight", "39\n"),
            ("memory.current", "8192000\n"),
            ("memory.max", "67108864\n"),
            ("memory.peak", "9000000\n"),
            (
                "memory.stat",
                "anon 4096000\nfile 3000000\ninactive_file 2000000\npgfault 77\npgmajfault 3\n",
            ),
            ("memory.swap.current", "0\n"),
            ("memory.swap.max", "max\n"),
            ("memory.events", "low 0\nhigh 0\nmax 4\noom 1\noom_kill 2\noom_group_kill 0\n"),
            ("pids.current", "3\n"),
            ("pids.max", "100\n"),
            ("io.stat", "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n254:1 rbytes=1 wbytes=2 rios=3 wios=4\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.max", "max\n"),
        ],
    );
    let stats = host.read(&[("unified", "cgroup2")]).unwrap();
    let cpu = stats.cpu;
    assert_eq!((cpu.usage_ns, cpu.user_ns, cpu.kernel_ns), (3_000_000, 2_000_000, 1_000_000));
    assert_eq!((cpu.periods, cpu.throttled_periods, cpu.throttled_ns), (5, 2, 40_000));
    assert_eq!((cpu.weight, cpu.quota_us, cpu.period_us), (Some(39), Some(20_000), Some(50_000)));
    let memory = stats.memory;
    assert_eq!((memory.usage, memory.working_set, memory.rss), (8_192_000, 6_192_000, 4_096_000));
    assert_eq!((memory.limit, memory.max_usage), (Some(67_108_864), Some(9_000_000)));
    assert_eq!((memory.swap, memory.swap_limit), (Some(0), None));
    assert_eq!((memory.page_faults, memory.major_page_faults), (77, 3));
    assert_eq!((memory.limit_hits, memory.oom_kills), (4, Some(2)));
    let pids = stats.pids.unwrap();
    assert_eq!((pids.current, pids.limit), (3, Some(100)));
    let block = stats.block.unwrap();
    assert_eq!((block.read, block.written, block.devices.len()), (4097, 8194, 2));
    assert_eq!((block.devices[1].major, block.devices[1].minor, block.devices[1].writes), (254, 1, 4));
    assert_eq!(stats.huge_pages["2MB"].usage, 2_097_152);
}

#[test]
fn version_2_without_limits_and_with_few_controllers_is_read_too() {
    let host = Host::new();
    host.write(
        "unified",
        &[
            ("cpu.stat", "usage_usec 7\nuser_usec 4\nsystem_usec 3\n"),
            ("cpu.max", "max 100000\n"),
            ("memory.current", "10\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "inactive_file 20\n"),
            ("pids.current", "1\n"),
            ("pids.max", "max\n"),
            ("io.stat", ""),
        ],
    );
    let stats = host.read(&[("unified", "cgroup2")]).unwrap();
    assert_eq!((stats.cpu.quota_us, stats.cpu.period_us), (None, Some(100_000)));
    assert_eq!((stats.memory.limit, stats.memory.working_set, stats.memory.swap), (None, 0, None));
    assert_eq!(stats.pids.unwrap().limit, None);
    assert!(stats.block.unwrap().devices.is_empty() && stats.huge_pages.is_empty());
}

#[test]
fn version_1_is_read_controller_by_controller() {
    let host = Host::new();
    host.write("cpuacct", &[("cpuacct.usage", "900000000\n"), ("cpuacct.stat", "user 50\nsystem 30\n")]);
    host.write(
        "cpu",
        &[
            ("cpu.stat", "nr_periods 9\nnr_throttled 4\nthrottled_time 123\n"),
            ("cpu.shares", "512\n"),
            ("cpu.cfs_quota_us", "-1\n"),
            ("cpu.cfs_period_us", "100000\n"),
        ],
    );
    host.write(
        "memory",
        &[
            ("memory.usage_in_bytes", "1000\n"),
            ("memory.max_usage_in_bytes", "3000\n"),
            ("memory.limit_in_bytes", "4096\n"),
            ("memory.memsw.limit_in_bytes", "6096\n"),
            ("memory.failcnt", "8\n"),
            ("memory.stat", "inactive_file 5\ntotal_inactive_file 300\ntotal_rss 200\ntotal_cache 400\ntotal_pgfault 6\ntotal_pgmajfault 1\ntotal_swap 0\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ],
    );
    host.write(
        "blkio",
        &[
            (
                "blkio.throttle.io_service_bytes_recursive",
                "8:0 Read 100\n8:0 Write 200\n8:0 Total 300\nTotal 300\n",
            ),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
        ],
    );
    host.write(
        "hugetlb",
        &[("hugetlb.2MB.usage_in_bytes", "0\n"), ("hugetlb.2MB.max_usage_in_bytes", "9\n")],
    );
    let mounts =
        ["cpuacct", "cpu", "memory", "blkio", "hugetlb", "pids"].map(|controller| (controller, controller));
    let stats = host.read(&mounts).unwrap();
    let cpu = stats.cpu;
    assert_eq!((cpu.usage_ns, cpu.user_ns, cpu.kernel_ns), (900_000_000, 500_000_000, 300_000_000));
    assert_eq!((cpu.periods, cpu.throttled_periods, cpu.throttled_ns), (9, 4, 123));
    assert_eq!((cpu.weight, cpu.quota_us), (Some(512), None));
    let memory = stats.memory;
    assert_eq!((memory.usage, memory.working_set, memory.inactive_file), (1000, 700, 300));
    assert_eq!((memory.limit, memory.swap_limit, memory.swap), (Some(4096), Some(2000), Some(0)));
    assert_eq!((memory.limit_hits, memory.oom_kills, memory.cache), (8, Some(2), 400));
    assert_eq!(stats.pids, None, "the cgroup has no files of this controller");
    let block = stats.block.unwrap();
    assert_eq!((block.read, block.written, block.devices[0].writes), (100, 200, 2));
    assert_eq!(stats.huge_pages["2MB"].max_usage, Some(9));
}

#[test]
fn a_hybrid_host_is_read_from_both() {
    let host = Host::new();
    host.write(
        "memory",
        &[("memory.usage_in_bytes", "10\n"), ("memory.limit_in_bytes", "9223372036854771712\n")],
    );
    host.write(
        "unified",
        &[("cpu.stat", "usage_usec 5\n"), ("pids.current", "2\n"), ("memory.current", "99\n")],
    );
    let stats = host.read(&[("memory", "memory"), ("unified", "cgroup2")]).unwrap();
    assert_eq!((stats.cpu.usage_ns, stats.memory.usage, stats.memory.limit), (5000, 10, None));
    assert_eq!(stats.pids.unwrap().current, 2);
}

#[test]
fn garbage_and_absence_are_no_panic() {
    let host = Host::new();
    assert!(host.read(&[("unified", "cgroup2")]).is_none());
    assert!(host.read(&[]).is_none());
    host.write(
        "unified",
        &[
            ("cpu.stat", "usage_usec\nuser_usec x\n\n"),
            ("memory.current", "x"),
            ("io.stat", "8:x rbytes\n: a=b\n"),
        ],
    );
    let stats = host.read(&[("unified", "cgroup2")]).unwrap();
    assert_eq!((stats.cpu.usage_ns, stats.memory.usage), (0, 0));
    assert!(stats.block.unwrap().devices.is_empty());
}

#[test]
fn the_files_of_this_host_are_read_in_a_fraction_of_a_millisecond() {
    // The root of each hierarchy is always there. Debug builds are slow and this machine may be busy, so the best counts.
    let host = Hierarchies::of_host();
    let Some(first) = read(&host, "/") else { return };
    assert!(first.cpu.usage_ns > 0 || first.memory.usage > 0);
    let best = (0..200)
        .map(|_| {
            let begun = std::time::Instant::now();
            assert!(read(&host, "/").is_some());
            begun.elapsed()
        })
        .min();
    println!("one reading takes {best:?}");
    assert!(best < Some(Duration::from_millis(50)), "{best:?}");
}
