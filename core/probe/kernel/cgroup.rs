//! Control groups: limits and counters of a container, read from the kernel's files (v1, v2 and hybrid).
//!
//! File names and units: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,cpuacct,pids}.rst.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::probe::{Io, ProbeError};

/// v1 prints "no limit" as the largest page-aligned i64; any value near it means unlimited.
const V1_NO_LIMIT: u64 = 1 << 62;

/// The mount points of procfs and the cgroup filesystem; other ones only for recorded trees.
#[derive(Debug, Clone)]
pub struct Cgroups {
    proc: PathBuf,
    sys: PathBuf,
}

impl Default for Cgroups {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys/fs/cgroup".into() }
    }
}

/// Limits and counters of one cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// 1 or 2: the hierarchy of the memory controller.
    pub version: u8,
    /// Memory in use without the inactive page cache, in bytes; computed as `docker stats` does.
    pub memory_used: Option<u64>,
    /// The part of `memory_used` that is active page cache: the kernel reclaims it before it kills a process.
    pub active_file: Option<u64>,
    /// Memory limit in bytes; `None` if unlimited.
    pub memory_limit: Option<u64>,
    /// tmpfs and shared memory inside `memory_used`: cannot be reclaimed without swap.
    pub shmem: Option<u64>,
    /// OOM kills inside this cgroup since its creation.
    pub oom_kills: Option<u64>,
    /// Current number of processes and threads.
    pub pids: Option<u64>,
    /// Limit of processes and threads; `None` if unlimited.
    pub pids_limit: Option<u64>,
    /// CPU time and throttling.
    pub cpu: Option<Cpu>,
}

/// Cumulative CPU counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// CPU time used, in microseconds.
    pub used_us: u64,
    /// Scheduler periods in which the quota was enforced; 0 without a quota.
    pub periods: u64,
    /// Periods in which the cgroup ran out of quota.
    pub throttled: u64,
}

/// The cgroup directories of one process, by controller.
#[derive(Debug, Clone)]
pub struct Group {
    unified: Option<PathBuf>,
    v1: HashMap<String, PathBuf>,
}

impl Cgroups {
    /// The control groups of processes in another `/proc`.
    #[must_use]
    pub fn of(proc: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), ..Self::default() }
    }

    /// The cgroup of `pid`. A process that no longer exists is [`ProbeError::Skip`].
    pub fn group_of(&self, io: &Io, pid: i64) -> Result<Group, ProbeError> {
        let path = self.proc.join(pid.to_string()).join("cgroup");
        let text = io.read_lossy(&path).map_err(|e| {
            if e.kind() == std::io::ErrorKind::NotFound || e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) {
                ProbeError::Skip(format!("process {pid} no longer exists"))
            } else {
                ProbeError::io("the control group", path.display().to_string(), &e)
            }
        })?;
        Ok(self.parse(io, &text))
    }

    /// Parses `hierarchy:controllers:path` lines, cgroups(7).
    fn parse(&self, io: &Io, text: &str) -> Group {
        let mut group = Group { unified: None, v1: HashMap::new() };
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
            let path = path.trim_start_matches('/');
            if controllers.is_empty() {
                // hybrid hosts mount v2 in addition to v1, without controllers
                let hybrid = self.sys.join("unified");
                let root = if io.is_dir(&hybrid) { hybrid } else { self.sys.clone() };
                group.unified = Some(root.join(path));
            } else {
                for controller in controllers.split(',') {
                    let root = [controllers, controller].map(|d| self.sys.join(d)).into_iter().find(|d| io.is_dir(d));
                    if let Some(root) = root {
                        group.v1.insert(controller.to_owned(), root.join(path));
                    }
                }
            }
        }
        group
    }
}

impl Group {
    /// Reads limits and counters. Values that the kernel does not provide stay `None`.
    #[must_use]
    pub fn usage(&self, io: &Io) -> Usage {
        match (self.v1.get("memory"), &self.unified) {
            (Some(memory), _) => self.usage_v1(io, memory),
            (None, Some(directory)) => usage_v2(io, directory),
            (None, None) => Usage::default(),
        }
    }

    /// The CPU counters alone, for a second sample.
    #[must_use]
    pub fn cpu(&self, io: &Io) -> Option<Cpu> {
        match (self.v1.get("cpuacct"), &self.unified) {
            (Some(accounting), _) => cpu_v1(io, accounting, self.v1.get("cpu")),
            (None, Some(directory)) => cpu_v2(io, directory),
            (None, None) => None,
        }
    }

