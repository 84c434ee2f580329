//! Undo of a fix recorded in the journal.

use opsctl_core::model::{Action, Plan};
use opsctl_core::probe::REDACTED;
use opsctl_core::probe::docker::{Container, Docker};

use super::guard::{Guard, JOURNAL_TIMEOUT};
use super::permit::Permit;
use super::verify::{Before, check_resolved};
use super::{Engine, Exit, Stop, apply, confirm};
use crate::audit::{Body, Ending, Entry, Kind};
use crate::failpoint::failpoint;
use crate::watchdog;

impl<E: Engine> Guard<'_, E> {
    /// Reverts the fix of journal entry `seq` (its intent or its outcome).
    pub async fn undo(&mut self, seq: u64) -> Exit {
        let result = self.try_undo(seq).await;
        self.end(result)
    }

    async fn try_undo(&mut self, seq: u64) -> Result<Exit, Stop> {
        let _lock = self.lock()?;
        self.recover_interrupted(None).await?;
        let entries = self.journal().entries()?;
        let (intent, plan) = undoable(&entries, seq)?;
        failpoint("undo-before-recheck");
        let mut fresh = self.recheck(plan, Exit::Changed).await;
        ensure_unchanged(plan, fresh.managers.docker.as_deref()).await?;
        self.print(&format!(
            "undo of {} on {} (journal entry {}, {})",
            plan.fix,
            plan.subject,
            intent.seq,
            format_args!("{:.0}", intent.at)
        ));
        plan.undo.iter().for_each(|action| self.print(&format!("does      {action}")));
        if self.options.dry_run {
            return Err(Stop::new(Exit::Declined, "dry run: nothing was changed"));
        }
        if confirm::consent(plan, "revert", self.options, self.policy, self.person)? {
            fresh = self.recheck(plan, Exit::Changed).await;
            ensure_unchanged(plan, fresh.managers.docker.as_deref()).await?;
        }
        failpoint("undo-before-intent");
        let limit = watchdog::for_now("journalling the intent", JOURNAL_TIMEOUT, Some(Exit::Failed.code()));
        let receipt = self.journal().append(Body::undo(intent), &fresh.redactor)?;
        drop(limit);
        failpoint("undo-after-intent");
        let permit = Permit::grant(&receipt, &plan.undo, &fresh.managers, self.state_dir);
        let applied = apply::apply(&permit).await;
        failpoint("undo-after-action");
        let (exit, ending, text) = match applied {
            Ok(_) => {
                let now = match check_resolved(plan, &Before::default(), &self.recheck(plan, Exit::Unverified).await) {
                    Ok(()) => format!("{} does not report {}", plan.check, plan.code),
                    Err(why) => format!("{} reports: {why}", plan.check),
                };
                (Exit::Done, Ending::Verified, format!("reverted; {now}"))
            }
            Err(failure) => (Exit::Failed, Ending::Failed, failure.to_string()),
        };
        failpoint("undo-before-outcome");
        let text = fresh.redactor.scrub(&text);
        self.print(&text);
        let outcome = Body::outcome(receipt.seq(), Some(plan.fix.clone()), Some(plan.subject.clone()), ending, text);
        let _limit = watchdog::for_now("journalling the outcome", JOURNAL_TIMEOUT, Some(Exit::Unverified.code()));
        if let Err(e) = self.journal().append(outcome, &fresh.redactor) {
            self.print(&format!("{e}; the next run of opsctl fix will check again"));
        }
        Ok(exit)
    }
}

