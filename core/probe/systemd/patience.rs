//! How long systemd is waited for. It answers from memory, at once; but PID 1 of a machine that is short of processors, or whose disk
//! does not keep up, answers late and is not hung for that.

use std::pin::pin;
use std::time::{Duration, Instant};

use procfs::process::Process;
use procfs::{CpuPressure, Current as _};

use crate::probe::{Io, blocking};

/// How long an answer may take while PID 1 does nothing: nobody is coming.
const IDLE: Duration = Duration::from_secs(2);

/// By then it has answered, unless something is wrong; what it is doing is looked at only from then on, not for every question.
const MOMENT: Duration = Duration::from_millis(100);

/// How long it may take altogether, while PID 1 works or is kept from it. Longer than any one thing it does, shorter than a run.
const BUSY: Duration = Duration::from_secs(8);

/// The part of the time in percent that PID 1 runs or waits for a processor when it is busy. One that idles wakes for moments.
const BUSY_PERCENT: u128 = 10;

/// The part of the last 10 s in percent that somebody waited for a processor when all do: the bus between us and PID 1 is one of them.
const CROWDED_PERCENT: f32 = 50.0;

/// How long the state of PID 1 may take to be read.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// What PID 1 has been doing, and whether anybody could work.
#[derive(Debug, Clone, Copy)]
struct Doing {
    /// Its state as in proc(5): `D` waits uninterruptibly, for a disk most of the time.
    state: char,
    /// How long it ran, and was ready to run and did not, since it was started.
    wanted: Duration,
    /// Whether everybody waits for a processor; no where the kernel does not measure it.
    crowded: bool,
}

impl Doing {
    /// None where it cannot be read: then it is not excused.
    async fn now() -> Option<Self> {
        blocking::run("the state of PID 1", "/proc/1", READ_TIMEOUT, Self::read).await.ok().flatten()
    }

    fn read(_io: &Io) -> Option<Self> {
        let init = Process::new(1).ok()?;
        let times = init.schedstat().ok()?;
        let wanted = Duration::from_nanos(times.sum_exec_runtime.saturating_add(times.run_delay));
        let crowded = CpuPressure::current().is_ok_and(|p| p.some.avg10 >= CROWDED_PERCENT);
        Some(Self { state: init.stat().ok()?.state, wanted, crowded })
    }

    /// Whether it was busy, or was kept from working, in the time since.
    fn busy_since(self, before: Self, passed: Duration) -> bool {
        let wanted = self.wanted.saturating_sub(before.wanted).as_nanos();
        self.crowded || self.state == 'D' || wanted * 100 >= passed.as_nanos() * BUSY_PERCENT
    }
}

/// Waits for an answer of systemd; the error is how long that was.
pub(super) async fn patient<T>(answer: impl Future<Output = T>) -> Result<T, Duration> {
    let mut answer = pin!(answer);
    let began = Instant::now();
    if let Ok(said) = tokio::time::timeout(MOMENT, &mut answer).await {
        return Ok(said);
    }
    let mut before = Doing::now().await;
    while began.elapsed() < BUSY {
        let waiting = Instant::now();
        let round = IDLE.saturating_sub(MOMENT).min(BUSY.saturating_sub(began.elapsed()));
        if let Ok(said) = tokio::time::timeout(round, &mut answer).await {
            return Ok(said);
        }
        let now = Doing::now().await;
        if !now.zip(before).is_some_and(|(now, before)| now.busy_since(before, waiting.elapsed())) {
            break;
        }
        before = now;
    }
    Err(began.elapsed())
}

/// Whether PID 1 does nothing now, and no other process keeps it from working: then an answer that does not come never will.
pub async fn init_is_idle() -> bool {
    Doing::now().await.is_some_and(|doing| !doing.crowded && matches!(doing.state, 'S' | 'T' | 't'))
}

/// What PID 1 is doing now: `waits uninterruptibly (state D, in jbd2_log_wait_commit)`.
pub async fn init_is_doing() -> Option<String> {
    blocking::run("the state of PID 1", "/proc/1", READ_TIMEOUT, describe_init).await.ok().flatten()
}

fn describe_init(_io: &Io) -> Option<String> {
    let init = Process::new(1).ok()?;
    let state = init.stat().ok()?.state;
    let what = match state {
        'D' => "waits uninterruptibly",
        'R' => "runs, or waits for a processor",
        'T' | 't' => "was stopped",
        'S' => "waits for something to do",
        _ => "does nothing",
    };
    // only root may see it, and 0 is nowhere
    let place = init.wchan().ok().filter(|w| !w.is_empty() && w != "0");
    Some(format!("{what} (state {state}{})", place.map(|w| format!(", in {w}")).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_kept_from_working_is_waited_for() {
        let at = |state, ms| Doing { state, wanted: Duration::from_millis(ms), crowded: false };
        let two = Duration::from_secs(2);
        assert!(!at('S', 1_003).busy_since(at('S', 1_000), two), "it idles");
        assert!(!at('T', 1_000).busy_since(at('R', 1_000), two), "it was stopped");
        assert!(at('S', 1_500).busy_since(at('S', 1_000), two), "it ran, or wanted to");
        assert!(Doing { crowded: true, ..at('S', 1_003) }.busy_since(at('S', 1_000), two), "the bus may be kept from it");
        assert!(at('D', 1_000).busy_since(at('S', 1_000), two), "it waits for a disk");
    }
}
