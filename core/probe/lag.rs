//! Whether opsctl itself was on time.
//!
//! "No response within 2 s" is evidence about a server only if opsctl could have noticed a response. On a host whose processors are busy
//! opsctl waits for one like everybody else: its timeouts then measure itself. [`timeout`] therefore grants a second period when opsctl was
//! late during the first, and reports the attempt as [`too_busy`](watched) when it was late again: such a probe is `unknown`, never `crit`.
//!
//! Two measures: the time that threads of opsctl were ready to run and did not (`/proc/PID/task/TID/schedstat`, second field), and how late
//! a task that wakes every 100 ms is polled. The second one also covers a kernel without the first, and a runtime that is kept busy.

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

/// How far back samples are kept: longer than any timeout of a probe.
const MAX_SAMPLE_AGE: Duration = Duration::from_secs(60);

/// More threads than a runtime of opsctl has.
const MAX_THREADS: usize = 32;

/// The part of a period in percent from which on opsctl was late in it.
const LATE_PERCENT: u32 = 20;

/// Less than this is never late: any process waits for moments.
const MIN_LATE: Duration = Duration::from_millis(100);

/// The lag of this process.
static METER: Meter = Meter::new();

tokio::task_local! {
    /// How long opsctl was late in an attempt that timed out in this task.
    static TOO_BUSY: Cell<Option<Duration>>;
}

/// Measures how late a process is.
#[derive(Debug)]
struct Meter(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    threads: Vec<Thread>,
    /// How late all ticks were together, up to each of them.
    ticks: VecDeque<(Instant, Duration)>,
    /// When the next tick is due.
    due: Option<Instant>,
    /// When an attempt was last granted a second period.
    granted: Option<Instant>,
    /// The priority of the threads was raised.
    raised: bool,
}

/// A thread of this process.
#[derive(Debug)]
struct Thread {
    id: Pid,
    schedstat: File,
    /// How long it had waited for a processor, since it was started.
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

/// The last value at or before a moment; the first one when all are later.
fn value_at(samples: &VecDeque<(Instant, Duration)>, moment: Instant) -> Option<Duration> {
    let after = samples.partition_point(|(at, _)| *at <= moment);
    samples.get(after.saturating_sub(1)).map(|(_, value)| *value)
}

fn remember(samples: &mut VecDeque<(Instant, Duration)>, at: Instant, value: Duration) {
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

    /// Takes note of the thread that calls this.
    #[allow(clippy::disallowed_methods, reason = "procfs of this process does not block")]
    fn add_thread(&self) {
        // without it (no /proc, no descriptor left) the ticks remain
        let Ok(schedstat) = File::open("/proc/thread-self/schedstat") else { return };
        let mut inner = self.lock();
        if inner.threads.len() < MAX_THREADS {
            let mut thread = Thread { id: rustix::thread::gettid(), schedstat, waited: VecDeque::new() };
            let waited = thread.read().unwrap_or_default();
            remember(&mut thread.waited, Instant::now(), waited);
            inner.threads.push(thread);
        }
    }

    /// A tick happened now.
    fn tick(&self, now: Instant) {
        let mut inner = self.lock();
        let before = inner.ticks.back().map_or(Duration::ZERO, |(_, late)| *late);
        let late = inner.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        remember(&mut inner.ticks, now, before + late);
        inner.due = Some(now + TICK);
        // a thread that has ended cannot be read any more
        inner.threads.retain_mut(|thread| match thread.read() {
            Some(waited) => {
                remember(&mut thread.waited, now, waited);
                true
            }
            None => false,
        });
    }

    /// Raises the priority of the threads, once, when they were late for a quarter of the last time. Threads that they start have it too.
    fn keep_up(&self, now: Instant) {
        let since = now.checked_sub(RECENTLY).unwrap_or(now);
        if self.was_late(since, now).is_none_or(|late| late < RECENTLY / 4) {
            return;
        }
        let mut inner = self.lock();
        // one that was started with a lower priority is meant to wait
        if !std::mem::replace(&mut inner.raised, true) && getpriority_process(None).is_ok_and(|nice| nice == 0) {
            inner.threads.iter().for_each(|thread| Priority::set(Some(thread.id), BUSY_NICE));
        }
    }

    /// An attempt is granted a second period.
    fn grant(&self) {
        self.lock().granted = Some(Instant::now());
    }

    /// Whether an attempt was granted one since then.
    fn granted_since(&self, since: Instant) -> bool {
        self.lock().granted.is_some_and(|at| at >= since)
    }

    /// How long opsctl was late since then, if that is a considerable part of the time.
    fn was_late(&self, since: Instant, now: Instant) -> Option<Duration> {
        let inner = self.lock();
        let waited = inner.threads.iter().filter_map(|t| Some(t.read()?.saturating_sub(value_at(&t.waited, since)?))).max();
        let ticks = inner.ticks.back().and_then(|(_, late)| Some(late.saturating_sub(value_at(&inner.ticks, since)?)));
        // the tick that is due and has not come
        let overdue = inner.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due.max(since)));
        let late = waited.unwrap_or_default().max(ticks.unwrap_or_default() + overdue);
        let period = now.saturating_duration_since(since);
        (late >= MIN_LATE.max(period * LATE_PERCENT / 100)).then_some(late.min(period))
    }
}

