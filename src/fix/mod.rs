//! Changing something, always through the guard.
//!
//! A check plans (pure data), the [`Guard`] decides and remembers, `apply` acts. There is no other way to act: an action needs a
//! [`Permit`], a permit needs the [`crate::audit::Receipt`] of a journalled intent, and only the guard makes one of the other.

mod apply;
mod confirm;
mod failpoint;
mod guard;
mod interrupted;
mod lock;
mod permit;
mod place;
mod program;
mod show;
mod switch;
mod undo;
mod unseen;
mod verify;

use std::future::Future;

use opsctl_core::model::{FixSpec, Runbook, Subject, Target};

use crate::engine::{Offer, Recheck, Session};

pub(crate) use failpoint::failpoint;

pub use confirm::{Answer, Confirm, Question, Terminal};
pub use guard::{Asked, Guard};
pub use interrupted::interrupted_notes;
pub use lock::{Lock, LockError};
pub use permit::Permit;
pub use place::Place;
pub use show::{command, plan_text};
pub use switch::{NO_FIXES, host_switched_off, switched_off};
pub use unseen::unseen;

/// What the guard needs of the engine: one check on one target, with fresh discovery and fresh reads.
pub trait Engine {
    /// Looks again.
    fn recheck(&self, check: &str, target: &Target) -> impl Future<Output = Recheck>;
}

impl Engine for Session {
    fn recheck(&self, check: &str, target: &Target) -> impl Future<Output = Recheck> {
        Self::recheck(self, check, target)
    }
}

/// What an offer acts on; the finding's subject when there is no plan.
#[must_use]
pub fn subject_of(offer: &Offer) -> &Subject {
    offer.plan.as_ref().map_or(&offer.finding.subject, |plan| &plan.subject)
}

/// How `opsctl fix` and `opsctl undo` end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done and verified, or there was nothing to do.
    Done,
    /// Somebody said no, nobody was there to say yes, or it was a dry run.
    Declined,
    /// It is not any more what it was when it was planned.
    Changed,
    /// An action failed, or could not even be journalled.
    Failed,
    /// Applied, and the finding is still there.
    Unverified,
    /// Too often within the hour, or another opsctl is at work.
    Held,
    /// Not allowed: the cause is open elsewhere, maintenance, policy.
    Refused,
}

impl Exit {
    /// The exit code, as `design.md` has it.
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

/// An end before the end: the exit and the line that explains it.
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
    /// What cannot be journalled is not done.
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

/// Whether two subjects are called the same; they may still be two objects.
fn same_name(a: &Subject, b: &Subject) -> bool {
    a.kind == b.kind && a.name == b.name
}

#[cfg(test)]
mod tests;
