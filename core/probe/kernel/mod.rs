//! System-wide kernel statistics: processor time, load, pressure, memory and paging (proc(5), Documentation/accounting/psi.rst).

pub mod activity;
pub mod boot;
pub mod cgroup;
pub mod cloud_init;
pub mod filesystem;
pub mod host;
pub mod kernel_clock;
pub mod kmsg;
pub mod setup;
pub mod tasks;
pub mod user_limits;

use std::io::{self, BufRead};
use std::path::PathBuf;

use procfs::prelude::*;
use procfs::{KernelStats, LoadAverage, Meminfo, VmStat};
use serde::{Deserialize, Serialize};

use super::{Io, ProbeError, UNEXPECTED_FORMAT};

/// The mount point of procfs; another directory only for recorded trees.
#[derive(Debug, Clone)]
pub struct Proc {
    pub(super) root: PathBuf,
}

impl Default for Proc {
    fn default() -> Self {
        Self { root: "/proc".into() }
    }
}

/// Processor time by kind since boot, in clock ticks of 10 ms. `guest` is inside `user` already (`proc_stat(5)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTime {
    /// User mode.
    pub user: u64,
    /// User mode with low priority (nice above 0).
    pub nice: u64,
    /// Kernel mode.
    pub system: u64,
    /// Idle.
    pub idle: u64,
    /// Idle while a task waits for a disk; may decrease.
    pub iowait: u64,
    /// Hardware interrupts.
    pub irq: u64,
    /// Soft interrupts: mostly the network.
    pub softirq: u64,
    /// Used by the hypervisor for other virtual machines.
    pub steal: u64,
}

impl CpuTime {
    /// The difference to `first`; a counter that decreased counts as 0.
    #[must_use]
    pub fn since(&self, first: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(first.user),
            nice: self.nice.saturating_sub(first.nice),
            system: self.system.saturating_sub(first.system),
            idle: self.idle.saturating_sub(first.idle),
            iowait: self.iowait.saturating_sub(first.iowait),
            irq: self.irq.saturating_sub(first.irq),
            softirq: self.softirq.saturating_sub(first.softirq),
            steal: self.steal.saturating_sub(first.steal),
        }
    }

    /// The total time.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.idle, self.iowait, self.steal].into_iter().fold(self.busy(), u64::saturating_add)
    }

    /// The time spent working; steal time is not work of this host.
    #[must_use]
    pub fn busy(&self) -> u64 {
        [self.nice, self.system, self.irq, self.softirq].into_iter().fold(self.user, u64::saturating_add)
    }

    /// `part` as a percentage of the total.
    #[must_use]
    pub fn percent(&self, part: u64) -> f64 {
        if self.total() == 0 { 0.0 } else { part as f64 * 100.0 / self.total() as f64 }
    }
}

/// Share of time in which tasks waited for a resource, in percent, averaged over 10, 60 and 300 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Average {
    /// The last 10 s.
    pub avg10: f64,
    /// The last minute.
    pub avg60: f64,
    /// The last 5 min.
    pub avg300: f64,
}

/// Pressure on one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Average,
    /// All tasks waited; not measured for the processor before Linux 5.13.
    pub full: Option<Average>,
}

/// Pressure on the three resources, as far as the kernel measures it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressures {
    /// Waiting for a processor.
    pub cpu: Option<Pressure>,
    /// Waiting for memory.
    pub memory: Option<Pressure>,
    /// Waiting for a disk.
    pub io: Option<Pressure>,
}

/// Counters of `/proc/vmstat` since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paging {
    /// Pages read from swap.
    pub swapped_in: u64,
    /// Pages written to swap.
    pub swapped_out: u64,
    /// Page faults that required disk I/O.
    pub major_faults: u64,
    /// OOM kills, including those at a cgroup limit (Linux 4.13).
    pub oom_kills: Option<u64>,
}

/// One sample of system-wide statistics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// All processors together.
    pub cpu: CpuTime,
    /// Each online processor.
    pub cpus: Vec<CpuTime>,
    /// Load averages of 1, 5 and 15 min: tasks that run, want to run, or wait uninterruptibly.
    pub load: [f64; 3],
    /// Pressure; the averages need no second sample.
    pub pressure: Pressures,
    /// Swap and faults.
    pub paging: Paging,
}

