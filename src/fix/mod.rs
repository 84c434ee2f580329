//! Fixes: every change to the host goes through the guard.
//!
//! A check plans (pure data), the [`Guard`] decides and journals, `apply` acts. There is no other path to an action: an action
//! requires a [`Permit`], a permit requires the [`crate::audit::Receipt`] of a journalled intent, and only the guard creates one
//! from the other.

mod apply;
mod confirm;
mod context;
mod guard;
mod interrupted;
mod permit;
mod program;
mod show;
mod switch;
mod undo;
mod unseen;
mod verify;

use std::future::Future;

use opsctl_core::model::{FixSpec, Object, Runbook};

use crate::engine::{Offer, Recheck, Session};

pub use confirm::{Confirm, Confirmation, Prompt, Terminal};
pub use context::GuardContext;
pub use guard::{FixOptions, Guard};
pub use interrupted::interrupted_notes;
pub use permit::Permit;
pub use show::{command, plan_text};
pub use switch::{NO_FIXES, host_switched_off, switched_off};
pub use unseen::unseen;

/// The guard's interface to the engine: one check on one target, with fresh discovery and fresh reads.
pub trait Engine {
    /// Repeats the check.
    fn recheck(&self, check: &str, target: &Object) -> impl Future<Output = Recheck>;
}

impl Engine for Session {
    fn recheck(&self, check: &str, target: &Object) -> impl Future<Output = Recheck> {
        Self::recheck(self, check, target)
    }
}

/// Subject of the plan, or of the finding if there is no plan.
#[must_use]
pub fn subject_of(offer: &Offer) -> &Object {
    offer.plan.as_ref().map_or(&offer.finding.subject, |plan| &plan.subject)
}

/// Result of `opsctl fix` and `opsctl undo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Applied and verified, or nothing to do.
    Done,
    /// Declined at the prompt, no terminal for the prompt, or a dry run.
    Declined,
    /// The host changed since the plan.
    Changed,
    /// An action failed or could not be journalled.
    Failed,
    /// Applied, but the finding is still reported.
    Unverified,
    /// Rate limit reached, or another opsctl is running.
    Held,
    /// Refused: open cause, maintenance or policy.
    Refused,
}

impl Exit {
    /// The exit code, as listed in `docs/exit-codes.md`.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Declined => 10,
            Self::Changed => 11,
            Self::Failed => 12,
            Self::Unverified => 13,
            Self::Held => 14,
            Self::Refused => 15,
        }
    }
}

/// Early end of a fix: exit status and explanation.
#[derive(Debug)]
struct Stop {
    exit: Exit,
    why: String,
}

impl Stop {
    fn new(exit: Exit, why: impl Into<String>) -> Self {
        Self { exit, why: why.into() }
    }
}

impl From<crate::audit::JournalError> for Stop {
    /// Nothing is applied that cannot be journalled.
    fn from(error: crate::audit::JournalError) -> Self {
        Self::new(Exit::Failed, format!("{error}; nothing is done that cannot be journalled"))
    }
}

/// Every fix of every check of these runbooks, sorted by id, each once.
#[must_use]
pub fn registry(runbooks: &[Runbook]) -> Vec<&'static FixSpec> {
    let mut fixes: Vec<_> = runbooks.iter().flat_map(|r| r.checks.iter().flat_map(|c| c.spec().fixes)).collect();
    fixes.sort_by_key(|f| f.id);
    fixes.dedup_by_key(|f| f.id);
    fixes
}

/// Whether two subjects have the same kind and name; they may still be two objects.
fn same_name(a: &Object, b: &Object) -> bool {
    a.kind == b.kind && a.name == b.name
}

#[cfg(test)]
mod tests;