/// Intent and plan of entry `seq`, if the fix can be reverted.
fn undoable(entries: &[Entry], seq: u64) -> Result<(&Entry, &Plan), Stop> {
    let refused = |why: String| Stop::new(Exit::Refused, why);
    let by_number = |seq: u64| entries.iter().find(|e| e.seq == seq);
    let entry =
        by_number(seq).ok_or_else(|| refused(format!("the journal has no entry {seq}; `opsctl audit show` lists them")))?;
    let intent = match entry.body.kind {
        Kind::Intent => Some(entry),
        Kind::Outcome => entry.body.of.and_then(by_number).filter(|e| e.body.kind == Kind::Intent),
        Kind::Undo | Kind::Note => None,
    };
    let intent = intent.ok_or_else(|| refused(format!("entry {seq} is not about a fix that was applied")))?;
    let plan = intent.body.plan.as_ref().ok_or_else(|| refused(format!("entry {} has no plan", intent.seq)))?;
    let ended =
        |of: u64| entries.iter().find(|e| e.body.kind == Kind::Outcome && e.body.of == Some(of)).and_then(|e| e.body.ending);
    if ended(intent.seq) == Some(Ending::Undone) {
        return Err(refused(format!("entry {} was reverted immediately, because the fix did not work", intent.seq)));
    }
    let undone = entries
        .iter()
        .find(|e| e.body.kind == Kind::Undo && e.body.of == Some(intent.seq) && ended(e.seq) == Some(Ending::Verified));
    if let Some(undo) = undone {
        return Err(refused(format!("entry {} was already reverted at {} (entry {})", intent.seq, undo.at, undo.seq)));
    }
    if plan.undo.is_empty() {
        return Err(refused(format!("{} cannot be reverted", plan.fix)));
    }
    let spoilt = serde_json::to_string(&plan.undo).map_or(true, |json| json.contains(REDACTED));
    if spoilt {
        return Err(refused("the undo actions contain a secret, which the journal does not store".to_owned()));
    }
    Ok((intent, plan))
}

/// The object must still exist and the values set by the fix must be unchanged: an undo must not overwrite later changes.
async fn ensure_unchanged(plan: &Plan, docker: Option<&Docker>) -> Result<(), Stop> {
    let changed = |why: String| Stop::new(Exit::Changed, format!("changed since the fix: {why}"));
    for action in &plan.undo {
        let Some(id) = action.container() else { continue };
        let docker = docker.ok_or_else(|| changed("the container engine does not answer".to_owned()))?;
        let container = docker.inspect_now(id).await.map_err(|e| changed(e.to_string()))?;
        if let Some(why) = plan.actions.iter().find_map(|set| overwritten(set, action, &container)) {
            return Err(changed(why));
        }
    }
    Ok(())
}

/// Reason why `undo` would overwrite a value that `set` did not set.
fn overwritten(set: &Action, undo: &Action, now: &Container) -> Option<String> {
    match (set, undo) {
        (Action::SetMemory { id, memory, .. }, Action::SetMemory { id: same, .. }) if id == same && now.memory != *memory => {
            Some(format!("the memory limit of {} is {} bytes, the fix had set {memory}", now.name, now.memory))
        }
        (Action::SetRestartPolicy { id, policy, .. }, Action::SetRestartPolicy { id: same, .. })
            if id == same && now.restart_policy.name != *policy =>
        {
            Some(format!("the restart policy of {} is {}, the fix had set {policy}", now.name, now.restart_policy.name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_does_not_overwrite_later_changes() {
        let set = |memory| Action::SetMemory { id: "a".into(), memory, memory_swap: -1 };
        let policy = |p: &str| Action::SetRestartPolicy { id: "a".into(), policy: p.into(), maximum_retry_count: 0 };
        let mut now = Container { name: "web".into(), memory: 64, ..Container::default() };
        now.restart_policy.name = "no".into();
        assert_eq!(overwritten(&set(64), &set(32), &now), None);
        assert!(overwritten(&set(128), &set(32), &now).is_some_and(|w| w.contains("64 bytes")));
        assert_eq!(overwritten(&policy("no"), &policy("always"), &now), None);
        assert!(overwritten(&policy("always"), &policy("no"), &now).is_some());
        assert_eq!(overwritten(&policy("always"), &set(32), &now), None);
    }
}
