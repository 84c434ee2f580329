//! Runs the probes side by side, each within its own limit and all within the run's deadline.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use opsctl_core::model::{AnyCheck, Outcome, Record, Runbook, Target, quantity};
use opsctl_core::probe::{ProbeCx, ProbeError, clock};

use super::{Progress, Selection};

/// Probes every selected check on every target it applies to. Records come back in report order, whatever finished first.
pub(super) async fn collect(
    runbooks: &[Runbook],
    selection: &Selection,
    cx: &ProbeCx,
    deadline: Instant,
    progress: &dyn Fn(Progress),
) -> Vec<Record> {
    let jobs: Vec<(&dyn AnyCheck, Target)> = runbooks
        .iter()
        .flat_map(|r| r.checks.iter().filter(|c| selection.runs(r.id, c.spec().id)))
        .flat_map(|check| {
            let targets = check.targets(&cx.inventory).into_iter().filter(|t| selection.targets(t));
            targets.map(move |target| (&**check, target))
        })
        .collect();
    progress(Progress::Discovered { probes: jobs.iter().map(|(c, t)| format!("{} {t}", c.spec().id)).collect() });
    let mut running: FuturesUnordered<_> = jobs
        .into_iter()
        .enumerate()
        .map(|(order, (check, target))| async move { (order, one(check, cx, target, deadline).await) })
        .collect();
    let mut records = Vec::with_capacity(running.len());
    while let Some((order, (check, record))) = running.next().await {
        progress(Progress::Finished { check, target: record.target.to_string() });
        records.push((order, record));
    }
    records.sort_by_key(|(order, _)| *order);
    records.into_iter().map(|(_, record)| record).collect()
}

/// One probe of one target.
pub(super) async fn one(check: &dyn AnyCheck, cx: &ProbeCx, target: Target, deadline: Instant) -> (&'static str, Record) {
    let spec = check.spec();
    let started = Instant::now();
    let left = deadline.saturating_duration_since(started);
    let limit = spec.timeout.min(left);
    let result = tokio::time::timeout(limit, check.probe(cx, &target)).await;
    let outcome = match result {
        Ok(Ok(evidence)) => Outcome::Evidence(evidence),
        Ok(Err(ProbeError::Skip(why))) => Outcome::Skip(why),
        Ok(Err(e)) => Outcome::Unknown(e.to_string()),
        Err(_) => Outcome::Unknown(gave_up(limit, left < spec.timeout)),
    };
    tracing::debug!(check = spec.id, %target, elapsed_ms = started.elapsed().as_millis(), "probed");
    let record = Record {
        check: spec.id.to_owned(),
        target,
        taken_at: clock::now(),
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        outcome,
    };
    (spec.id, record)
}

fn gave_up(after: Duration, by_deadline: bool) -> String {
    let after = quantity::duration(after.try_into().unwrap_or_default());
    if by_deadline { format!("gave up after {after}: the run's deadline") } else { format!("gave up after {after}") }
}
