//! Order of the steps of a fix: `docs/fixes.md`, "The guard".

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use opsctl_core::model::{Plan, Refusal, Reported, Risk, Verdict, printable, quantity};
use opsctl_core::probe::io::clock;

use super::permit::Permit;
use super::switch::switched_off;
use super::verify::{Before, same_part};
use super::{Confirm, Engine, Exit, Stop, apply, confirm, same_name, show, subject_of};
use crate::audit::{Applied, Body, Ending, Journal};
use crate::config::Policy;
use crate::engine::{Managers, Offer, Recheck};
use crate::failpoint::failpoint;
use crate::state::{Lock, LockError, dir};
use crate::watchdog;

/// Time limit of one recheck; a check has its own, shorter limits.
const RECHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit of one journal entry.
pub(super) const JOURNAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of the command line.
#[derive(Debug, Clone, Copy, Default)]
pub struct FixOptions {
    /// Show the plan and stop.
    pub dry_run: bool,
    /// Consent without a prompt, up to `risk`.
    pub yes: bool,
    /// The highest class covered by `yes`; R2 by default. R3 also requires the policy.
    pub risk: Option<Risk>,
}

/// Controls every change: rechecks, limits, consent, journal, verification.
pub struct Guard<'a, E> {
    /// Repeats checks.
    pub engine: &'a E,
    /// Fixes allowed without a prompt, and rate limits.
    pub policy: &'a Policy,
    /// Directory of the journal and of saved files.
    pub state_dir: &'a Path,
    /// The lock of this host.
    pub lock_file: &'a Path,
    /// Key that signs journal entries.
    pub signing_key: Option<&'a Path>,
    /// While this file exists, no fix is applied; see [`switched_off`].
    pub kill_switch: &'a Path,
    /// Options of the command line.
    pub options: FixOptions,
    /// Source of confirmations.
    pub person: &'a dyn Confirm,
    /// Destination of plan and progress.
    pub out: &'a mut dyn Write,
}

