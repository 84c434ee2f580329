//! Two looks at the machine, so that counters become rates. The first is taken when the run begins, the second when somebody asks for
//! it: the window runs while the other probes do, and adds to the run's time only what is left of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::kernel::{Proc, Snapshot};
use super::tasks::{Consumer, HomeUse, Processes, Stuck};
use super::{Memo, ProbeError, blocking};

/// Length of the window. The kernel counts processor time in ticks of 10 ms: 25 of them per processor tell 85 % from 95 %.
pub const WINDOW: Duration = Duration::from_millis(250);

/// Load of the last minute below which no task has waited uninterruptibly for 10 s: such a one alone adds 0.15 (1 - e^(-10/60)), and
/// looking at every thread of a large host takes a while.
const STUCK_LOAD: f64 = 0.1;

/// Time between two looks at a task that seems stuck, where the kernel does not say since when it waits.
const STILL: Duration = Duration::from_secs(1);

/// Time limit of reading everything once.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// How many processes are named.
const TOP: usize = 5;

/// What happened in the window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Activity {
    /// The first look.
    pub first: Snapshot,
    /// The second.
    pub later: Snapshot,
    /// Time between them, in milliseconds.
    pub window_ms: u64,
    /// Processor time that opsctl itself used in the window, in milliseconds.
    pub own_ms: u64,
    /// Who used the processors most.
    pub busiest: Vec<Consumer>,
    /// The containers and units that did, all processes of each together.
    pub homes: Vec<HomeUse>,
    /// Who holds most memory.
    pub largest: Vec<Consumer>,
    /// Tasks in uninterruptible sleep at the second look.
    pub stuck: Vec<Stuck>,
}

/// The two looks of one run.
pub struct Watch {
    looks: [Proc; 2],
    first: Result<Arc<First>, ProbeError>,
    memo: Memo<(), Result<Arc<Activity>, ProbeError>>,
}

struct First {
    at: Instant,
    /// None where the trees are not of this moment: what this process does is not in them.
    own_ms: Option<u64>,
    snapshot: Snapshot,
    processes: Processes,
}

impl Watch {
    /// Takes the first look at this machine.
    pub async fn start() -> Self {
        Self::over([Proc::default(), Proc::default()], Some(own_ms())).await
    }

    /// Two looks at trees recorded elsewhere.
    pub async fn recorded(first: Proc, later: Proc) -> Self {
        Self::over([first, later], None).await
    }

    async fn over(looks: [Proc; 2], own_ms: Option<u64>) -> Self {
        let proc = looks[0].clone();
        let read = blocking::run("processes", "/proc", READ_TIMEOUT, move |io| {
            let snapshot = proc.snapshot(io)?;
            Ok(Arc::new(First { at: Instant::now(), own_ms, snapshot, processes: proc.processes(io) }))
        });
        let first = read.await.and_then(|first| first);
        Self { looks, first, memo: Memo::default() }
    }

    /// What happened since the first look: waits for the rest of the window.
    pub async fn activity(&self) -> Result<Arc<Activity>, ProbeError> {
        self.memo.get((), || self.second_look()).await
    }

    async fn second_look(&self) -> Result<Arc<Activity>, ProbeError> {
        let first = self.first.as_ref().map_err(Clone::clone)?.clone();
        tokio::time::sleep(WINDOW.saturating_sub(first.at.elapsed())).await;
        let proc = self.looks[1].clone();
        // wchan of a task whose process is being torn down can wait for a lock
        blocking::run("processes", "/proc", READ_TIMEOUT, move |io| {
            let later = proc.snapshot(io)?;
            let window_ms = u64::try_from(first.at.elapsed().as_millis()).unwrap_or(u64::MAX);
            let processes = proc.processes(io);
            Ok(Arc::new(Activity {
                window_ms,
                own_ms: first.own_ms.map_or(0, |before| own_ms().saturating_sub(before)),
                busiest: proc.busiest(io, &first.processes, &processes, window_ms, TOP),
                homes: proc.busiest_homes(io, &first.processes, &processes, window_ms),
                largest: proc.largest(io, &processes, TOP),
                stuck: if later.load[0] >= STUCK_LOAD { proc.stuck(io) } else { Vec::new() },
                first: first.snapshot.clone(),
                later,
            }))
        })
        .await?
    }

    /// Threads of `seen` that wait in the same place a second later.
    pub async fn still_stuck(&self, seen: &[Stuck]) -> Result<Vec<i32>, ProbeError> {
        tokio::time::sleep(STILL).await;
        let proc = self.looks[1].clone();
        let again = blocking::run("processes", "/proc", READ_TIMEOUT, move |io| proc.stuck(io)).await?;
        let same = |s: &&Stuck| again.iter().any(|a| a.tid == s.tid && a.wchan == s.wchan);
        Ok(seen.iter().filter(same).map(|s| s.tid).collect())
    }

    /// Memory at the second look's place; needs no window.
    pub async fn memory(&self) -> Result<super::kernel::Memory, ProbeError> {
        let proc = self.looks[1].clone();
        blocking::run("memory", "/proc/meminfo", READ_TIMEOUT, move |io| proc.memory(io)).await?
    }

    /// The snapshot of a moment of one's own, for a check that needs a longer window.
    pub async fn now(&self) -> Result<Snapshot, ProbeError> {
        let proc = self.looks[1].clone();
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
    async fn whoever_asks_waits_for_one_window_together() {
        let watch = Watch::start().await;
        let (a, b) = tokio::join!(watch.activity(), watch.activity());
        let (a, b) = (a.unwrap(), b.unwrap());
        assert!(Arc::ptr_eq(&a, &b));
        assert!(a.window_ms >= 250 && a.later.cpu.total() >= a.first.cpu.total());
        assert!(!a.largest.is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_machine_that_cannot_be_read_is_an_error_once_asked() {
        let nowhere = Proc::at("/nonexistent");
        let error = Watch::recorded(nowhere.clone(), nowhere).await.activity().await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/stat"), "{error}");
    }
}
