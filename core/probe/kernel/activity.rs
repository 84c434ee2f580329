//! Two samples of the system, from which rates are computed. The first is taken when the run begins, the second on demand: the
//! window passes while the other probes run, and only its remainder adds to the duration of the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::probe::kernel::tasks::{Consumer, HomeUse, Processes, Stuck};
use crate::probe::kernel::{Proc, Snapshot};
use crate::probe::{Memo, ProbeError, blocking};

/// Length of the window. The kernel counts processor time in ticks of 10 ms: 25 of them per processor distinguish 85 % from 95 %.
pub const WINDOW: Duration = Duration::from_millis(250);

/// 1 min load below which no task has waited uninterruptibly for 10 s: one such task alone adds 0.15 (1 - e^(-10/60)), and
/// reading every thread of a large host is slow.
const STUCK_LOAD: f64 = 0.1;

/// Time limit of one sample.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Number of processes in each list.
const MAX_CONSUMERS: usize = 5;

/// Activity in the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    /// The first sample.
    pub first: Snapshot,
    /// The second sample.
    pub later: Snapshot,
    /// Time between them, in milliseconds.
    pub window_ms: u64,
    /// Processor time that opsctl itself used in the window, in milliseconds.
    pub own_ms: u64,
    /// The processes with the highest processor usage.
    pub busiest: Vec<Consumer>,
    /// The containers and units with the highest processor usage, summed over their processes.
    pub homes: Vec<HomeUse>,
    /// The processes with the highest memory usage.
    pub largest: Vec<Consumer>,
    /// Tasks in uninterruptible sleep in the second sample.
    pub stuck: Vec<Stuck>,
}

/// The two samples of a run.
pub struct SystemSampler {
    roots: [Proc; 2],
    first: Result<Arc<First>, ProbeError>,
    memo: Memo<(), Result<Arc<Activity>, ProbeError>>,
}

struct First {
    at: Instant,
    /// `None` for recorded trees: they do not contain the activity of this process.
    own_ms: Option<u64>,
    snapshot: Snapshot,
    processes: Processes,
}

impl SystemSampler {
    /// Takes the first sample of this host.
    pub async fn start() -> Self {
        Self::over([Proc::default(), Proc::default()], Some(own_ms())).await
    }

    /// Two samples from trees recorded elsewhere.
    pub async fn recorded(first: Proc, later: Proc) -> Self {
        Self::over([first, later], None).await
    }

    async fn over(roots: [Proc; 2], own_ms: Option<u64>) -> Self {
        let proc = roots[0].clone();
        let read = blocking::run("processes", "/proc", READ_TIMEOUT, move |io| {
            let snapshot = proc.snapshot(io)?;
            Ok(Arc::new(First { at: Instant::now(), own_ms, snapshot, processes: proc.processes(io) }))
        });
        let first = read.await.and_then(|first| first);
        Self { roots, first, memo: Memo::default() }
    }

    /// The activity since the first sample. Waits for the rest of the window.
    pub async fn activity(&self) -> Result<Arc<Activity>, ProbeError> {
        self.memo.get((), || self.second_sample()).await
    }

    async fn second_sample(&self) -> Result<Arc<Activity>, ProbeError> {
        let first = self.first.as_ref().map_err(Clone::clone)?.clone();
        tokio::time::sleep(WINDOW.saturating_sub(first.at.elapsed())).await;
        let proc = self.roots[1].clone();
        // reading wchan of a task in an exiting process can wait for a lock
        blocking::run("processes", "/proc", READ_TIMEOUT, move |io| {
            let later = proc.snapshot(io)?;
            let window_ms = u64::try_from(first.at.elapsed().as_millis()).unwrap_or(u64::MAX);
            let processes = proc.processes(io);
            Ok(Arc::new(Activity {
                window_ms,
                own_ms: first.own_ms.map_or(0, |before| own_ms().saturating_sub(before)),
                busiest: proc.busiest(io, &first.processes, &processes, window_ms, MAX_CONSUMERS),
                homes: proc.busiest_homes(io, &first.processes, &processes, window_ms),
                largest: proc.largest(io, &processes, MAX_CONSUMERS),
                stuck: if later.load[0] >= STUCK_LOAD { proc.stuck(io) } else { Vec::new() },
                first: first.snapshot.clone(),
                later,
            }))
        })
        .await?
    }

    /// Threads of `seen` that are in the same wait `after` this time: they have not run in between.
    pub async fn still_stuck(&self, seen: &[Stuck], after: Duration) -> Result<Vec<i32>, ProbeError> {
        tokio::time::sleep(after).await;
        let proc = self.roots[1].clone();
        let again = blocking::run("processes", "/proc", READ_TIMEOUT, move |io| proc.stuck(io)).await?;
        let key = |s: &Stuck| (s.tid, s.start_ticks, s.switches, s.wchan.clone());
        let same = |s: &&Stuck| again.iter().any(|a| key(a) == key(s));
        Ok(seen.iter().filter(same).map(|s| s.tid).collect())
    }

    /// Current memory usage; needs no window.
    pub async fn memory(&self) -> Result<crate::probe::kernel::Memory, ProbeError> {
        let proc = self.roots[1].clone();
        blocking::run("memory", "/proc/meminfo", READ_TIMEOUT, move |io| proc.memory(io)).await?
    }

    /// The current snapshot, for a check that needs a longer window.
    pub async fn now(&self) -> Result<Snapshot, ProbeError> {
        let proc = self.roots[1].clone();
        blocking::run("processor time", "/proc/stat", READ_TIMEOUT, move |io| proc.snapshot(io)).await?
    }
}

fn own_ms() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn concurrent_callers_share_one_window() {
        let watch = SystemSampler::start().await;
        let (a, b) = tokio::join!(watch.activity(), watch.activity());
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(Arc::ptr_eq(&a, &b));
        assert!(a.window_ms >= 250 && a.later.cpu.total() >= a.first.cpu.total());
        assert!(!a.largest.is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn unreadable_proc_is_reported_by_activity() {
        let nowhere = Proc::at("/nonexistent");
        let error = SystemSampler::recorded(nowhere.clone(), nowhere).await.activity().await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/stat"), "{error}");
    }
}
