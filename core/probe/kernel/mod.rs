//! System-wide kernel statistics: processor time, load, pressure, memory and paging (proc(5), Documentation/accounting/psi.rst).

pub mod activity;
pub mod boot;
pub mod cgroup;
pub mod cloud_init;
pub mod confinement;
pub mod filesystem;
pub mod host;
pub mod kernel_clock;
pub mod kmsg;
pub(in crate::probe) mod parse;
pub mod setup;
pub mod tasks;
pub mod user_data;
pub mod user_limits;

use std::path::PathBuf;

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

    /// The sum with another time.
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            user: self.user.saturating_add(other.user),
            nice: self.nice.saturating_add(other.nice),
            system: self.system.saturating_add(other.system),
            idle: self.idle.saturating_add(other.idle),
            iowait: self.iowait.saturating_add(other.iowait),
            irq: self.irq.saturating_add(other.irq),
            softirq: self.softirq.saturating_add(other.softirq),
            steal: self.steal.saturating_add(other.steal),
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
    /// Parts that could not be read, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
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
    /// Fields of `/proc/meminfo` with a value that is no amount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

impl Memory {
    /// Whether a field of `/proc/meminfo` is missing because its value is no amount.
    #[must_use]
    pub fn is_unread(&self, field: &str) -> bool {
        self.unread.iter().any(|f| f == field)
    }

    /// The unread fields as a message.
    #[must_use]
    pub fn gap(&self) -> Option<String> {
        (!self.unread.is_empty()).then(|| format!("reading {} from /proc/meminfo: {UNEXPECTED_FORMAT}", self.unread.join(", ")))
    }
}

impl Proc {
    /// A tree recorded elsewhere.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// All statistics except processes. Only `stat` is required; the other files depend on the kernel.
    pub fn snapshot(&self, io: &Io) -> Result<Snapshot, ProbeError> {
        let fail = |subject: &str, path: &PathBuf, why: &str| ProbeError::failed(subject, path.display().to_string(), why);
        let path = self.root.join("stat");
        let text = io.read_lossy(&path).map_err(|e| fail("processor time", &path, &e.to_string()))?;
        let mut unread = Vec::new();
        let (cpu, cpus) = parse::processor_time(&text);
        if cpu.is_none() {
            unread.push(fail("processor time", &path, UNEXPECTED_FORMAT).to_string());
        }
        let path = self.root.join("loadavg");
        let load = match io.read_lossy(&path) {
            Ok(text) => parse::load(&text).ok_or_else(|| UNEXPECTED_FORMAT.to_owned()),
            Err(e) => Err(e.to_string()),
        };
        let load = load.unwrap_or_else(|why| {
            unread.push(fail("the load", &path, &why).to_string());
            [0.0; 3]
        });
        Ok(Snapshot {
            cpu: cpu.unwrap_or_default(),
            cpus,
            load,
            pressure: Pressures {
                cpu: self.pressure(io, "cpu"),
                memory: self.pressure(io, "memory"),
                io: self.pressure(io, "io"),
            },
            paging: parse::paging(&io.read_lossy(self.root.join("vmstat")).unwrap_or_default()),
            unread,
        })
    }

    /// `None` if the kernel does not measure it: not built in, or disabled until booted with `psi=1` (reading then fails with
    /// `EOPNOTSUPP`).
    fn pressure(&self, io: &Io, resource: &str) -> Option<Pressure> {
        parse::pressure(&io.read_lossy(self.root.join("pressure").join(resource)).ok()?)
    }

    /// Memory.
    pub fn memory(&self, io: &Io) -> Result<Memory, ProbeError> {
        let path = self.root.join("meminfo");
        let fail = |e: std::io::Error| ProbeError::failed("memory", path.display().to_string(), &e.to_string());
        let text = io.read_lossy(&path).map_err(fail)?;
        let mode = io.read_lossy(self.root.join("sys/vm/overcommit_memory")).ok();
        Ok(Memory {
            overcommit_mode: mode.and_then(|m| m.trim().parse().ok()),
            zfs_cache: self.zfs_cache(io).unwrap_or(0),
            ..parse::memory(&text)
        })
    }

    fn zfs_cache(&self, io: &Io) -> Option<u64> {
        let text = io.read_lossy(self.root.join("spl/kstat/zfs/arcstats")).ok()?;
        Some(parse::kstat(&text, "size")?.saturating_sub(parse::kstat(&text, "c_min")?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
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
    fn missing_file_is_named_in_the_error() {
        let error = Proc::at("/nonexistent").snapshot(&Io::for_test()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/stat"), "{error}");
    }

    #[test]
    fn odd_load_costs_only_the_load() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("stat"), "cpu  1 2 3 4\ncpu0 1 2 3 4\n").unwrap();
        std::fs::write(root.path().join("loadavg"), "0.20 - 0.12 1/80 11206\n").unwrap();
        let snapshot = Proc::at(root.path()).snapshot(&Io::for_test()).unwrap();
        assert_eq!((snapshot.cpu.total(), snapshot.cpus.len(), snapshot.unread.len()), (10, 1, 1));
        assert!(snapshot.unread[0].contains("loadavg"), "{:?}", snapshot.unread);
    }
}