/// Memory of the host in bytes (`/proc/meminfo`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Total memory.
    pub total: u64,
    /// Memory available to new programs without swapping (Linux 3.14).
    pub available: Option<u64>,
    /// Swap space.
    pub swap_total: u64,
    /// Unused swap space.
    pub swap_free: u64,
    /// Committed memory.
    pub committed: u64,
    /// Commit limit; enforced only with overcommit mode 2.
    pub commit_limit: Option<u64>,
    /// `vm.overcommit_memory`: 0 guess, 1 always, 2 never beyond the limit.
    pub overcommit_mode: Option<u8>,
    /// Unreclaimable slab memory.
    pub slab_unreclaimable: Option<u64>,
    /// tmpfs and shared memory.
    pub shmem: Option<u64>,
    /// Reserved for huge pages, used or not.
    pub huge_pages: u64,
    /// Memory with hardware errors that was taken out of use.
    pub corrupted: Option<u64>,
    /// ZFS cache above its minimum: reclaimed on demand, although not counted as available.
    pub zfs_cache: u64,
}

impl Proc {
    /// A tree recorded elsewhere.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// All statistics except processes. Only `stat` and `loadavg` are required; the other files depend on the kernel.
    pub fn snapshot(&self, io: &Io) -> Result<Snapshot, ProbeError> {
        let system = procfs::current_system_info();
        let path = self.root.join("stat");
        let fail = |subject: &str, path: &PathBuf, e: String| ProbeError::failed(subject, path.display().to_string(), &e);
        let text = io.read(&path).map_err(|e| fail("processor time", &path, e.to_string()))?;
        let stats = <KernelStats as FromReadSI>::from_read(text.as_slice(), system);
        let stats = stats.map_err(|_| fail("processor time", &path, UNEXPECTED_FORMAT.to_owned()))?;
        let path = self.root.join("loadavg");
        let text = io.read(&path).map_err(|e| fail("the load", &path, e.to_string()))?;
        let load = LoadAverage::from_read(text.as_slice()).map_err(|_| fail("the load", &path, UNEXPECTED_FORMAT.to_owned()))?;
        let time = |c: &procfs::CpuTime| CpuTime {
            user: c.user,
            nice: c.nice,
            system: c.system,
            idle: c.idle,
            iowait: c.iowait.unwrap_or(0),
            irq: c.irq.unwrap_or(0),
            softirq: c.softirq.unwrap_or(0),
            steal: c.steal.unwrap_or(0),
        };
        let averages = [load.one, load.five, load.fifteen];
        Ok(Snapshot {
            cpu: time(&stats.total),
            cpus: stats.cpu_time.iter().map(time).collect(),
            load: averages.map(|l| (f64::from(l) * 100.0).round() / 100.0),
            pressure: Pressures {
                cpu: self.pressure(io, "cpu"),
                memory: self.pressure(io, "memory"),
                io: self.pressure(io, "io"),
            },
            paging: self.paging(io),
        })
    }

    /// `None` if the kernel does not measure it: not built in, or disabled until booted with `psi=1` (reading then fails with
    /// `EOPNOTSUPP`).
    fn pressure(&self, io: &Io, resource: &str) -> Option<Pressure> {
        parse_pressure(io.read(self.root.join("pressure").join(resource)).ok()?.as_slice())
    }

    fn paging(&self, io: &Io) -> Paging {
        let text = io.read(self.root.join("vmstat")).unwrap_or_default();
        let stats = VmStat::from_read(text.as_slice()).map(|v| v.0).unwrap_or_default();
        let counter = |name: &str| stats.get(name).and_then(|n| u64::try_from(*n).ok());
        Paging {
            swapped_in: counter("pswpin").unwrap_or(0),
            swapped_out: counter("pswpout").unwrap_or(0),
            major_faults: counter("pgmajfault").unwrap_or(0),
            oom_kills: counter("oom_kill"),
        }
    }

