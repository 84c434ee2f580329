//! Runs the probes concurrently, each within its own limit and all within the deadline of the run.
//!
//! Each probe is a task of its own: one that blocks its thread, or panics, fails only its own check.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use opsctl_core::model::{Inventory, Kind, Object, Outcome, Record, quantity};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::{ProbeCx, ProbeError, lag, panics};
use tokio::task::JoinSet;

use super::assess::{CheckAt, Judging};
use super::confined::left_out;
use super::partial::{Job, Partial};
use super::{Progress, Selection};
use crate::watchdog::ExceededLimit;

/// Time limit of a probe.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    /// The point in time.
    pub(super) until: Instant,
    /// The deadline of the run, for the reason in the record; `None` if only the limit of the check applies.
    pub(super) run: Option<(Instant, Duration)>,
}

/// Every selected check on every applicable target, in report order; some have a record already.
pub(super) struct Jobs {
    checks: Vec<CheckAt>,
    waiting: Vec<Job>,
    records: Vec<Option<Record>>,
}

impl Jobs {
    pub(super) fn of(judging: &Judging, selection: &Selection, inventory: &Inventory) -> Self {
        let mut all = Self { checks: Vec::new(), waiting: Vec::new(), records: Vec::new() };
        for (at, runbook, check) in judging.checks() {
            let spec = check.spec();
            if !selection.runs(runbook, spec.id) {
                continue;
            }
            match panics::caught(|| check.targets(inventory)) {
                Ok(targets) => {
                    for target in targets.into_iter().filter(|t| selection.targets(t)) {
                        let unknown = left_out(inventory, spec.id, &target);
                        all.push(at, spec.id, target, unknown);
                    }
                }
                Err(e) => all.push(at, spec.id, Object::host(), Some(e.to_string())),
            }
        }
        all
    }

    fn push(&mut self, at: CheckAt, check: &'static str, target: Object, unknown: Option<String>) {
        self.checks.push(at);
        self.records.push(unknown.map(|why| Record {
            check: check.to_owned(),
            target: target.clone(),
            taken_at: clock::now(),
            duration_ms: 0,
            outcome: Outcome::Unknown(why),
        }));
        self.waiting.push(Job { check, target, polled: AtomicBool::new(false) });
    }
}

/// A shortage of processors, memory or disks must be detected: checks of the whole host run before those with dozens or hundreds of
/// targets.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Host => 0,
        Kind::Engine => 1,
        Kind::Mount | Kind::Interface => 2,
        _ => 3,
    }
}

/// Ranks with few targets.
const RANK_FEW: u8 = 1;

/// Runs all probes. The records are in `partial`; a probe that has not finished by `until` has none.
pub(super) async fn collect(
    judging: &Arc<Judging>,
    cx: &Arc<ProbeCx>,
    jobs: Jobs,
    limit: Limit,
    partial: &Arc<Partial>,
    progress: &dyn Fn(Progress),
) {
    let Jobs { checks, waiting: jobs, records } = jobs;
    let jobs = Arc::new(jobs);
    progress(Progress::Discovered { probes: jobs.iter().map(|j| format!("{} {}", j.check, j.target)).collect() });
    let mut order: Vec<usize> = (0..jobs.len()).filter(|n| records.get(*n).is_some_and(Option::is_none)).collect();
    order.sort_by_key(|n| jobs.get(*n).map(|job| rank(job.target.kind)));
    partial.discovered(cx.inventory.clone(), cx.redactor.clone(), jobs.clone(), records);
    let mut running = JoinSet::new();
    let few = order.iter().take_while(|n| jobs.get(**n).is_some_and(|job| rank(job.target.kind) <= RANK_FEW)).count();
    for (spawned, n) in order.into_iter().enumerate() {
        if spawned == few && limit.run.is_some_and(|(began, _)| lag::was_late(began).is_some()) {
            // hundreds of tasks would starve those that detect the shortage
            let until = Instant::now() + limit.until.saturating_duration_since(Instant::now()) / 2;
            while let Ok(Some(ended)) = tokio::time::timeout_at(until.into(), running.join_next()).await {
                if let Ok(n) = ended {
                    report(n, &jobs, progress);
                }
            }
        }
        let Some(at) = checks.get(n).copied() else { continue };
        let (judging, cx, partial, jobs) = (judging.clone(), cx.clone(), partial.clone(), jobs.clone());
        running.spawn(async move {
            if let Some(job) = jobs.get(n)
                && let Some(record) = marked(&job.polled, Box::pin(one(&judging, at, &cx, job.target.clone(), limit))).await
            {
                partial.finished(n, record, &cx.redactor);
            }
            n
        });
    }
    loop {
        match tokio::time::timeout_at(limit.until.into(), running.join_next()).await {
            Ok(Some(Ok(n))) => report(n, &jobs, progress),
            // a panic outside the check: its record is missing
            Ok(Some(Err(_))) => {}
            // running tasks are abandoned: a blocked task cannot be cancelled
            Ok(None) | Err(_) => return,
        }
    }
}

