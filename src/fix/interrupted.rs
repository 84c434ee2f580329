//! Recovery after a crash: a run that was killed between intent and outcome is checked, never repeated.

use opsctl_core::model::Plan;
use opsctl_core::probe::Redactor;

use super::guard::Guard;
use super::verify::{Before, check_resolved};
use super::{Engine, Exit, Stop, same_name};
use crate::audit::{Body, Ending, Entry, Kind, in_flight};

/// Operations that were in progress when opsctl was killed, one line each; for the notes of a report.
#[must_use]
pub fn interrupted_notes(entries: &[Entry]) -> Vec<String> {
    in_flight(entries).into_iter().map(|e| format!("{}; `opsctl fix` checks its result", describe(e))).collect()
}

fn describe(entry: &Entry) -> String {
    let fix = entry.body.fix.as_deref().unwrap_or("a fix");
    let subject = entry.body.subject.as_ref().map(|s| format!(" on {s}")).unwrap_or_default();
    let doing = if entry.body.kind == Kind::Undo { "the undo of " } else { "" };
    format!("opsctl was interrupted at {} during {doing}{fix}{subject} (journal entry {})", entry.at, entry.seq)
}

impl<E: Engine> Guard<'_, E> {
    /// Checks the result of operations that were in progress, when no fix can be applied now: mostly because it was applied or
    /// still runs.
    pub async fn recover(&mut self) -> Exit {
        if in_flight(&self.journal().entries().unwrap_or_default()).is_empty() {
            return Exit::Done;
        }
        let result = self.try_recover().await;
        self.end(result)
    }

    async fn try_recover(&mut self) -> Result<Exit, Stop> {
        let _lock = self.lock()?;
        Ok(self.recover_interrupted(None).await?.unwrap_or(Exit::Done))
    }

    /// Reports the operations that were in progress, checks their results and writes the missing outcomes. `Some` if one of them
    /// is the requested fix: it is not applied a second time in the same run.
    pub(super) async fn recover_interrupted(&mut self, requested: Option<&Plan>) -> Result<Option<Exit>, Stop> {
        let entries = self.journal().entries()?;
        let mut exit = None;
        for open in in_flight(&entries) {
            self.print(&describe(open));
            let intent = match open.body.kind {
                Kind::Undo => entries.iter().find(|e| Some(e.seq) == open.body.of),
                _ => Some(open),
            };
            let (now, is_resolved, redactor) = match intent.and_then(|i| i.body.plan.as_ref()) {
                None => ("its plan is not in the journal".to_owned(), false, std::sync::Arc::new(Redactor::default())),
                Some(plan) => {
                    let fresh = self.recheck(plan, Exit::Changed).await;
                    match check_resolved(plan, &Before::default(), &fresh) {
                        Ok(()) => (format!("{} no longer reports {}", plan.check, plan.code), true, fresh.redactor),
                        Err(why) => (format!("checked again: {why}"), false, fresh.redactor),
                    }
                }
            };
            self.print(&format!("{now}; nothing was repeated"));
            let same = |plan: &&Plan| {
                open.body.fix.as_ref() == Some(&plan.fix)
                    && open.body.subject.as_ref().is_some_and(|s| same_name(s, &plan.subject))
            };
            if requested.as_ref().is_some_and(same) {
                exit = Some(if is_resolved { Exit::Done } else { Exit::Unverified });
            }
            if self.options.dry_run {
                continue;
            }
            let text = format!("interrupted; {now}");
            let outcome = Body::outcome(open.seq, open.body.fix.clone(), open.body.subject.clone(), Ending::Interrupted, text);
            let outcome = self.journal().append(outcome, &redactor)?;
            // a later plan sees only the half-done state: the undo actions are in this plan
            if open.body.plan.as_ref().is_some_and(|p| !p.undo.is_empty()) {
                self.print(&format!("opsctl undo {} reverts its completed part", outcome.seq()));
            }
        }
        if exit == Some(Exit::Unverified) {
            self.print("run the command again to try again");
        }
        Ok(exit)
    }
}