    /// Pids of the processes in it, without those of child groups.
    #[must_use]
    pub fn processes(&self, io: &Io) -> Vec<i32> {
        let directory = self.v1.get("memory").or(self.unified.as_ref());
        let text = directory.and_then(|f| io.read_lossy(f.join("cgroup.procs")).ok()).unwrap_or_default();
        text.lines().filter_map(|l| l.trim().parse().ok()).collect()
    }

    /// Whether its processes are frozen (`docker pause`, a suspended unit): they look like tasks stuck in the kernel.
    #[must_use]
    pub fn frozen(&self, io: &Io) -> bool {
        let read = |path: PathBuf| io.read_lossy(path).unwrap_or_default();
        // v1 freezer-subsystem.rst; v2 `frozen` of cgroup.events. A frozen parent freezes its children, which then report it
        // themselves
        let v1 = self.v1.get("freezer").is_some_and(|f| matches!(read(f.join("freezer.state")).trim(), "FROZEN" | "FREEZING"));
        let v2 = self.unified.as_ref().is_some_and(|u| read(u.join("cgroup.events")).lines().any(|l| l == "frozen 1"));
        v1 || v2
    }

    fn usage_v1(&self, io: &Io, memory: &Path) -> Usage {
        let stat = fields(io, &memory.join("memory.stat"));
        let used = number(io, &memory.join("memory.usage_in_bytes"));
        let cache = stat.get("total_inactive_file").copied().unwrap_or(0);
        let pids = self.v1.get("pids");
        Usage {
            version: 1,
            memory_used: used.map(|u| u.saturating_sub(cache)),
            memory_limit: number(io, &memory.join("memory.limit_in_bytes")).filter(|l| *l < V1_NO_LIMIT),
            active_file: stat.get("total_active_file").copied(),
            shmem: stat.get("total_shmem").copied(),
            oom_kills: fields(io, &memory.join("memory.oom_control")).get("oom_kill").copied(),
            pids: pids.and_then(|p| number(io, &p.join("pids.current"))),
            pids_limit: pids.and_then(|p| number(io, &p.join("pids.max"))),
            cpu: self.cpu(io),
        }
    }
}

fn usage_v2(io: &Io, directory: &Path) -> Usage {
    let stat = fields(io, &directory.join("memory.stat"));
    let used = number(io, &directory.join("memory.current"));
    let cache = stat.get("inactive_file").copied().unwrap_or(0);
    Usage {
        version: 2,
        memory_used: used.map(|u| u.saturating_sub(cache)),
        memory_limit: number(io, &directory.join("memory.max")),
        active_file: stat.get("active_file").copied(),
        shmem: stat.get("shmem").copied(),
        oom_kills: fields(io, &directory.join("memory.events")).get("oom_kill").copied(),
        pids: number(io, &directory.join("pids.current")),
        pids_limit: number(io, &directory.join("pids.max")),
        cpu: cpu_v2(io, directory),
    }
}

fn cpu_v1(io: &Io, accounting: &Path, cpu: Option<&PathBuf>) -> Option<Cpu> {
    let stat = cpu.map(|c| fields(io, &c.join("cpu.stat"))).unwrap_or_default();
    Some(Cpu {
        // nanoseconds
        used_us: number(io, &accounting.join("cpuacct.usage"))? / 1000,
        periods: stat.get("nr_periods").copied().unwrap_or(0),
        throttled: stat.get("nr_throttled").copied().unwrap_or(0),
    })
}

fn cpu_v2(io: &Io, directory: &Path) -> Option<Cpu> {
    let stat = fields(io, &directory.join("cpu.stat"));
    Some(Cpu {
        used_us: *stat.get("usage_usec")?,
        periods: stat.get("nr_periods").copied().unwrap_or(0),
        throttled: stat.get("nr_throttled").copied().unwrap_or(0),
    })
}

/// A file with one number; `max` or any other content is `None`.
fn number(io: &Io, path: &Path) -> Option<u64> {
    io.read_lossy(path).ok()?.trim().parse().ok()
}