fn report(n: usize, jobs: &[Job], progress: &dyn Fn(Progress)) {
    if let Some(job) = jobs.get(n) {
        progress(Progress::Finished { check: job.check, target: job.target.to_string() });
    }
}

/// Marks a future while it is polled: a long poll means that it is blocked.
async fn marked<T>(polled: &AtomicBool, mut future: Pin<Box<impl Future<Output = T>>>) -> T {
    poll_fn(|cx| {
        polled.store(true, Ordering::Relaxed);
        let poll = future.as_mut().poll(cx);
        polled.store(false, Ordering::Relaxed);
        poll
    })
    .await
}

/// One probe of one target; `None` if the check does not exist.
pub(super) async fn one(judging: &Judging, at: CheckAt, cx: &ProbeCx, target: Object, limit: Limit) -> Option<Record> {
    let check = judging.check(at)?;
    let spec = check.spec();
    let started = Instant::now();
    let timeout = spec.timeout.min(limit.until.saturating_duration_since(started));
    // boxed: each layer around a future is larger than the future, and a host with many containers has thousands of them
    let probe = Box::pin(lag::timeout(timeout, panics::caught_async(check.probe(cx, &target))));
    let (result, late) = lag::watched(tokio::time::timeout_at(limit.until.into(), probe)).await;
    let outcome = match (result, late) {
        // a timeout while opsctl itself was late is no evidence about the target
        (Ok(_), Some(late)) => Outcome::Unknown(lag::too_busy(late)),
        (Ok(Ok(Ok(Ok(evidence)))), None) => Outcome::Evidence(evidence),
        (Ok(Ok(Ok(Err(ProbeError::Skip(why))))), None) => Outcome::Skip(why),
        (Ok(Ok(Ok(Err(e)))), None) => Outcome::Unknown(e.to_string()),
        (Ok(Ok(Err(panic))), None) => Outcome::Unknown(panic.to_string()),
        (Ok(Err(lag::Elapsed)), None) if timeout == spec.timeout => {
            Outcome::Unknown(format!("timed out after {}", quantity::duration(timeout.try_into().unwrap_or_default())))
        }
        (Ok(Err(lag::Elapsed)) | Err(_), _) => Outcome::Unknown(match limit.run {
            Some((began, deadline)) => ExceededLimit::Deadline(deadline).reason(began),
            None => format!("timed out after {}", quantity::duration(started.elapsed().try_into().unwrap_or_default())),
        }),
    };
    // the reason is in the report, where secrets are removed from it
    let result = match &outcome {
        Outcome::Evidence(_) => "evidence",
        Outcome::Skip(_) => "skip",
        Outcome::Unknown(_) => "unknown",
    };
    tracing::debug!(check = spec.id, %target, elapsed_ms = started.elapsed().as_millis(), result, "probed");
    Some(Record {
        check: spec.id.to_owned(),
        target,
        taken_at: clock::now(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        outcome,
    })
}
