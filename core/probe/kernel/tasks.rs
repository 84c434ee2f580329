//! Resource usage of processes: processor time, memory, tasks in uninterruptible sleep.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::probe::Io;
use crate::probe::io::stat::{parent_and_start, usage};
use crate::probe::kernel::Proc;
use crate::probe::kernel::cgroup::Cgroups;
use crate::probe::proc::home::Home;

/// Identity of a process despite pid reuse: pid and start time in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Process id.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
}

/// A process with high processor or memory usage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consumer {
    /// The process.
    pub process: Identity,
    /// Command name.
    pub comm: String,
    /// Share of one processor in the window, in percent; 200 is two processors.
    pub cpu_percent: f64,
    /// Resident memory in bytes.
    pub rss: u64,
    /// -20 (most important) to 19.
    pub nice: i32,
    /// The container or unit it runs in.
    pub home: Home,
}

/// Total usage of all processes of one container or unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HomeUse {
    /// The container or unit.
    pub home: Home,
    /// Share of one processor in the window, in percent, without processes with nice above 0.
    pub cpu_percent: f64,
}

/// A task in uninterruptible sleep (state D), which cannot be killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stuck {
    /// Process it belongs to.
    pub pid: i32,
    /// Thread.
    pub tid: i32,
    /// Command name.
    pub comm: String,
    /// Kernel function in which it waits; empty if not readable by this user.
    pub wchan: String,
    /// Time for which it has not run at least, in milliseconds; `None` if the kernel does not report it.
    pub waits_ms: Option<u64>,
    /// Its start time in clock ticks since boot; 0 in recordings from before it was read.
    #[serde(default)]
    pub start_ticks: u64,
    /// Context switches: unchanged while it waits. `None` if not readable.
    #[serde(default)]
    pub switches: Option<u64>,
    /// The container or unit it runs in.
    pub home: Home,
}

/// Clock ticks as seconds.
#[must_use]
pub fn seconds(ticks: u64) -> u64 {
    ticks / procfs::ticks_per_second().max(1)
}

/// Clock ticks as milliseconds.
#[must_use]
pub fn milliseconds(ticks: u64) -> u64 {
    ticks.saturating_mul(1000) / procfs::ticks_per_second().max(1)
}

/// Limit of processes with a lookup of their container or unit.
const MAX_HOME_LOOKUPS: usize = 64;

/// The usage counters of all processes at one point in time.
#[derive(Debug, Default)]
pub(in crate::probe) struct Processes(HashMap<Identity, ProcessUsage>);

#[derive(Debug)]
struct ProcessUsage {
    comm: String,
    ticks: u64,
    rss: u64,
    nice: i32,
}

impl Proc {
    /// Reads the counters of all processes. Processes that exit meanwhile are omitted.
    pub(in crate::probe) fn processes(&self, io: &Io) -> Processes {
        let page = procfs::page_size();
        let pids = numbers(io, &self.root);
        let seen = pids.into_iter().filter_map(|pid| {
            let stat = usage(&io.read_lossy(self.root.join(pid.to_string()).join("stat")).ok()?)?;
            let rss = stat.pages.saturating_mul(page);
            let seen = ProcessUsage { ticks: stat.ticks, rss, nice: stat.nice, comm: stat.comm };
            Some((Identity { pid, start_ticks: stat.start_ticks }, seen))
        });
        Processes(seen.collect())
    }

    fn is_frozen(&self, io: &Io, pid: i32) -> bool {
        Cgroups::of(&self.root).group_of(io, i64::from(pid)).is_ok_and(|group| group.frozen(io))
    }

    fn home(&self, io: &Io, pid: i32) -> Home {
        io.read_lossy(self.root.join(pid.to_string()).join("cgroup")).map(|t| Home::of_cgroups(&t)).unwrap_or_default()
    }

    /// The `n` processes with the highest processor usage between two samples `window_ms` apart, without idle ones.
    pub(in crate::probe) fn busiest(
        &self,
        io: &Io,
        first: &Processes,
        later: &Processes,
        window_ms: u64,
        n: usize,
    ) -> Vec<Consumer> {
        let per_second = procfs::ticks_per_second() as f64;
        let used = |(id, seen): &(&Identity, &ProcessUsage)| {
            // all time of a process that started in the window was used in the window
            let before = first.0.get(id).map_or(0, |s| s.ticks);
            seen.ticks.saturating_sub(before) as f64 * 100_000.0 / per_second / window_ms.max(1) as f64
        };
        self.top(io, later, used, n).into_iter().filter(|c| c.cpu_percent > 0.0).collect()
    }