/// A file of `name number` lines.
fn fields(io: &Io, path: &Path) -> HashMap<String, u64> {
    let text = io.read_lossy(path).unwrap_or_default();
    text.lines().filter_map(|l| l.split_once(' ')).filter_map(|(k, v)| Some((k.to_owned(), v.trim().parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Cgroups) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let cgroups = Cgroups { proc: root.path().join("proc"), sys: root.path().join("sys") };
        (root, cgroups)
    }

    #[test]
    fn version_1_and_hybrid() {
        let (_keep, cgroups) = tree(&[
            ("proc/7/cgroup", "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:pids:/docker/abc\n0::/docker/abc\n"),
            ("sys/unified/docker/abc/cgroup.procs", ""),
            ("sys/memory/docker/abc/memory.usage_in_bytes", "1000\n"),
            ("sys/memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/memory/docker/abc/memory.stat", "cache 1\ntotal_inactive_file 400\ntotal_shmem 5\n"),
            ("sys/memory/docker/abc/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("sys/cpu,cpuacct/docker/abc/cpuacct.usage", "5000000\n"),
            ("sys/cpu,cpuacct/docker/abc/cpu.stat", "nr_periods 10\nnr_throttled 4\nthrottled_time 9\n"),
            ("sys/pids/docker/abc/pids.current", "3\n"),
            ("sys/pids/docker/abc/pids.max", "max\n"),
        ]);
        let usage = cgroups.group_of(&Io::for_test(), 7).unwrap().usage(&Io::for_test());
        assert_eq!(
            usage,
            Usage {
                version: 1,
                memory_used: Some(600),
                memory_limit: None,
                active_file: None,
                shmem: Some(5),
                oom_kills: Some(2),
                pids: Some(3),
                pids_limit: None,
                cpu: Some(Cpu { used_us: 5000, periods: 10, throttled: 4 }),
            }
        );
    }

    #[test]
    fn version_2() {
        let (_keep, cgroups) = tree(&[
            ("proc/7/cgroup", "0::/system.slice/docker-abc.scope\n"),
            ("sys/system.slice/docker-abc.scope/memory.current", "1000\n"),
            ("sys/system.slice/docker-abc.scope/memory.max", "2000\n"),
            ("sys/system.slice/docker-abc.scope/memory.stat", "anon 1\ninactive_file 100\nshmem 7\n"),
            ("sys/system.slice/docker-abc.scope/memory.events", "low 0\noom 1\noom_kill 1\n"),
            ("sys/system.slice/docker-abc.scope/cpu.stat", "usage_usec 77\nnr_periods 0\nnr_throttled 0\n"),
        ]);
        let usage = cgroups.group_of(&Io::for_test(), 7).unwrap().usage(&Io::for_test());
        assert_eq!((usage.version, usage.memory_used, usage.memory_limit), (2, Some(900), Some(2000)));
        assert_eq!((usage.oom_kills, usage.cpu.map(|c| c.used_us), usage.pids), (Some(1), Some(77), None));
    }

    #[test]
    fn frozen_group_in_both_versions() {
        let (_keep, cgroups) = tree(&[
            ("proc/7/cgroup", "6:freezer:/docker/abc\n0::/\n"),
            ("sys/freezer/docker/abc/freezer.state", "FROZEN\n"),
            ("proc/8/cgroup", "6:freezer:/\n0::/\n"),
            ("sys/freezer/freezer.state", "THAWED\n"),
        ]);
        assert!(cgroups.group_of(&Io::for_test(), 7).unwrap().frozen(&Io::for_test()));
        assert!(!cgroups.group_of(&Io::for_test(), 8).unwrap().frozen(&Io::for_test()));
        let (_keep, cgroups) = tree(&[
            ("proc/7/cgroup", "0::/docker-abc.scope\n"),
            ("sys/docker-abc.scope/cgroup.events", "populated 1\nfrozen 1\n"),
            ("proc/8/cgroup", "0::/other.scope\n"),
            ("sys/other.scope/cgroup.events", "populated 1\nfrozen 0\n"),
        ]);
        assert!(
            cgroups.group_of(&Io::for_test(), 7).unwrap().frozen(&Io::for_test())
                && !cgroups.group_of(&Io::for_test(), 8).unwrap().frozen(&Io::for_test())
        );
    }

    #[test]
    fn exited_process_is_skipped_and_malformed_cgroup_file_is_ignored() {
        let (_keep, cgroups) = tree(&[("proc/7/cgroup", "x\n::\n9:memory\n:::::\n")]);
        assert!(matches!(cgroups.group_of(&Io::for_test(), 8), Err(ProbeError::Skip(_))));
        let usage = cgroups.group_of(&Io::for_test(), 7).unwrap().usage(&Io::for_test());
        assert_eq!(usage.memory_used, None);
    }
}
