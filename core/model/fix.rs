//! Fixes as data. Nothing here performs an action.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{action::Action, check::CheckSpec, finding::Finding, object::Object, text::shell_word};

/// Impact of a fix. Ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Risk {
    /// Reads only.
    R0,
    /// No interruption, reversible.
    R1,
    /// One object is interrupted.
    R2,
    /// Many objects are interrupted, or reclaimable data is lost.
    R3,
    /// Irreversible or service-wide: the command is printed, never run.
    R4,
}

impl Risk {
    /// Description of the class.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::R0 => "reads only",
            Self::R1 => "no interruption, reversible",
            Self::R2 => "one object is interrupted",
            Self::R3 => "many objects are interrupted or reclaimable data is lost",
            Self::R4 => "printed only, never run",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A fix of a check.
#[derive(Debug, PartialEq, Eq)]
pub struct FixSpec {
    /// `area.verb`, for example `container.raise-memory`.
    pub id: &'static str,
    /// Its impact.
    pub risk: Risk,
    /// Imperative, one line.
    pub title: &'static str,
}

/// Everything the guard needs to show, confirm, apply, verify and revert a fix. Two plans are equal when they have the same
/// effect on the same object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Fix id.
    pub fix: String,
    /// Its impact; a plan may be riskier than its [`FixSpec`], never less risky.
    pub risk: Risk,
    /// The object it acts on, by immutable identity.
    pub subject: Object,
    /// The part of that object ([`Finding::part`]); empty for the object itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// The check that reported the fault and verifies the fix.
    pub check: String,
    /// The target of that check.
    pub target: Object,
    /// Code of the finding: the fix is verified when the check no longer reports it.
    pub code: String,
    /// Actions, in order.
    pub actions: Vec<Action>,
    /// Actions that revert it, in order; empty if it cannot be reverted.
    pub undo: Vec<Action>,
    /// Other affected objects.
    pub blast: Vec<String>,
    /// Expected interruption of the object, as text.
    pub downtime: String,
    /// Cause of a recurrence after a reboot or a recreate.
    pub recurs: Option<String>,
    /// Time within which the check must become ok.
    pub verify_within: Duration,
    /// Time for which the check must then stay ok, so that a container that exits again after 10 s does not count as fixed.
    pub stable_for: Duration,
}

impl Plan {
    /// A plan without interruption or other affected objects that cannot be reverted and is verified by its check within 30 s.
    /// The methods below change these defaults.
    #[must_use]
    pub fn new(fix: &FixSpec, check: &CheckSpec, finding: &Finding, target: &Object, actions: Vec<Action>) -> Self {
        Self {
            fix: fix.id.to_owned(),
            risk: fix.risk,
            subject: finding.subject.clone(),
            part: finding.part.clone(),
            check: check.id.to_owned(),
            target: target.clone(),
            code: finding.code.clone(),
            actions,
            undo: Vec::new(),
            blast: Vec::new(),
            downtime: "none".to_owned(),
            recurs: None,
            verify_within: Duration::from_secs(30),
            stable_for: Duration::ZERO,
        }
    }

    /// The object with its part: `postgres:db pid 812`.
    #[must_use]
    pub fn object(&self) -> String {
        with_part(&self.subject, &self.part)
    }

    /// Sets the actions that revert it.
    #[must_use]
    pub fn undo(mut self, actions: Vec<Action>) -> Self {
        self.undo = actions;
        self
    }

    /// Adds other affected objects and data that is lost.
    #[must_use]
    pub fn affects(mut self, objects: impl IntoIterator<Item = String>) -> Self {
        self.blast.extend(objects);
        self
    }

    /// Sets the expected interruption.
    #[must_use]
    pub fn downtime(mut self, text: impl Into<String>) -> Self {
        self.downtime = text.into();
        self
    }

    /// Sets the cause of a recurrence after a reboot or a recreate.
    #[must_use]
    pub fn recurs(mut self, text: impl Into<String>) -> Self {
        self.recurs = Some(text.into());
        self
    }

    /// Sets the time within which the check must become ok, and for which it must stay ok.
    #[must_use]
    pub fn verified(mut self, within: Duration, stable_for: Duration) -> Self {
        (self.verify_within, self.stable_for) = (within, stable_for);
        self
    }
}

/// An object with its part, which is empty for the object itself.
#[must_use]
pub fn with_part(object: &Object, part: &str) -> String {
    if part.is_empty() { object.to_string() } else { format!("{object} {part}") }
}

/// The command that applies a fix to an object, or to a part of it, ready to paste.
#[must_use]
pub fn fix_command(fix: &str, object: &str, part: &str) -> String {
    let part = part.split_once(' ').map_or_else(String::new, |(kind, name)| format!(" {kind} {}", shell_word(name)));
    format!("opsctl fix {fix} {}{part}", shell_word(object))
}

/// Reason why a fix is not possible, not allowed, or manual only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// A precondition of the fix is not met, or no longer met.
    Precondition(String),
    /// Policy forbids it.
    Policy(String),
    /// R4: the text is the manual procedure.
    ByHand(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Precondition(why) | Self::Policy(why) => f.write_str(why),
            Self::ByHand(steps) => write!(f, "to be done by hand: {steps}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_names_the_part_of_the_object() {
        assert_eq!(fix_command("container.start", "my web", ""), "opsctl fix container.start 'my web'");
        assert_eq!(fix_command("pg.cancel", "db", "pid 812"), "opsctl fix pg.cancel db pid 812");
        assert_eq!(fix_command("pg.set-guard", "db", "role my app"), "opsctl fix pg.set-guard db role 'my app'");
    }
}
