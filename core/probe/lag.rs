//! Measurement of the scheduling latency of opsctl itself.
//!
//! "No response within 2 s" is evidence about a server only if opsctl could have processed a response. On a host with busy
//! processors opsctl itself waits to be scheduled: its timeouts then measure opsctl, not the server. [`timeout`] therefore grants
//! a second period if opsctl was late during the first, and reports the attempt as [`too_busy`](watched) if it was late again:
//! such a probe is `unknown`, never `crit`.
//!
//! Two measures are used: the time that threads of opsctl were runnable but not running (`/proc/PID/task/TID/schedstat`, second
//! field), and the delay of a task that wakes every 100 ms. The second one also covers a kernel without the first, and a blocked
//! runtime.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpriority_process, setpriority_process};

use crate::model::quantity;

/// Time between two samples.
const TICK: Duration = Duration::from_millis(100);

/// Maximum age of samples: longer than any timeout of a probe.
const MAX_SAMPLE_AGE: Duration = Duration::from_secs(60);

/// Limit of measured threads; a runtime of opsctl has fewer.
const MAX_THREADS: usize = 32;

/// The percentage of a period from which on opsctl counts as late.
const LATE_PERCENT: u32 = 20;

/// Smaller delays never count as late: they occur in any process.
const MIN_LATE: Duration = Duration::from_millis(100);

/// The meter of this process.
static METER: Meter = Meter::new();

tokio::task_local! {
    /// The delay of opsctl in an attempt of this task that timed out.
    static TOO_BUSY: Cell<Option<Duration>>;
}

/// Measures the delay of a process.
#[derive(Debug)]
struct Meter(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    threads: Vec<Thread>,
    /// The accumulated delay of all ticks, up to each of them.
    ticks: VecDeque<(Instant, Duration)>,
    /// When the next tick is due.
    due: Option<Instant>,
    /// When an attempt was last granted a second period.
    granted: Option<Instant>,
    /// Whether the priority of the threads was raised.
    raised: bool,
}

/// A thread of this process.
#[derive(Debug)]
struct Thread {
    id: Pid,
    schedstat: File,
    /// Time that it waited for a processor since its start.
    waited: VecDeque<(Instant, Duration)>,
}

impl Thread {
    fn read(&self) -> Option<Duration> {
        let mut text = [0; 96];
        let length = self.schedstat.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
    }
}

/// The last value at or before a point in time; the first one if all are later.
fn value_at(samples: &VecDeque<(Instant, Duration)>, moment: Instant) -> Option<Duration> {
    let after = samples.partition_point(|(at, _)| *at <= moment);
    samples.get(after.saturating_sub(1)).map(|(_, value)| *value)
}

fn push_sample(samples: &mut VecDeque<(Instant, Duration)>, at: Instant, value: Duration) {
    samples.push_back((at, value));
    while samples.front().is_some_and(|(first, _)| at.saturating_duration_since(*first) > MAX_SAMPLE_AGE) {
        samples.pop_front();
    }
}