    /// The containers and units with the highest total processor usage.
    pub(in crate::probe) fn busiest_homes(&self, io: &Io, first: &Processes, later: &Processes, window_ms: u64) -> Vec<HomeUse> {
        let mut homes: HashMap<Home, f64> = HashMap::new();
        // a container with more busy processes than the limit is found by those within it
        for consumer in self
            .busiest(io, first, later, window_ms, MAX_HOME_LOOKUPS)
            .into_iter()
            .filter(|c| c.nice <= 0 && c.home != Home::Host)
        {
            *homes.entry(consumer.home).or_default() += consumer.cpu_percent;
        }
        let mut homes: Vec<HomeUse> = homes.into_iter().map(|(home, cpu_percent)| HomeUse { home, cpu_percent }).collect();
        homes.sort_by(|a, b| b.cpu_percent.total_cmp(&a.cpu_percent));
        homes.truncate(3);
        homes
    }

    /// The `n` processes with the highest memory usage.
    pub(in crate::probe) fn largest(&self, io: &Io, now: &Processes, n: usize) -> Vec<Consumer> {
        let mut largest = self.top(io, now, |(_, seen)| seen.rss as f64, n);
        for consumer in &mut largest {
            consumer.cpu_percent = 0.0;
        }
        largest
    }

    fn top(&self, io: &Io, all: &Processes, value: impl Fn(&(&Identity, &ProcessUsage)) -> f64, n: usize) -> Vec<Consumer> {
        let mut ranked: Vec<_> = all.0.iter().map(|entry| (value(&entry), entry)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.0.cmp(b.1.0)));
        ranked.truncate(n);
        let consumer = |(value, (id, seen)): (f64, (&Identity, &ProcessUsage))| Consumer {
            process: *id,
            comm: seen.comm.clone(),
            cpu_percent: value.round(),
            rss: seen.rss,
            nice: seen.nice,
            home: self.home(io, id.pid),
        };
        ranked.into_iter().map(consumer).collect()
    }

    /// Tasks currently in uninterruptible sleep. Most are only momentarily: see `waits_ms`.
    pub(in crate::probe) fn stuck(&self, io: &Io) -> Vec<Stuck> {
        let mut stuck = Vec::new();
        let mut clocks = None;
        for pid in numbers(io, &self.root) {
            let tasks = self.root.join(pid.to_string()).join("task");
            for tid in numbers(io, &tasks) {
                let task = tasks.join(tid.to_string());
                let Ok(stat) = io.read_lossy(task.join("stat")) else { continue };
                // a paused container's tasks are in the same state
                if let Some(comm) = uninterruptible(&stat).filter(|_| !self.is_frozen(io, pid)) {
                    let clocks = clocks.get_or_insert_with(|| self.processor_clocks(io));
                    let now = processor(&stat).and_then(|cpu| clocks.get(&cpu).copied());
                    stuck.push(Stuck {
                        pid,
                        tid,
                        comm: comm.to_owned(),
                        wchan: io.read_lossy(task.join("wchan")).unwrap_or_default(),
                        waits_ms: now.zip(last_ran(io, &task)).map(|(now, last)| now.saturating_sub(last)),
                        start_ticks: parent_and_start(&stat).map_or(0, |(_, start)| start),
                        switches: io.read_lossy(task.join("status")).ok().and_then(|status| switches(&status)),
                        home: self.home(io, pid),
                    });
                }
            }
        }
        stuck
    }

    /// The clock of each processor when one of its processes last ran, in milliseconds.
    ///
    /// The clock leaves out the time that a hypervisor gives to other machines and, depending on the kernel, interrupts; it is not
    /// corrected by NTP. It differs from the time since boot by minutes, and between processors. The processes of the kernel run
    /// on every processor every few seconds: the difference of two values of one processor is a time that has passed at least.
    fn processor_clocks(&self, io: &Io) -> HashMap<u32, u64> {
        let mut clocks: HashMap<u32, u64> = HashMap::new();
        let processes = numbers(io, &self.root).into_iter().map(|pid| pid.to_string());
        for process in processes.chain(["thread-self".to_owned()]) {
            let directory = self.root.join(process);
            let cpu = io.read_lossy(directory.join("stat")).ok().and_then(|stat| processor(&stat));
            if let Some((cpu, ran)) = cpu.zip(last_ran(io, &directory)) {
                let clock = clocks.entry(cpu).or_default();
                *clock = ran.max(*clock);
            }
        }
        clocks
    }
}