/// Measures the thread that calls this from now on: for the threads of the runtime.
pub fn watch_thread() {
    METER.add_thread();
}

/// The threads of a run that is over leave the processors to the one that reports.
pub fn give_way() {
    METER.lock().threads.iter().for_each(|thread| Priority::set(Some(thread.id), LOWEST_NICE));
}

/// The run of this thread has ended, and its priority is no longer raised.
pub fn ended() {
    Priority::ordinary();
    METER.lock().raised = false;
}

/// Ticks for ever: a task of the runtime.
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

/// How long opsctl itself was late since then, if that is a considerable part of the time: a timeout in it is no evidence about others.
#[must_use]
pub fn was_late(since: Instant) -> Option<Duration> {
    METER.was_late(since, Instant::now())
}

/// The time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Waits at most `limit`, and once more as long when opsctl itself was late. Takes the place of `tokio::time::timeout` where a timeout
/// is evidence. An attempt of which this is a part is then given the time as well. If opsctl was late again, the probe that
/// this is a part of learns it through [`watched`].
pub async fn timeout<T>(limit: Duration, attempt: impl Future<Output = T>) -> Result<T, Elapsed> {
    timeout_by(limit, attempt, was_late).await
}

async fn timeout_by<T>(
    limit: Duration,
    attempt: impl Future<Output = T>,
    was_late: impl Fn(Instant) -> Option<Duration>,
) -> Result<T, Elapsed> {
    let mut attempt = pin!(attempt);
    let first = Instant::now();
    if let Ok(value) = tokio::time::timeout(limit, &mut attempt).await {
        return Ok(value);
    }
    if was_late(first).is_some() {
        METER.grant();
    } else if !METER.granted_since(first) {
        return Err(Elapsed);
    }
    let second = Instant::now();
    if let Ok(value) = tokio::time::timeout(limit, attempt).await {
        return Ok(value);
    }
    if was_late(second).is_some() {
        mark(was_late(first).unwrap_or_default());
    }
    Err(Elapsed)
}

/// Makes an attempt that keeps its time limit itself, on a thread or in the kernel, and makes it once more when it timed out while opsctl
/// was late. As [`timeout`] otherwise.
pub async fn retried<T, F: Future<Output = T>>(attempt: impl Fn() -> F, timed_out: impl Fn(&T) -> bool) -> T {
    let first = Instant::now();
    let value = attempt().await;
    if !timed_out(&value) || was_late(first).is_none() {
        return value;
    }
    let second = Instant::now();
    METER.grant();
    let value = attempt().await;
    if timed_out(&value) && was_late(second).is_some() {
        mark(was_late(first).unwrap_or_default());
    }
    value
}