impl Meter {
    const fn new() -> Self {
        Self(Mutex::new(Inner { threads: Vec::new(), ticks: VecDeque::new(), due: None, granted: None, raised: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the calling thread.
    #[allow(clippy::disallowed_methods, reason = "procfs of this process does not block")]
    fn add_thread(&self) {
        // without it (no /proc, no free descriptor) only the ticks are measured
        let Ok(schedstat) = File::open("/proc/thread-self/schedstat") else { return };
        let mut inner = self.lock();
        if inner.threads.len() < MAX_THREADS {
            let mut thread = Thread { id: rustix::thread::gettid(), schedstat, waited: VecDeque::new() };
            let waited = thread.read().unwrap_or_default();
            push_sample(&mut thread.waited, Instant::now(), waited);
            inner.threads.push(thread);
        }
    }

    /// Records a tick.
    fn tick(&self, now: Instant) {
        let mut inner = self.lock();
        let before = inner.ticks.back().map_or(Duration::ZERO, |(_, late)| *late);
        let late = inner.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        push_sample(&mut inner.ticks, now, before + late);
        inner.due = Some(now + TICK);
        // a thread that has ended cannot be read any more
        inner.threads.retain_mut(|thread| match thread.read() {
            Some(waited) => {
                push_sample(&mut thread.waited, now, waited);
                true
            }
            None => false,
        });
    }

    /// Raises the priority of the threads once, if they were late for a quarter of the last period. Threads that they start
    /// inherit it.
    fn keep_up(&self, now: Instant) {
        let since = now.checked_sub(LATE_WINDOW).unwrap_or(now);
        if self.was_late(since, now).is_none_or(|late| late < LATE_WINDOW / 4) {
            return;
        }
        let mut inner = self.lock();
        // a lower priority at start is intended
        if !std::mem::replace(&mut inner.raised, true) && getpriority_process(None).is_ok_and(|nice| nice == 0) {
            inner.threads.iter().for_each(|thread| Priority::set(Some(thread.id), BUSY_NICE));
        }
    }

    /// Records that an attempt was granted a second period.
    fn grant(&self) {
        self.lock().granted = Some(Instant::now());
    }

    /// Whether an attempt was granted a second period since then.
    fn granted_since(&self, since: Instant) -> bool {
        self.lock().granted.is_some_and(|at| at >= since)
    }

    /// The delay of opsctl since then, if it is a considerable part of the period.
    fn was_late(&self, since: Instant, now: Instant) -> Option<Duration> {
        let inner = self.lock();
        let waited = inner.threads.iter().filter_map(|t| Some(t.read()?.saturating_sub(value_at(&t.waited, since)?))).max();
        let ticks = inner.ticks.back().and_then(|(_, late)| Some(late.saturating_sub(value_at(&inner.ticks, since)?)));
        // the tick that is overdue
        let overdue = inner.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due.max(since)));
        let late = waited.unwrap_or_default().max(ticks.unwrap_or_default() + overdue);
        let period = now.saturating_duration_since(since);
        (late >= MIN_LATE.max(period * LATE_PERCENT / 100)).then_some(late.min(period))
    }
}

/// Measures the calling thread from now on: for the threads of the runtime.
pub fn watch_thread() {
    METER.add_thread();
}

/// Lowers the priority of the threads of a finished run in favour of the thread that reports.
pub fn lower_thread_priority() {
    METER.lock().threads.iter().for_each(|thread| Priority::set(Some(thread.id), LOWEST_NICE));
}

/// Ends the run of this thread, and resets its priority.
pub fn ended() {
    Priority::ordinary();
    METER.lock().raised = false;
}

/// Ticks forever: a task of the runtime.
pub async fn measure() {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let now = Instant::now();
        METER.tick(now);
        METER.keep_up(now);
    }
}

/// The delay of opsctl since then, if it is a considerable part of the period: a timeout in it is not evidence about other
/// processes.
#[must_use]
pub fn was_late(since: Instant) -> Option<Duration> {
    METER.was_late(since, Instant::now())
}

/// The timeout has elapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Waits at most `limit`, and once more as long if opsctl itself was late. Replaces `tokio::time::timeout` where a timeout is
/// evidence. An enclosing attempt is granted the additional time as well. If opsctl was late again, the enclosing probe is
/// notified through [`watched`].
pub fn timeout<T>(limit: Duration, attempt: impl Future<Output = T>) -> impl Future<Output = Result<T, Elapsed>> {
    timeout_by(limit, attempt, was_late)
}

/// As [`timeout`], for the handshake of a connection: the kernels on both sides complete it without any process, and a late opsctl
/// finds the result when it runs again. A timeout after the second period is therefore evidence.
pub async fn handshake<T>(limit: Duration, attempt: impl Future<Output = T>) -> Result<T, Elapsed> {
    in_two_periods(limit, attempt, was_late).await.map_err(|_| Elapsed)
}

async fn timeout_by<T>(
    limit: Duration,
    attempt: impl Future<Output = T>,
    was_late: impl Fn(Instant) -> Option<Duration>,
) -> Result<T, Elapsed> {
    in_two_periods(limit, attempt, was_late).await.map_err(|late| {
        late.into_iter().for_each(mark);
        Elapsed
    })
}

/// The error is the delay of opsctl in the first period, if it was late in the second one as well.
async fn in_two_periods<T>(
    limit: Duration,
    attempt: impl Future<Output = T>,
    was_late: impl Fn(Instant) -> Option<Duration>,
) -> Result<T, Option<Duration>> {
    let mut attempt = pin!(attempt);
    let first = Instant::now();
    if let Ok(value) = tokio::time::timeout(limit, &mut attempt).await {
        return Ok(value);
    }
    if was_late(first).is_some() {
        METER.grant();
    } else if !METER.granted_since(first) {
        return Err(None);
    }
    let second = Instant::now();
    if let Ok(value) = tokio::time::timeout(limit, attempt).await {
        return Ok(value);
    }
    Err(was_late(second).map(|_| was_late(first).unwrap_or_default()))
}

/// Makes an attempt that enforces its own time limit, on a thread or in the kernel, and repeats it once if it timed out while
/// opsctl was late. Otherwise as [`timeout`].
pub async fn retried<T, F: Future<Output = T>>(attempt: impl Fn() -> F, timed_out: impl Fn(&T) -> bool) -> T {
    let (value, late) = twice(attempt, timed_out).await;
    late.into_iter().for_each(mark);
    value
}

/// As [`retried`], for the handshake of a connection: see [`handshake`].
pub async fn retried_handshake<T, F: Future<Output = T>>(attempt: impl Fn() -> F, timed_out: impl Fn(&T) -> bool) -> T {
    twice(attempt, timed_out).await.0
}

/// The result, and the delay of opsctl in the first attempt if it was late in both.
async fn twice<T, F: Future<Output = T>>(attempt: impl Fn() -> F, timed_out: impl Fn(&T) -> bool) -> (T, Option<Duration>) {
    let first = Instant::now();
    let value = attempt().await;
    if !timed_out(&value) || was_late(first).is_none() {
        return (value, None);
    }
    let second = Instant::now();
    METER.grant();
    let value = attempt().await;
    let late = if timed_out(&value) { was_late(second) } else { None };
    (value, late.map(|_| was_late(first).unwrap_or_default()))
}

/// The period over which delays are measured before the priority is raised.
const LATE_WINDOW: Duration = Duration::from_millis(400);

/// The priority of a run on a host with busy processors: half of a processor against ten busy processes. A run uses some tenths
/// of a second of processor time; without them it could not report why the host is slow.
const BUSY_NICE: i32 = -10;

/// The lowest priority (`setpriority(2)`).
const LOWEST_NICE: i32 = 19;

/// The priority of the thread that ends a late run.
const REPORT_NICE: i32 = -15;

/// Raises the priority of a thread until the end of a run is reported: on a host with busy processors the report would otherwise
/// miss the deadline. Requires root.
#[derive(Debug)]
pub struct Priority {
    thread: Option<Pid>,
    before: i32,
}

impl Priority {
    /// Raises the priority of this thread until the value is dropped.
    #[must_use]
    pub fn raise() -> Self {
        let thread = Some(rustix::thread::gettid());
        let before = getpriority_process(thread).unwrap_or_default();
        Self::set(thread, REPORT_NICE);
        Self { thread, before }
    }