/// The processor on which a task last ran (field 39 of `/proc/<pid>/stat`).
pub(in crate::probe) fn processor(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(36)?.parse().ok()
}

/// `se.exec_start` of a task, in milliseconds: the clock of its processor when it last ran (kernel/sched/debug.c,
/// `rq_clock_task`).
fn last_ran(io: &Io, task: &Path) -> Option<u64> {
    exec_start_ms(&io.read_lossy(task.join("sched")).ok()?)
}

/// The context switches of a task (`proc_pid_status(5)`).
pub(in crate::probe) fn switches(status: &str) -> Option<u64> {
    let count = |key: &str| status.lines().find_map(|l| l.strip_prefix(key))?.trim().parse::<u64>().ok();
    count("voluntary_ctxt_switches:")?.checked_add(count("nonvoluntary_ctxt_switches:")?)
}

/// The numeric entries of a directory.
fn numbers(io: &Io, directory: &Path) -> Vec<i32> {
    let entries = io.read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// The command name of a `stat` line with the state D. Kernel threads are excluded: idle ones are in this state in older kernels.
pub(in crate::probe) fn uninterruptible(stat: &str) -> Option<&str> {
    let (head, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?;
    // kthreadd and its children
    let kernel = parent == "2" || stat.starts_with("2 ");
    (state == "D" && !kernel).then(|| head.split_once('(').map_or("?", |(_, comm)| comm))
}

pub(in crate::probe) fn exec_start_ms(sched: &str) -> Option<u64> {
    let line = sched.lines().find(|l| l.starts_with("se.exec_start"))?;
    line.split_once(':')?.1.trim().split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn kernel_threads_are_not_stuck() {
        assert_eq!(uninterruptible("12 (cp) D 1 12 12 0"), Some("cp"));
        assert_eq!(uninterruptible("12 (a) D (b) D 1 12"), Some("a) D (b"));
        assert_eq!(uninterruptible("12 (cp) S 1 12"), None);
        assert_eq!(uninterruptible("44 (kworker/0:1) D 2 0"), None);
        assert_eq!(uninterruptible("garbage"), None);
    }

    #[test]
    fn exec_start_of_a_task() {
        assert_eq!(exec_start_ms("cp (12, #threads: 1)\n---\nse.exec_start   :   1359001.542531\n"), Some(1_359_001));
        assert_eq!(exec_start_ms(""), None);
    }

    #[test]
    fn processor_is_field_39() {
        let stat = format!("812 (a) b) D 1 {}3 0 0", "0 ".repeat(34));
        assert_eq!((processor(&stat), processor("812 (a) D 1 2")), (Some(3), None));
    }

    #[test]
    fn wait_is_measured_by_the_clock_of_its_processor() {
        let root = tempfile::tempdir().unwrap();
        // 82 s of stolen time on processor 1: its clock is behind that of processor 0
        let add = |directory: &str, state: char, cpu: u32, ran: u64| {
            let directory = root.path().join(directory);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("stat"), format!("7 (x) {state} 1 {}{cpu} 0 0", "0 ".repeat(34))).unwrap();
            std::fs::write(directory.join("sched"), format!("se.exec_start : {ran}.5\n")).unwrap();
        };
        for (pid, cpu, ran) in [(1, 0, 200_000), (2, 1, 118_000)] {
            add(&pid.to_string(), 'S', cpu, ran);
        }
        add("7", 'D', 1, 117_500);
        add("7/task/7", 'D', 1, 117_500);
        add("8", 'D', 0, 188_000);
        add("8/task/8", 'D', 0, 188_000);
        let mut waits: Vec<Option<u64>> = Proc::at(root.path()).stuck(&Io::for_test()).iter().map(|s| s.waits_ms).collect();
        waits.sort_unstable();
        assert_eq!(waits, [Some(500), Some(12_000)]);
    }

    #[test]
    fn context_switches_of_a_task() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t41\nnonvoluntary_ctxt_switches:\t1\n";
        assert_eq!((switches(status), switches("Name:\tx\n")), (Some(42), None));
    }

    #[test]
    fn memory_of_this_process() {
        let proc = Proc::default();
        let io = &Io::for_test();
        let now = proc.processes(io);
        let me = i32::try_from(std::process::id()).unwrap();
        let (_, seen) = now.0.iter().find(|(id, _)| id.pid == me).unwrap();
        assert!(seen.rss > 0);
        assert!(proc.largest(io, &now, 3).len() <= 3);
        assert!(proc.busiest(io, &now, &now, 250, 5).is_empty(), "a sample has no usage relative to itself");
    }
}
