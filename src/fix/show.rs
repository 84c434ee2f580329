//! Plans as text.

use std::fmt::Write as _;
use std::time::Duration;

use opsctl_core::model::{Finding, Object, Plan, fix_command, printable, quantity};

pub(super) fn length(d: Duration) -> String {
    quantity::duration(d.try_into().unwrap_or(jiff::SignedDuration::MAX))
}

/// The complete plan as shown before confirmation: actions, affected objects, downtime and undo.
#[must_use]
pub fn plan_text(plan: &Plan, finding: Option<&Finding>) -> String {
    let mut out = String::new();
    let mut row = |label: &str, text: &str| {
        // writing to a string cannot fail
        let _ = writeln!(out, "{label:<9} {}", printable(text));
    };
    row("fix", &format!("{} on {} ({}: {})", plan.fix, plan.object(), plan.risk, plan.risk.meaning()));
    if let Some(finding) = finding {
        row("because", &format!("{}: {}", finding.code, finding.message));
    }
    for (i, action) in plan.actions.iter().enumerate() {
        row(if i == 0 { "does" } else { "" }, &action.to_string());
    }
    if plan.blast.is_empty() {
        row("affects", "no other object");
    }
    for (i, affected) in plan.blast.iter().enumerate() {
        row(if i == 0 { "affects" } else { "" }, affected);
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
        if plan.stable_for.is_zero() { String::new() } else { format!(" and does not recur for {}", length(plan.stable_for)) };
    row(
        "verified",
        &format!("when {} no longer reports {} within {}{stable}", plan.check, plan.code, length(plan.verify_within)),
    );
    out
}

/// The command that applies a fix, ready to paste.
#[must_use]
pub fn command(fix: &str, subject: &Object, part: &str, ambiguous: bool) -> String {
    let name = if ambiguous { subject.to_string() } else { subject.name.clone() };
    fix_command(fix, &name, part)
}
