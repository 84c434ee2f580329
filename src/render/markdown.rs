//! The report for a chat message or an issue.

use std::fmt::Write as _;

use opsctl_core::model::{Report, printable};

use super::{diagnosis, unanswered, view};

pub(super) fn render(report: &Report) -> String {
    let mut out = String::new();
    let host = cell(&report.host.hostname);
    // writing to a String cannot fail
    let _ = writeln!(out, "## {host}: {}\n", report.verdict);
    let shown: Vec<_> = view::open(report).collect();
    if shown.is_empty() {
        let _ = writeln!(out, "{} checks, nothing needs attention.", report.checks.len());
    } else {
        let _ = writeln!(out, "| | code | finding |\n|---|---|---|");
        for f in shown {
            let standing = view::standing(report, f).map(|s| format!(" **{s}**")).unwrap_or_default();
            let _ = writeln!(out, "| {} | `{}` | {}{standing} |", f.severity, f.code, cell(&f.message));
        }
    }
    for d in diagnosis::diagnoses(report) {
        let title = if d.likely { "Likely root cause" } else { "Root cause" };
        let waived = if d.waived { " (waived)" } else { "" };
        let _ = writeln!(out, "\n**{title}:** `{}` {}{waived}\n", d.code, cell(&d.what));
        for effect in &d.explains {
            let _ = writeln!(out, "- explains {}", cell(effect));
        }
        if let Some(not) = &d.not {
            let _ = writeln!(out, "- not explained by it: {}", cell(not));
        }
        if let Some(command) = &d.next {
            let _ = writeln!(out, "- next: `{}`", printable(command));
        }
    }
    out += &listed("Changed before", view::changes(report).iter().map(|c| cell(c)));
    let offered: Vec<_> = report.fixes.iter().filter(|f| f.refused.is_none()).collect();
    if !offered.is_empty() {
        let _ = writeln!(out, "\n**Fixes**\n");
        for fix in offered {
            let _ = writeln!(out, "- `{}` ({}: {})", printable(&fix.command), fix.risk, fix.risk.meaning());
        }
    }
    let recovered = view::recovered(report).iter();
    let recovered = recovered.map(|r| format!("`{}` {} (lasted {})", r.code, cell(&r.message), view::lasted(r)));
    out += &listed("Recovered", recovered);
    out += &listed("Trends", view::forecasts(report).iter().map(|f| cell(f)));
    let waived = view::waived(report).into_iter();
    out += &listed("Waived", waived.map(|(f, waiver)| format!("`{}` {}: {}", f.code, cell(&f.message), cell(waiver))));
    let unanswered = unanswered::unanswered(report);
    out + &listed("Could not look", unanswered.iter().map(|one| format!("{}: {}", cell(&one.what()), cell(&one.why()))))
}

fn listed(title: &str, items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.map(|i| format!("- {i}\n")).collect();
    if items.is_empty() { String::new() } else { format!("\n**{title}**\n\n{}", items.concat()) }
}

/// Foreign text inside a table: on one line, without what Markdown would read as markup.
pub(super) fn cell(text: &str) -> String {
    printable(text)
        .replace('\\', "\\\\")
        .replace('|', "\\|")
        .replace('`', "'")
        .replace('<', "&lt;")
        .replace('*', "\\*")
        .replace('_', "\\_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn a_chat_message() {
        insta::assert_snapshot!(render(&sample::five_red_things()));
    }

    #[test]
    fn what_earlier_runs_and_waivers_add() {
        insta::assert_snapshot!(render(&sample::compared()));
    }
}
