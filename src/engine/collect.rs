//! Runs the probes side by side, each within its own limit and all within the deadline of the run.
//!
//! Each probe is a task of its own: one that blocks the thread that it runs on, or panics, costs its check and nothing else.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use opsctl_core::model::{Inventory, Kind, Outcome, Record, Target, quantity};
use opsctl_core::probe::{ProbeCx, ProbeError, clock, lag, panics};
use tokio::task::JoinSet;

use super::assess::{CheckAt, Judging};
use super::partial::{Job, Missed, Partial};
use super::{Progress, Selection};

/// When a probe has to end.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    /// At the latest.
    pub(super) until: Instant,
    /// The deadline of the run, for the reason of what does not end by then; none when only the limit of the check counts.
    pub(super) run: Option<(Instant, Duration)>,
}

/// Every selected check on every target it applies to, in report order; some have a record already.
pub(super) struct Jobs {
    places: Vec<CheckAt>,
    waiting: Vec<Job>,
    records: Vec<Option<Record>>,
}

impl Jobs {
    pub(super) fn of(judging: &Judging, selection: &Selection, inventory: &Inventory) -> Self {
        let mut all = Self { places: Vec::new(), waiting: Vec::new(), records: Vec::new() };
        for (at, runbook, check) in judging.checks() {
            let spec = check.spec();
            if !selection.runs(runbook, spec.id) {
                continue;
            }
            match panics::caught(|| check.targets(inventory)) {
                Ok(targets) => targets.into_iter().filter(|t| selection.targets(t)).for_each(|t| all.push(at, spec.id, t, None)),
                Err(e) => all.push(at, spec.id, Target::host(), Some(e.to_string())),
            }
        }
        all
    }

    fn push(&mut self, at: CheckAt, check: &'static str, target: Target, unknown: Option<String>) {
        self.places.push(at);
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

/// A host that is short of processors, memory or disks must be found to be: what concerns all of it runs before what there are dozens and
/// hundreds of.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Host => 0,
        Kind::Engine => 1,
        Kind::Mount | Kind::Interface => 2,
        _ => 3,
    }
}

/// Ranks of which there are few targets.
const RANK_FEW: u8 = 1;

/// Probes all of it. The records are in `partial`; what has not ended by `until` has none.
pub(super) async fn collect(
    judging: &Arc<Judging>,
    cx: &Arc<ProbeCx>,
    jobs: Jobs,
    limit: Limit,
    partial: &Arc<Partial>,
    progress: &dyn Fn(Progress),
) {
    let Jobs { places, waiting: jobs, records } = jobs;
    let jobs = Arc::new(jobs);
    progress(Progress::Discovered { probes: jobs.iter().map(|j| format!("{} {}", j.check, j.target)).collect() });
    let mut order: Vec<usize> = (0..jobs.len()).filter(|n| records.get(*n).is_some_and(Option::is_none)).collect();
    order.sort_by_key(|n| jobs.get(*n).map(|job| rank(job.target.kind)));
    partial.discovered(cx.inventory.clone(), cx.redactor.clone(), jobs.clone(), records);
    let mut running = JoinSet::new();
    let few = order.iter().take_while(|n| jobs.get(**n).is_some_and(|job| rank(job.target.kind) <= RANK_FEW)).count();
    for (spawned, n) in order.into_iter().enumerate() {
        if spawned == few && limit.run.is_some_and(|(began, _)| lag::was_late(began).is_some()) {
            // hundreds of tasks would take the little time there is from those that find why there is so little
            let until = Instant::now() + limit.until.saturating_duration_since(Instant::now()) / 2;
            while let Ok(Some(ended)) = tokio::time::timeout_at(until.into(), running.join_next()).await {
                if let Ok(n) = ended {
                    report(n, &jobs, progress);
                }
            }
        }
        let Some(at) = places.get(n).copied() else { continue };
        let (judging, cx, partial, jobs) = (judging.clone(), cx.clone(), partial.clone(), jobs.clone());
        running.spawn(async move {
            if let Some(job) = jobs.get(n)
                && let Some(record) = marked(&job.polled, one(&judging, at, &cx, job.target.clone(), limit)).await
            {
                partial.finished(n, record, &cx.redactor);
            }
            n
        });
    }
    loop {
        match tokio::time::timeout_at(limit.until.into(), running.join_next()).await {
            Ok(Some(Ok(n))) => report(n, &jobs, progress),
            // a panic outside the check has cost its record
            Ok(Some(Err(_))) => {}
            // what still runs is abandoned: a task that is blocked cannot be ended
            Ok(None) | Err(_) => return,
        }
    }
}

fn report(n: usize, jobs: &[Job], progress: &dyn Fn(Progress)) {
    if let Some(job) = jobs.get(n) {
        progress(Progress::Finished { check: job.check, target: job.target.to_string() });
    }
}

/// Notes when a future is being polled: one that is for long is blocked.
async fn marked<T>(polled: &AtomicBool, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|cx| {
        polled.store(true, Ordering::Relaxed);
        let poll = future.as_mut().poll(cx);
        polled.store(false, Ordering::Relaxed);
        poll
    })
    .await
}

/// One probe of one target; none when there is no such check.
pub(super) async fn one(judging: &Judging, at: CheckAt, cx: &ProbeCx, target: Target, limit: Limit) -> Option<Record> {
    let check = judging.check(at)?;
    let spec = check.spec();
    let started = Instant::now();
    let patience = spec.timeout.min(limit.until.saturating_duration_since(started));
    let probe = lag::timeout(patience, panics::caught_async(check.probe(cx, &target)));
    let (result, late) = lag::watched(tokio::time::timeout_at(limit.until.into(), probe)).await;
    let outcome = match (result, late) {
        // what timed out while opsctl was late is no evidence about others
        (Ok(_), Some(late)) => Outcome::Unknown(lag::too_busy(late)),
        (Ok(Ok(Ok(Ok(evidence)))), None) => Outcome::Evidence(evidence),
        (Ok(Ok(Ok(Err(ProbeError::Skip(why))))), None) => Outcome::Skip(why),
        (Ok(Ok(Ok(Err(e)))), None) => Outcome::Unknown(e.to_string()),
        (Ok(Ok(Err(panic))), None) => Outcome::Unknown(panic.to_string()),
        (Ok(Err(lag::Elapsed)), None) if patience == spec.timeout => {
            Outcome::Unknown(format!("timed out after {}", quantity::duration(patience.try_into().unwrap_or_default())))
        }
        (Ok(Err(lag::Elapsed)) | Err(_), _) => Outcome::Unknown(match limit.run {
            Some((began, deadline)) => Missed::Deadline(deadline).reason(began),
            None => format!("timed out after {}", quantity::duration(started.elapsed().try_into().unwrap_or_default())),
        }),
    };
    tracing::debug!(check = spec.id, %target, elapsed_ms = started.elapsed().as_millis(), "probed");
    Some(Record {
        check: spec.id.to_owned(),
        target,
        taken_at: clock::now(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        outcome,
    })
}
