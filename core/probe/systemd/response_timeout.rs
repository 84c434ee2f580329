//! Adaptive timeout of systemd. It responds from memory, immediately; but PID 1 of a machine that is short of CPU time, or has an
//! overloaded disk, responds late without being hung.

use std::pin::pin;
use std::time::{Duration, Instant};

use crate::probe::kernel::parse;
use crate::probe::proc::process::state_in;
use crate::probe::{Io, blocking};

/// Timeout while PID 1 is idle: no reply will come.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Normal response time. The state of PID 1 is read only after this time, not for every call.
const NORMAL_RESPONSE: Duration = Duration::from_millis(100);

/// Total timeout while PID 1 is busy or blocked. Longer than any single operation of PID 1, shorter than a run.
const BUSY_TIMEOUT: Duration = Duration::from_secs(8);

/// Share of the time in percent that PID 1 runs or waits for a CPU when it is busy. An idle one wakes up briefly.
const BUSY_PERCENT: u128 = 10;

/// CPU pressure (`some`, 10 s average, percent) from which all processes count as delayed, including the bus between opsctl and
/// PID 1.
const CPU_PRESSURE_PERCENT: f64 = 50.0;

/// Timeout of reading the state of PID 1.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Activity of PID 1, and CPU pressure of the machine.
#[derive(Debug, Clone, Copy)]
struct InitState {
    /// Process state as in proc(5): `D` is uninterruptible sleep, mostly for a disk.
    state: char,
    /// Time it ran or was runnable without running, since its start.
    cpu_demand: Duration,
    /// CPU pressure is above [`CPU_PRESSURE_PERCENT`]; false if the kernel does not measure it.
    cpu_pressure: bool,
}

impl InitState {
    /// `None` if it cannot be read; PID 1 then counts as idle.
    async fn now() -> Option<Self> {
        blocking::run("the state of PID 1", "/proc/1", READ_TIMEOUT, Self::read).await.ok().flatten()
    }

    fn read(io: &Io) -> Option<Self> {
        let pressure = io.read_lossy("/proc/pressure/cpu").ok().and_then(|text| parse::pressure(&text));
        Some(Self {
            state: state_in(&io.read_lossy("/proc/1/stat").ok()?)?,
            cpu_demand: cpu_demand(&io.read_lossy("/proc/1/schedstat").ok()?)?,
            cpu_pressure: pressure.is_some_and(|p| p.some.avg10 >= CPU_PRESSURE_PERCENT),
        })
    }

    /// Whether the process was busy or blocked since `before`.
    fn busy_since(self, before: Self, passed: Duration) -> bool {
        let cpu_demand = self.cpu_demand.saturating_sub(before.cpu_demand).as_nanos();
        self.cpu_pressure || self.state == 'D' || cpu_demand * 100 >= passed.as_nanos() * BUSY_PERCENT
    }
}

/// Time on a CPU and time runnable without one, both in nanoseconds: the first two fields of `/proc/<pid>/schedstat`
/// (Documentation/scheduler/sched-stats.rst).
fn cpu_demand(schedstat: &str) -> Option<Duration> {
    let mut times = schedstat.split_ascii_whitespace().map(|n| n.parse::<u64>().ok());
    Some(Duration::from_nanos(times.next()??.saturating_add(times.next()??)))
}

/// Waits for a reply of systemd; the error is the time waited.
pub(super) async fn wait_for_reply<T>(pending: impl Future<Output = T>) -> Result<T, Duration> {
    let mut pending = pin!(pending);
    let began = Instant::now();
    if let Ok(reply) = tokio::time::timeout(NORMAL_RESPONSE, &mut pending).await {
        return Ok(reply);
    }
    let mut before = InitState::now().await;
    while began.elapsed() < BUSY_TIMEOUT {
        let waiting = Instant::now();
        let round = IDLE_TIMEOUT.saturating_sub(NORMAL_RESPONSE).min(BUSY_TIMEOUT.saturating_sub(began.elapsed()));
        if let Ok(reply) = tokio::time::timeout(round, &mut pending).await {
            return Ok(reply);
        }
        let now = InitState::now().await;
        if !now.zip(before).is_some_and(|(now, before)| now.busy_since(before, waiting.elapsed())) {
            break;
        }
        before = now;
    }
    Err(began.elapsed())
}

/// Whether PID 1 is idle now and not delayed by other processes: then a pending reply will never come.
pub async fn init_is_idle() -> bool {
    InitState::now().await.is_some_and(|init| !init.cpu_pressure && matches!(init.state, 'S' | 'T' | 't'))
}

/// Description of the current activity of PID 1: `waits uninterruptibly (state D, in jbd2_log_wait_commit)`.
pub async fn init_activity() -> Option<String> {
    blocking::run("the state of PID 1", "/proc/1", READ_TIMEOUT, describe_init).await.ok().flatten()
}

fn describe_init(io: &Io) -> Option<String> {
    let state = state_in(&io.read_lossy("/proc/1/stat").ok()?)?;
    let activity = match state {
        'D' => "waits uninterruptibly",
        'R' => "runs or waits for a CPU",
        'T' | 't' => "was stopped",
        'S' => "sleeps while idle",
        _ => "is not running",
    };
    // readable by root only; 0 means not waiting
    let wait_channel = io.read_lossy("/proc/1/wchan").ok().filter(|w| !w.is_empty() && w != "0");
    Some(format!("{activity} (state {state}{})", wait_channel.map(|w| format!(", in {w}")).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_or_blocked_init_extends_the_timeout() {
        let at = |state, ms| InitState { state, cpu_demand: Duration::from_millis(ms), cpu_pressure: false };
        let two = Duration::from_secs(2);
        assert!(!at('S', 1_003).busy_since(at('S', 1_000), two), "idle");
        assert!(!at('T', 1_000).busy_since(at('R', 1_000), two), "stopped");
        assert!(at('S', 1_500).busy_since(at('S', 1_000), two), "ran or was runnable");
        assert!(
            InitState { cpu_pressure: true, ..at('S', 1_003) }.busy_since(at('S', 1_000), two),
            "CPU pressure may delay the bus"
        );
        assert!(at('D', 1_000).busy_since(at('S', 1_000), two), "uninterruptible sleep");
    }

    #[test]
    fn cpu_demand_is_running_and_runnable_time() {
        assert_eq!(cpu_demand("2000000 3000000 17\n"), Some(Duration::from_millis(5)));
        assert_eq!((cpu_demand("2000000"), cpu_demand("x 1 2"), cpu_demand("")), (None, None, None));
    }
}
