//! Verification of a fix: the same check is repeated until the finding is resolved or the time limit is reached.

use std::time::Duration;

use opsctl_core::model::{Plan, Reported, Severity, Verdict};
use tokio::time::Instant;

use super::guard::Guard;
use super::{Engine, Exit, same_name, show};
use crate::engine::Recheck;
use crate::failpoint::failpoint;

/// Additional time for an object that is still starting.
const STARTING_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval between two rechecks.
const RECHECK_INTERVAL: Duration = Duration::from_millis(500);

impl<E: Engine> Guard<'_, E> {
    /// Waits until the finding is resolved and has not recurred. `critical_before` are the critical findings of the subject
    /// before the fix.
    pub(super) async fn verify(&self, plan: &Plan, critical_before: &[String]) -> Result<String, String> {
        let began = Instant::now();
        let mut resolved_since: Option<Instant> = None;
        loop {
            let checked_at = Instant::now();
            let fresh = self.recheck(plan, Exit::Unverified).await;
            failpoint("verifying");
            match check_resolved(plan, critical_before, &fresh) {
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
                        let how = if recurred { "it recurred: " } else { "" };
                        return Err(format!("applied but not verified within {}: {how}{why}", show::length(plan.verify_within)));
                    }
                }
            }
            tokio::time::sleep(RECHECK_INTERVAL).await;
        }
    }
}

/// Whether the finding is resolved. The subject may have another identity now (a restart changes it), so its name is compared.
pub(super) fn check_resolved(plan: &Plan, critical_before: &[String], fresh: &Recheck) -> Result<(), String> {
    // a check that could not run is no proof of health
    if let Verdict::Unknown(why) | Verdict::Skip(why) = &fresh.verdict {
        return Err(why.clone());
    }
    let about = || fresh.findings.iter().filter(|f| same_name(&f.subject, &plan.subject) || f.code == plan.code);
    // the finding may be historical (an OOM kill at a limit that was raised since): it counts while it still offers this fix
    let offers_fix = |f: &&Reported| f.code == plan.code && f.fixes.contains(&plan.fix);
    if let Some(still) = about().filter(offers_fix).find(|f| same_name(&f.subject, &plan.subject)) {
        return Err(still.message.clone());
    }
    match about()
        .find(|f| f.severity == Severity::Crit && same_name(&f.subject, &plan.subject) && !critical_before.contains(&f.code))
    {
        Some(new) => Err(format!("{} resolved, but now {}: {}", plan.code, new.code, new.message)),
        None => Ok(()),
    }
}