    /// Memory.
    pub fn memory(&self, io: &Io) -> Result<Memory, ProbeError> {
        let path = self.root.join("meminfo");
        let fail = |e: String| ProbeError::failed("memory", path.display().to_string(), &e);
        let text = io.read(&path).map_err(|e| fail(e.to_string()))?;
        let info = Meminfo::from_read(text.as_slice()).map_err(|_| fail(UNEXPECTED_FORMAT.to_owned()))?;
        let mode = io.read_lossy(self.root.join("sys/vm/overcommit_memory")).ok();
        Ok(Memory {
            total: info.mem_total,
            available: info.mem_available,
            swap_total: info.swap_total,
            swap_free: info.swap_free,
            committed: info.committed_as,
            commit_limit: info.commit_limit,
            overcommit_mode: mode.and_then(|m| m.trim().parse().ok()),
            slab_unreclaimable: info.s_unreclaim,
            shmem: info.shmem,
            // meminfo reports a number of pages; the crate scales only lines with a unit
            huge_pages: info.hugepages_total.unwrap_or(0).saturating_mul(info.hugepagesize.unwrap_or(0)),
            corrupted: info.hardware_corrupted,
            zfs_cache: self.zfs_cache(io).unwrap_or(0),
        })
    }

    /// `name type data` lines of the adaptive replacement cache.
    fn zfs_cache(&self, io: &Io) -> Option<u64> {
        let text = io.read_lossy(self.root.join("spl/kstat/zfs/arcstats")).ok()?;
        let field = |name: &str| -> Option<u64> {
            text.lines().find(|l| l.split_whitespace().next() == Some(name))?.split_whitespace().nth(2)?.parse().ok()
        };
        Some(field("size")?.saturating_sub(field("c_min")?))
    }
}

/// Parses `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, followed by an optional `full` line.
pub(super) fn parse_pressure(text: impl BufRead) -> Option<Pressure> {
    let mut pressure: Option<Pressure> = None;
    for line in text.lines().collect::<io::Result<Vec<String>>>().ok()? {
        let field = |name: &str| -> Option<f64> {
            line.split_whitespace().find_map(|w| w.strip_prefix(name)?.strip_prefix('=')).and_then(|n| n.parse().ok())
        };
        let average = Average { avg10: field("avg10")?, avg60: field("avg60")?, avg300: field("avg300")? };
        match (line.split_whitespace().next()?, &mut pressure) {
            ("some", None) => pressure = Some(Pressure { some: average, full: None }),
            ("full", Some(p)) => p.full = Some(average),
            _ => return None,
        }
    }
    pressure
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn statistics_of_the_running_kernel() {
        let snapshot = Proc::default().snapshot(&Io::for_test()).unwrap();
        assert!(snapshot.cpu.total() > 0 && !snapshot.cpus.is_empty());
        let memory = Proc::default().memory(&Io::for_test()).unwrap();
        assert!(memory.total > memory.available.unwrap() && memory.overcommit_mode.is_some());
    }

    #[test]
    fn decreasing_counter_counts_as_zero() {
        let first = CpuTime { iowait: 100, user: 5, ..CpuTime::default() };
        let later = CpuTime { iowait: 90, user: 15, idle: 10, ..CpuTime::default() };
        let passed = later.since(&first);
        assert_eq!((passed.iowait, passed.user, passed.total()), (0, 10, 20));
        assert!((passed.percent(passed.busy()) - 50.0).abs() < 0.1);
        assert!(CpuTime::default().percent(0).abs() < 0.1);
    }

    #[test]
    fn processor_pressure_has_one_line_before_linux_5_13() {
        let old = parse_pressure("some avg10=1.50 avg60=20.00 avg300=3.00 total=7\n".as_bytes()).unwrap();
        assert!(old.full.is_none() && (old.some.avg60 - 20.0).abs() < 0.01);
        let new = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=7.00 avg300=0.00 total=0\n";
        assert!((parse_pressure(new.as_bytes()).unwrap().full.unwrap().avg60 - 7.0).abs() < 0.01);
        assert_eq!(parse_pressure("full avg10=1\n".as_bytes()), None);
        assert_eq!(parse_pressure("".as_bytes()), None);
    }

    #[test]
    fn missing_file_is_named_in_the_error() {
        let error = Proc::at("/nonexistent").snapshot(&Io::for_test()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/stat"), "{error}");
    }
}
