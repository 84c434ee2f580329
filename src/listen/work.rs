//! The worker: one run of the checks for all queued alerts, then the allowed fixes, then the delivery of the answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use opsctl_core::probe::ProbeOptions;
use opsctl_core::probe::io::clock;

use super::queue::Batch;
use super::{Shared, log};
use crate::catalog::Catalog;
use crate::config::{Config, Occasion};
use crate::deliver::Mailer;
use crate::diagnosis::{self, state_dir};
use crate::engine::{Offer, Run, Selection, Session};
use crate::fix::{FixOptions, GuardContext, host_switched_off, subject_of};
use crate::report::add_journal;
use crate::respond::{self, Alert, AlertReport, Applied, Response};
use crate::watchdog::{self, Ending, Overdue};

/// Time limit of an answer from partial results when a run does not end: undelivered messages are then spooled or lost.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(45);

/// Exit code in that case (`sysexits.h`): restart later.
const EX_TEMPFAIL: u8 = 75;

/// Alerts queued for longer are answered but no fix is applied: the host has changed since.
const STALE_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// The period in which runs are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// Start times of the last runs, as many as allowed within a minute.
struct Pace {
    max_runs: usize,
    began: VecDeque<Instant>,
}

impl Pace {
    fn new(max_runs: usize) -> Self {
        Self { max_runs, began: VecDeque::new() }
    }

    /// Delay before the next run.
    fn pause(&self, now: Instant) -> Duration {
        let oldest = self.began.front().filter(|_| self.began.len() >= self.max_runs);
        oldest.map_or(Duration::ZERO, |began| MINUTE.saturating_sub(now.duration_since(*began)))
    }

    fn begins(&mut self, now: Instant) {
        self.began.push_back(now);
        while self.began.len() > self.max_runs {
            self.began.pop_front();
        }
    }
}

/// Answers alerts until shutdown; alerts in progress are completed first.
pub(super) async fn work(config: &Config, shared: &Arc<Shared>) {
    let catalog = Catalog::of(crate::site::runbooks(config));
    let mut stopping = shared.stopping.clone();
    let mut pace = Pace::new(config.listen.runs_per_minute);
    loop {
        // alerts that arrive meanwhile are queued on disk and answered together
        let next = async {
            tokio::time::sleep(pace.pause(Instant::now())).await;
            shared.queue.take().await
        };
        let batches = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            batches = next => batches,
        };
        pace.begins(Instant::now());
        shared.metrics.begins();
        Box::pin(answer(config, &catalog, shared, &batches)).await;
        shared.metrics.ends();
        shared.queue.done(&batches);
    }
}

async fn answer(config: &Config, catalog: &Catalog, shared: &Arc<Shared>, batches: &[Batch]) {
    let mut alerts = Vec::new();
    let now = clock::now();
    let mut stale = Vec::new();
    for batch in batches {
        for alert in &batch.alerts {
            let mut alert = alert.clone();
            alert.resolved |= shared.queue.is_over(&alert);
            stale.push(now.duration_since(batch.received_at) > STALE_AFTER);
            alerts.push(alert);
        }
    }
    let selection = Selection { skip: config.skip.clone(), ..Selection::default() };
    let run = Run::default();
    watchdog::on_overdue(overdue_ending(config, shared, batches, &alerts, &run));
    let limit = watchdog::within("the run of the checks", run.began, config.deadline, None);
    let outcome = diagnosis::run(config, &selection, ProbeOptions::default(), None, &run, &|_| {}).await;
    drop(limit);
    let mut response = respond::respond(alerts, &outcome.assessment.report, catalog, config, Some(&outcome.store));
    let mut tried: Vec<(String, String, Applied)> = Vec::new();
    for (answer, stale) in response.answers.iter_mut().zip(stale) {
        if !stale && !answer.alert.resolved {
            apply(config, shared, &outcome.session, &outcome.assessment.offers, answer, &mut tried).await;
        }
        shared.metrics.alerts("answered", 1);
        let did: Vec<String> = answer.applied.iter().map(|a| format!("; {} {}: exit {}", a.fix, a.subject, a.exit)).collect();
        log(&format!("{}: {}{}", answer.alert.name, answer.verdict, did.concat()));
    }
    // fixes have added entries since the run
    add_journal(&mut response.report, &state_dir(config), config.signing_key.as_deref()).await;
    response.fixes_switched_off = host_switched_off();
    send(config, response).await;
}