    /// Raises the priority of this thread permanently: for a thread that waits for the end of a run.
    pub fn raise_for_good() {
        Self::set(Some(rustix::thread::gettid()), REPORT_NICE);
    }

    /// Sets the priority of a run that is late.
    #[cfg(test)]
    pub(super) fn keep_up() -> rustix::io::Result<()> {
        setpriority_process(Some(rustix::thread::gettid()), BUSY_NICE)
    }

    /// Resets the raised priority of this thread: for programs that it starts.
    pub(super) fn ordinary() {
        let thread = Some(rustix::thread::gettid());
        if getpriority_process(thread).is_ok_and(|nice| nice == BUSY_NICE) {
            Self::set(thread, 0);
        }
    }

    fn set(thread: Option<Pid>, nice: i32) {
        // without CAP_SYS_NICE the priority is unchanged
        let _ = setpriority_process(thread, nice);
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        Self::set(self.thread, self.before);
    }
}

/// Marks an attempt of this task, which began then and timed out, as inconclusive if opsctl was late since. For attempts that
/// cannot be repeated.
pub fn doubt(since: Instant) {
    if let Some(late) = was_late(since) {
        mark(late);
    }
}

/// Marks an attempt of this task as failed because of this delay of opsctl.
pub fn mark(late: Duration) {
    // outside of a probe the mark has no effect
    let _ = TOO_BUSY.try_with(|busy| busy.set(busy.get().max(Some(late))));
}

/// Runs a future and returns its result with the delay of opsctl in attempts that timed out. A result with a delay is unreliable.
pub async fn watched<T>(future: impl Future<Output = T>) -> (T, Option<Duration>) {
    TOO_BUSY
        .scope(Cell::new(None), async {
            let value = future.await;
            (value, TOO_BUSY.try_with(Cell::get).unwrap_or_default())
        })
        .await
}

/// Begin of [`too_busy`].
const TOO_BUSY_TEXT: &str = "this host was too busy for a reliable result";

/// The reason for the state `unknown` of such a probe.
#[must_use]
pub fn too_busy(late: Duration) -> String {
    let late = quantity::duration(late.try_into().unwrap_or_default());
    format!("{TOO_BUSY_TEXT} (opsctl itself waited {late} for a processor)")
}

/// Whether a reason is [`too_busy`]: a repetition can succeed.
#[must_use]
pub fn is_too_busy(reason: &str) -> bool {
    reason.contains(TOO_BUSY_TEXT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ticked(times: &[u64]) -> (Meter, Instant) {
        let meter = Meter::new();
        let start = Instant::now();
        for ms in times {
            meter.tick(start + Duration::from_millis(*ms));
        }
        (meter, start)
    }

    #[test]
    fn punctual_ticks_are_not_late() {
        let (meter, start) = ticked(&[0, 100, 201, 305, 410, 520, 620, 720, 820, 920]);
        assert_eq!(meter.was_late(start, start + SECOND), None);
    }

    #[test]
    fn late_ticks_add_up() {
        let (meter, start) = ticked(&[0, 300, 600, 900]);
        assert_eq!(meter.was_late(start, start + SECOND), Some(Duration::from_millis(600)));
        // only delays after the given time count
        assert_eq!(meter.was_late(start + Duration::from_millis(900), start + SECOND), None);
    }

    #[test]
    fn overdue_tick_counts() {
        let (meter, start) = ticked(&[0, 100]);
        assert_eq!(meter.was_late(start, start + SECOND), Some(Duration::from_millis(800)));
    }

    #[test]
    fn samples_are_bounded() {
        let meter = Meter::new();
        let start = Instant::now();
        for n in 0..2000 {
            meter.tick(start + TICK * n);
        }
        assert!(meter.lock().ticks.len() <= 602);
    }

    #[test]
    fn schedstat_of_a_thread() {
        let meter = Meter::new();
        meter.add_thread();
        assert!(meter.lock().threads[0].read().is_some());
    }

    /// Short, but long enough to distinguish one period from two.
    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test(flavor = "current_thread")]
    async fn hung_peer_times_out_once_when_opsctl_was_on_time() {
        let (result, late) = watched(timeout_by(LIMIT, std::future::pending::<()>(), |_| None)).await;
        assert_eq!((result, late), (Err(Elapsed), None));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn late_opsctl_waits_a_second_time() {
        let answer = async {
            tokio::time::sleep(LIMIT * 3 / 2).await;
            7
        };
        let (result, late) = watched(timeout_by(LIMIT, answer, |_| Some(SECOND))).await;
        assert_eq!((result, late), (Ok(7), None));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn second_period_of_a_part_extends_the_whole() {
        let answer = async {
            tokio::time::sleep(LIMIT * 3 / 2).await;
            7
        };
        let part = timeout_by(LIMIT, answer, |_| Some(SECOND));
        let (result, _) = watched(timeout_by(LIMIT * 5 / 4, part, |_| None)).await;
        assert_eq!(result, Ok(Ok(7)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn handshake_without_a_response_is_evidence() {
        let (result, late) = watched(handshake(LIMIT, std::future::pending::<()>())).await;
        assert_eq!((result, late), (Err(Elapsed), None));
        let ((), late) = watched(retried_handshake(|| async { tokio::time::sleep(LIMIT).await }, |()| true)).await;
        assert_eq!(late, None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn opsctl_late_twice_is_inconclusive() {
        let (result, late) = watched(timeout_by(LIMIT, std::future::pending::<()>(), |_| Some(SECOND / 2))).await;
        assert_eq!((result, late), (Err(Elapsed), Some(SECOND / 2)));
        assert_eq!(
            too_busy(SECOND / 2),
            "this host was too busy for a reliable result (opsctl itself waited 0.5 s for a processor)"
        );
    }
}
