//! Plans as text.

use std::fmt::Write as _;
use std::time::Duration;

use opsctl_core::model::{Finding, Plan, Subject, printable, quantity, shell_word};

pub(super) fn length(d: Duration) -> String {
    quantity::duration(d.try_into().unwrap_or(jiff::SignedDuration::MAX))
}

/// Everything the guard will do, who feels it and what takes it back: what a person reads before saying yes.
#[must_use]
pub fn plan_text(plan: &Plan, finding: Option<&Finding>) -> String {
    let mut out = String::new();
    let mut row = |label: &str, text: &str| {
        // writing to a string cannot fail
        let _ = writeln!(out, "{label:<9} {}", printable(text));
    };
    row("fix", &format!("{} on {} ({}: {})", plan.fix, plan.subject, plan.risk, plan.risk.meaning()));
    if let Some(finding) = finding {
        row("because", &format!("{}: {}", finding.code, finding.message));
    }
    for (i, action) in plan.actions.iter().enumerate() {
        row(if i == 0 { "does" } else { "" }, &action.to_string());
    }
    if plan.blast.is_empty() {
        row("affects", "nobody else");
    }
    for (i, who) in plan.blast.iter().enumerate() {
        row(if i == 0 { "affects" } else { "" }, who);
    }
    row("downtime", &plan.downtime);
    if plan.undo.is_empty() {
        row("undo", "none");
    }
    for (i, action) in plan.undo.iter().enumerate() {
        row(if i == 0 { "undo" } else { "" }, &action.to_string());
    }
    if let Some(recurs) = &plan.recurs {
        row("recurs", recurs);
    }
    let stable =
        if plan.stable_for.is_zero() { String::new() } else { format!(" and stays away for {}", length(plan.stable_for)) };
    row("verified", &format!("when {} no longer says {} within {}{stable}", plan.check, plan.code, length(plan.verify_within)));
    out
}

/// The command that applies a fix, ready to paste.
#[must_use]
pub fn command(fix: &str, subject: &Subject, ambiguous: bool) -> String {
    let name = if ambiguous { subject.to_string() } else { subject.name.clone() };
    format!("opsctl fix {fix} {}", shell_word(&name))
}