/// A run that does not end is answered with its partial results, and its alerts are done: after a restart it would hang again.
/// The process then exits and systemd restarts it: hung threads end with it, and queued alerts are on disk.
fn overdue_ending(config: &Config, shared: &Arc<Shared>, batches: &[Batch], alerts: &[Alert], run: &Run) -> Ending {
    let (config, shared, partial) = (config.clone(), shared.clone(), run.partial.clone());
    let (batches, alerts) = (batches.to_vec(), alerts.to_vec());
    let make = move |overdue: &Overdue| {
        let report = partial.assess(overdue.missed()).report;
        let response = respond::respond(alerts, &report, &Catalog::of(crate::site::runbooks(&config)), &config, None);
        for answer in &response.answers {
            log(&format!("{}: {}", answer.alert.name, answer.verdict));
        }
        shared.queue.done(&batches);
        log(&format!("{}; exiting for a restart", overdue.words()));
        deliver(&config, &response);
        watchdog::Output { stdout: String::new(), code: EX_TEMPFAIL, then: Vec::new() }
    };
    let minimal = |_: &Overdue| watchdog::Output { stdout: String::new(), code: EX_TEMPFAIL, then: Vec::new() };
    Ending::new(make, minimal).time_limit(LAST_ANSWER_TIMEOUT)
}

/// Applies the fixes that the policy allows for the findings of the alert; each fix once per batch.
async fn apply(
    config: &Config,
    shared: &Shared,
    session: &Session,
    offers: &[Offer],
    answer: &mut AlertReport,
    tried: &mut Vec<(String, String, Applied)>,
) {
    let context = GuardContext::of(config);
    let mut subjects: Vec<String> = Vec::new();
    for offer in offers {
        let subject = subject_of(offer).to_string();
        let allowed = config.policy.allow.contains(&offer.fix) && offer.refused.is_none() && offer.plan.is_ok();
        // one fix at a time for each object: the first one is tried
        if !allowed || !answer.findings.contains(&offer.finding.id) || subjects.contains(&subject) {
            continue;
        }
        subjects.push(subject.clone());
        if let Some((_, _, before)) = tried.iter().find(|(fix, s, _)| *fix == offer.fix && *s == subject) {
            answer.applied.push(before.clone());
            continue;
        }
        let mut output = Vec::new();
        let options = FixOptions { dry_run: false, yes: true, risk: Some(offer.risk) };
        let exit = context.guard(session, options, &mut output).fix(offer).await.code();
        shared.metrics.fix(&offer.fix, exit);
        let lines = String::from_utf8_lossy(&output).lines().map(str::to_owned).collect();
        let applied = Applied { fix: offer.fix.clone(), subject: subject.clone(), exit, said: lines };
        tried.push((offer.fix.clone(), subject, applied.clone()));
        answer.applied.push(applied);
    }
}

#[allow(clippy::disallowed_methods, reason = "deliveries have time limits of their own, and a stop waits for them")]
async fn send(config: &Config, response: Response) {
    if config.deliveries.iter().all(|d| !d.when.contains(&Occasion::Alert)) {
        return;
    }
    let config = config.clone();
    // a panic in the thread has cost its message
    let _ = tokio::task::spawn_blocking(move || deliver(&config, &response)).await;
}

fn deliver(config: &Config, response: &Response) {
    let message = respond::message(response);
    for note in Mailer::new(config, &state_dir(config)).deliver(&response.report, &|_| message.clone(), &[Occasion::Alert]) {
        log(&note);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_bounded_per_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(2);
        assert_eq!(pace.pause(at(0)), Duration::ZERO);
        pace.begins(at(0));
        assert_eq!(pace.pause(at(1)), Duration::ZERO);
        pace.begins(at(10));
        assert_eq!(pace.pause(at(10)), Duration::from_secs(50));
        assert_eq!(pace.pause(at(60)), Duration::ZERO);
        pace.begins(at(60));
        assert_eq!(pace.pause(at(61)), Duration::from_secs(9));
    }
}