/// Time after which being late has a consequence.
const RECENTLY: Duration = Duration::from_millis(400);

/// The priority of a run on a host whose processors are busy: half of a processor against ten busy processes. A run takes some tenths of
/// a second of processor time; without them it could not report why the host is slow.
const BUSY_NICE: i32 = -10;

/// The lowest priority (`setpriority(2)`).
const LOWEST_NICE: i32 = 19;

/// The priority of a thread that ends a late run.
const LAST_NICE: i32 = -15;

/// Raises the priority of a thread for the moment that the end of a run takes: on a host whose processors are busy the report would
/// come after the deadline, and only root may report in time.
#[derive(Debug)]
pub struct Priority {
    thread: Option<Pid>,
    before: i32,
}

impl Priority {
    /// Of this thread, until it is dropped.
    #[must_use]
    pub fn raise() -> Self {
        let thread = Some(rustix::thread::gettid());
        let before = getpriority_process(thread).unwrap_or_default();
        Self::set(thread, LAST_NICE);
        Self { thread, before }
    }

    /// Of this thread, for good: one that waits for the end of a run.
    pub fn raise_for_good() {
        Self::set(Some(rustix::thread::gettid()), LAST_NICE);
    }

    /// Of a thread of a run that does not keep up.
    #[cfg(test)]
    pub(super) fn keep_up() -> rustix::io::Result<()> {
        setpriority_process(Some(rustix::thread::gettid()), BUSY_NICE)
    }

    /// Takes back what was raised for this thread: for programs that it starts.
    pub(super) fn ordinary() {
        let thread = Some(rustix::thread::gettid());
        if getpriority_process(thread).is_ok_and(|nice| nice == BUSY_NICE) {
            Self::set(thread, 0);
        }
    }

    fn set(thread: Option<Pid>, nice: i32) {
        // without CAP_SYS_NICE it stays as it is
        let _ = setpriority_process(thread, nice);
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        Self::set(self.thread, self.before);
    }
}

/// Takes note that an attempt of this task that began then and timed out is no evidence, if opsctl was late since. For attempts that cannot
/// be made twice.
pub fn doubt(since: Instant) {
    if let Some(late) = was_late(since) {
        mark(late);
    }
}

/// Takes note that an attempt of this task failed because opsctl was late by so much.
pub fn mark(late: Duration) {
    // outside of a probe it concerns nothing
    let _ = TOO_BUSY.try_with(|busy| busy.set(busy.get().max(Some(late))));
}

/// Runs a future and reports beside its result how long opsctl was late in attempts of it that timed out. What was found then cannot be
/// believed.
pub async fn watched<T>(future: impl Future<Output = T>) -> (T, Option<Duration>) {
    TOO_BUSY
        .scope(Cell::new(None), async {
            let value = future.await;
            (value, TOO_BUSY.try_with(Cell::get).unwrap_or_default())
        })
        .await
}

/// Why such a probe is unknown.
#[must_use]
pub fn too_busy(late: Duration) -> String {
    let late = quantity::duration(late.try_into().unwrap_or_default());
    format!("this host was too busy to tell (opsctl itself waited {late} for a processor)")
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
        // only what happened since
        assert_eq!(meter.was_late(start + Duration::from_millis(900), start + SECOND), None);
    }

    #[test]
    fn tick_that_has_not_come_counts() {
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
    fn waiting_thread_is_read_from_the_kernel() {
        let meter = Meter::new();
        meter.add_thread();
        assert!(meter.lock().threads[0].read().is_some());
    }

    /// Short, and long enough for two of them in a row to be told from one.
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
    async fn opsctl_that_was_late_twice_cannot_tell() {
        let (result, late) = watched(timeout_by(LIMIT, std::future::pending::<()>(), |_| Some(SECOND / 2))).await;
        assert_eq!((result, late), (Err(Elapsed), Some(SECOND / 2)));
        assert_eq!(too_busy(SECOND / 2), "this host was too busy to tell (opsctl itself waited 0.5 s for a processor)");
    }
}