impl<E: Engine> Guard<'_, E> {
    /// Applies an offered fix if all preconditions hold.
    pub async fn fix(&mut self, offer: &Offer) -> Exit {
        let result = self.try_fix(offer).await;
        self.end(result)
    }

    pub(super) fn end(&mut self, result: Result<Exit, Stop>) -> Exit {
        result.unwrap_or_else(|stop| {
            self.print(&stop.why);
            stop.exit
        })
    }

    async fn try_fix(&mut self, offer: &Offer) -> Result<Exit, Stop> {
        let plan = match &offer.plan {
            Ok(plan) => plan,
            Err(refusal) => {
                // an interrupted fix may be the reason
                self.recover().await;
                return Err(match refusal {
                    Refusal::ByHand(steps) => Stop::new(Exit::Declined, format!("to be done by hand: {steps}")),
                    refusal => Stop::new(Exit::Refused, format!("{} is not possible: {refusal}", offer.fix)),
                });
            }
        };
        let _lock = self.lock()?;
        if let Some(exit) = self.recover_interrupted(Some(plan)).await? {
            return Ok(exit);
        }
        if !self.options.dry_run {
            self.switched_on()?;
        }
        failpoint("before-recheck");
        let mut fresh = self.unchanged(plan).await?;
        self.allowed(plan, offer, &fresh)?;
        let about = |f: &&Reported| f.code == plan.code && same_part(f, plan);
        let reason = fresh.findings.iter().find(about).cloned();
        self.print(show::plan_text(plan, reason.as_deref()).trim_end());
        if self.options.dry_run {
            return Err(Stop::new(Exit::Declined, "dry run: nothing was changed"));
        }
        let waited = confirm::consent(plan, "apply", self.options, self.policy, self.person)?;
        failpoint("after-confirm");
        if waited {
            // the prompt may have been open for an hour
            fresh = self.unchanged(plan).await?;
            self.allowed(plan, offer, &fresh)?;
        }
        let because = reason.map(|f| format!("{}: {}", f.code, f.message)).unwrap_or_default();
        self.act(plan, &because, &fresh).await
    }

    /// Refuses while the kill switch is set. An operator at the terminal is refused too: the switch is for times when nothing may
    /// change, and its file is removed as quickly as a prompt is answered.
    fn switched_on(&self) -> Result<(), Stop> {
        switched_off(self.kill_switch).map_or(Ok(()), |why| {
            let file = self.kill_switch.display();
            Err(Stop::new(Exit::Refused, format!("refused: {why}; remove {file} to allow fixes")))
        })
    }

    /// Journals the intent, acts, verifies, reverts on failure, journals the outcome.
    async fn act(&mut self, plan: &Plan, because: &str, fresh: &Recheck) -> Result<Exit, Stop> {
        failpoint("before-intent");
        self.switched_on()?;
        let limit = watchdog::for_now("journalling the intent", JOURNAL_TIMEOUT, Some(Exit::Failed.code()));
        let intent = self.journal().append(Body::intent(plan, because), &fresh.redactor)?;
        // the action has its own limits and is not interrupted
        drop(limit);
        failpoint("after-intent");
        // last check: writing the intent to disk takes time
        if let Err(stop) = self.switched_on() {
            let text = format!("{}; nothing was done", stop.why);
            self.close(plan, fresh, &intent, Ending::Failed, &text);
            return Ok(stop.exit);
        }
        let permit = Permit::grant(&intent, &plan.actions, &fresh.managers, self.state_dir);
        let applied = apply::apply(&permit).await;
        failpoint("after-action");
        let (exit, ending, text) = match applied {
            Ok(notes) => {
                for note in notes {
                    self.print(&note);
                }
                self.print(&format!("applied; verifying with {}", plan.check));
                match self.verify(plan, &Before::of(plan, fresh)).await {
                    Ok(how) => (Exit::Done, Ending::Verified, how),
                    Err(not) if not.is_pending && !plan.undo.is_empty() => {
                        let text = format!("{}; not reverted: `opsctl undo {}` reverts it", not.why, intent.seq());
                        (Exit::Unverified, Ending::Unverified, text)
                    }
                    Err(not) => self.revert(plan, fresh, &intent, Exit::Unverified, &not.why).await,
                }
            }
            Err(failure) if failure.done > 0 => self.revert(plan, fresh, &intent, Exit::Failed, &failure.to_string()).await,
            Err(failure) => (Exit::Failed, Ending::Failed, failure.to_string()),
        };
        failpoint("before-outcome");
        self.close(plan, fresh, &intent, ending, &text);
        Ok(exit)
    }

    /// Journals the outcome.
    fn close(&mut self, plan: &Plan, fresh: &Recheck, intent: &crate::audit::Receipt, ending: Ending, text: &str) {
        // findings of the engine are redacted already, output of programs and of the container engine is not
        let text = fresh.redactor.scrub(text);
        self.print(&text);
        let outcome = Body::outcome(intent.seq(), Some(plan.fix.clone()), Some(plan.subject.clone()), ending, text);
        let _limit = watchdog::for_now("journalling the outcome", JOURNAL_TIMEOUT, Some(Exit::Unverified.code()));
        match self.journal().append(outcome, &fresh.redactor) {
            Ok(outcome) if ending == Ending::Verified && !plan.undo.is_empty() => {
                self.print(&format!("opsctl undo {} reverts it", outcome.seq()));
            }
            Ok(_) => {}
            // the intent is on disk, so the next run checks the result
            Err(e) => self.print(&format!("{e}; the next run of opsctl fix will check again")),
        }
    }

    /// Reverts a fix that failed or was not verified.
    async fn revert(
        &mut self,
        plan: &Plan,
        fresh: &Recheck,
        intent: &crate::audit::Receipt,
        exit: Exit,
        why: &str,
    ) -> (Exit, Ending, String) {
        let ending = if exit == Exit::Failed { Ending::Failed } else { Ending::Unverified };
        if plan.undo.is_empty() {
            return (exit, ending, why.to_owned());
        }
        failpoint("before-taking-back");
        if let Some(off) = switched_off(self.kill_switch) {
            let by_hand = format!("`opsctl undo {}` reverts it", intent.seq());
            return (exit, ending, format!("{why}; not reverted, because {off}; {by_hand}"));
        }
        self.print(&format!("{why}; reverting"));
        let permit = Permit::grant(intent, &plan.undo, &fresh.managers, self.state_dir);
        let reverted = apply::apply(&permit).await;
        failpoint("after-taking-back");
        match reverted {
            Ok(_) => (exit, Ending::Undone, format!("{why}; reverted")),
            Err(failure) => (exit, ending, format!("{why}; reverting failed too: {failure}")),
        }
    }

    pub(super) fn lock(&mut self) -> Result<Option<Lock>, Stop> {
        if self.lock_file.starts_with(self.state_dir) && !self.options.dry_run {
            // a user's lock is in a directory that the first run creates
            dir::ensure(self.state_dir).map_err(|e| Stop::new(Exit::Held, format!("{}: {e}", self.state_dir.display())))?;
        }
        match Lock::take(self.lock_file) {
            Ok(lock) => Ok(Some(lock)),
            // a dry run needs no lock, but must not read while another process changes the host
            Err(LockError::Io { .. }) if self.options.dry_run => Ok(None),
            Err(e) => Err(Stop::new(Exit::Held, e.to_string())),
        }
    }

    /// Repeats the check: the same object must still have the same finding, and the same plan must still apply.
    async fn unchanged(&self, plan: &Plan) -> Result<Recheck, Stop> {
        let changed = |why: String| Stop::new(Exit::Changed, format!("changed since the plan: {why}"));
        let fresh = self.recheck(plan, Exit::Changed).await;
        let offers = || fresh.offers.iter().filter(|o| o.fix == plan.fix && o.finding.code == plan.code);
        if offers().any(|o| o.plan.as_ref() == Ok(plan)) {
            return Ok(fresh);
        }
        if let Some(other) = offers().find(|o| same_name(subject_of(o), &plan.subject) && o.finding.part == plan.part) {
            return Err(changed(match &other.plan {
                Ok(now) if now.subject.id != plan.subject.id => {
                    format!("{} is now {}, it was {}", plan.subject, now.subject.id, plan.subject.id)
                }
                Ok(_) => format!("another plan fits {} now; show it with `--dry-run`", plan.object()),
                Err(refusal) => refusal.to_string(),
            }));
        }
        Err(changed(match &fresh.verdict {
            Verdict::Unknown(why) => format!("{} could not be repeated: {why}", plan.check),
            Verdict::Skip(why) => why.clone(),
            _ => format!("{} no longer reports {} for {}", plan.check, plan.code, plan.object()),
        }))
    }

    /// Refusals that consent cannot override.
    fn allowed(&self, plan: &Plan, offer: &Offer, fresh: &Recheck) -> Result<(), Stop> {
        let again = fresh.offers.iter().find(|o| o.plan.as_ref() == Ok(plan));
        let refused = offer.refused.as_ref().or_else(|| again?.refused.as_ref());
        if let Some(why) = refused {
            return Err(Stop::new(Exit::Refused, format!("refused: {why}")));
        }
        self.below_limits(plan)?;
        let waived = offer.finding.waived.as_ref().or_else(|| again?.finding.waived.as_ref());
        waived.map_or(Ok(()), |w| Err(Stop::new(Exit::Refused, format!("refused: the finding is waived ({w})"))))
    }

    /// The rate limits: this fix on this subject, this fix on any subject, and all fixes on this host. A name is cheap to change,
    /// so the same object under another name counts, and the last two limits bound many objects.
    fn below_limits(&self, plan: &Plan) -> Result<(), Stop> {
        let applied = Applied::within_hour(&self.journal().entries()?, &plan.fix, &plan.subject, clock::now());
        let policy = self.policy;
        let limits = [
            (
                applied.to_subject,
                policy.max_fixes_per_hour,
                "max_fixes_per_hour",
                format!("{} was applied to {}", plan.fix, plan.subject),
            ),
            (applied.of_fix, policy.max_per_fix, "max_fixes_per_hour_per_fix", format!("{} was applied on this host", plan.fix)),
            (applied.on_host, policy.max_per_host, "max_fixes_per_hour_per_host", "fixes were applied on this host".to_owned()),
        ];
        for (times, limit, setting, scope) in limits {
            if limit == 0 {
                return Err(Stop::new(Exit::Refused, format!("refused: {setting} = 0 in [policy] allows no fix")));
            }
            if times >= limit as usize {
                let times = quantity::count(times, "time");
                let why =
                    format!("{scope} {times} within the last hour ({setting} = {limit}); the fix does not last, find the cause");
                return Err(Stop::new(Exit::Held, why));
            }
        }
        Ok(())
    }

    /// Repeats the check of a plan. `exit` is the exit status if the recheck blocks the process.
    pub(super) async fn recheck(&self, plan: &Plan, exit: Exit) -> Recheck {
        let _limit = watchdog::for_now(&format!("the re-check ({})", plan.check), RECHECK_TIMEOUT, Some(exit.code()));
        match tokio::time::timeout(RECHECK_TIMEOUT, self.engine.recheck(&plan.check, &plan.target)).await {
            Ok(recheck) => recheck,
            Err(_) => Recheck {
                verdict: Verdict::Unknown(format!("{} timed out after {}", plan.check, show::length(RECHECK_TIMEOUT))),
                findings: vec![],
                offers: vec![],
                managers: Managers::default(),
                pending: vec![],
                gaps: vec![],
                facts: vec![],
                redactor: std::sync::Arc::default(),
            },
        }
    }

    pub(super) fn journal(&self) -> Journal {
        Journal::at(self.state_dir).signed_with(self.signing_key)
    }

    /// Prints a line. Write errors are ignored: a closed output must not stop a fix half-way.
    pub(super) fn print(&mut self, text: &str) {
        for line in text.lines() {
            let _ = writeln!(self.out, "{}", printable(line));
        }
        let _ = self.out.flush();
    }
}
