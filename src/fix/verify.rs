//! Verification of a fix: the same check is repeated until the finding is resolved or the time limit is reached.

use std::time::Duration;

use opsctl_core::model::{Finding, Plan, Reported, Severity, Verdict};
use tokio::time::Instant;

use super::guard::Guard;
use super::{Engine, Exit, same_name, show};
use crate::engine::Recheck;
use crate::failpoint::failpoint;

/// Additional time for an object that is still starting.
const STARTING_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval between two rechecks.
const RECHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The recheck before the action, against which those after it are compared. By default nothing is known of it.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Codes of the critical findings of the subject: they do not count against the fix.
    critical: Vec<String>,
    /// Findings of the same code and object that did not offer the fix.
    others: Option<usize>,
    /// Facts that could not be read: the finding was reported without them.
    gaps: Vec<String>,
    /// Facts that prove the finding.
    facts: Vec<String>,
    /// Severity of the finding.
    severity: Option<Severity>,
}

/// A fix that was not verified in time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unverified {
    /// The reason.
    pub(super) why: String,
    /// The fault became less severe, and its object has not yet run long enough to show more: no reason to revert the fix.
    pub(super) is_pending: bool,
}

impl Before {
    pub(super) fn of(plan: &Plan, fresh: &Recheck) -> Self {
        let of_subject = |f: &&Reported| f.severity == Severity::Crit && same_name(&f.subject, &plan.subject);
        let offers_fix = |f: &&Reported| f.code == plan.code && same_part(f, plan) && f.fixes.contains(&plan.fix);
        let offering = fresh.findings.iter().find(offers_fix);
        Self {
            critical: fresh.findings.iter().filter(of_subject).map(|f| f.code.clone()).collect(),
            others: Some(without_fix(plan, fresh).count()),
            gaps: fresh.gaps.clone(),
            facts: offering.map(|f| f.facts.clone()).unwrap_or_default(),
            severity: offering.map(|f| f.severity),
        }
    }

    /// Whether the finding is less severe than before, and its object cannot show more yet: a container with a raised memory limit
    /// that waits for its restart.
    pub(super) fn is_pending(&self, plan: &Plan, fresh: &Recheck) -> bool {
        let about = |f: &&Reported| f.code == plan.code && same_part(f, plan);
        let offers_fix = fresh.findings.iter().filter(about).any(|f| f.fixes.contains(&plan.fix));
        let worst = fresh.findings.iter().filter(about).map(|f| f.severity).max();
        !fresh.pending.is_empty() && !offers_fix && worst.zip(self.severity).is_some_and(|(now, then)| now < then)
    }

    /// A fact that the finding may follow from and that could not be read again. Other facts do not count: they did not prevent
    /// the finding, or do not prove it.
    fn unread<'a>(&self, fresh: &'a Recheck) -> Option<&'a String> {
        let gap = fresh.gaps.iter().find(|gap| !self.gaps.iter().any(|before| is_same_gap(before, gap)))?;
        let is_proven = !self.facts.is_empty() && self.facts.iter().all(|fact| fresh.facts.contains(fact));
        (!is_proven).then_some(gap)
    }
}

/// Whether two gaps have the same reason: a duration or a count in the text may differ.
fn is_same_gap(a: &str, b: &str) -> bool {
    let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect::<String>();
    words(a) == words(b)
}

/// Whether a finding is about the object of the plan, and about the same part of it. The object may have another identity now (a
/// restart changes it), so its name is compared.
pub(super) fn same_part(finding: &Finding, plan: &Plan) -> bool {
    same_name(&finding.subject, &plan.subject) && finding.part == plan.part
}

/// The open findings of the same code and object that do not offer the fix.
fn without_fix<'a>(plan: &'a Plan, fresh: &'a Recheck) -> impl Iterator<Item = &'a Reported> {
    let open = move |f: &&Reported| f.code == plan.code && f.severity > Severity::Info && same_part(f, plan);
    fresh.findings.iter().filter(open).filter(move |f| !f.fixes.contains(&plan.fix))
}

impl<E: Engine> Guard<'_, E> {
    /// Waits until the finding is resolved and has not recurred. `before` is the recheck before the fix.
    pub(super) async fn verify(&self, plan: &Plan, before: &Before) -> Result<String, Unverified> {
        let began = Instant::now();
        let mut resolved_since: Option<Instant> = None;
        loop {
            let checked_at = Instant::now();
            let fresh = self.recheck(plan, Exit::Unverified).await;
            failpoint("verifying");
            match check_resolved(plan, before, &fresh) {
                Ok(()) => {
                    let since = *resolved_since.get_or_insert(checked_at);
                    if since.elapsed() >= plan.stable_for {
                        let stable = if plan.stable_for.is_zero() {
                            String::new()
                        } else {
                            format!(" and did not recur for {}", show::length(plan.stable_for))
                        };
                        let after = show::length(since - began);
                        return Ok(format!("verified: {} resolved after {after}{stable}", plan.code));
                    }
                }
                Err(why) => {
                    let recurred = resolved_since.take().is_some();
                    // an object that is still starting gets more time, within a limit
                    let starting = !fresh.pending.is_empty() && began.elapsed() < plan.verify_within + STARTING_TIMEOUT;
                    if began.elapsed() >= plan.verify_within && !starting {
                        let is_pending = before.is_pending(plan, &fresh);
                        let how = if recurred { "it recurred: " } else { "" };
                        let within = show::length(began.elapsed().max(plan.verify_within));
                        let why = if is_pending {
                            format!("applied, not verified yet after {within}: {why}")
                        } else {
                            format!("applied but not verified within {}: {how}{why}", show::length(plan.verify_within))
                        };
                        return Err(Unverified { why, is_pending });
                    }
                }
            }
            tokio::time::sleep(RECHECK_INTERVAL).await;
        }
    }
}

/// Whether the finding is resolved.
pub(super) fn check_resolved(plan: &Plan, before: &Before, fresh: &Recheck) -> Result<(), String> {
    match &fresh.verdict {
        Verdict::Skip(why) => return Err(why.clone()),
        // a check that could not run is no proof of health; one with gaps has run
        Verdict::Unknown(why) if fresh.gaps.is_empty() => return Err(why.clone()),
        _ => {}
    }
    // the finding may be historical (an OOM kill at a limit that was raised since): it counts while it still offers this fix
    let offers_fix = |f: &&Reported| f.code == plan.code && same_part(f, plan) && f.fixes.contains(&plan.fix);
    if let Some(still) = fresh.findings.iter().find(offers_fix) {
        return Err(still.message.clone());
    }
    // the same fault for another reason, for which the fix is not offered
    if before.others.is_some_and(|others| without_fix(plan, fresh).count() > others)
        && let Some(still) = without_fix(plan, fresh).last()
    {
        return Err(still.message.clone());
    }
    let is_new = |f: &&Reported| {
        f.severity == Severity::Crit && same_name(&f.subject, &plan.subject) && !before.critical.contains(&f.code)
    };
    if let Some(new) = fresh.findings.iter().find(is_new) {
        return Err(format!("{} resolved, but now {}: {}", plan.code, new.code, new.message));
    }
    before.unread(fresh).map_or(Ok(()), |gap| Err(gap.clone()))
}
