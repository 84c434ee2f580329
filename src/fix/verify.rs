//! Whether a fix worked: the same check, again, until it says so or the time is over.

use std::time::Duration;

use opsctl_core::model::{Finding, Plan, Severity, Verdict};
use tokio::time::Instant;

use super::guard::Guard;
use super::{Engine, Exit, same_name, show};
use crate::engine::Recheck;

/// How much longer an object that is still starting may take.
const STARTING: Duration = Duration::from_secs(120);

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(500);

impl<E: Engine> Guard<'_, E> {
    /// Waits until the finding is gone and has stayed away. `standing` is what was broken about the subject before.
    pub(super) async fn verify(&self, plan: &Plan, standing: &[String]) -> Result<String, String> {
        let began = Instant::now();
        let mut gone_since: Option<Instant> = None;
        loop {
            let looked_at = Instant::now();
            let fresh = self.recheck(plan, Exit::Unverified).await;
            super::failpoint::failpoint("verifying");
            match gone(plan, standing, &fresh) {
                Ok(()) => {
                    let since = *gone_since.get_or_insert(looked_at);
                    if since.elapsed() >= plan.stable_for {
                        let stayed = if plan.stable_for.is_zero() {
                            String::new()
                        } else {
                            format!(" and stayed away for {}", show::length(plan.stable_for))
                        };
                        let after = show::length(since - began);
                        return Ok(format!("verified: {} is gone after {after}{stayed}", plan.code));
                    }
                }
                Err(why) => {
                    let came_back = gone_since.take().is_some();
                    // what is still starting gets more time, but not for ever
                    let starting = !fresh.pending.is_empty() && began.elapsed() < plan.verify_within + STARTING;
                    if began.elapsed() >= plan.verify_within && !starting {
                        let how = if came_back { "it came back: " } else { "" };
                        return Err(format!("applied but not verified within {}: {how}{why}", show::length(plan.verify_within)));
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether the finding is gone. The subject may have another identity now (a restart gives it one), so its name counts.
pub(super) fn gone(plan: &Plan, standing: &[String], fresh: &Recheck) -> Result<(), String> {
    // not being able to look is no proof of health
    if let Verdict::Unknown(why) | Verdict::Skip(why) = &fresh.verdict {
        return Err(why.clone());
    }
    let about = || fresh.findings.iter().filter(|f| same_name(&f.subject, &plan.subject) || f.code == plan.code);
    // the fault may be history now (an OOM kill at a limit that was raised since): it counts while it still asks for this fix
    let asks = |f: &&Finding| f.code == plan.code && f.fixes.contains(&plan.fix);
    if let Some(still) = about().filter(asks).find(|f| same_name(&f.subject, &plan.subject)) {
        return Err(still.message.clone());
    }
    match about().find(|f| f.severity == Severity::Crit && same_name(&f.subject, &plan.subject) && !standing.contains(&f.code)) {
        Some(new) => Err(format!("{} is gone, but now {}: {}", plan.code, new.code, new.message)),
        None => Ok(()),
    }
}
